"""A series as it went: scores with threshold, events and labels, and the worst events closer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aejax.data.schema import Series
from aejax.detection.events import Event
from aejax.reporting import style
from aejax.reporting.markup import Markup, element, join, number, shorten, table
from aejax.reporting.sections import Section, plot_figure

MEASURES = {
    "vus_pr": "VUS-PR",
    "vus_roc": "VUS-ROC",
    "buffer": "Points beside a stretch that count in part",
    "stretches": "Labelled stretches",
    "stretches_found": "of them with a flagged point",
    "event_recall": "Recall of stretches",
    "events": "Events",
    "events_in_stretches": "of them in a stretch",
    "event_precision": "Precision of events",
    "median_delay": "Median delay, in points",
}
WIDTH = 9.2
# Bins of the overview; each shows its lowest and highest score.
BINS = 800
MOST_EVENTS, COLUMNS = 6, 2
MOST_TITLE = 58


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """Points of a series in order, as a report draws them.

    Attributes:
        scores: float64 [n]; NaN where there is none.
        rows: number of each point, ascending int64 [n].
        times: of the points, datetime64 or float64 [n]; None counts rows.
        unit: of what they are drawn along.
        threshold: on the scores, or None.
        events: the worst first.
        found: how many there are, of which `events` may be some.
        stretches: first and last rows of labelled stretches.
        length: of a window.
        values: of the channels, float [n, channels]; None where they aren't at hand.
        channels: their names.
    """

    scores: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]
    times: npt.NDArray[Any] | None
    threshold: float | None
    events: Sequence[Event]
    found: int
    stretches: Sequence[tuple[int, int]]
    length: int
    unit: str = "row"
    values: npt.NDArray[Any] | None = None
    channels: Sequence[str] = ()

    @property
    def places(self) -> npt.NDArray[Any]:
        """Where points are drawn, along time or rows, [n]."""
        return self.rows if self.times is None else self.times

    def at(self, row: int) -> int:
        """The position of the first point that isn't before a row."""
        return min(int(np.searchsorted(self.rows, row)), len(self.rows) - 1)


def course_of(series: Series, times: np.ndarray | None, **known: Any) -> Course:
    """A series as it is drawn: over time where it is one, over rows where there are several.

    Args:
        series: of the points.
        times: as `aejax.data.dates.times_of` gives them, [n]; None without times.
        known: further fields of `Course`.
    """
    window, unit = series.window, "row"
    if times is not None and series.clock is not None and window.series is None:
        unit = {"instant": "UTC", "local": "", "number": window.time or ""}[series.clock.kind]
        times = times if series.clock.kind == "number" else times.astype("datetime64[ns]")
    else:
        times = None
    return Course(times=times, unit=unit, length=series.length, **known)


def series_section(
    course: Course, metrics: Mapping[str, Any], events: Markup | None = None
) -> Section:
    """The overview, the worst events, how well labelled stretches are found, and all in a table.

    Args:
        course: of the series.
        metrics: as `aejax.evaluate` gives them; empty without labels.
        events: a table of them.
    """
    plots = [overview(course), *([worst_events(course)] if len(course.events) else [])]
    parts = [element("div", plot_figure(plot), class_="columns wide") for plot in plots]
    if of_series := metrics.get("series"):
        lines = [
            (name, number(of_series[key]))
            for key, name in MEASURES.items()
            if of_series.get(key) is not None
        ]
        caption = "Labelled stretches, without point adjustment"
        parts.append(element("div", table(caption, (), lines), class_="columns even"))
    return Section(
        anchor="series",
        heading="The series",
        content=join([*parts, *([] if events is None else [events])]),
        files={plot.name: style.to_png(plot.figure, plot.title) for plot in plots},
    )


def overview(course: Course) -> style.Plot:
    """All scores over time, with the threshold, events and labelled stretches."""
    with style.house_style():
        figure = style.new_figure(WIDTH, 2.9)
        axes = figure.subplots()
        edges = np.unique(np.linspace(0, len(course.scores), BINS + 1).astype(int))[:-1]
        low, high = (
            reduce.reduceat(np.where(np.isnan(course.scores), missing, course.scores), edges)
            for reduce, missing in ((np.minimum, np.inf), (np.maximum, -np.inf))
        )
        none = np.isinf(high)
        low, high = np.where(none, np.nan, low), np.where(none, np.nan, high)
        places = course.places[edges]
        axes.fill_between(places, low, high, color=style.NORMAL, alpha=0.3, linewidth=0)
        axes.plot(places, high, color=style.NORMAL, linewidth=0.9, label="score")
        _mark(axes, course, least=(course.places[-1] - course.places[0]) / BINS)
        _scale(axes, course)
        style.legend_above(axes, columns=4)
    title = "Scores over time"
    if course.threshold is not None:
        title = f"{course.found:,} event{'' if course.found == 1 else 's'} above the threshold"
    caption = "The highest score of each moment, and down to the lowest where the band reaches."
    if course.stretches:
        caption += " Labelled stretches are shaded."
    return style.Plot(
        name="scores_over_time",
        title=title,
        caption=caption,
        alternative=f"Scores over time; the highest is {number(float(np.nanmax(course.scores)))}.",
        figure=figure,
    )


def worst_events(course: Course) -> style.Plot:
    """The events with the highest scores, each with what is around it."""
    shown = course.events[:MOST_EVENTS]
    lines = -(-len(shown) // COLUMNS)
    rows = 1 if course.values is None else 2
    with style.house_style():
        figure = style.new_figure(WIDTH, (1.15 * rows + 0.75) * lines)
        parts = np.ravel(figure.subfigures(lines, COLUMNS, squeeze=False))
        for part, event in zip(parts, shown, strict=False):
            part.set_facecolor("none")
            panels = np.ravel(part.subplots(rows, 1, sharex=True, squeeze=False))
            beside = max(course.length, (event.last - event.first) // 2)
            first, last = course.at(event.first - beside), course.at(event.last + beside)
            near = dataclasses.replace(
                course,
                scores=course.scores[first : last + 1],
                rows=course.rows[first : last + 1],
                times=None if course.times is None else course.times[first : last + 1],
            )
            if course.values is not None:
                channel = _channel(course, event)
                panels[0].plot(
                    near.places,
                    course.values[first : last + 1, channel],
                    color=style.INK,
                    linewidth=1,
                )
                _mark(panels[0], dataclasses.replace(near, threshold=None))
                panels[0].set_ylabel(shorten(course.channels[channel], 16))
            axes = panels[-1]
            axes.plot(near.places, near.scores, color=style.NORMAL, linewidth=1.1)
            _mark(axes, near)
            _scale(axes, near)
            part.suptitle(_heading(event), fontsize=8.5, x=0.03, ha="left")
    return style.Plot(
        name="worst_events",
        title="The worst event" if len(shown) == 1 else f"The {len(shown)} worst events",
        caption="Each with what was before and after it."
        + ("" if course.values is None else " Above the channel that errs most."),
        alternative="; ".join(_heading(event) for event in shown) + ".",
        figure=figure,
    )


def _channel(course: Course, event: Event) -> int:
    """The position of the channel that an event is due to."""
    known = [name for name in event.channels if name in course.channels]
    return list(course.channels).index(known[0]) if known else 0


def _heading(event: Event) -> str:
    series = "" if event.series is None else f"{event.series}, "
    start = f"row {event.first:,}" if event.start is None else str(event.start)
    said = f"{series}{start}: {number(float(f'{event.score:.3g}'))}"
    return shorten(f"{said}, {' '.join(event.channels)}" if event.channels else said, MOST_TITLE)


def _mark(axes: Axes, course: Course, least: Any = None) -> None:
    """The threshold, and events and labelled stretches as spans, of at least some width."""
    if course.threshold is not None:
        axes.axhline(
            course.threshold, color=style.INK, linewidth=1, linestyle=(0, (4, 2)), label="threshold"
        )
    spans = [(one.first, one.last, style.ANOMALY, "event") for one in course.events]
    spans += [(first, last, style.SECOND, "labelled") for first, last in course.stretches]
    named: set[str] = set()
    first_row, last_row = course.rows[0], course.rows[-1]
    for first, last, colour, name in spans:
        if last < first_row or first > last_row:
            continue
        start, stop = course.places[course.at(first)], course.places[course.at(last)]
        if least is not None:
            stop = max(stop, start + least)
        # Labels above, events below, so that neither hides the other.
        low, high = (0.94, 1.0) if name == "labelled" else (0.0, 0.06)
        axes.axvspan(start, stop, color=colour, alpha=0.12, linewidth=0)
        axes.axvspan(
            start, stop, low, high, color=colour, linewidth=0,
            label=None if name in named else name,
        )  # fmt: skip
        named.add(name)
    axes.set_xlim(course.places[0], course.places[-1])


def _scale(axes: Axes, course: Course) -> None:
    """Both axes: scores by powers of ten where they span several; dates or rows."""
    finite = course.scores[np.isfinite(course.scores)]
    if len(finite) and finite.min() > 0 and finite.max() > 30 * np.median(finite):
        axes.set_yscale("log")
        style.plain_log_ticks(axes, "y")
    axes.set_ylabel("score")
    if course.times is not None and course.times.dtype.kind == "M":
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    if course.unit:
        axes.set_xlabel(course.unit, color=style.MUTED)

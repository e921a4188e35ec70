"""Single rows as a person would look at them: what came in, what came out, where they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from aejax.data.places import Place
from aejax.data.schema import Schema
from aejax.reporting import style
from aejax.reporting.markup import Markup, element, join, number, percent, shorten
from aejax.reporting.report import FEATURES_DRAWN, Examples
from aejax.reporting.sections import Section

if TYPE_CHECKING:
    from aejax.reporting.report import Examples, Report

WIDTH = 3.9
MAX_PIXELS = 160
MAX_SAMPLES = 1000
DIFFERENT_UNITS = 30.0
NOWHERE: Mapping[int, Place] = MappingProxyType({})

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scales:
    """Limits that all rows of a report share, so that they can be compared by eye.

    Args:
        low, high: of inputs and reconstructions of series; of inputs alone of images.
        error: of a feature; a very few of the largest errors lie above.
    """

    low: float
    high: float
    error: float


def shared_scales(schema: Schema, *groups: Examples | None) -> Scales:
    """Limits for every row of all groups; never of zero width."""
    present = [group for group in groups if group is not None and len(group.row)]
    values = [group.x for group in present]
    if schema.kind != "image":
        values += [group.reconstruction for group in present]
    low = min((float(np.min(array)) for array in values), default=0.0)
    high = max((float(np.max(array)) for array in values), default=1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        low, high = low - 0.5, high + 0.5
    # One pixel far off would leave every other error in the dark.
    errors = np.concatenate([np.ravel(group.error) for group in present] or [np.ones(1)])
    error = float(np.quantile(errors, 0.995))
    return Scales(low=low, high=high, error=error if error > 0 else 1.0)


def row_figure(examples: Examples, index: int, schema: Schema, scales: Scales) -> Figure:
    """One row as a figure of its own, without a title."""
    with style.house_style():
        figure = style.new_figure(WIDTH, _height(schema))
        _draw(figure, examples, index, schema, scales, legend=False)
    return figure


def rows_figure(
    examples: Examples,
    schema: Schema,
    scales: Scales,
    threshold: float | None,
    places: Mapping[int, Place] = NOWHERE,
) -> Figure:
    """All rows of a group in two columns, each under its heading."""
    columns = min(2, len(examples.row))
    lines = -(-len(examples.row) // columns)
    with style.house_style():
        figure = style.new_figure(WIDTH * columns, (_height(schema) + 0.45) * lines + 0.3)
        parts = np.ravel(figure.subfigures(lines, columns, squeeze=False))
        for index, part in enumerate(parts[: len(examples.row)]):
            _draw(part, examples, index, schema, scales, legend=True)
            heading = ", ".join(row_facts(examples, index, threshold, places))
            part.suptitle(heading, fontsize=8.5, x=0.03, ha="left")
    return figure


def row_facts(
    examples: Examples,
    index: int,
    threshold: float | None,
    places: Mapping[int, Place] = NOWHERE,
) -> list[str]:
    """What is known of a row, in words: its place, its score, its label and the decision."""
    row = int(examples.row[index])
    place = places[row].text if row in places else f"row {row:,}"
    facts = [place, f"score {number(float(examples.score[index]))}"]
    if examples.is_anomaly is not None:
        facts.append("anomaly" if examples.is_anomaly[index] else "normal")
    if threshold is not None:
        facts.append("flagged" if float(examples.score[index]) > threshold else "not flagged")
    return facts


def _height(schema: Schema) -> float:
    """Inches a row needs; images keep their proportions."""
    if schema.kind != "image":
        return {"series": 1.9, "table": 2.3}[schema.kind]
    return float(np.clip(WIDTH / 3 * schema.shape[0] / schema.shape[1] + 0.24, 0.7, 5.0))


def largest_errors(error: Array, count: int) -> npt.NDArray[np.intp]:
    """Flat indices of the largest errors of a row, the largest first; ties keep their order."""
    return np.argsort(-np.ravel(error), kind="stable")[:count]


def drawn_features(examples: Examples, index: int, count: int) -> npt.NDArray[np.intp]:
    """Flat indices of the features that a row is shown by: those named, or of largest errors."""
    if examples.named is not None:
        kept: npt.NDArray[np.intp] = examples.named[index][:count]
        return kept
    return largest_errors(examples.error[index], count)


def row_description(examples: Examples, index: int, schema: Schema, place: str) -> str:
    """A row in a sentence, for those who cannot see it."""
    worst = int(drawn_features(examples, index, 1)[0])
    value = number(float(np.ravel(examples.x[index])[worst]))
    expected = number(float(np.ravel(examples.reconstruction[index])[worst]))
    if examples.words is not None:
        value, expected = examples.words.found[index][0], examples.words.expected[index][0]
    return (
        f"{place[:1].upper()}{place[1:]} as input and reconstruction; the largest error is at "
        f"{shorten(schema.feature_name(worst), 80)}: {value} found, {expected} expected."
    )


def _draw(
    figure: FigureBase,
    examples: Examples,
    index: int,
    schema: Schema,
    scales: Scales,
    *,
    legend: bool,
) -> None:
    x, y, error = (
        np.asarray(array[index], np.float64).reshape(schema.shape)
        for array in (examples.x, examples.reconstruction, examples.error)
    )
    if schema.kind == "image":
        _draw_image(figure, x, y, error, scales)
    elif schema.kind == "series":
        axes = figure.subplots()
        _draw_series(axes, x, y, error, schema, scales)
        if legend:
            style.legend_above(axes, reverse=True)
    else:
        axes = figure.subplots()
        words = None
        if examples.words is not None:
            words = (examples.words.found[index], examples.words.expected[index])
        kept = drawn_features(examples, index, FEATURES_DRAWN)
        _draw_table(axes, x.ravel(), y.ravel(), error.ravel(), schema, words, kept)
        if legend:
            style.legend_above(axes)


def _draw_image(figure: FigureBase, x: Array, y: Array, error: Array, scales: Scales) -> None:
    panels = figure.subplots(1, 3)
    error_map = error.mean(axis=-1) if error.ndim == 3 else error
    titles = ("input", "reconstruction", "error")
    for axes, image, title in zip(panels, (x, y, error_map), titles, strict=True):
        image = _smaller(image)
        axes.set_axis_off()
        axes.set_title(title, color=style.MUTED)
        if title == "error":
            axes.imshow(image, cmap="magma", vmin=0, vmax=scales.error, interpolation="none")
        elif image.ndim == 3 and image.shape[-1] == 3:
            shown = (image - scales.low) / (scales.high - scales.low)
            axes.imshow(np.clip(shown, 0, 1), interpolation="none")
        else:
            flat = image.mean(axis=-1) if image.ndim == 3 else image
            limits = {"vmin": scales.low, "vmax": scales.high}
            axes.imshow(flat, cmap="gray", interpolation="none", **limits)


def _smaller(image: Array) -> Array:
    """An image in blocks' means where it has more pixels than the page shows."""
    step = -(-max(image.shape[:2]) // MAX_PIXELS)
    if step == 1:
        return image
    height, width = (max(size // step, 1) for size in image.shape[:2])
    image = image[: height * step, : width * step]
    rows = min(step, image.shape[0])
    columns = min(step, image.shape[1])
    return image.reshape(height, rows, width, columns, *image.shape[2:]).mean(axis=(1, 3))


def _draw_series(
    axes: Axes, x: Array, y: Array, error: Array, schema: Schema, scales: Scales
) -> None:
    name, low, high = "value", scales.low, scales.high
    if x.ndim > 1:
        x, y, error = (array.reshape(len(array), -1) for array in (x, y, error))
        channel = int(error.mean(axis=0).argmax())
        if x.shape[1] > 1:
            own = None if schema.series is None else schema.series.points.feature_name(channel)
            name = shorten(own or f"channel {channel}", 24)
            # Channels have units of their own.
            both = np.concatenate([x[:, channel], y[:, channel]])
            low, high = float(both.min()), float(both.max())
            high += float(high == low)
        x, y = x[:, channel], y[:, channel]
    step = -(-len(x) // MAX_SAMPLES)
    time = np.arange(0, len(x), step)
    x, y = x[::step], y[::step]
    marker = "o" if len(time) == 1 else None
    axes.fill_between(time, x, y, color=style.ANOMALY, alpha=0.38, linewidth=0, label="error")
    axes.plot(time, y, color=style.NORMAL, linewidth=1.3, label="reconstruction", marker=marker)
    axes.plot(time, x, color=style.INK, linewidth=1.1, label="input", marker=marker)
    margin = 0.04 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(-0.5 if len(time) == 1 else 0, max(float(time[-1]), 0.5))
    axes.set(xlabel="sample", ylabel=name)


def _draw_table(
    axes: Axes,
    x: Array,
    y: Array,
    error: Array,
    schema: Schema,
    words: tuple[list[str], list[str]] | None,
    kept: npt.NDArray[np.intp],
) -> None:
    own, expected = x[kept], y[kept]
    peaks = np.maximum(np.abs(own), np.abs(expected))
    filled = peaks[peaks > 0]
    own_scale = len(filled) > 0 and float(filled.max() / filled.min()) > DIFFERENT_UNITS
    unit = (
        np.where(peaks > 0, peaks, 1.0)
        if own_scale
        else np.full(len(kept), max(peaks.max(), 1e-30))
    )
    place = np.arange(len(kept))
    bars = (("found", own, style.INK, -0.19), ("expected", expected, style.NORMAL, 0.19))
    for bar, (name, values, colour, shift) in enumerate(bars):
        axes.barh(place + shift, values / unit, 0.34, color=colour, label=name)
        for row, (value, length) in enumerate(zip(values, values / unit, strict=True)):
            text = number(float(f"{value:.3g}"))
            if words is not None:
                text = shorten(words[bar][row], 28)
            axes.annotate(
                text,
                (length, row + shift),
                xytext=(3 if length >= 0 else -3, 0),
                textcoords="offset points",
                ha="left" if length >= 0 else "right",
                va="center",
                fontsize=7,
                color=colour,
            )
    total = float(error.sum())
    shares = [percent(float(error[i]) / total) if total > 0 else "0%" for i in kept]
    names = [shorten(schema.feature_name(int(i)), 22) for i in kept]
    axes.set_yticks(place, names, color=style.INK)
    axes.grid(visible=False)
    axes.axvline(0, color=style.MUTED, linewidth=0.8)
    lengths = np.concatenate([own / unit, expected / unit])
    left, right = min(0.0, float(lengths.min())), max(0.0, float(lengths.max()))
    room = (0.32 if words is None else 0.6) * max(right - left, 1e-6)
    # What has no length (a category, a zero) is labelled on the right.
    labelled_right = bool(np.any(lengths >= 0))
    axes.set_xlim(left - (room if left < 0 else 0), right + (room if labelled_right else 0))
    axes.set_ylim(len(kept) - 0.4, -0.6)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks([])
    scale = "each feature on its own scale" if own_scale else "one scale for all features"
    axes.set_xlabel(f"{scale}; right: share of the error", fontsize=7.5)
    error_axis = axes.secondary_yaxis("right")
    error_axis.set_yticks(place, shares, color=style.ANOMALY)
    error_axis.spines["right"].set_visible(False)


def rows_sections(report: Report) -> list[Section]:
    """The most and the least anomalous rows, drawn on the same scales."""
    scales = shared_scales(report.schema, report.most, report.least)
    sections = []
    for examples, anchor, heading in (
        (report.most, "most_anomalous", "Most anomalous rows"),
        (report.least, "least_anomalous", "Least anomalous rows"),
    ):
        if examples is None or not len(examples.row):
            continue
        cards = (
            row_card(report, examples, index, scales, f"{anchor}-{index}")
            for index in range(len(examples.row))
        )
        counted = _COUNTED[bool(report.places)]
        lede = element("p", f"{_HOW_TO_READ[report.schema.kind]} {counted}", class_="lede")
        drawn = rows_figure(examples, report.schema, scales, report.threshold, report.places)
        sections.append(
            Section(
                anchor=anchor,
                heading=heading,
                content=join(
                    (lede, _KEYS[report.schema.kind], element("div", *cards, class_="rows"))
                ),
                files={anchor: style.to_png(drawn, heading)},
            )
        )
    return sections


_HOW_TO_READ = {
    "image": "Inputs and reconstructions share one scale, errors another: brighter is larger.",
    "series": "The band between input and reconstruction is the error. Rows of one channel share "
    "one scale; of several the worst is drawn, on its own.",
    "table": "The features that make up the score, most first: in their own units what was found "
    "and what the model expected in its place. Lengths are as the model compares them.",
}
_COUNTED = {
    True: "Rows are counted from 0 in their file, as aejax explain --row takes them.",
    False: "Rows are counted from 0 among those that were judged.",
}


def _key(*entries: tuple[str, str]) -> Markup:
    """What the colours of the rows stand for, once for all of them."""
    return element(
        "p", *(element("span", word, class_=f"key {class_}") for word, class_ in entries)
    )


_KEYS = {
    "image": None,
    "series": _key(("input", "ink"), ("reconstruction", "expected"), ("error", "error")),
    "table": _key(
        ("found", "ink"), ("expected", "expected"), ("share of the row's error", "error")
    ),
}


def row_card(report: Report, examples: Examples, index: int, scales: Scales, name: str) -> Markup:
    """One row with what is known of it."""
    place, fact, *words = row_facts(examples, index, report.threshold, report.places)
    known = report.places.get(int(examples.row[index]))
    wrong = words in (["anomaly", "not flagged"], ["normal", "flagged"])
    labelled = words[:1] if examples.is_anomaly is not None else []
    kind = " ".join(["tag", *labelled, *(["mistaken"] if wrong else [])])
    tag = element("span", ", ".join(words), class_=kind) if words else None
    drawn = row_figure(examples, index, report.schema, scales)
    if report.threshold is not None and report.threshold > 0:
        times = float(f"{float(examples.score[index]) / report.threshold:.2g}")
        fact += f", {number(times)} times the threshold"
    description = row_description(examples, index, report.schema, place)
    key = element("p", known.key, class_="fact") if known and known.key else None
    caption = (
        element("h3", place[:1].upper() + place[1:]),
        tag,
        key,
        element("p", fact, class_="fact"),
    )
    return element(
        "figure", element("figcaption", *caption), style.to_svg(drawn, name, description)
    )

"""What a report on groups shows, and plots: how numbers are spread, how losses fell.

What a plot holds is bounded whatever the number of groups: numbers are binned, epochs thinned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aejax.config import InputError
from aejax.detection.detector import Detector
from aejax.detection.groups import LOSSES, QUANTILES, Group, Groups, unit_of
from aejax.detection.threshold import GroupThresholds
from aejax.reporting import style
from aejax.reporting.markup import number

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
MOST_BINS = 48
# Fewer numbers than this have no distribution to be drawn.
LEAST_GROUPS = 4
# Between the smallest and the largest number, from which the axis is logarithmic.
LONG_RANGE = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupsReport:
    """Everything that the report of a detector of groups shows.

    Args:
        title: of the page.
        subtitle: one sentence on what was done.
        config: settings, nested as in `aejax.config.to_dict`.
        detector: of all groups.
        judged: normal rows of each group that were scored, [groups].
        flagged: how many of them lie above the group's threshold, [groups].
        areas: AUROC of the groups that have labelled anomalies, by name.
        table: name of the file beside the page that has a line for every group.
        seconds: stage -> seconds it took.
        environment: versions, device and whatever else tells runs apart.
    """

    title: str
    subtitle: str
    config: Mapping[str, Any]
    detector: Detector
    judged: Counts
    flagged: Counts
    areas: Mapping[str, float]
    table: str
    seconds: Mapping[str, Any]
    environment: Mapping[str, Any]

    def __post_init__(self) -> None:
        count = self.detector.members
        for name in ("judged", "flagged"):
            if (shape := getattr(self, name).shape) != (count,):
                raise InputError(f"GroupsReport.{name} has shape {shape}; allowed: ({count},)")

    @property
    def known(self) -> Groups:
        """What is known of the groups."""
        return self.detector.grouped[0]

    @property
    def groups(self) -> tuple[Group, ...]:
        """That have a detector."""
        return self.known.each

    @property
    def thresholds(self) -> GroupThresholds:
        """The thresholds of the groups."""
        return self.detector.grouped[1]

    @property
    def rows(self) -> Counts:
        """That each group was trained and calibrated on, [groups]."""
        return np.array([group.rows for group in self.groups])

    @property
    def shares(self) -> Floats:
        """Flagged shares of each group's judged rows, float64 [groups]; NaN without rows."""
        shares = np.full(len(self.judged), np.nan)
        np.divide(self.flagged, self.judged, out=shares, where=self.judged > 0)
        return shares

    def numbers(self, name: str) -> Floats:
        """A number that each `Group` has, [groups]; NaN where it is None."""
        values = [getattr(group, name) for group in self.groups]
        return np.array([np.nan if value is None else value for value in values], np.float64)


def spread(
    values: Floats, *, name: str, label: str, title: str, caption: str, share: bool = False
) -> style.Plot | None:
    """A histogram of one number of every group, with the median marked.

    Args:
        values: [groups]; NaN where a group has none.
        name: of the plot's file.
        label: what the number is.
        title: what it says, with "{middle}" for the median.
        caption: how to read it.
        share: whether it is a share in [0, 1], to be shown in per cent.
    """
    known = values[np.isfinite(values)]
    if len(known) < LEAST_GROUPS:
        return None
    shown = in_percent if share else number
    low, high, middle = float(known.min()), float(known.max()), float(np.median(known))
    bins = int(np.clip(3 * len(known) ** (1 / 3), 8, MOST_BINS))
    logarithmic = low > 0 and high > LONG_RANGE * low
    if logarithmic:
        edges = np.geomspace(low / 1.02, high * 1.02, bins + 1)
    elif high - low > 1e-9 * max(abs(low), abs(high)):
        margin = 0.02 * (high - low)
        # A share or a count below 0 would be no place for a bar.
        edges = np.linspace(
            max(low - margin, 0.0 if low >= 0 else -np.inf), high + margin, bins + 1
        )
    else:
        width = max(abs(high), 1e-3) / 2
        edges = np.linspace(low - width, high + width, 10)
    counts = np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0]
    with style.house_style():
        figure = style.new_figure(style.PLOT_WIDTH, 2.5)
        axes = figure.subplots()
        axes.stairs(counts, edges, fill=True, alpha=0.32, color=style.NORMAL)
        axes.stairs(counts, edges, linewidth=1.4, color=style.NORMAL)
        if logarithmic:
            axes.set_xscale("log")
            style.plain_log_ticks(axes, "x")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, counts.max() * 1.22)
        style.count_ticks(axes.yaxis, 4)
        if share:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        style.mark_place(axes, middle, f"median {shown(middle)}")
        axes.set_xlabel(label + (" (log scale)" if logarithmic else ""))
        axes.set_ylabel("groups in a bin")
    title = title.format(middle=shown(middle))
    return style.Plot(
        name=name,
        title=title,
        caption=caption,
        alternative=f"Histogram over {len(known):,} groups, from {shown(low)} to {shown(high)}. "
        f"{title}.",
        figure=figure,
    )


def in_percent(part: float) -> str:
    """A ratio in per cent, which may be above 1."""
    return f"{100 * part:.1f}%"


def loss_bands(history: Sequence[Mapping[str, Any]], groups: int) -> style.Plot | None:
    """The median loss of the groups in each epoch, and where most of them lie.

    Args:
        history: as `spread_of_losses` returns it.
        groups: how many there are.
    """
    names = [name for name in LOSSES if history and name in history[0]]
    if not names:
        return None
    unit = unit_of(history)
    epochs = np.array([row[unit] for row in history])
    shown = {name: np.array([row[name] for row in history]) for name in names}
    everything = np.concatenate([bands.ravel() for bands in shown.values()])
    logarithmic = bool(everything.min() > 0 and everything.max() > 8 * everything.min())
    marks = {
        "loss": ("training", style.NORMAL, "-"),
        "validation_loss": ("validation", style.SECOND, (0, (5, 1.5))),
    }
    with style.house_style():
        figure = style.new_figure(style.PLOT_WIDTH, 2.9)
        axes = figure.subplots()
        for name, bands in shown.items():
            label, colour, line = marks[name]
            if name == names[-1]:
                for outer, alpha in ((0, 0.13), (1, 0.2)):
                    axes.fill_between(
                        epochs,
                        bands[:, outer],
                        bands[:, -1 - outer],
                        color=colour,
                        alpha=alpha,
                        linewidth=0,
                    )
            axes.plot(
                epochs,
                bands[:, len(QUANTILES) // 2],
                color=colour,
                linestyle=line,
                label=f"{label}, median",
                marker="o" if len(epochs) < 12 else None,
                markersize=3.5,
            )
        if logarithmic:
            axes.set_yscale("log")
            style.plain_log_ticks(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if len(epochs) == 1:
            axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.set_xlabel(unit)
        axes.set_ylabel("loss" + (" (log scale)" if logarithmic else ""))
        style.legend_above(axes, columns=2)
    label = marks[names[-1]][0]
    first, last = (shown[names[-1]][at, len(QUANTILES) // 2] for at in (0, -1))
    title = f"The median {label} loss goes from {number(float(first))} to {number(float(last))}"
    return style.Plot(
        name="losses",
        title=title,
        caption=f"Over {groups:,} groups: the darker band holds half of them, the lighter one "
        f"90% ({label} loss). A group that stopped early counts with its last losses.",
        alternative=f"Median loss over {epochs[-1]} {unit}s with bands. {title}.",
        figure=figure,
    )

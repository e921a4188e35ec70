"""The histogram of scores around the threshold: counts in bins, whatever the number of rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aejax.reporting.markup import number, percent
from aejax.reporting.style import (
    ANOMALY,
    INK,
    LABEL_GROUND,
    NORMAL,
    PLOT_WIDTH,
    Plot,
    house_style,
    legend_above,
    new_figure,
    plain_log_ticks,
)

MOST_BINS = 72
LONG_TAIL = 30.0

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of scores in shared bins.

    Args:
        edges: [bins + 1], rising.
        counts: name of a group of rows -> [bins] rows in each bin.
        log_scores: whether the edges are evenly spaced in the logarithm of the score.
        log_counts: whether some group would vanish beside the fullest bin.
    """

    edges: Floats
    counts: dict[str, npt.NDArray[np.int64]]
    log_scores: bool
    log_counts: bool


def bin_scores(scores: Floats, is_anomaly: Bools | None, threshold: float | None) -> Histogram:
    """Scores [n] in bins that also show the threshold; a long tail is binned by its logarithm."""
    bins = int(np.clip(4 * len(scores) ** (1 / 3), 12, MOST_BINS))
    shown = scores if threshold is None else np.append(scores, threshold)
    low, high = float(shown.min()), float(shown.max())
    positive = scores[scores > 0]
    middle = float(np.median(positive)) if len(positive) else 0.0
    log_scores = middle > 0 and low >= 0 and high / middle > LONG_TAIL
    if log_scores:
        # Scores of (nearly) zero would stretch the axis without end; they join the first bin.
        low = max(float(positive.min()), middle * 1e-4)
        if threshold is not None and threshold > 0:
            low = min(low, threshold)
        edges = np.geomspace(low / 1.05, high * 1.05, bins + 1)
    else:
        span = high - low
        margin = 0.02 * span if span > 1e-9 * max(abs(low), abs(high)) else max(abs(high), 1.0) / 20
        edges = np.linspace(low - margin, high + margin, bins + 1)
    groups = (
        {"rows": scores}
        if is_anomaly is None
        else {"normal rows": scores[~is_anomaly], "anomalies": scores[is_anomaly]}
    )
    counts = {
        name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        for name, values in groups.items()
        if len(values)
    }
    peaks = [int(count.max()) for count in counts.values()]
    return Histogram(
        edges=edges, counts=counts, log_scores=log_scores, log_counts=max(peaks) > 25 * min(peaks)
    )


def score_histogram(scores: Floats, is_anomaly: Bools | None, threshold: float | None) -> Plot:
    """How the scores [n] of normal and anomalous rows are distributed around the threshold."""
    binned = bin_scores(scores, is_anomaly, threshold)
    colours = {"rows": NORMAL, "normal rows": NORMAL, "anomalies": ANOMALY}
    with house_style():
        figure = new_figure(PLOT_WIDTH, 3.3)
        axes = figure.subplots()
        floor = 0.6 if binned.log_counts else 0.0
        for name, counts in binned.counts.items():
            heights = np.maximum(counts, floor)
            style: dict[str, Any] = {"baseline": floor, "color": colours[name]}
            axes.stairs(heights, binned.edges, fill=True, alpha=0.32, **style)
            size = int(counts.sum())
            label = f"{size:,} {name if size > 1 else _SINGULAR[name]}"
            axes.stairs(heights, binned.edges, linewidth=1.4, label=label, **style)
        if binned.log_scores:
            axes.set_xscale("log")
            axes.set_xlim(binned.edges[0], binned.edges[-1])
            plain_log_ticks(axes, "x")
        if binned.log_counts:
            axes.set_yscale("log")
            top = max(int(counts.max()) for counts in binned.counts.values())
            axes.set_ylim(floor, top * 2.2)
            plain_log_ticks(axes, "y")
        else:
            top = max(int(counts.max()) for counts in binned.counts.values())
            axes.set_ylim(0, top * 1.14)
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlim(binned.edges[0], binned.edges[-1])
        if threshold is not None:
            _mark_threshold(axes, threshold, binned)
        axes.set_xlabel("score of a row" + (" (log scale)" if binned.log_scores else ""))
        axes.set_ylabel("rows in a bin" + (" (log scale)" if binned.log_counts else ""))
        legend_above(axes)
    title = _histogram_title(scores, is_anomaly, threshold)
    return Plot(
        name="scores",
        title=title,
        caption="A larger score is more anomalous; rows right of the threshold are flagged."
        if threshold is not None
        else "A larger score is more anomalous.",
        alternative=f"Histogram of the scores of {len(scores):,} rows, from {number(scores.min())} "
        f"to {number(scores.max())}. {title}.",
        figure=figure,
    )


_SINGULAR = {"rows": "row", "normal rows": "normal row", "anomalies": "anomaly"}


def _mark_threshold(axes: Axes, threshold: float, binned: Histogram) -> None:
    left, right = axes.get_xlim()
    # No place on a logarithmic axis is as low as zero: its left end stands for all that is lower.
    place = max(threshold, left)
    axes.axvline(place, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    share = (
        np.log(place / left) / np.log(right / left)
        if binned.log_scores
        else (place - left) / (right - left)
    )
    on_left = share > 0.6
    axes.annotate(
        f"threshold {number(threshold)}",
        (place, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if on_left else 4, -2),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="top",
        color=INK,
        bbox=LABEL_GROUND,
    )


def _histogram_title(scores: Floats, is_anomaly: Bools | None, threshold: float | None) -> str:
    if threshold is None:
        return f"The median score is {number(float(np.median(scores)))}"
    flagged = scores > threshold
    if is_anomaly is None or is_anomaly.all() or not is_anomaly.any():
        every = "rows" if is_anomaly is None else "anomalies" if is_anomaly.all() else "normal rows"
        return f"{percent(float(flagged.mean()))} of the {every} score above the threshold"
    found = percent(float(flagged[is_anomaly].mean()))
    alarms = percent(float(flagged[~is_anomaly].mean()))
    return f"Above the threshold: {found} of the anomalies, {alarms} of the normal rows"

"""The curves of a report, each with a title that says what it found.

Every function takes arrays and returns a `Plot`, or None where there is nothing to draw. What a
plot holds is bounded whatever the number of rows: scores are binned, curves are thinned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aejax.detection.groups import unit_of
from aejax.detection.metrics import precision_recall_curve, roc_curve
from aejax.reporting import style
from aejax.reporting.markup import number, percent

MOST_BINS, MAX_EPOCHS_DRAWN = 72, 1000
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


def score_histogram(
    scores: Floats, is_anomaly: Bools | None, threshold: float | None
) -> style.Plot:
    """How the scores [n] of normal and anomalous rows are distributed around the threshold."""
    binned = bin_scores(scores, is_anomaly, threshold)
    colours = {"rows": style.NORMAL, "normal rows": style.NORMAL, "anomalies": style.ANOMALY}
    with style.house_style():
        figure = style.new_figure(style.PLOT_WIDTH, 3.3)
        axes = figure.subplots()
        floor = 0.6 if binned.log_counts else 0.0
        for name, counts in binned.counts.items():
            heights = np.maximum(counts, floor)
            look: dict[str, Any] = {"baseline": floor, "color": colours[name]}
            axes.stairs(heights, binned.edges, fill=True, alpha=0.32, **look)
            size = int(counts.sum())
            label = f"{size:,} {name if size > 1 else _SINGULAR[name]}"
            axes.stairs(heights, binned.edges, linewidth=1.4, label=label, **look)
        if binned.log_scores:
            axes.set_xscale("log")
            axes.set_xlim(binned.edges[0], binned.edges[-1])
            style.plain_log_ticks(axes, "x")
        top = max(int(counts.max()) for counts in binned.counts.values())
        if binned.log_counts:
            axes.set_yscale("log")
            axes.set_ylim(floor, top * 2.2)
            style.plain_log_ticks(axes, "y")
        else:
            axes.set_ylim(0, top * 1.14)
            style.count_ticks(axes.yaxis)
        axes.set_xlim(binned.edges[0], binned.edges[-1])
        if threshold is not None:
            # No place on a logarithmic axis is as low as zero: its left end stands for all below.
            place = max(threshold, float(binned.edges[0]))
            style.mark_place(axes, place, f"threshold {number(threshold)}")
        axes.set_xlabel("score of a row" + (" (log scale)" if binned.log_scores else ""))
        axes.set_ylabel("rows in a bin" + (" (log scale)" if binned.log_counts else ""))
        style.legend_above(axes)
    title = _histogram_title(scores, is_anomaly, threshold)
    return style.Plot(
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


def _histogram_title(scores: Floats, is_anomaly: Bools | None, threshold: float | None) -> str:
    if threshold is None:
        return f"The median score is {number(float(np.median(scores)))}"
    flagged = scores > threshold
    if is_anomaly is None or is_anomaly.all() or not is_anomaly.any():
        every = "rows" if is_anomaly is None else "anomalies" if is_anomaly.all() else "normal rows"
        return f"{percent(float(flagged.mean()))} of the {every} score above the threshold"
    hits = percent(float(flagged[is_anomaly].mean()))
    alarms = percent(float(flagged[~is_anomaly].mean()))
    return f"Above the threshold: {hits} of the anomalies, {alarms} of the normal rows"


def roc(
    scores: Floats, is_anomaly: Bools, threshold: float | None, area: Mapping[str, Any] | None
) -> style.Plot:
    """Recall against false alarms over all thresholds, with the one in use marked."""
    false_alarms, recall = roc_curve(scores, is_anomaly)
    with style.house_style(**{"axes.grid.axis": "both"}):
        figure = style.new_figure(style.PLOT_WIDTH, 3.7)
        axes = figure.subplots()
        axes.fill_between(false_alarms, recall, color=style.NORMAL, alpha=0.1, linewidth=0)
        axes.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (2, 2)))
        axes.text(0.62, 0.55, "guessing", color=style.MUTED)
        axes.plot(false_alarms, recall, color=style.NORMAL)
        if threshold is not None:
            flagged = scores > threshold
            x, y = float(flagged[~is_anomaly].mean()), float(flagged[is_anomaly].mean())
            _mark_point(axes, x, y, f"threshold {number(threshold)}")
        _unit_axes(axes, "normal rows flagged (false alarm rate)", "anomalies flagged (recall)")
    shown = "" if area is None else f" {_with_interval(area)}"
    return style.Plot(
        name="roc",
        title=f"AUROC{shown}" if shown else "ROC curve",
        caption="The share of anomalies found for each share of false alarms that is accepted. "
        "The area is the chance that an anomaly scores above a normal row.",
        alternative=f"Receiver operating characteristic with area{shown}.",
        figure=figure,
    )


def precision_recall(
    scores: Floats, is_anomaly: Bools, threshold: float | None, area: Mapping[str, Any] | None
) -> style.Plot:
    """Precision against recall over all thresholds, with the one in use marked."""
    recall, precision = precision_recall_curve(scores, is_anomaly)
    base = float(is_anomaly.mean())
    with style.house_style(**{"axes.grid.axis": "both"}):
        figure = style.new_figure(style.PLOT_WIDTH, 3.7)
        axes = figure.subplots()
        steps: dict[str, Any] = {
            "step": "pre",
            "color": style.ANOMALY,
            "alpha": 0.1,
            "linewidth": 0,
        }
        axes.fill_between(recall, precision, **steps)
        axes.axhline(base, color=style.MUTED, linewidth=1, linestyle=(0, (2, 2)))
        below = base > 0.9
        axes.text(
            0.02,
            base - 0.02 if below else base + 0.02,
            f"guessing: {percent(base)} are anomalies",
            color=style.MUTED,
            va="top" if below else "bottom",
        )
        axes.step(recall, precision, where="pre", color=style.ANOMALY)
        flagged = scores > threshold if threshold is not None else np.zeros(len(scores), bool)
        if threshold is not None and flagged.any():
            x, y = float(flagged[is_anomaly].mean()), float(is_anomaly[flagged].mean())
            _mark_point(axes, x, y, f"threshold {number(threshold)}")
        _unit_axes(axes, "anomalies flagged (recall)", "anomalies among the flagged (precision)")
    shown = "" if area is None else f" {_with_interval(area)}"
    return style.Plot(
        name="precision_recall",
        title=f"Average precision{shown}" if shown else "Precision and recall",
        caption="The share of anomalies among the flagged rows for each share of anomalies found.",
        alternative=f"Precision against recall with average precision{shown}.",
        figure=figure,
    )


def losses(history: Sequence[Mapping[str, Any]]) -> style.Plot | None:
    """Training loss, and validation loss where there is one, over the epochs or steps."""
    unit = unit_of(history)
    lines: dict[str, tuple[Floats, str]] = {}
    for key, name, colour in (
        ("loss", "training", style.NORMAL),
        ("validation_loss", "validation", style.SECOND),
    ):
        pairs = [(row[unit], row[key]) for row in history if row.get(key) is not None]
        finite = [pair for pair in pairs if np.isfinite(pair[1])]
        if finite:
            lines[name] = np.asarray(finite, np.float64), colour
    if not lines:
        return None
    drawn = np.concatenate([points[:, 1] for points, _ in lines.values()])
    log_loss = bool(drawn.min() > 0 and drawn.max() > 8 * drawn.min())
    with style.house_style():
        figure = style.new_figure(style.PLOT_WIDTH, 2.9)
        axes = figure.subplots()
        for name, (points, colour) in lines.items():
            step = max(1, len(points) // MAX_EPOCHS_DRAWN)
            shown = np.concatenate([points[:-1:step], points[-1:]])
            axes.plot(
                shown[:, 0],
                shown[:, 1],
                color=colour,
                label=f"{name}, ends at {number(float(points[-1, 1]))}",
                linestyle="-" if name == "training" else (0, (5, 1.5)),
                marker="o" if len(points) < 12 else None,
                markersize=3.5,
            )
        if log_loss:
            axes.set_yscale("log")
            style.plain_log_ticks(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if len(history) == 1:
            axes.set_xlim(history[0][unit] - 1, history[0][unit] + 1)
        axes.set_xlabel(unit)
        axes.set_ylabel("loss" + (" (log scale)" if log_loss else ""))
        style.legend_above(axes)
    name = "validation" if "validation" in lines else "training"
    points = lines[name][0]
    best, least = map(float, points[points[:, 1].argmin()])
    where = f"the last {unit}" if best == points[-1, 0] else f"{unit} {number(best)}"
    title = (
        f"The {name} loss is lowest, {number(least)}, {'at' if unit == 'step' else 'in'} {where}"
    )
    return style.Plot(
        name="losses",
        title=title,
        caption=_LOSS_CAPTIONS[name],
        alternative=f"Loss against {number(history[-1][unit])} {unit}s. {title}.",
        figure=figure,
    )


_LOSS_CAPTIONS = {
    "training": "Mean loss of every epoch, measured while the weights change.",
    "validation": "Training loss is measured while the weights change, validation loss after it.",
}


def _with_interval(area: Mapping[str, Any]) -> str:
    if area.get("low") is None:
        return f"{area['value']:.4f}"
    return f"{area['value']:.4f} ({area['low']:.4f} to {area['high']:.4f})"


def _mark_point(axes: Axes, x: float, y: float, text: str) -> None:
    axes.plot([x], [y], marker="o", markersize=6.5, color=style.INK, clip_on=False, zorder=5)
    right, top = x > 0.55, y > 0.2
    axes.annotate(
        text,
        (x, y),
        xytext=(-8 if right else 8, -9 if top else 9),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top" if top else "bottom",
        color=style.INK,
        bbox=style.LABEL_GROUND,
    )


def _unit_axes(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x_label, ylabel=y_label)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))

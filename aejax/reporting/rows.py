"""Single rows drawn as a person would look at them: what came in, what came out, where they differ."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from aejax.data.schema import Schema
from aejax.reporting.markup import number, percent, shorten
from aejax.reporting.style import ANOMALY, INK, MUTED, NORMAL, house_style, new_figure

if TYPE_CHECKING:
    from aejax.reporting.report import Examples

SIZES = {"image": (3.9, 1.62), "series": (3.9, 2.1), "table": (3.9, 2.75)}
FEATURES_SHOWN = 8
MAX_PIXELS = 160
MAX_SAMPLES = 1000
DIFFERENT_UNITS = 30.0

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scales:
    """Limits that all rows of a report share, so that they can be compared by eye.

    Args:
        low, high: of inputs and reconstructions.
        error: the largest error of a feature.
    """

    low: float
    high: float
    error: float


def shared_scales(*groups: Examples | None) -> Scales:
    """The limits that show every row of all groups; never of zero width."""
    present = [group for group in groups if group is not None and len(group.row)]
    values = [array for group in present for array in (group.x, group.reconstruction)]
    low = min((float(np.min(array)) for array in values), default=0.0)
    high = max((float(np.max(array)) for array in values), default=1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        low, high = low - 0.5, high + 0.5
    error = max((float(np.max(group.error)) for group in present), default=1.0)
    return Scales(low=low, high=high, error=error if error > 0 else 1.0)


def row_figure(examples: Examples, index: int, schema: Schema, scales: Scales) -> Figure:
    """One row as a figure of its own, without a title."""
    with house_style():
        figure = new_figure(*SIZES[schema.kind])
        _draw(figure, examples, index, schema, scales)
    return figure


def rows_figure(
    examples: Examples, schema: Schema, scales: Scales, threshold: float | None
) -> Figure:
    """All rows of a group in two columns, each under its heading."""
    columns = min(2, len(examples.row))
    lines = -(-len(examples.row) // columns)
    width, height = SIZES[schema.kind]
    with house_style():
        figure = new_figure(width * columns, (height + 0.4) * lines)
        parts = np.ravel(figure.subfigures(lines, columns, squeeze=False))
        for index, part in enumerate(parts[: len(examples.row)]):
            _draw(part, examples, index, schema, scales)
            heading = ", ".join(row_facts(examples, index, threshold))
            part.suptitle(heading, fontsize=8.5, x=0.03, ha="left")
    return figure


def row_facts(examples: Examples, index: int, threshold: float | None) -> list[str]:
    """What is known of a row, in words: its place, its score, its label and the decision."""
    facts = [f"row {int(examples.row[index]):,}", f"score {number(float(examples.score[index]))}"]
    if examples.is_anomaly is not None:
        facts.append("anomaly" if examples.is_anomaly[index] else "normal row")
    if threshold is not None:
        facts.append("flagged" if float(examples.score[index]) > threshold else "not flagged")
    return facts


def largest_errors(error: Array, count: int) -> npt.NDArray[np.intp]:
    """Flat indices of the largest errors of a row, the largest first; ties keep their order."""
    return np.argsort(-np.ravel(error), kind="stable")[:count]


def row_description(examples: Examples, index: int, schema: Schema) -> str:
    """A row in a sentence, for those who cannot see it."""
    worst = int(largest_errors(examples.error[index], 1)[0])
    found = number(float(np.ravel(examples.x[index])[worst]))
    expected = number(float(np.ravel(examples.reconstruction[index])[worst]))
    return (
        f"Row {int(examples.row[index])} as input and reconstruction; the largest error is at "
        f"{shorten(schema.feature_name(worst), 80)}: {found} found, {expected} expected."
    )


def _draw(
    figure: FigureBase, examples: Examples, index: int, schema: Schema, scales: Scales
) -> None:
    x, y, error = (
        np.asarray(array[index], np.float64)
        for array in (examples.x, examples.reconstruction, examples.error)
    )
    if schema.kind == "image":
        _draw_image(figure, x, y, error, scales)
    elif schema.kind == "series":
        _draw_series(figure.subplots(), x, y, error, scales)
    else:
        _draw_table(figure.subplots(), x.ravel(), y.ravel(), error.ravel(), schema)


def _draw_image(figure: FigureBase, x: Array, y: Array, error: Array, scales: Scales) -> None:
    panels = figure.subplots(1, 3)
    error_map = error.mean(axis=-1) if error.ndim == 3 else error
    titles = ("input", "reconstruction", "error")
    for axes, image, title in zip(panels, (x, y, error_map), titles, strict=True):
        image = _smaller(image)
        axes.set_axis_off()
        axes.set_title(title, color=MUTED)
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


def _draw_series(axes: Axes, x: Array, y: Array, error: Array, scales: Scales) -> None:
    name = "value"
    if x.ndim > 1:
        x, y, error = (array.reshape(len(array), -1) for array in (x, y, error))
        channel = int(error.mean(axis=0).argmax())
        if x.shape[1] > 1:
            name = f"value of channel {channel}, the worst of {x.shape[1]}"
        x, y = x[:, channel], y[:, channel]
    step = -(-len(x) // MAX_SAMPLES)
    time = np.arange(0, len(x), step)
    x, y = x[::step], y[::step]
    marker = "o" if len(time) == 1 else None
    axes.fill_between(time, x, y, color=ANOMALY, alpha=0.38, linewidth=0, label="error")
    axes.plot(time, y, color=NORMAL, linewidth=1.3, label="reconstruction", marker=marker)
    axes.plot(time, x, color=INK, linewidth=1.1, label="input", marker=marker)
    margin = 0.04 * (scales.high - scales.low)
    axes.set_ylim(scales.low - margin, scales.high + margin)
    axes.set_xlim(-0.5 if len(time) == 1 else 0, max(float(time[-1]), 0.5))
    axes.set(xlabel="sample", ylabel=name)
    axes.figure.legend(loc="outside upper left", ncols=3, reverse=True)


def _draw_table(axes: Axes, x: Array, y: Array, error: Array, schema: Schema) -> None:
    kept = largest_errors(error, FEATURES_SHOWN)
    found, expected = x[kept], y[kept]
    peaks = np.maximum(np.abs(found), np.abs(expected))
    filled = peaks[peaks > 0]
    own_scale = len(filled) > 0 and float(filled.max() / filled.min()) > DIFFERENT_UNITS
    unit = np.where(peaks > 0, peaks, 1.0) if own_scale else np.full(len(kept), max(peaks.max(), 1e-30))
    place = np.arange(len(kept))
    bars = (("found", found, INK, -0.19), ("expected", expected, NORMAL, 0.19))
    for name, values, colour, shift in bars:
        axes.barh(place + shift, values / unit, 0.34, color=colour, label=name)
        for row, (value, length) in enumerate(zip(values, values / unit, strict=True)):
            axes.annotate(
                number(float(f"{value:.3g}")),
                (length, row + shift),
                xytext=(3 if length >= 0 else -3, 0),
                textcoords="offset points",
                ha="left" if length >= 0 else "right",
                va="center",
                fontsize=6.5,
                color=colour,
            )
    total = float(error.sum())
    shares = [percent(float(error[i]) / total) if total > 0 else "0%" for i in kept]
    names = [shorten(schema.feature_name(int(i)), 22) for i in kept]
    axes.set_yticks(place, names, color=INK)
    axes.grid(visible=False)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    lengths = np.concatenate([found / unit, expected / unit])
    axes.set_xlim(min(0.0, lengths.min() * 1.35), max(lengths.max() * 1.28, 0.05))
    axes.set_ylim(len(kept) - 0.4, -0.6)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.set_xlabel("each feature on a scale of its own" if own_scale else "one scale for all features")
    error_axis = axes.secondary_yaxis("right")
    error_axis.set_yticks(place, shares, color=ANOMALY)
    error_axis.spines["right"].set_visible(False)
    axes.figure.legend(loc="outside upper left", ncols=2)
    axes.annotate(
        "share of error", (1, 1), xycoords="axes fraction", xytext=(0, 2),
        textcoords="offset points", ha="right", va="bottom", fontsize=7, color=ANOMALY,
    )

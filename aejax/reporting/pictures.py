"""Figures of many small images, and of rates by epoch: what reports of image recipes show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aejax.config import InputError
from aejax.reporting import style

Array = npt.NDArray[Any]

# Empty pixels between two images.
GAP = 2
LABEL_WIDTH = 1.0
# Rates in the first fifth, which would leave the others in a corner, may lie below the axis.
WARMING_UP = 5
# Of a name beside a rate's line, as a share of the axis.
LABEL_HEIGHT = 0.05
Floats = npt.NDArray[np.float64]
# They differ by line and mark as well, for those who don't see the colours.
COLOURS = (style.NORMAL, style.ANOMALY, style.SECOND, style.MUTED, style.INK)
LINES = ("-", "-", "-", (0, (1, 1.5)), (0, (4, 1.5)))
MARKERS = ("o", "s", "D", "v", "^")
# From here on a cell is so dark that its number is written in white.
DARK_CELL = 0.55


def mosaic(images: Array, columns: int) -> Array:
    """Images side by side, line by line, with gaps that are NaN.

    Args:
        images: float [n, height, width, 1 or 3] or [n, height, width], in [0, 1].
        columns: images in a line; places that are left over stay NaN.

    Returns:
        float64 [lines * (height + gap) - gap, columns * (width + gap) - gap] of grey images,
        with a last axis of 3 of colour images.

    Raises:
        InputError: if these are no images.
    """
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if not len(images) or not (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)):
        raise InputError(
            f"images have shape {images.shape}; "
            "allowed: [n, height, width] or [n, height, width, 1 or 3], n at least 1"
        )
    lines = -(-len(images) // columns)
    height, width = images.shape[1:3]
    step = height + GAP, width + GAP
    drawn = np.full((lines * step[0], columns * step[1], *images.shape[3:]), np.nan)
    for index, image in enumerate(images):
        top, left = index // columns * step[0], index % columns * step[1]
        drawn[top : top + height, left : left + width] = np.clip(image, 0, 1)
    return drawn[:-GAP, :-GAP]


def grid_figure(images: Array, *, columns: int) -> Figure:
    """Images in lines.

    Args:
        images: as in `mosaic`.
        columns: images in a line.
    """
    drawn = mosaic(images, columns)
    with style.house_style():
        figure = style.new_figure(
            style.PLOT_WIDTH, style.PLOT_WIDTH * drawn.shape[0] / drawn.shape[1]
        )
        _show(figure.subplots(), drawn)
    return figure


def strips_figure(strips: Mapping[str, Array], *, width: float = 7.2) -> Figure:
    """Lines of images under one another, each with its name: the same images, differently.

    Args:
        strips: name -> images as in `mosaic`, of every strip as many.
        width: of the figure, in inches.

    Raises:
        InputError: if a strip holds more or fewer images than the first.
    """
    counts = {name: len(images) for name, images in strips.items()}
    if len(set(counts.values())) != 1:
        raise InputError(f"strips hold {counts} images; allowed: of every strip as many")
    drawn = [mosaic(images, len(images)) for images in strips.values()]
    height = sum((width - LABEL_WIDTH) * strip.shape[0] / strip.shape[1] + 0.03 for strip in drawn)
    with style.house_style():
        figure = style.new_figure(width, height)
        panels = figure.subplots(len(drawn), 1, squeeze=False, gridspec_kw={"hspace": 0.0})[:, 0]
        for axes, name, strip in zip(panels, strips, drawn, strict=True):
            _show(axes, strip)
            axes.text(
                -0.012,
                0.5,
                name,
                transform=axes.transAxes,
                ha="right",
                va="center",
                color=style.MUTED,
            )
    return figure


def rates_figure(
    rates: Mapping[str, Sequence[float]], published: Mapping[str, float], *, label: str
) -> Figure:
    """Up to three rates over the epochs, with published ones as dotted lines.

    Args:
        rates: name -> share in [0, 1] after every epoch.
        published: name -> what was published, for some or all of these names.
        label: what an epoch is called.
    """
    colours = dict(zip(rates, (style.NORMAL, style.ANOMALY, style.SECOND), strict=False))
    lowest = 1.0
    with style.house_style():
        figure = style.new_figure(7.2, 3.4)
        axes = figure.subplots()
        for name, values in rates.items():
            epochs = np.arange(1, len(values) + 1)
            shown = f"{name}, ends at {values[-1]:.2%}"
            marker = "o" if len(values) < 12 else None
            axes.plot(epochs, values, color=colours[name], label=shown, marker=marker)
            lowest = min(lowest, *values[len(values) // WARMING_UP :], *values[-1:])
        last = max(map(len, rates.values()))
        for name, value in published.items():
            axes.axhline(value, color=colours[name], linewidth=1, linestyle=(0, (1, 2)))
            lowest = min(lowest, value)
        axes.set_xlim(1, last + (1 if last == 1 else 0))
        room = 0.05 * (1 - lowest) + 0.002
        axes.set_ylim(lowest - room, 1 + room)
        _name_lines(axes, published, colours)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.set(xlabel=label, ylabel="judged right")
        style.legend_above(axes)
    return figure


def _name_lines(axes: Axes, published: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Write every published value at the end of its line; above, where a name is in the way."""
    bottom, top = axes.get_ylim()
    place = -np.inf
    for name, value in sorted(published.items(), key=lambda item: item[1]):
        place = max((value - bottom) / (top - bottom), place + LABEL_HEIGHT)
        axes.annotate(
            f"published {value:.2%}",
            (1, place),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=7,
            color=colours[name],
            annotation_clip=False,
        )


def _show(axes: Axes, drawn: Array) -> None:
    """One mosaic; gaps show the ground."""
    axes.set_axis_off()
    grey: dict[str, Any] = {} if drawn.ndim == 3 else {"cmap": "gray", "vmin": 0, "vmax": 1}
    shown = np.ma.masked_invalid(drawn) if drawn.ndim == 2 else np.nan_to_num(drawn, nan=1.0)
    axes.imshow(shown, interpolation="none", **grey)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heat:
    """One line of heat maps that share a scale.

    Attributes:
        name: what the cells hold.
        panels: name of a panel -> values [rows, columns].
        low: the value that is white.
        high: the darkest.
        digits: after the point.
    """

    name: str
    panels: Mapping[str, Floats]
    low: float
    high: float
    digits: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A line through means, with their intervals where there are any.

    Attributes:
        x: where, rising.
        y: the means.
        low: lower ends of the intervals, or None.
        high: upper ends, or None.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def heat_figure(lines: Sequence[Heat], *, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Lines of heat maps, a panel each, every cell with its number and each column's best in bold.

    Args:
        lines: from top to bottom; all with as many panels.
        rows: names of a panel's rows.
        columns: names of a panel's columns, which are kinds of noise.
    """
    shades = LinearSegmentedColormap.from_list("house", [style.LIGHT["surface"], style.NORMAL])
    count = len(lines[0].panels)
    with style.house_style(**{"axes.grid": False, "axes.titlesize": 8.5}):
        figure = style.new_figure(7.6, 0.75 + 1.5 * len(lines))
        grid = figure.subplots(len(lines), count, squeeze=False, sharex=True, sharey=True)
        for line, panels in zip(lines, grid, strict=True):
            for axes, (name, values) in zip(panels, line.panels.items(), strict=True):
                depth = np.clip((values - line.low) / (line.high - line.low), 0, 1)
                axes.imshow(depth, cmap=shades, vmin=0, vmax=1, aspect="auto")
                _number(axes, values, depth, line.digits)
                axes.set_title(f"{name}, {line.name}" if line is lines[0] else line.name)
                axes.set_xticks(range(len(columns)), columns)
                axes.set_yticks(range(len(rows)), rows)
                axes.tick_params(length=0)
                axes.spines[:].set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("noise")
    return figure


def curves_figure(
    curves: Mapping[str, Curve],
    *,
    x_label: str,
    y_label: str,
    rates: bool = False,
    width: float = 4.6,
) -> Figure:
    """Up to five curves with their points marked, over a logarithmic axis.

    Args:
        curves: name -> curve.
        x_label: what is drawn to the right.
        y_label: what is drawn upwards.
        rates: whether the values are shares in [0, 1], to be shown in per cent.
        width: of the figure, in inches.
    """
    with style.house_style(**{"axes.grid.axis": "both"}):
        figure = style.new_figure(width, 3.4)
        axes = figure.subplots()
        for index, (name, curve) in enumerate(curves.items()):
            axes.plot(
                curve.x,
                curve.y,
                label=name,
                color=COLOURS[index],
                linestyle=LINES[index],
                marker=MARKERS[index],
                markersize=4,
            )
            if curve.low is not None and curve.high is not None:
                axes.fill_between(
                    curve.x, curve.low, curve.high, color=COLOURS[index], alpha=0.15, linewidth=0
                )
        axes.set_xscale("log")
        style.plain_log_ticks(axes, "x")
        if rates:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.set(xlabel=x_label, ylabel=y_label)
        style.legend_above(axes, columns=3 if width > 5 else 2)
    return figure


def _number(axes: Axes, values: Floats, depth: Floats, digits: int) -> None:
    best = np.round(values, digits) >= np.round(values.max(axis=0), digits)
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column,
            row,
            f"{value:.{digits}f}",
            ha="center",
            va="center",
            fontsize=7.5,
            color=style.LIGHT["surface"] if depth[row, column] > DARK_CELL else style.INK,
            fontweight="bold" if best[row, column] else "normal",
        )

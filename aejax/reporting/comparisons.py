"""Figures that compare: rates as heat maps, and curves with their intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from aejax.reporting.style import (
    ANOMALY,
    INK,
    LIGHT,
    MUTED,
    NORMAL,
    SECOND,
    house_style,
    legend_above,
    new_figure,
    plain_log_ticks,
)

Floats = npt.NDArray[np.float64]
# They differ by line and mark as well, for those who don't see the colours.
COLOURS = (NORMAL, ANOMALY, SECOND, MUTED, INK)
LINES = ("-", "-", "-", (0, (1, 1.5)), (0, (4, 1.5)))
MARKERS = ("o", "s", "D", "v", "^")
# From here on a cell is so dark that its number is written in white.
DARK_CELL = 0.55


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
    shades = LinearSegmentedColormap.from_list("house", [LIGHT["surface"], NORMAL])
    count = len(lines[0].panels)
    with house_style(**{"axes.grid": False, "axes.titlesize": 8.5}):
        figure = new_figure(7.6, 0.75 + 1.5 * len(lines))
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
    with house_style(**{"axes.grid.axis": "both"}):
        figure = new_figure(width, 3.4)
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
        plain_log_ticks(axes, "x")
        if rates:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.set(xlabel=x_label, ylabel=y_label)
        legend_above(axes, columns=3 if width > 5 else 2)
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
            color=LIGHT["surface"] if depth[row, column] > DARK_CELL else INK,
            fontweight="bold" if best[row, column] else "normal",
        )

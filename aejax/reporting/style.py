"""One look for the page and its plots: colours, type, and how a figure becomes SVG or PNG.

Plots are drawn once, in the light palette. On the page they are inline SVG whose colours are
replaced by the page's CSS variables, so that they follow the reader's light or dark setting;
as files they are PNG at twice the screen's resolution.
"""

from __future__ import annotations

import dataclasses
import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from aejax.reporting.markup import Markup, clean

# Blue and vermillion after Okabe and Ito (2008), distinct with every common colour vision.
# Blue is what is normal or expected, vermillion what is anomalous or wrong, ink what was found.
LIGHT = {
    "ink": "#1b2026",
    "muted": "#59636e",
    "line": "#d9dee4",
    "surface": "#ffffff",
    "panel": "#f5f7f9",
    "normal": "#0068a8",
    "anomaly": "#c94f00",
    "second": "#00795a",
}
DARK = {
    "ink": "#e8ecf0",
    "muted": "#a5afba",
    "line": "#39424d",
    "surface": "#12161b",
    "panel": "#1a2027",
    "normal": "#5cb3f2",
    "anomaly": "#ff9350",
    "second": "#41c79c",
}
INK, MUTED, LINE = LIGHT["ink"], LIGHT["muted"], LIGHT["line"]
NORMAL, ANOMALY, SECOND = LIGHT["normal"], LIGHT["anomaly"], LIGHT["second"]
PNG_DPI = 200
PLOT_WIDTH = 4.6
LABEL_GROUND = {"facecolor": LIGHT["surface"], "alpha": 0.75, "edgecolor": "none", "pad": 0.8}

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure and its words.

    Args:
        name: of its file, without the ending.
        title: what the plot shows, as a finding where there is one.
        caption: how to read it, in a sentence or two.
        alternative: what it shows, for those who cannot see it.
        figure: the drawing; it holds no title of its own.
    """

    name: str
    title: str
    caption: str
    alternative: str
    figure: Figure


@contextmanager
def house_style(**settings: Any) -> Iterator[None]:
    """Draw in the house style; matplotlib's own settings are back afterwards."""
    with matplotlib.rc_context(rc=cast(Any, {**_SETTINGS, **settings})), warnings.catch_warnings():
        # Names in scripts that the font lacks are drawn as boxes in the PNG, and right on the page.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, with no tie to pyplot's global state."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def legend_above(axes: Axes, columns: int = 3, *, reverse: bool = False) -> None:
    """A legend in one line above the axes' left end, where it hides nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        reverse=reverse,
        borderpad=0,
        borderaxespad=0.5,
        columnspacing=1.6,
    )


def plain_log_ticks(axes: Axes, name: str) -> None:
    """Ticks of a logarithmic axis ("x" or "y") as plain numbers, enough of them to read by."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    if high / low < 200:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def count_ticks(axis: Axis, most: int = 5) -> None:
    """Ticks of a linear axis of counts: whole numbers, thousands separated."""
    axis.set_major_locator(MaxNLocator(most, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def mark_place(axes: Axes, place: float, text: str) -> None:
    """A dashed line over the whole height at a place of the x axis, with words at its top."""
    axes.axvline(place, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    left, right = axes.get_xlim()
    share = (place - left) / (right - left)
    if axes.get_xscale() == "log":
        share = np.log(place / left) / np.log(right / left)
    axes.annotate(
        text,
        (place, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if share > 0.6 else 4, -2),
        textcoords="offset points",
        ha="right" if share > 0.6 else "left",
        va="top",
        color=INK,
        bbox=LABEL_GROUND,
    )


def to_svg(figure: Figure, name: str, alternative: str) -> Markup:
    """A figure as inline SVG in the page's colours; `name` sets its ids apart from others."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with house_style(**{"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata=nothing, transparent=True)
    drawing = stream.getvalue()
    drawing = drawing[drawing.index("<svg") :].strip()
    for part in (r"<metadata>.*?</metadata>", r"<style [^>]*>.*?</style>", r"<!--.*?-->"):
        drawing = re.sub(part, "", drawing, flags=re.DOTALL)
    used = frozenset(re.findall(r'<[^>]*?(?:url\(|href=")#([^")]+)', drawing))
    drawing = re.sub(r"<[^>]+>", lambda tag: _rewrite(tag[0], name, used), drawing)
    label = Markup(clean(alternative)).translate(_ATTRIBUTE)
    return Markup(drawing.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def to_png(figure: Figure, title: str | None = None) -> bytes:
    """A figure as PNG on white, under its title."""
    if title is not None:
        characters = int(figure.get_figwidth() * 10.5)
        lines = textwrap.fill(clean(title), characters, max_lines=3, placeholder=" ...")
        with house_style():
            figure.suptitle(lines, x=0.02, ha="left", fontsize=10, fontweight="bold")
    with house_style():
        return _png(figure)


def plain_png(figure: Figure) -> bytes:
    """A figure that was drawn elsewhere, as PNG, in the style it came with."""
    return _png(figure, bbox_inches="tight")


_ATTRIBUTE = str.maketrans({"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;"})


def _png(figure: Figure, **options: Any) -> bytes:
    stream = io.BytesIO()
    nothing = {"Software": None}
    figure.savefig(
        stream, format="png", dpi=PNG_DPI, facecolor="white", metadata=nothing, **options
    )
    return stream.getvalue()


def _rewrite(tag: str, name: str, used: frozenset[str]) -> str:
    """One tag as the page needs it: no namespaces, its own ids only, colours from the page."""
    tag = re.sub(r' xmlns(:xlink)?="[^"]*"| version="[^"]*"', "", tag).replace(
        "xlink:href=", "href="
    )
    tag = re.sub(
        r' id="([^"]*)"',
        lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "",
        tag,
    )
    tag = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", tag)
    for colour, value in LIGHT.items():
        tag = tag.replace(value, f"var(--{colour})")
    return tag


def stylesheet() -> str:
    """The whole style sheet: light, dark where the reader asks for it, always light in print."""
    return "".join(
        (
            ":root { color-scheme: light dark; " + _variables(LIGHT) + " }\n",
            "@media screen and (prefers-color-scheme: dark) { :root { " + _variables(DARK) + " } }",
            "\n",
            beside("page.css"),
        )
    )


def beside(name: str) -> str:
    """The text of a style sheet or a script that lies beside this file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _variables(palette: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in palette.items())

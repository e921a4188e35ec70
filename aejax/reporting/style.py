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
        lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "",
        tag,
    )
    tag = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", tag)
    for colour, value in LIGHT.items():
        tag = tag.replace(value, f"var(--{colour})")
    return tag


_TEXT = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--surface); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere;
}
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.15; letter-spacing: -0.02em; margin: 0; }
h2 { font-size: 1.35rem; letter-spacing: -0.01em; line-height: 1.25; margin: 0 0 4px; }
h3 { font-size: 1rem; line-height: 1.35; margin: 0; }
p { margin: 0; max-width: 46rem; text-wrap: pretty; }
h1, h2, h3 { text-wrap: balance; }
a { color: var(--normal); }
"""

_HEADER = """
header { padding-top: 40px; }
.kind {
  color: var(--muted); font-size: 0.8rem; font-weight: 600; letter-spacing: 0.08em;
  text-transform: uppercase; margin-bottom: 8px;
}
.subtitle { color: var(--muted); font-size: 1.05rem; margin-top: 10px; }
.headline {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr));
  margin: 30px 0 0; border-top: 2px solid var(--ink); border-bottom: 1px solid var(--line);
}
.headline div { padding: 14px 16px 16px 0; }
.headline dt { color: var(--muted); font-size: 0.85rem; }
.headline dd { margin: 0; }
.headline .big {
  font-size: 2.05rem; font-weight: 650; letter-spacing: -0.03em; line-height: 1.2;
  font-variant-numeric: tabular-nums;
}
.headline .small { color: var(--muted); font-size: 0.82rem; line-height: 1.35; }
.verdict { font-size: 1.1rem; margin-top: 20px; }
.alarm { margin-top: 12px; padding-left: 12px; border-left: 3px solid var(--anomaly); }
header .note, .promise { margin-top: 12px; }
nav { margin-top: 20px; font-size: 0.9rem; display: flex; flex-wrap: wrap; gap: 4px 18px; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
"""

_CHOOSE = """
.choose { margin-top: 14px; }
.choose label { display: block; color: var(--muted); font-size: 0.9rem; margin: 10px 0; }
#choose-slider { display: block; width: 100%; margin: 10px 0; accent-color: var(--normal); }
#choose-daily-rows { font: inherit; width: 9em; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: 4px; padding: 2px 6px; }
.choices { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0 16px; margin: 0; }
.choices dt { color: var(--muted); font-size: 0.85rem; white-space: nowrap; }
#choose-command { display: block; white-space: nowrap; overflow-x: auto; padding: 4px 0; }
.choices dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
#choose-rows td:last-child, #choose-rows th:last-child { text-align: left; }
#choose-rows td:last-child { white-space: normal; min-width: 16rem; }
#choose-rows { margin-top: 16px; max-height: 420px; overflow: auto; }
"""

_SECTIONS = """
section { padding-top: 44px; }
.lede, figcaption p, .note { color: var(--muted); font-size: 0.9rem; }
.columns { display: grid; gap: 24px; margin-top: 16px; align-items: start; }
.columns > * { min-width: 0; }
.apart { gap: 44px; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px 12px; }
figcaption { margin-bottom: 8px; }
figure svg { display: block; width: 100%; height: auto; }
.wide figure { overflow-x: auto; }
.wide figure svg, .wide figure img { min-width: 620px; }
.columns .full { grid-column: 1 / -1; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: inherit !important; font-variant-numeric: tabular-nums; }
svg image { image-rendering: pixelated; }
figure img {
  display: block; width: 100%; height: auto; background: white; border-radius: 4px;
}
.rows { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.rows { margin-top: 14px; }
.rows figure { padding: 10px 12px 8px; }
.rows figcaption { display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; }
.rows h3 { font-size: 0.95rem; }
.rows .tag { margin-left: auto; }
.rows .fact { flex-basis: 100%; }
.fact { color: var(--muted); font-size: 0.85rem; font-variant-numeric: tabular-nums; }
.tag {
  font-size: 0.75rem; font-weight: 600; border: 1px solid currentColor; border-radius: 99px;
  padding: 0 8px; color: var(--muted); white-space: nowrap;
}
.tag.anomaly { color: var(--anomaly); }
.tag.normal { color: var(--normal); }
.tag.mistaken.anomaly { background: var(--anomaly); border-color: var(--anomaly); }
.tag.mistaken.normal { background: var(--normal); border-color: var(--normal); }
.tag.mistaken.anomaly, .tag.mistaken.normal { color: var(--surface); }
.key { color: var(--muted); font-size: 0.85rem; margin-right: 18px; white-space: nowrap; }
.key::before {
  content: ""; display: inline-block; width: 18px; height: 4px; border-radius: 2px;
  background: currentColor; margin-right: 6px; vertical-align: middle;
}
.key.ink::before { background: var(--ink); }
.key.expected::before { background: var(--normal); }
.key.error::before { background: var(--anomaly); }
"""

_TABLES = """
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; }
caption { text-align: left; font-weight: 600; padding: 0 0 8px; }
th, td {
  text-align: right; padding: 6px 0 6px 16px; border-bottom: 1px solid var(--line);
  font-weight: 400; font-variant-numeric: tabular-nums; vertical-align: baseline;
  overflow-wrap: normal;
}
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--muted); font-size: 0.82rem; vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
.matrix td { width: 36%; padding: 10px 14px; border: 2px solid var(--surface); text-align: left; }
.matrix td { background: color-mix(in srgb, var(--shade) 15%, transparent); }
.matrix th { border: 0; padding-right: 12px; }
.matrix thead th { padding: 0 14px 4px; text-align: left; }
.right { --shade: var(--normal); }
.wrong { --shade: var(--anomaly); }
.matrix strong { display: block; font-size: 1.35rem; font-weight: 650; line-height: 1.2; }
.matrix span { color: var(--muted); font-size: 0.82rem; }
.settings { columns: 2 330px; column-gap: 40px; margin-top: 14px; }
.settings .scroll { break-inside: avoid; margin-bottom: 22px; }
.settings th, .settings td { overflow-wrap: anywhere; white-space: normal; }
details { margin-top: 18px; border: 1px solid var(--line); border-radius: 8px; }
summary { cursor: pointer; padding: 10px 16px; font-weight: 600; }
details .settings { padding: 0 16px; }
.search { display: block; color: var(--muted); font-size: 0.9rem; margin: 14px 0; }
.search input { font: inherit; width: 16em; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: 4px; padding: 2px 6px; margin-right: 10px; }
.reasons tr > :last-child, .reasons tr > :nth-child(2) { text-align: left; }
.reasons tbody th { white-space: nowrap; }
.reasons td:last-child { white-space: normal; min-width: 16rem; }
#groups-table td:nth-child(2), .words td { text-align: left; white-space: normal; }
#groups-table th:nth-child(2), .words th { text-align: left; }
footer { color: var(--muted); font-size: 0.85rem; padding: 36px 24px 40px; }
"""

_MEDIA = """
@media (min-width: 820px) {
  .columns.even { grid-template-columns: 1fr 1fr; }
}
@media (max-width: 600px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 24px; }
  .headline, .choices { grid-template-columns: 1fr 1fr; }
  .headline .big { font-size: 1.6rem; }
  figure { padding: 10px; }
  .rows { grid-template-columns: minmax(0, 1fr); }
  th, td { padding-left: 10px; }
  .matrix td { padding: 8px 10px; }
  .reasons tr { display: flex; flex-wrap: wrap; gap: 2px 14px; padding: 8px 0; }
  .reasons tr { border-bottom: 1px solid var(--line); }
  .reasons tr > * { padding: 0; border: 0; min-width: 0; text-align: left; white-space: normal; }
  .reasons tr > :first-child, .reasons tr > :nth-child(2) { flex-basis: 100%; }
  .reasons tr > :last-child { flex-basis: 100%; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  @page { margin: 14mm; }
  body { font-size: 11pt; }
  nav { display: none; }
  main, header, footer { padding-left: 0; padding-right: 0; }
  header { padding-top: 0; }
  section { padding-top: 22px; }
  .headline { grid-template-columns: repeat(auto-fit, minmax(105px, 1fr)); }
  .headline .big { font-size: 1.4rem; }
  .columns.even { grid-template-columns: 1fr 1fr; gap: 16px; }
  .rows { grid-template-columns: 1fr 1fr 1fr; gap: 8px; }
  .rows figcaption { font-size: 0.8rem; }
  table { font-size: 0.8rem; }
  .scroll { overflow: visible; }
  figure, table, .headline { break-inside: avoid; }
  h2, .lede { break-after: avoid; }
  details::details-content { content-visibility: visible; height: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def stylesheet() -> str:
    """The whole style sheet: light, dark where the reader asks for it, always light in print."""
    return "".join(
        (
            ":root { color-scheme: light dark; " + _variables(LIGHT) + " }\n",
            "@media screen and (prefers-color-scheme: dark) { :root { " + _variables(DARK) + " } }",
            _TEXT,
            _HEADER,
            _CHOOSE,
            _SECTIONS,
            _TABLES,
            _MEDIA,
        )
    )


def _variables(palette: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in palette.items())

"""The page's sections: one function each, from the report to its heading, HTML and PNG files.

A section without anything to show is None and doesn't appear.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np

from aejax.detection.groups import unit_of
from aejax.reporting import plots
from aejax.reporting.markup import Markup, element, fixed, join, number, percent, readable, table
from aejax.reporting.plots import score_histogram
from aejax.reporting.style import PNG_DPI, Plot, plain_png, to_png, to_svg

# Inches of a page's width that a figure beside another one has.
HALF_PAGE = 6.0

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aejax.reporting.report import Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: its anchor, heading and content, and the PNG files it brings."""

    anchor: str
    heading: str
    content: Markup
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


class Compared(Protocol):
    """What stands beside published numbers."""

    @property
    def published(self) -> Mapping[str, Any] | None: ...  # noqa: D102

    @property
    def measured(self) -> Mapping[str, Any] | None: ...  # noqa: D102


class Illustrated(Protocol):
    """What brings figures of its own."""

    @property
    def figures(self) -> tuple[tuple[str, str, Figure | bytes], ...]: ...  # noqa: D102


def published_section(report: Compared) -> Section | None:
    """Published numbers beside this run's."""
    if not report.published:
        return None
    measured = report.measured or {}
    lines = []
    for key in [*report.published, *(key for key in measured if key not in report.published)]:
        theirs, ours = report.published.get(key), measured.get(key)
        difference = number(None)
        if _is_number(theirs) and _is_number(ours):
            difference = _signed(float(ours) - float(theirs))
        lines.append((readable(key), number(theirs), number(ours), difference))
    head = ("Quantity", "Published", "This run", "Difference")
    return Section(
        anchor="published",
        heading="Published and measured",
        content=element(
            "div",
            table("Difference is this run minus the publication", head, lines),
            class_="columns",
        ),
    )


def scores_section(report: Report) -> Section:
    """The scores around the threshold, and what the threshold decides.

    It reads the scores, the labels and the threshold only, so that it can be drawn anew for
    another threshold.
    """
    plot = score_histogram(report.scores, report.is_anomaly, report.threshold)
    quantiles = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
    groups = {"All rows": report.scores}
    if report.is_anomaly is not None and report.is_anomaly.any() and not report.is_anomaly.all():
        groups = {
            "Normal rows": report.scores[~report.is_anomaly],
            "Anomalies": report.scores[report.is_anomaly],
        }
    columns = [np.quantile(scores, quantiles) for scores in groups.values()]
    names = ("lowest", "25%", "median", "75%", "95%", "99%", "highest")
    lines = [
        (name, *(number(float(column[place])) for column in columns))
        for place, name in enumerate(names)
    ]
    return Section(
        anchor="scores",
        heading="Scores",
        content=element(
            "div",
            plot_figure(plot),
            table("Quantiles of the scores", ("Quantile", *groups), lines),
            class_="columns even",
        ),
        files={plot.name: to_png(plot.figure, plot.title)},
    )


def detection_section(report: Report) -> Section | None:
    """Curves over all thresholds, and the decisions at the one in use, counted both ways."""
    labels, metrics = report.is_anomaly, report.metrics
    if labels is None:
        return None
    parts: list[Markup] = []
    files: dict[str, bytes] = {}
    if labels.any() and not labels.all():
        curves = (
            plots.roc(report.scores, labels, report.threshold, metrics.get("auroc")),
            plots.precision_recall(
                report.scores, labels, report.threshold, metrics.get("average_precision")
            ),
        )
        parts.append(element("div", *map(plot_figure, curves), class_="columns even"))
        files = {plot.name: to_png(plot.figure, plot.title) for plot in curves}
    elif metrics.get("note"):
        parts.append(element("p", f"{metrics['note']}.", class_="note"))
    if "anomaly_positive" in metrics:
        parts.append(element("div", confusion(metrics), both_views(metrics), class_="columns even"))
    if not parts:
        return None
    return Section(anchor="detection", heading="Detection", content=join(parts), files=files)


def confusion(metrics: Mapping[str, Any]) -> Markup:
    """The four counts of a threshold's decisions, shaded by right and wrong."""
    view = metrics["anomaly_positive"]
    hits, missed = view["true_positives"], view["false_negatives"]
    alarms, passed = view["false_positives"], view["true_negatives"]

    def cell(count: int, whole: int, words: str, class_: str) -> Markup:
        share = f"{percent(count / whole)} {words}" if whole else words
        return element("td", element("strong", f"{count:,}"), element("span", share), class_=class_)

    lines = (
        ("Anomalies", cell(hits, hits + missed, "found", "right"),
         cell(missed, hits + missed, "missed", "wrong")),
        ("Normal rows", cell(alarms, alarms + passed, "false alarms", "wrong"),
         cell(passed, alarms + passed, "passed", "right")),
    )  # fmt: skip
    body = (element("tr", element("th", name, scope="row"), *cells) for name, *cells in lines)
    heads = (element("th", name, scope="col") for name in ("", "Flagged", "Not flagged"))
    caption = f"Decisions at threshold {number(metrics['threshold'])}"
    content = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
        class_="matrix",
    )
    return element("div", content, class_="scroll")


def both_views(metrics: Mapping[str, Any]) -> Markup:
    """The ratios with anomalies as positives and with normal rows as positives."""
    views = (metrics["anomaly_positive"], metrics["normal_positive"])
    lines = [
        (
            readable(key),
            *(number(None) if view[key] is None else f"{view[key]:.4f}" for view in views),
        )
        for key in ("precision", "recall", "f1", "accuracy")
    ]
    head = ("", "Anomalies are positive", "Normal rows are positive")
    return table("The same decisions, counted both ways", head, lines)


def training_section(report: Report) -> Section | None:
    """The losses over the epochs or steps."""
    plot = plots.losses(report.history)
    if plot is None:
        return None
    facts = table("Training in numbers", (), training_facts(report.history))
    content = element("div", plot_figure(plot), facts, class_="columns even")
    files = {plot.name: to_png(plot.figure, plot.title)}
    return Section(anchor="training", heading="Training", content=content, files=files)


def training_facts(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What the epochs say in numbers."""

    def column(key: str) -> list[float]:
        return [row[key] for row in history if row.get(key) is not None]

    unit = unit_of(history)
    facts = [(f"{unit.capitalize()}s", number(history[-1][unit] if history else 0))]
    for key in ("loss", "validation_loss"):
        if values := column(key):
            facts.append((f"{readable(key)}, first to last", _change(values)))
    if values := column("learning_rate"):
        facts.append(("Learning rate, first to last", _change(values)))
    if values := column("rows_per_second"):
        facts.append(("Rows a second, median", number(round(float(np.median(values))))))
    if values := column("seconds"):
        facts.append(("Seconds", number(sum(values))))
    return facts


def _change(values: Sequence[float]) -> str:
    first, last = number(values[0]), number(values[-1])
    return first if first == last else f"{first} to {last}"


def figures_section(report: Illustrated) -> Section | None:
    """Figures that came with the report, as they are."""
    if not report.figures:
        return None
    files, drawn = {}, []
    for index, (title, caption, figure) in enumerate(report.figures, start=1):
        slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:40]
        image = figure if isinstance(figure, bytes) else plain_png(figure)
        files[f"figure_{index:02d}_{slug}".rstrip("_")] = image
        source = "data:image/png;base64," + base64.b64encode(image).decode("ascii")
        words = element("figcaption", element("h3", title), element("p", caption))
        picture = element("img", src=source, alt=f"{title}. {caption}")
        # In half the page its words would be too small to read.
        wide = "wide full" if png_width(image) > HALF_PAGE else None
        drawn.append(element("div", element("figure", words, picture), class_=wide))
    content = element("div", *drawn, class_="columns even")
    return Section(anchor="figures", heading="Further figures", content=content, files=files)


def png_width(image: bytes) -> float:
    """The width at which a PNG file's words have the size that they were drawn in, in inches."""
    # The first chunk begins with the width in pixels.
    return int.from_bytes(image[16:20]) / PNG_DPI


def plot_figure(plot: Plot) -> Markup:
    """A plot with its words, drawn into the page."""
    words = element("figcaption", element("h3", plot.title), element("p", plot.caption))
    return element("figure", words, to_svg(plot.figure, plot.name, plot.alternative))


def _is_number(value: object) -> TypeGuard[float]:
    return hasattr(value, "__float__") and not isinstance(value, bool)


def _signed(value: float) -> str:
    if 0 < abs(value) < 1:
        text = fixed(value)
        sign = "+" if value > 0 and float(text) else ""
        return f"{sign}{text}".replace("-", "\N{MINUS SIGN}")
    return ("+" if value > 0 else "") + number(value)

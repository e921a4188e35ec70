"""The page of a report: one function a section, each from the report to its HTML.

A section without anything to show returns None and doesn't appear.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.reporting import plots, rows
from aejax.reporting.markup import Markup, element, join, number, percent, table
from aejax.reporting.style import Plot, plain_png, to_png, to_svg
from aejax.reporting.stylesheet import stylesheet

if TYPE_CHECKING:
    from aejax.reporting.report import Examples, Report

_NAMES = {"auroc": "AUROC", "f1": "F1", "roc": "ROC"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: its anchor, heading and content, and the PNG files it brings."""

    anchor: str
    heading: str
    content: Markup
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def render(report: Report) -> tuple[str, dict[str, bytes]]:
    """The page as text, and its plots as PNG by name."""
    labels = None if report.is_anomaly is None else np.asarray(report.is_anomaly, bool)
    # In float64, as `evaluate` compares: float32 scores would round the threshold.
    report = dataclasses.replace(
        report, scores=np.asarray(report.scores, np.float64), is_anomaly=labels
    )
    sections = [
        section
        for section in (
            published_section(report),
            scores_section(report),
            detection_section(report),
            *rows_sections(report),
            training_section(report),
            figures_section(report),
            settings_section(report),
        )
        if section is not None
    ]
    files = {name: content for section in sections for name, content in section.files.items()}
    document = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", report.title),
            element("style", Markup(stylesheet())),
        ),
        element(
            "body",
            header(report, sections),
            element(
                "main",
                *(
                    element(
                        "section",
                        element("h2", section.heading, id=f"{section.anchor}-heading"),
                        section.content,
                        id=section.anchor,
                        aria_labelledby=f"{section.anchor}-heading",
                    )
                    for section in sections
                ),
            ),
            element("footer", "Written by aejax. A larger score is more anomalous."),
        ),
        lang="en",
    )
    return "<!doctype html>\n" + document + "\n", files


def header(report: Report, sections: list[Section]) -> Markup:
    """Title, headline numbers, the finding in a sentence, and links to the sections."""
    links = (element("a", section.heading, href=f"#{section.anchor}") for section in sections)
    return element(
        "header",
        element("p", "Anomaly detection report", class_="kind"),
        element("h1", report.title),
        element("p", report.subtitle, class_="subtitle"),
        element("dl", *headline(report), class_="headline"),
        element("p", verdict(report), class_="verdict"),
        element("nav", *links, aria_label="Sections"),
    )


def headline(report: Report) -> list[Markup]:
    """The numbers people come for, each with what qualifies it."""
    count = len(report.scores)
    figures: list[tuple[str, str, str]] = []
    for key, name in (("auroc", "AUROC"), ("average_precision", "Average precision")):
        area = report.metrics.get(key)
        if area is not None:
            interval = (
                "no interval"
                if area.get("low") is None
                else f"95% interval {area['low']:.4f} to {area['high']:.4f}"
            )
            figures.append((name, f"{area['value']:.4f}", interval))
    if report.threshold is None:
        figures.append(("Threshold", number(None), "none was set"))
    else:
        flagged = int((report.scores > report.threshold).sum())
        figures.append(("Threshold", number(report.threshold), "rows above it are flagged"))
        figures.append(("Flagged", f"{flagged:,}", f"{percent(flagged / count)} of the rows"))
    known = "no labels"
    if report.is_anomaly is not None:
        known = f"{int(report.is_anomaly.sum()):,} of them anomalies"
    figures.append(("Rows", f"{count:,}", known))
    return [
        element(
            "div",
            element("dt", name),
            element("dd", value, class_="big"),
            element("dd", note, class_="small"),
        )
        for name, value, note in figures
    ]


def verdict(report: Report) -> str | None:
    """What the threshold does, in a sentence; None where there is no threshold."""
    if report.threshold is None:
        return None
    flagged = report.scores > report.threshold
    labels = report.is_anomaly
    if labels is None:
        return f"The threshold flags {int(flagged.sum()):,} of {len(flagged):,} rows."
    parts = [
        f"{percent(float(flagged[chosen].mean()))} of the {int(chosen.sum()):,} {name}"
        for chosen, name in ((labels, "anomalies"), (~labels, "normal rows"))
        if chosen.any()
    ]
    return f"The threshold flags {' and '.join(parts)}."


def published_section(report: Report) -> Section | None:
    """Published numbers beside this run's."""
    if not report.published:
        return None
    measured = report.measured or {}
    lines = []
    for key in [*report.published, *(key for key in measured if key not in report.published)]:
        theirs, ours = report.published.get(key), measured.get(key)
        difference = _signed(ours - theirs) if _is_number(theirs) and _is_number(ours) else None
        lines.append((readable(key), number(theirs), number(ours), number(difference)))
    head = ("Quantity", "Published", "This run", "Difference")
    return Section(
        anchor="published",
        heading="Published and measured",
        content=element("div", table("Difference is this run minus the publication", head, lines)),
    )


def scores_section(report: Report) -> Section:
    """The scores around the threshold, and what the threshold decides.

    It reads the scores, the labels and the threshold only, so that it can be drawn anew for
    another threshold.
    """
    plot = plots.score_histogram(report.scores, report.is_anomaly, report.threshold)
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
            class_="columns uneven",
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
        parts.append(
            element("div", confusion(metrics), both_views(metrics), class_="columns even")
        )
    if not parts:
        return None
    return Section(anchor="detection", heading="Detection", content=join(parts), files=files)


def confusion(metrics: Mapping[str, Any]) -> Markup:
    """The four counts of a threshold's decisions, shaded by right and wrong."""
    view = metrics["anomaly_positive"]
    found, missed = view["true_positives"], view["false_negatives"]
    alarms, passed = view["false_positives"], view["true_negatives"]

    def cell(count: int, whole: int, words: str, class_: str) -> Markup:
        share = f"{percent(count / whole)} {words}" if whole else words
        return element("td", element("strong", f"{count:,}"), element("span", share), class_=class_)

    lines = (
        ("Anomalies", cell(found, found + missed, "found", "right"),
         cell(missed, found + missed, "missed", "wrong")),
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
        (readable(key), *(number(None) if view[key] is None else f"{view[key]:.4f}" for view in views))
        for key in ("precision", "recall", "f1", "accuracy")
    ]
    head = ("", "Anomalies are positive", "Normal rows are positive")
    return table("The same decisions, counted both ways", head, lines)


def rows_sections(report: Report) -> list[Section]:
    """The most and the least anomalous rows, drawn on the same scales."""
    scales = rows.shared_scales(report.most, report.least)
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
        lede = element("p", _HOW_TO_READ[report.schema.kind], class_="lede")
        drawn = rows.rows_figure(examples, report.schema, scales, report.threshold)
        sections.append(
            Section(
                anchor=anchor,
                heading=heading,
                content=join((lede, element("div", *cards, class_="rows"))),
                files={anchor: to_png(drawn, heading)},
            )
        )
    return sections


_HOW_TO_READ = {
    "image": "Input and reconstruction share one scale over all rows shown, errors another.",
    "series": "The filled band is where input and reconstruction differ; all rows share one scale.",
    "table": "The features with the largest errors, and what the model expected in their place.",
}


def row_card(
    report: Report, examples: Examples, index: int, scales: rows.Scales, name: str
) -> Markup:
    """One row with what is known of it."""
    place, score, *words = rows.row_facts(examples, index, report.threshold)
    wrong = words in (["anomaly", "not flagged"], ["normal row", "flagged"])
    kinds = {"anomaly": "anomaly", "normal row": "normal"}
    tags = [
        element("span", word, class_=f"tag {kinds.get(word, 'wrong' if wrong else '')}".strip())
        for word in words
    ]
    drawn = rows.row_figure(examples, index, report.schema, scales)
    description = rows.row_description(examples, index, report.schema)
    caption = (element("h3", place.capitalize()), element("span", score, class_="fact"), *tags)
    return element("figure", element("figcaption", *caption), to_svg(drawn, name, description))


def training_section(report: Report) -> Section | None:
    """The losses over the epochs."""
    plot = plots.losses(report.history)
    if plot is None:
        return None
    content = element("div", plot_figure(plot), class_="columns uneven")
    files = {plot.name: to_png(plot.figure, plot.title)}
    return Section(anchor="training", heading="Training", content=content, files=files)


def figures_section(report: Report) -> Section | None:
    """Figures that came with the report, as they are."""
    if not report.figures:
        return None
    files, drawn = {}, []
    for index, (title, caption, figure) in enumerate(report.figures, start=1):
        slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:40]
        content = plain_png(figure)
        files[f"figure_{index:02d}_{slug}".rstrip("_")] = content
        source = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
        words = element("figcaption", element("h3", title), element("p", caption))
        drawn.append(element("figure", words, element("img", src=source, alt=f"{title}. {caption}")))
    content = element("div", *drawn, class_="columns even")
    return Section(anchor="figures", heading="Further figures", content=content, files=files)


def settings_section(report: Report) -> Section:
    """Settings in the open; timings and environment folded away."""
    settings = (table(name, (), lines) for name, lines in grouped(report.config, "Run"))
    seconds = [(readable(key), f"{number(value)} s") for key, value in flat(report.seconds)]
    machine = [(readable(key), number(value)) for key, value in flat(report.environment)]
    folded = (
        table(name, (), lines)
        for name, lines in (("Seconds", seconds), ("Environment", machine))
        if lines
    )
    details = element(
        "details",
        element("summary", "Timings and environment"),
        element("div", *folded, class_="settings"),
    )
    content = join((element("div", *settings, class_="settings"), details))
    return Section(anchor="settings", heading="Settings", content=content)


def plot_figure(plot: Plot) -> Markup:
    """A plot with its words, drawn into the page."""
    words = element("figcaption", element("h3", plot.title), element("p", plot.caption))
    return element("figure", words, to_svg(plot.figure, plot.name, plot.alternative))


def grouped(nested: Mapping[str, Any], rest: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Settings as one table for each group; what belongs to none comes first, under `rest`."""
    groups: dict[str, list[tuple[str, str]]] = {rest: []}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            lines = [(readable(name), number(item)) for name, item in flat(value)]
            groups[readable(key)] = lines
        else:
            groups[rest].append((readable(key), number(value)))
    return [(name, lines) for name, lines in groups.items() if lines]


def flat(nested: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested settings, each under the dotted path of its keys."""
    leaves: list[tuple[str, Any]] = []
    for key, value in nested.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping):
            leaves += flat(value, f"{path}.")
        else:
            leaves.append((path, value))
    return leaves


def readable(key: str) -> str:
    """A key as words, as in "average_precision" -> "Average precision"."""
    if key in _NAMES:
        return _NAMES[key]
    words = str(key).replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)

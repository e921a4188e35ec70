"""The page of a report: its head, its sections in their order, and the settings at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aejax.reporting.markup import (
    Markup,
    big_figure,
    element,
    join,
    number,
    percent,
    readable,
    table,
)
from aejax.reporting.rows import rows_sections
from aejax.reporting.sections import (
    Section,
    detection_section,
    figures_section,
    published_section,
    scores_section,
    training_section,
)
from aejax.reporting.series import series_section
from aejax.reporting.slider import slider_section
from aejax.reporting.style import stylesheet
from aejax.reporting.tuning_section import tuning_section

if TYPE_CHECKING:
    from aejax.detection.promise import Promise
    from aejax.reporting.report import Report


class Settled(Protocol):
    """What was made with settings, in some time, by some machine."""

    @property
    def config(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def seconds(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def environment(self) -> Mapping[str, Any]: ...  # noqa: D102


def render(report: Report) -> tuple[str, dict[str, bytes]]:
    """The page as text, and its plots as PNG by name."""
    labels = None if report.is_anomaly is None else np.asarray(report.is_anomaly, bool)
    # In float64, as `evaluate` compares: float32 scores would round the threshold.
    report = dataclasses.replace(
        report, scores=np.asarray(report.scores, np.float64), is_anomaly=labels
    )
    possible = (
        published_section(report),
        None if report.course is None else series_section(report.course, report.metrics),
        scores_section(report),
        detection_section(report),
        slider_section(report),
        *rows_sections(report),
        training_section(report),
        report.tuning if isinstance(report.tuning, Section) else tuning_section(report.tuning),
        figures_section(report),
        settings_section(report),
    )
    return document(
        report.title,
        report.subtitle,
        possible,
        kind="Anomaly detection report",
        headline=headline(report),
        verdict=(verdict(report),),
        alarms=report.alarms,
        promise=report.promise,
        notes=report.notes,
    )


def document(
    title: str,
    subtitle: str,
    possible: Sequence[Section | None],
    *,
    kind: str,
    headline: Sequence[Markup] = (),
    verdict: Sequence[str | None] = (),
    alarms: Sequence[str] = (),
    promise: Promise | None = None,
    notes: Sequence[str] = (),
    footer: str = "A larger score is more anomalous.",
) -> tuple[str, dict[str, bytes]]:
    """A whole page as text, and its plots as PNG by name.

    Args:
        title: of the page.
        subtitle: one sentence.
        possible: its sections in their order; None is left out.
        kind: what page it is, above the title.
        headline: the numbers people come for.
        verdict: the finding, in sentences.
        alarms: what would make a detector fail in silence, a sentence each.
        promise: what the threshold promises of normal rows.
        notes: further sentences.
        footer: what is said at the end, behind who wrote it.
    """
    sections = [section for section in possible if section is not None]
    header = element(
        "header",
        element("p", kind, class_="kind"),
        element("h1", title),
        element("p", subtitle, class_="subtitle"),
        element("dl", *headline, class_="headline") if headline else None,
        *(element("p", text, class_="verdict") for text in verdict),
        *(element("p", f"Warning: {alarm}.", class_="alarm") for alarm in alarms),
        element("p", f"Flags of normal rows: {promise.text}.", class_="promise")
        if promise
        else None,
        *(element("p", note, class_="note") for note in notes),
        navigation(sections),
    )
    files = {name: content for section in sections for name, content in section.files.items()}
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            element("style", Markup(stylesheet())),
        ),
        element(
            "body",
            header,
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
            element("footer", f"Written by aejax. {footer}".strip()),
        ),
        lang="en",
    )
    return "<!doctype html>\n" + page + "\n", files


def navigation(sections: Sequence[Section]) -> Markup:
    """Links to the sections."""
    links = (element("a", section.heading, href=f"#{section.anchor}") for section in sections)
    return element("nav", *links, aria_label="Sections")


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
                else f"{area['low']:.3f} to {area['high']:.3f} (95%)"
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
    if rows_are := report.metrics.get("rows_are"):
        known = f"{rows_are}; {known}"
    figures.append(("Rows judged", f"{count:,}", known))
    return [big_figure(*figure) for figure in figures]


def verdict(report: Report) -> str | None:
    """What the threshold does, in a sentence; None where there is no threshold."""
    if report.threshold is None:
        return None
    flagged = report.scores > report.threshold
    labels = report.is_anomaly
    if labels is None:
        return f"The threshold flags {int(flagged.sum()):,} of {len(flagged):,} rows."
    parts = [
        f"{verb} {int(flagged[chosen].sum()):,} of {int(chosen.sum()):,} {name}"
        for chosen, verb, name in (
            (labels, "finds", "anomalies"),
            (~labels, "raises false alarms on", "normal rows"),
        )
        if chosen.any()
    ]
    return f"The threshold {' and '.join(parts)}."


def settings_section(report: Settled) -> Section | None:
    """Settings in the open; timings and environment folded away."""
    settings = [table(name, (), lines) for name, lines in grouped(report.config, "Run")]
    folded = timings(report.seconds, report.environment)
    if not settings and folded is None:
        return None
    shown = element("div", *settings, class_="settings") if settings else None
    return Section(anchor="settings", heading="Settings", content=join((shown, folded)))


def timings(seconds: Mapping[str, Any], environment: Mapping[str, Any]) -> Markup | None:
    """What took how long, and on what machine, folded away; None where neither is known."""
    times = [(readable(key), f"{number(value)} s") for key, value in flat(seconds)]
    machine = [(PACKAGES.get(key, readable(key)), number(v)) for key, v in flat(environment)]
    tables = [
        table(name, (), lines)
        for name, lines in (("Seconds", times), ("Environment", machine))
        if lines
    ]
    summary = element("summary", "Timings and environment")
    folded = element("details", summary, element("div", *tables, class_="settings"))
    return folded if tables else None


def grouped(nested: Mapping[str, Any], rest: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Settings as one table for each group; what belongs to none comes first, under `rest`."""
    single = {key: value for key, value in nested.items() if not isinstance(value, Mapping)}
    parts: list[tuple[str, Mapping[str, Any]]] = [(rest, single)]
    parts += [(readable(key), part) for key, part in nested.items() if isinstance(part, Mapping)]
    return [
        (name, [(setting(key), chosen(value)) for key, value in flat(part)])
        for name, part in parts
        if part
    ]


def setting(path: str) -> str:
    """A setting's dotted path in words."""
    *above, name = path.split(".")
    words = SETTINGS.get(name) or readable(name)
    return ": ".join([*map(readable, above), words])


def chosen(value: object) -> str:
    """A setting's value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, (list, tuple, str)) and not value):
        return "none"
    return number(value)


PACKAGES = {"aejax": "aejax", "jax": "JAX", "jaxlib": "jaxlib"}
# What single words don't say.
SETTINGS = {
    "alpha": "Share of false alarms (alpha)",
    "beta": "Weight of the divergence (beta)",
    "clip": "Largest value after scaling",
    "clip_norm": "Largest norm of a gradient",
    "date_parts": "Parts of dates",
    "embedding": "Width of a category's embedding",
    "feed": "Rows are fed from",
    "frozen": "Parameters that stay as they are",
    "hidden": "Widths of the layers",
    "decoder": "Widths of the decoder's layers",
    "hide": "Share of cells hidden in training",
    "indicator": "Tells the network what is missing",
    "k": "Standard deviations (k)",
    "keep": "Columns that are kept",
    "kind_name": "Kind",
    "kinds": "Kinds of columns",
    "noise": "Noise, standard deviation",
    "noise_on": "Noise is added to",
    "noise_range": "Range of noisy values",
    "output": "Activation of the output",
    "patience": "Epochs without improvement",
    "q": "Quantile (q)",
    "trim": "Share of largest losses left out",
    "validation_fraction": "Share held out of training",
}


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

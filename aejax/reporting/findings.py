"""The report of a study: what was found with several models, in tables and pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aejax.reporting.markup import element, number, readable, table
from aejax.reporting.page import document, timings
from aejax.reporting.report import write_metrics, write_page
from aejax.reporting.sections import Section, figures_section, published_section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the report.

    Attributes:
        title: what it shows, in a sentence.
        head: names of the columns.
        lines: their cells; numbers are shortened for reading.
    """

    title: str
    head: tuple[str, ...]
    lines: Sequence[Sequence[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that the report of a study shows.

    Attributes:
        title: of the page.
        subtitle: what was done, with its source.
        conclusions: what the numbers say, a sentence each; written from the numbers.
        published: quantity -> published value.
        measured: quantity -> value of this run.
        tables: in the order in which they are shown.
        figures: title, caption and drawing.
        details: what `metrics.json` holds besides, as JSON knows it.
        seconds: stage -> seconds it took.
        environment: versions, device and whatever else tells runs apart.
    """

    title: str = ""
    subtitle: str = ""
    conclusions: tuple[str, ...] = ()
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    measured: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    figures: tuple[tuple[str, str, Figure], ...] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write_findings(findings: Findings, folder: Path) -> Path:
    """Write `report.html`, `plots/*.png` and `metrics.json`; returns the page's path."""
    page, files = render(findings)
    write_metrics(
        folder,
        findings.published,
        findings.measured,
        {**findings.details, "conclusions": list(findings.conclusions)},
        findings.seconds,
        findings.environment,
    )
    return write_page(page, files, folder)


def render(findings: Findings) -> tuple[str, dict[str, bytes]]:
    """The page as text, and its plots as PNG by name."""
    possible = (
        _conclusions(findings),
        published_section(findings) or _measured(findings),
        _tables(findings),
        figures_section(findings),
        _machine(findings),
    )
    return document(findings.title, findings.subtitle, possible, kind="Study", footer="")


def _conclusions(findings: Findings) -> Section | None:
    if not findings.conclusions:
        return None
    content = element("ul", *(element("li", sentence) for sentence in findings.conclusions))
    return Section(anchor="found", heading="What was found", content=content)


def _measured(findings: Findings) -> Section | None:
    if not findings.measured:
        return None
    lines = [(readable(key), number(value)) for key, value in findings.measured.items()]
    content = element("div", table("Measured", ("Quantity", "This run"), lines), class_="columns")
    return Section(anchor="measured", heading="Measured", content=content)


def _tables(findings: Findings) -> Section | None:
    if not findings.tables:
        return None
    drawn = [
        table(
            shown.title,
            shown.head,
            [tuple(c if isinstance(c, str) else number(c) for c in line) for line in shown.lines],
        )
        for shown in findings.tables
    ]
    # Apart, so that a caption is read with the table below it.
    content = element("div", *drawn, class_="columns apart")
    return Section(anchor="tables", heading="Tables", content=content)


def _machine(findings: Findings) -> Section | None:
    folded = timings(findings.seconds, findings.environment)
    if folded is None:
        return None
    return Section(anchor="settings", heading="Settings", content=folded)

"""The report of a study: what was found with several models, in tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aejax.reporting.markup import element, number, readable, table
from aejax.reporting.page import document, timings
from aejax.reporting.report import Findings, write_metrics, write_page
from aejax.reporting.sections import Section, figures_section, published_section

if TYPE_CHECKING:
    pass


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

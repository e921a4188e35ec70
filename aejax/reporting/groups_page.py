"""The page of a report on a detector of groups: what these have in common, and who stands out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aejax.detection.groups import unit_of
from aejax.detection.promise import limits_of, promise_of
from aejax.reporting.group_plots import in_percent, loss_bands, spread
from aejax.reporting.group_table import left_out_table, notable_groups, notable_table
from aejax.reporting.groups_contents import GroupsReport
from aejax.reporting.markup import Markup, big_figure, element, join, number, percent, table
from aejax.reporting.page import document, navigation, settings_section
from aejax.reporting.report import write_page
from aejax.reporting.sections import Section, plot_figure
from aejax.reporting.style import Plot, to_png


def write_groups_report(report: GroupsReport, folder: Path) -> Path:
    """Write `report.html` and `plots/*.png`, of bounded size; returns the page's path."""
    return write_page(*render(report), folder)


def render(report: GroupsReport) -> tuple[str, dict[str, bytes]]:
    """The page as text, and its plots as PNG by name."""
    sections = [
        section
        for section in (
            _notable(report),
            _spread(report),
            _training(report),
            _left_out(report),
            settings_section(report),
        )
        if section is not None
    ]
    alarms, thresholds = report.detector.provenance.get("alarms", ()), report.thresholds
    header = element(
        "header",
        element("p", "Detectors of groups", class_="kind"),
        element("h1", report.title),
        element("p", report.subtitle, class_="subtitle"),
        element("dl", *_headline(report), class_="headline"),
        element("p", _verdict(report), class_="verdict"),
        *(element("p", f"Warning: {alarm}.", class_="alarm") for alarm in alarms),
        *(
            element("p", f"Flags of normal rows: {p.text}.", class_="promise")
            for p in [promise_of(thresholds)]
            if p
        ),
        *(element("p", limit, class_="note") for limit in limits_of(report.detector)),
        navigation(sections),
    )
    footer = "Written by aejax. Scores of different groups compare only beside their thresholds."
    return document(report.title, header, sections, footer)


def _headline(report: GroupsReport) -> list[Markup]:
    rows = report.rows
    low, middle, high = np.quantile(report.thresholds.values, [0, 0.5, 1]).tolist()
    judged = int(report.judged.sum())
    left_out = len(report.known.skipped)
    figures = [
        ("Groups", number(len(rows)), f"{left_out:,} left out" if left_out else "none left out"),
        (
            "Rows in a group",
            number(float(np.median(rows))),
            f"the median; {int(rows.min()):,} to {int(rows.max()):,}",
        ),
        ("Threshold", number(middle), f"the median; {number(low)} to {number(high)}"),
    ]
    if judged:
        flagged = int(report.flagged.sum())
        figures.append(
            ("Flagged", percent(flagged / judged), f"{flagged:,} of {judged:,} normal rows")
        )
    left = report.numbers("error_left")
    if np.isfinite(left).any():
        figures.append(
            (
                "Error left",
                in_percent(float(np.nanmedian(left))),
                "the median; of an untrained network's",
            )
        )
    if report.areas:
        areas = list(report.areas.values())
        note = f"the mean of {len(areas):,} groups with anomalies"
        figures.append(("AUROC", f"{np.mean(areas):.4f}", note))
    return [big_figure(*figure) for figure in figures]


def _verdict(report: GroupsReport) -> str:
    groups, alarmed = report.groups, sum(bool(group.alarms) for group in report.groups)
    sentence = f"{len(groups):,} groups of {report.known.column!r} have a detector each"
    if not alarmed:
        return f"{sentence}; none raised an alarm."
    return f"{sentence}; {alarmed:,} raised an alarm."


def _notable(report: GroupsReport) -> Section:
    found = notable_groups(report)
    lede = element(
        "p",
        "Groups with an alarm, and those far beyond the others (more than three quartile ranges "
        "above the upper quartile) in the error that training left, in what is flagged of their "
        "normal rows or in their threshold, and thresholds that rest on few rows. Hold the pointer "
        "over a reason for its numbers. "
        f"All groups are in {report.table}, beside this page.",
        class_="lede",
    )
    content = notable_table(report, found) if found else element("p", "No group stands out.")
    return Section(anchor="notable", heading="Groups that stand out", content=join((lede, content)))


def _spread(report: GroupsReport) -> Section:
    left, shares = report.numbers("error_left"), report.shares
    areas = np.array(list(report.areas.values()))
    checked = report.numbers("validation_loss")
    numbers = {
        "Rows": report.rows.astype(np.float64),
        "Threshold": report.thresholds.values,
        "Loss": report.numbers("loss"),
        "Validation loss": checked,
        "Error left": left,
        "Flagged": shares,
        "AUROC": areas,
    }
    drawn = [
        spread(
            numbers["Rows"],
            name="rows_of_groups",
            label="rows of a group",
            title="Half of the groups have {middle} rows or fewer",
            caption="Normal rows that a group was trained and calibrated on.",
        ),
        spread(
            numbers["Threshold"],
            name="thresholds_of_groups",
            label="threshold of a group",
            title="The median threshold is {middle}",
            caption="A row is flagged where its score is above its own group's threshold.",
        ),
        spread(
            left,
            name="error_left",
            label="error left",
            title="Training left {middle} of the error, in the median group",
            caption="Mean error of a group's held-out rows as a share of what the network made "
            "of them before its training; near 100% it learnt nothing.",
            share=True,
        ),
        spread(
            checked,
            name="validation_losses",
            label="validation loss of a group",
            title="The median validation loss is {middle}",
            caption="After the training of each group, on the rows that it held out.",
        ),
        spread(
            shares,
            name="flagged_of_groups",
            label="share of a group's normal rows that is flagged",
            title="In the median group {middle} of the normal rows are flagged",
            caption="Of all its normal rows, those that it was trained on included.",
            share=True,
        ),
        spread(
            areas,
            name="areas_of_groups",
            label="AUROC of a group",
            title="The median AUROC is {middle}",
            caption="Of the groups that have labelled anomalies: the chance that one scores "
            "above a normal row of its group.",
        ),
    ]
    plots = [plot for plot in drawn if plot is not None]
    quantiles = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    shown = {name: found[np.isfinite(found)] for name, found in numbers.items()}
    lines = [
        (name, *map(number, np.quantile(found, quantiles).tolist()))
        for name, found in shown.items()
        if len(found)
    ]
    head = ("Over the groups", "lowest", "5%", "25%", "median", "75%", "95%", "highest")
    content = join(
        (
            element("div", *map(plot_figure, plots), class_="columns even"),
            element("div", table("Quantiles over the groups", head, lines), class_="columns"),
        )
    )
    return Section(
        anchor="spread", heading="How groups differ", content=content, files=_files(plots)
    )


def _training(report: GroupsReport) -> Section | None:
    plot = loss_bands(report.detector.history, len(report.groups))
    if plot is None:
        return None
    history = report.detector.history
    best = [group.best_epoch for group in report.groups if group.best_epoch is not None]
    unit = unit_of(history)
    facts = [(f"{unit.capitalize()}s, at most", number(history[-1][unit]))]
    facts.append(("Groups that trained to the last", number(history[-1]["groups"])))
    if best:
        # A line of the history is so many steps, or one epoch.
        middle = min(float(np.median(best)) * history[0].get("step", 1), history[-1][unit])
        facts.append((f"Best {unit}, median group", number(middle)))
    shown = table("Training in numbers", (), facts)
    content = element("div", plot_figure(plot), shown, class_="columns even")
    return Section(anchor="training", heading="Training", content=content, files=_files([plot]))


def _left_out(report: GroupsReport) -> Section | None:
    skipped = report.known.skipped
    if not skipped:
        return None
    lede = element(
        "p",
        "Their rows get no score, and the summary of a scoring job counts them.",
        class_="lede",
    )
    content = join((lede, element("div", left_out_table(skipped), class_="columns")))
    return Section(anchor="left-out", heading="Groups left out", content=content)


def _files(plots: list[Plot]) -> dict[str, bytes]:
    return {plot.name: to_png(plot.figure, plot.title) for plot in plots}

"""The page of a report on a detector of groups: what these have in common, and who stands out."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aejax.config.rules import share_above
from aejax.detection.groups import unit_of
from aejax.detection.promise import limits_of, promise_of
from aejax.detection.threshold import Threshold
from aejax.reporting.group_plots import Floats, GroupsReport, in_percent, loss_bands, spread
from aejax.reporting.markup import (
    Markup,
    big_figure,
    element,
    join,
    number,
    percent,
    shorten,
    table,
    with_lede,
)
from aejax.reporting.page import document, settings_section
from aejax.reporting.report import write_page
from aejax.reporting.sections import Section, plot_figure
from aejax.reporting.style import Plot, beside, to_png

MOST_SHOWN, MOST_OF_A_KIND, MOST_LEFT_OUT = 50, 12, 25
MOST_LETTERS = 80
_DIGITS = re.compile(r"\d+")
# Above a median by so many quartile distances, a number stands out (Tukey's outer fence is 3).
FENCE = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notable:
    """A group that stands out.

    Attributes:
        at: its position among those that have a detector.
        why: in a few words each.
    """

    at: int
    why: tuple[str, ...]


def notable_groups(report: GroupsReport) -> list[Notable]:
    """The groups that a person should look at first, at most `MOST_SHOWN`.

    Those with alarms come first, then those beyond the outer fence of the others in
    how badly they fit, in what is flagged of their normal rows, or in their threshold, and
    those whose threshold rests on fewest rows.
    """
    reasons: dict[int, list[str]] = {}

    def add(order: list[int], words: str) -> None:
        for at in order[:MOST_OF_A_KIND]:
            if at in reasons or len(reasons) < MOST_SHOWN:
                reasons.setdefault(at, []).append(
                    words.format(rows=report.thresholds.each[at].rows)
                )

    groups, shares = report.groups, report.shares
    alarmed = [at for at, group in enumerate(groups) if group.alarms]
    for kind in dict.fromkeys(alarm.kind for at in alarmed for alarm in groups[at].alarms):
        sizes = {
            at: alarm.size for at in alarmed for alarm in groups[at].alarms if alarm.kind == kind
        }
        add(_falling(np.array([sizes.get(at, np.nan) for at in range(len(groups))])), kind)
    left = report.numbers("error_left")
    add(_beyond(left), "worst fit")
    if not np.isfinite(left).any():
        add(_beyond(report.numbers("loss")), "worst fit")
    add(_beyond(shares), "most flagged")
    add(_beyond(report.thresholds.values), "highest threshold")
    calibrated = -report.thresholds.rows.astype(np.float64)
    few = [
        at for at in _falling(calibrated) if -calibrated[at] < _least(report.thresholds.each[at])
    ]
    # What most groups have in common makes none stand out.
    add(few if len(few) <= len(groups) / 2 else [], "threshold rests on {rows:,} rows")
    return [Notable(at=at, why=tuple(why)) for at, why in reasons.items()]


def _least(threshold: Threshold) -> float:
    """Rows below which a quantile as far out as the rule's is the largest score, or beyond."""
    share = share_above(threshold.rule)
    return 1 / share if share else 10.0


def _beyond(values: Floats) -> list[int]:
    """Positions of numbers above the outer fence, the largest first."""
    known = values[np.isfinite(values)]
    if len(known) < 4:
        return []
    quarter, three = np.quantile(known, [0.25, 0.75])
    fence = three + FENCE * (three - quarter)
    return [at for at in _falling(values) if values[at] > fence]


def _falling(values: Floats) -> list[int]:
    order: list[int] = np.argsort(-values, kind="stable").tolist()
    return [at for at in order if np.isfinite(values[at])]


def notable_table(report: GroupsReport, notable: list[Notable]) -> Markup:
    """The groups that stand out, with a field that finds one by its name."""
    shares, areas = report.shares, report.areas
    left = report.numbers("error_left")
    known = np.isfinite(left).any()
    head = ["Group", "Why it stands out", "Rows", "Threshold", "Flagged"]
    head += ["Error left"] if known else []
    head += ["Validation loss"]
    head += ["AUROC"] if areas else []
    lines = []
    for one in notable:
        group = report.groups[one.at]
        alarms = [alarm.text for alarm in group.alarms]
        cells: list[object] = [
            element("span", shorten(group.name, MOST_LETTERS)),
            element("span", "; ".join(one.why), title=". ".join(alarms) or None),
            number(group.rows),
            number(report.thresholds.each[one.at].value),
            number(None) if np.isnan(shares[one.at]) else percent(float(shares[one.at])),
        ]
        cells += [in_percent(float(left[one.at]))] if known else []
        cells += [number(group.validation_loss)]
        cells += [f"{areas[group.name]:.3f}" if group.name in areas else number(None)] * bool(areas)
        lines.append(cells)
    caption = f"{len(notable):,} of {len(report.groups):,} groups"
    search = element(
        "label",
        "Find by name ",
        element("input", type="search", id="groups-search", autocomplete="off"),
        element("span", "", id="groups-found"),
        class_="search",
    )
    script = Markup(f"<script>\n{beside('groups.js')}</script>")
    return join((search, element("div", table(caption, head, lines), id="groups-table"), script))


def left_out_table(skipped: Mapping[str, str]) -> Markup:
    """Groups that have no detector, and why; those with the rarest reasons first."""
    reasons = {name: _DIGITS.sub("0", why) for name, why in skipped.items()}
    often = Counter(reasons.values())
    order = sorted(skipped, key=lambda name: (often[reasons[name]], name))
    lines = [(shorten(name, MOST_LETTERS), skipped[name]) for name in order[:MOST_LEFT_OUT]]
    if len(skipped) > MOST_LEFT_OUT:
        lines.append((f"and {len(skipped) - MOST_LEFT_OUT:,} more", ""))
    return table(
        f"{len(skipped):,} groups without a detector", ("Group", "Why"), lines, class_="words"
    )


def write_groups_report(report: GroupsReport, folder: Path) -> Path:
    """Write `report.html` and `plots/*.png`, of bounded size; returns the page's path."""
    return write_page(*render(report), folder)


def render(report: GroupsReport) -> tuple[str, dict[str, bytes]]:
    """The page as text, and its plots as PNG by name."""
    possible = (
        _notable(report),
        _spread(report),
        _training(report),
        _left_out(report),
        settings_section(report),
    )
    return document(
        report.title,
        report.subtitle,
        possible,
        kind="Detectors of groups",
        headline=_headline(report),
        verdict=(_verdict(report),),
        alarms=report.detector.provenance.get("alarms", ()),
        promise=promise_of(report.thresholds),
        notes=limits_of(report.detector),
        footer="Scores of different groups compare only beside their thresholds.",
    )


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
    notable = notable_groups(report)
    lede = (
        "Groups with an alarm, and those far beyond the others (more than three quartile ranges "
        "above the upper quartile) in the error that training left, in what is flagged of their "
        "normal rows or in their threshold, and thresholds that rest on few rows. Hold the pointer "
        "over a reason for its numbers. "
        f"All groups are in {report.table}, beside this page."
    )
    content = notable_table(report, notable) if notable else element("p", "No group stands out.")
    return Section(
        anchor="notable", heading="Groups that stand out", content=with_lede(lede, content)
    )


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
    shown = {name: values[np.isfinite(values)] for name, values in numbers.items()}
    lines = [
        (name, *map(number, np.quantile(values, quantiles).tolist()))
        for name, values in shown.items()
        if len(values)
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
    lede = "Their rows get no score, and the summary of a scoring job counts them."
    content = with_lede(lede, element("div", left_out_table(skipped), class_="columns"))
    return Section(anchor="left-out", heading="Groups left out", content=content)


def _files(plots: list[Plot]) -> dict[str, bytes]:
    return {plot.name: to_png(plot.figure, plot.title) for plot in plots}

"""The page of a report of scored rows: what the newest run added, drift, the worst rows, and why.

Everything is read from the folder that the scores were written to; with labels, the curves and the
decisions of the threshold are shown as in the report of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aejax.reporting import style
from aejax.reporting.markup import (
    Markup,
    big_figure,
    element,
    join,
    number,
    percent,
    readable,
    table,
    with_lede,
)
from aejax.reporting.page import document, flat, grouped, verdict
from aejax.reporting.report import write_page
from aejax.reporting.scores_contents import ScoresReport, scores_report
from aejax.reporting.sections import Section, detection_section, plot_figure, scores_section
from aejax.reporting.series import series_section
from aejax.reporting.slider import slider_section
from aejax.scoring import manifest
from aejax.scoring.evaluation import Labelled

# Bars that can be seen one by one; of more files, the newest.
MOST_DRAWN = 120
LISTED = 20


def flagged_by_file(
    files: Sequence[Mapping[str, Any]], expected: float | None
) -> style.Plot | None:
    """The share of each file's rows that is flagged, the newest file last.

    Args:
        files: as `_files.csv` has them: "file", "flagged_rate" and "drifted".
        expected: the share of normal rows that is expected to be, or None.
    """
    known = [one for one in files if one["flagged_rate"] is not None][-MOST_DRAWN:]
    if len(known) < 2:
        return None
    shares = np.array([one["flagged_rate"] for one in known])
    drifted = np.array([one["drifted"] for one in known])
    place = np.arange(len(known))
    with style.house_style():
        figure = style.new_figure(9.2, 2.6)
        axes = figure.subplots()
        for chosen, colour, label in (
            (~drifted, style.NORMAL, "as in calibration"),
            (drifted, style.ANOMALY, "scores have drifted"),
        ):
            if chosen.any():
                axes.bar(place[chosen], shares[chosen], 0.8, color=colour, label=label)
        if expected is not None:
            axes.axhline(expected, color=style.INK, linewidth=1, linestyle=(0, (4, 2)))
            axes.annotate(
                f"expected of normal rows {percent(expected)}",
                (0, expected),
                xytext=(2, 3),
                textcoords="offset points",
                color=style.INK,
                bbox=style.LABEL_GROUND,
            )
        axes.set_xlim(-0.6, len(known) - 0.4)
        axes.set_ylim(0, max(float(shares.max()), expected or 0.0, 1e-6) * 1.18)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(float(value))))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _name(known, value)))
        axes.set_ylabel("rows flagged")
        style.legend_above(axes)
    count = int(drifted.sum())
    title = f"{count:,} of the {len(known):,} newest files have drifted"
    if len(known) == len(files):
        title = f"{count:,} of {len(known):,} files have drifted"
    return style.Plot(
        name="flagged_of_files",
        title=title,
        caption="The share of each file's rows that is flagged, in the order in which the files "
        "were scored.",
        alternative=f"{title}. The newest, {known[-1]['file']}, has {percent(float(shares[-1]))} "
        "of its rows flagged.",
        figure=figure,
    )


def _name(files: Sequence[Mapping[str, Any]], value: float) -> str:
    at = round(value)
    if abs(value - at) > 0.01 or not 0 <= at < len(files):
        return ""
    name: str = files[at]["file"]
    return name if len(name) <= 18 else "\N{HORIZONTAL ELLIPSIS}" + name[-17:]


def write_scores_report(
    folder: Path, out: Path | None = None, *, labels: Labelled | None = None
) -> Path:
    """Write the report of a folder of scores; returns the page's path.

    Args:
        folder: that `score_files` wrote.
        out: where; None is `_report` in the folder, which readers of its parts pass by.
        labels: scores that have a label, for curves and decisions.

    Raises:
        InputError: if the folder holds no complete scores, or the disk doesn't take the page.
    """
    return write_page(*render(scores_report(folder, labels)), out or folder / manifest.REPORT)


def render(shown: ScoresReport) -> tuple[str, dict[str, bytes]]:
    """The page as text, and its plots as PNG by name."""
    report, summary = shown.report, shown.scores.summary
    labelled = report is not None and report.is_anomaly is not None
    possible = (
        _files_section(shown),
        _series_section(shown),
        None if report is None else scores_section(report),
        None if report is None else detection_section(report),
        _worst_section(shown),
        slider_section(report) if report is not None and labelled else None,
        _features_section(summary),
        _groups_section(summary),
        _bad_section(summary),
        _settings_section(shown),
    )
    return document(
        shown.title,
        shown.subtitle,
        possible,
        kind="Scored rows",
        headline=_headline(shown),
        verdict=_verdict(shown),
        alarms=summary.get("alarms", ()),
        promise=shown.promise,
    )


def _headline(shown: ScoresReport) -> list[Markup]:
    summary, report = shown.scores.summary, shown.report
    figures = [("Rows", f"{summary['rows']:,}", f"{len(shown.files):,} files")]
    if len(shown.files) == 1:
        figures = [("Rows", f"{summary['rows']:,}", "of one file")]
    rate = summary["flagged_rate"]
    if rate is not None:
        figures.append(("Flagged", percent(rate), f"{summary['flagged']:,} rows"))
    if (threshold := shown.scores.threshold) is None:
        figures.append(("Threshold", number(None), "none was set"))
    elif report is not None and report.threshold != threshold:
        figures.append(("Threshold", number(report.threshold), f"scored with {number(threshold)}"))
    else:
        of_groups = "threshold" in shown.scores.worst.column_names
        shown_as = "each group's" if of_groups else number(threshold)
        figures.append(("Threshold", shown_as, "rows above it are flagged"))
    bad = summary["bad_rows"]
    figures.append(("Without score", f"{bad:,}", "rows that can't be scored" if bad else "none"))
    if report is not None:
        for key, name in (("auroc", "AUROC"), ("average_precision", "Average precision")):
            if (area := report.metrics.get(key)) is not None:
                note = f"{area['low']:.3f} to {area['high']:.3f} (95%)"
                figures.append((name, f"{area['value']:.4f}", note))
    return [big_figure(*figure) for figure in figures]


def _verdict(shown: ScoresReport) -> list[str]:
    said = []
    summary, report = shown.scores.summary, shown.report
    runs, added = summary["runs"], summary["added"]
    if len(runs) > 1:
        rate = added["flagged_rate"]
        flagged = "" if rate is None else f", of which {percent(rate)} are flagged"
        said.append(f"The newest run added {added['rows']:,} rows{flagged}.")
    if report is not None and report.is_anomaly is not None and (text := verdict(report)):
        rows = len(report.scores)
        said.append(f"Judged on the {rows:,} rows that have a score and a label. {text}")
    return said


def _files_section(shown: ScoresReport) -> Section | None:
    """Flags and drift of runs and files, the newest first."""
    runs = shown.scores.summary["runs"]
    if len(shown.files) < 2 and len(runs) < 2:
        return None
    parts: list[Markup] = []
    files: dict[str, bytes] = {}
    plot = flagged_by_file(shown.files, None if shown.promise is None else shown.promise.expected)
    if plot is not None:
        parts.append(element("div", plot_figure(plot), class_="columns wide"))
        files[plot.name] = style.to_png(plot.figure, plot.title)
    head = ("Rows", "Flagged", "Share", "Stability index", "Drift")
    tables = []
    if len(runs) > 1:
        lines = [(f"run {one['run']}", *_cells(one)) for one in runs[:LISTED]]
        tables.append(table("Runs, the newest first", ("Run", *head), lines))
    if len(shown.files) > 1:
        newest = shown.files[::-1][:LISTED]
        lines = [(one["file"], *_cells(one)) for one in newest]
        more = len(shown.files) - len(newest)
        caption = "Files, the newest first" + (f"; {more:,} more in _files.csv" if more > 0 else "")
        tables.append(table(caption, ("File", *head), lines))
    parts.append(element("div", *tables, class_="columns"))
    return Section(anchor="files", heading="Runs and files", content=join(parts), files=files)


def _cells(one: Mapping[str, Any]) -> tuple[object, ...]:
    rate, index = one["flagged_rate"], one.get("population_stability")
    drifted = one.get("drifted", bool(one.get("alarms")))
    return (
        number(one["rows"]),
        number(one["flagged"]),
        number(None) if rate is None else percent(rate),
        number(None) if index is None else f"{index:.2f}",
        element("span", "drifted", class_="tag anomaly") if drifted else "",
    )


def _series_section(shown: ScoresReport) -> Section | None:
    """The course of a series, and its events, the highest score first."""
    if shown.course is None:
        return None
    events, worst = None, shown.worst_events
    if worst:
        head = [readable(name) for name in worst[0]]
        lines = [{**one, "score": number(float(one["score"]))}.values() for one in worst]
        lede = f"Consecutive flags are one event; {manifest.EVENTS} has all {shown.events:,}."
        first = table(f"The first {len(lines):,} by score", head, map(list, lines))
        events = with_lede(lede, element("div", first))
    metrics = {} if shown.report is None else shown.report.metrics
    return series_section(shown.course, metrics, events)


def _worst_section(shown: ScoresReport) -> Section | None:
    worst, threshold = shown.scores.worst, shown.scores.threshold
    if not len(worst):
        return None
    flagged = worst["is_anomaly"].to_pylist()
    head = ["Row", *(["Key"] if any(p.key for p in shown.places) else []), "Score"]
    head += ["Times the threshold"] if threshold else []
    head += ["Flagged"] if any(flag is not None for flag in flagged) else []
    head += ["Reasons"] if any(shown.reasons) else []
    scores = worst["score"].to_pylist()
    lines = []
    for at, place in enumerate(shown.places):
        cells: list[object] = [place.text]
        cells += [place.key] if "Key" in head else []
        cells += [number(scores[at])]
        value = float(shown.scores.worst_values[at])
        cells += [number(float(f"{value / threshold:.3g}"))] if threshold else []
        cells += ["yes" if flagged[at] else "no"] if "Flagged" in head else []
        cells += [shown.reasons[at]] if "Reasons" in head else []
        lines.append(cells)
    lede = "Rows are counted from 0 in their file, as aejax explain --row takes them."
    if not any(shown.reasons):
        lede += " aejax score --top-features 3 writes their reasons."
    worst_rows = table(f"The first {len(lines):,}", head, lines, class_="reasons")
    content = with_lede(lede, element("div", worst_rows))
    return Section(anchor="worst", heading="Most anomalous rows", content=content)


def _features_section(summary: Mapping[str, Any]) -> Section | None:
    moved = summary["added"].get("feature_stability")
    if not moved:
        return None
    lines = [(name, f"{index:.2f}") for name, index in moved.items()]
    head = ("Feature", "Stability index")
    lede = (
        "Population stability index of the rows that the newest run added against normal rows: "
        "0 where a feature is spread as there; above 0.25 it has moved."
    )
    most = table("Features that moved most", head, lines)
    content = with_lede(lede, element("div", most, class_="columns even"))
    return Section(anchor="features", heading="Drift of features", content=content)


def _groups_section(summary: Mapping[str, Any]) -> Section | None:
    if not summary.get("groups"):
        return None
    lines = [
        (one["group"], number(one["rows"]), number(one["flagged"]), percent(one["share"]))
        for one in summary.get("most_flagged_groups", ())[:LISTED]
    ]
    tables = [
        table("Most flagged groups", ("Group", "Rows", "Flagged", "Share"), lines)
        if lines
        else element("p", "No row of a group is flagged.")
    ]
    if unknown := summary.get("unknown_groups"):
        rows = [(one["group"], number(one["rows"])) for one in unknown["most"][:LISTED]]
        tables.append(table("Groups without a detector", ("Group", "Rows"), rows))
    content = element("div", *tables, class_="columns even")
    return Section(anchor="groups", heading="Groups", content=content)


def _bad_section(summary: Mapping[str, Any]) -> Section | None:
    if not summary["bad_rows"]:
        return None
    lines = [(why, number(count)) for why, count in summary["bad_rows_by_reason"].items()]
    lede = "They are not flagged: look at them. The column reason says what is wrong with each."
    reasons = table("By reason", ("Reason", "Rows"), lines)
    content = with_lede(lede, element("div", reasons, class_="columns even"))
    return Section(anchor="bad", heading="Rows without a score", content=content)


def _settings_section(shown: ScoresReport) -> Section | None:
    model = shown.scores.model
    if model is None:
        return None
    facts = [("Fingerprint of the model", shown.scores.written["identity"]["model"][:16])]
    facts += [(readable(key), number(value)) for key, value in flat(model["scored_with"])]
    for name in ("input", "training_rows"):
        if name in model["provenance"]:
            facts.append((f"Trained: {readable(name).lower()}", number(model["provenance"][name])))
    tables = [table("Scored by", (), facts)]
    tables += [table(name, (), lines) for name, lines in grouped(model["config"], "Detector")]
    folded = element(
        "details",
        element("summary", "The detector's settings"),
        element("div", *tables, class_="settings"),
    )
    return Section(anchor="settings", heading="Settings", content=folded)

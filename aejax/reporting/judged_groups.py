"""Rows scored by the detectors of their groups: flags, areas, the report, and all anew."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aejax.config import read_json, to_dict
from aejax.config.durable import write_file
from aejax.detection.detector import Detector
from aejax.detection.metrics import evaluate
from aejax.exporting.group_card import write_group_card
from aejax.reporting.group_plots import GroupsReport
from aejax.reporting.groups_page import write_groups_report
from aejax.reporting.kept import keep, kept
from aejax.reporting.report import MAX_BYTES, METRICS, write_metrics

TABLE = "groups.csv"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """What detectors say of the rows that they were trained on.

    Attributes:
        rows: normal rows of each group, int64 [groups].
        flagged: how many of them are above its threshold, int64 [groups].
        areas: AUROC of each group that has both kinds of rows, by name.
        scores: of all rows whose group has a detector, float32 [n].
        members: positions of their groups, int32 [n].
        is_anomaly: their labels, [n]; all 0 where there are none.
    """

    rows: np.ndarray
    flagged: np.ndarray
    areas: dict[str, float]
    scores: np.ndarray
    members: np.ndarray
    is_anomaly: np.ndarray


def judge_groups(
    detector: Detector, x: np.ndarray, groups: np.ndarray, y: np.ndarray | None
) -> Judged:
    """Score rows, those of groups without a detector left out.

    Args:
        detector: of the groups.
        x: rows.
        groups: each row's group, text [n].
        y: labels, 1 for an anomaly, or None where all rows are normal.
    """
    of_groups, _ = detector.grouped
    places = of_groups.places(groups, len(x))
    known = places >= 0
    members, x = places[known], x[known]
    y = np.zeros(len(x), np.int8) if y is None else y[known]
    scores = detector.score_rows(detector.less_offset(x, members), members=members)
    return judged_by(detector, scores, members, y)


def judged_by(detector: Detector, scores: np.ndarray, members: np.ndarray, y: np.ndarray) -> Judged:
    """What the thresholds that a detector has say of rows that were scored.

    Args:
        detector: of the groups.
        scores: float32 [n].
        members: positions of the rows' groups, int32 [n].
        y: labels, 1 for an anomaly, [n].
    """
    of_groups, thresholds = detector.grouped
    count = len(of_groups)
    flags = thresholds.flags(scores, members) & (y == 0)
    order = np.argsort(members, kind="stable")
    bounds = np.searchsorted(members[order], np.arange(count + 1))
    anomalous = np.bincount(members[y != 0], minlength=count)
    areas = {}
    for at in np.flatnonzero(anomalous).tolist():
        own = order[bounds[at] : bounds[at + 1]]
        if anomalous[at] < len(own):
            metrics = evaluate(scores[own], y[own], None, bootstrap=0)
            areas[of_groups.names[at]] = metrics["auroc"]["value"]
    return Judged(
        rows=np.bincount(members, minlength=count) - anomalous,
        flagged=np.bincount(members[flags], minlength=count),
        areas=areas,
        scores=scores,
        members=members,
        is_anomaly=y,
    )


def write_table(detector: Detector, judged: Judged, path: Path) -> None:
    """A line for every group, those without a detector last."""
    fields = ("rows", "threshold", "best_epoch", "loss", "validation_loss", "error_left")
    more = ("normal_rows_flagged", "auroc", "alarms", "problem")
    text = io.StringIO(newline="")
    table = csv.writer(text)
    groups, thresholds = detector.grouped
    table.writerow([groups.column, *fields, *more])
    seen_of = zip(groups.each, thresholds.values.tolist(), judged.flagged.tolist(), strict=True)
    for group, threshold, flagged in seen_of:
        facts = (group.rows, threshold, group.best_epoch, group.loss)
        alarms = ". ".join(alarm.text for alarm in group.alarms) or None
        seen = (flagged, judged.areas.get(group.name), alarms, None)
        table.writerow([group.name, *facts, group.validation_loss, group.error_left, *seen])
    for name, problem in groups.skipped.items():
        table.writerow([name, *[None] * (len(fields) + len(more) - 1), problem])
    write_file(path, text.getvalue())


def write_report(
    detector: Detector,
    judged: Judged,
    out: Path,
    *,
    name: str,
    seconds: Mapping[str, float],
    environment: Mapping[str, str],
) -> Path:
    """Write the report, the table of groups and what both are made of; returns the page's path."""
    groups, _ = detector.grouped
    write_table(detector, judged, out / TABLE)
    arrays = {field: getattr(judged, field) for field in ("scores", "members", "is_anomaly")}
    keep({"name": name, "seconds": seconds, "environment": environment}, arrays, out)
    return write_groups_report(
        GroupsReport(
            title=f"Detectors for the groups of {name}",
            subtitle=f"One for each {groups.column}, trained on the normal rows of {name} that "
            "are its own, with a threshold of its own.",
            config=to_dict(detector.config),
            detector=detector,
            judged=judged.rows,
            flagged=judged.flagged,
            areas=judged.areas,
            table=TABLE,
            seconds=seconds,
            environment=environment,
        ),
        out,
    )


def measured(detector: Detector, judged: Judged) -> dict[str, float]:
    """The numbers of a run of groups."""
    groups, thresholds = detector.grouped
    numbers: dict[str, float] = {
        "groups": len(groups),
        "skipped_groups": len(groups.skipped),
        "groups_with_alarms": sum(bool(group.alarms) for group in groups.each),
        "median_threshold": float(np.median(thresholds.values)),
        "flagged_of_normal_rows": float(judged.flagged.sum() / max(judged.rows.sum(), 1)),
    }
    if judged.areas:
        numbers["groups_with_anomalies"] = len(judged.areas)
        numbers["mean_auroc"] = float(np.mean(list(judged.areas.values())))
    return numbers


def renew_groups(detector: Detector, folder: Path, out: Path | None = None) -> Path:
    """Show the thresholds that a run's detector has now: in report, table, metrics and card.

    Args:
        detector: of the run.
        folder: of the run.
        out: where page and table are written alone; None renews everything in the run's folder.

    Returns:
        Path of the page.

    Raises:
        InputError: if the folder keeps no scores of its rows, or the disk doesn't take them.
    """
    with kept(folder) as (said, arrays):
        judged = judged_by(detector, *(arrays[k] for k in ("scores", "members", "is_anomaly")))
    page = write_report(detector, judged, folder if out is None else out, **said)
    if out is None:
        written = read_json(folder / METRICS, MAX_BYTES) if (folder / METRICS).is_file() else {}
        metrics = write_metrics(
            folder,
            {},
            measured(detector, judged),
            written.get("metrics", {}),
            said["seconds"],
            said["environment"],
        )
        write_group_card(detector, metrics, folder, renew=True)
    return page

"""A file's rows scored by the detectors that were trained on them: flags, areas, the report."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aejax.config import to_dict
from aejax.config.durable import write_file
from aejax.detection.detector import Detector
from aejax.detection.metrics import evaluate
from aejax.reporting.groups_contents import GroupsReport
from aejax.reporting.groups_page import write_groups_report

TABLE = "groups.csv"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """What detectors say of the rows that they were trained on.

    Attributes:
        rows: normal rows of each group, int64 [groups].
        flagged: how many of them are above its threshold, int64 [groups].
        areas: AUROC of each group that has both kinds of rows, by name.
    """

    rows: np.ndarray
    flagged: np.ndarray
    areas: dict[str, float]


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
    of_groups, thresholds = detector.grouped
    places = of_groups.places(groups, len(x))
    known = places >= 0
    members, x = places[known], x[known]
    y = np.zeros(len(x), np.int8) if y is None else y[known]
    scores = detector.score_rows(detector.less_offset(x, members), members=members)
    count = len(of_groups)
    flags = thresholds.flags(scores, members) & (y == 0)
    order = np.argsort(members, kind="stable")
    bounds = np.searchsorted(members[order], np.arange(count + 1))
    anomalous = np.bincount(members[y != 0], minlength=count)
    areas = {}
    for at in np.flatnonzero(anomalous).tolist():
        own = order[bounds[at] : bounds[at + 1]]
        if anomalous[at] < len(own):
            found = evaluate(scores[own], y[own], None, bootstrap=0)
            areas[of_groups.names[at]] = found["auroc"]["value"]
    return Judged(
        rows=np.bincount(members, minlength=count) - anomalous,
        flagged=np.bincount(members[flags], minlength=count),
        areas=areas,
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
    """Write the run's report; returns the page's path."""
    groups, _ = detector.grouped
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

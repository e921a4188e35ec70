"""The recipe for rows of your own that belong to groups: a detector for each, in one run."""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import BestF1, Config, Fixed, InputError, Rule, rule_text
from aejax.data import files
from aejax.data.groups import group_positions, read_groups
from aejax.data.rows import Selection
from aejax.detection import artifact
from aejax.detection.fitting import data_fingerprint
from aejax.detection.group_fitting import fit_groups
from aejax.detection.group_loading import load_groups
from aejax.detection.group_parts import groups_fingerprint
from aejax.detection.groups import GroupDetector
from aejax.detection.metrics import evaluate
from aejax.recipes.runner import versions
from aejax.reporting.report import write_metrics
from aejax.training.run_folder import claim

TABLE = "groups.csv"


def train_groups_on_file(
    config: Config,
    path: Path,
    out: Path,
    *,
    column: str,
    selection: Selection,
    least_rows: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train a detector for every group of a file's normal rows.

    The run's folder holds `detector/` (one artifact of all groups), `groups.csv` (a line a
    group) and `metrics.json`; groups that are trained are kept in `parts/`, and a run that was
    stopped goes on from there. With labels, every group that has anomalies is judged on all of
    them beside its normal rows, those that it was trained on included.

    Args:
        config: all settings, the same for all groups.
        path: of the rows: CSV or Parquet.
        out: the run's folder.
        column: that names groups.
        selection: which columns are labels and features.
        least_rows: as in `fit_groups`.
        overwrite: replace what the folder holds.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True raises `Interrupted`.

    Raises:
        InputError: naming the file and the column, row or group that can't be used.
    """
    clock = time.monotonic()
    x, y, groups, schema = read_groups(path, selection, column)
    files.check_finite(x, schema, path)
    normal = np.ones(len(x), bool) if y is None else y == 0
    data = {
        "input": path.name,
        "selection": dataclasses.asdict(selection),
        "group_column": column,
        "least_rows": least_rows,
        "rows": data_fingerprint(x),
        "groups": groups_fingerprint(*group_positions(groups, len(x))),
        "labels": None if y is None else data_fingerprint(y),
    }
    claim(out, config, schema, data, overwrite=overwrite)
    seconds = {"data": time.monotonic() - clock}
    clock = time.monotonic()
    environment = versions()
    detector = fit_groups(
        config,
        x[normal],
        groups[normal],
        column=column,
        least_rows=least_rows,
        schema=schema,
        folder=out,
        progress=progress,
        should_stop=should_stop,
        provenance={"input": path.name, "versions": environment},
    )
    detector.save(out / "detector")
    seconds["train"] = time.monotonic() - clock
    clock = time.monotonic()
    # Scored as loaded from disk, so that the numbers speak of the artifact.
    detector = load_groups(out / "detector")
    areas = {} if y is None else _areas(detector, x, groups, y)
    seconds["score"] = time.monotonic() - clock
    write_table(detector, areas, out / TABLE)
    measured: dict[str, float] = {
        "groups": len(detector.groups),
        "skipped_groups": len(detector.skipped),
        "median_threshold": float(np.median(detector.thresholds)),
    }
    if areas:
        measured["groups_with_anomalies"] = len(areas)
        measured["mean_auroc"] = float(np.mean(list(areas.values())))
    metrics = {"rows": int(normal.sum()), "skipped": detector.skipped}
    write_metrics(out, {}, measured, metrics, seconds, environment)
    return {
        "run": str(out),
        "measured": measured,
        "skipped": detector.skipped,
        "seconds": seconds,
        "table": str(out / TABLE),
    }


def _areas(
    detector: GroupDetector, x: np.ndarray, groups: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    """The AUROC of every group that has both kinds of rows."""
    known = np.isin(groups, detector.names)
    x, y = x[known], y[known]
    members = detector.members(groups[known], len(x))
    scores = detector.score_members(x, members)
    order = np.argsort(members, kind="stable")
    bounds = np.searchsorted(members[order], np.arange(len(detector.names) + 1))
    areas = {}
    for at, name in enumerate(detector.names):
        own = order[bounds[at] : bounds[at + 1]]
        if 0 < y[own].sum() < len(own):
            areas[name] = evaluate(scores[own], y[own], None, bootstrap=0)["auroc"]["value"]
    return areas


def write_table(detector: GroupDetector, areas: dict[str, float], path: Path) -> None:
    """A line for every group, those without a detector last."""
    aside = path.with_name(path.name + ".writing")
    fields = ("rows", "threshold", "best_epoch", "loss", "validation_loss", "auroc", "problem")
    with aside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([detector.column, *fields])
        for group in detector.groups:
            facts = (group.rows, group.threshold.value, group.best_epoch, group.loss)
            table.writerow([group.name, *facts, group.validation_loss, areas.get(group.name), None])
        for name, problem in detector.skipped.items():
            table.writerow([name, *[None] * (len(fields) - 1), problem])
    aside.replace(path)


def calibrate_groups_on_file(
    folder: Path, path: Path | None, rule: Rule, *, selection: Selection
) -> dict[str, Any]:
    """Set the thresholds of saved detectors anew, each on its group's normal rows of a file.

    Groups without rows there keep the threshold that they have.

    Raises:
        InputError: if there is no file, rows don't fit, or the rule needs labels or has a value.
    """
    if isinstance(rule, BestF1 | Fixed) or path is None:
        raise InputError(
            f"rule is {rule_text(rule)!r} and --input is {path}; "
            "allowed with groups: a rule on normal rows, and a file of them"
        )
    detector = load_groups(folder)
    x, y, groups, _ = read_groups(path, selection, detector.column, expected=detector.schema)
    files.check_finite(x, detector.schema, path)
    if y is not None:
        x, groups = x[y == 0], groups[y == 0]
    known = np.isin(groups, detector.names)
    changed = detector.calibrate(x[known], groups[known], rule=rule)
    home = artifact.home(folder)
    changed.save(home)
    return {
        "detector": str(home),
        "rule": rule_text(rule),
        "rows": int(known.sum()),
        "rows_of_unknown_groups": int((~known).sum()),
        "groups_changed": len(np.unique(groups[known])),
        "median_threshold": float(np.median(changed.thresholds)),
        "median_threshold_before": float(np.median(detector.thresholds)),
    }

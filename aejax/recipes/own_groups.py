"""The recipe for rows of your own that belong to groups: a detector for each, in one run."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import Config, InputError, Rule, rule_text
from aejax.config.rules import least_scores, needs_labels
from aejax.data import files
from aejax.data.batches import data_fingerprint
from aejax.data.groups import read_groups
from aejax.data.rows import Selection
from aejax.detection import artifact
from aejax.detection.detector import Detector
from aejax.detection.file_rows import groups_of_files
from aejax.detection.fitting import fit
from aejax.detection.loading import load
from aejax.detection.members import check_member
from aejax.detection.promise import promise_of
from aejax.exporting.group_card import write_group_card
from aejax.recipes.runner import versions
from aejax.reporting.judged_groups import (
    TABLE,
    judge_groups,
    measured,
    renew_groups,
    write_report,
)
from aejax.reporting.report import KEPT, write_metrics
from aejax.training.run_folder import claim

# Most that are printed on the screen; groups.csv and metrics.json have all.
SKIPPED_SHOWN = 10


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
    group), `metrics.json`, `report.html` and `MODEL_CARD.md`; groups that are trained are kept in
    `parts/`, and a run that was stopped goes on from there. With labels, every group that has
    anomalies is judged on all of them beside its normal rows, those that it was trained on
    included.

    Args:
        config: all settings, the same for all groups.
        path: of the rows: CSV or Parquet.
        out: the run's folder.
        column: that names groups.
        selection: which columns are labels and features.
        least_rows: as in `fit`.
        overwrite: replace what the folder holds.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True raises `Interrupted`.

    Raises:
        InputError: naming the file and the column, row or group that can't be used.
    """
    check_member(config)
    clock = time.monotonic()
    read = groups_of_files(config, path, column, selection)
    x, normal, groups, schema = read.x, read.normal, read.groups, read.schema
    y = (~normal).astype(np.int8) if read.labelled else None
    data = {
        "input": path.name,
        "selection": dataclasses.asdict(selection),
        "group_column": column,
        "least_rows": least_rows,
        "rows": data_fingerprint(x),
        "groups": hashlib.sha256("\x00".join(groups.tolist()).encode()).hexdigest(),
        "labels": None if y is None else data_fingerprint(y),
    }
    claim(out, config, schema, data, overwrite=overwrite)
    seconds = {"data": time.monotonic() - clock}
    clock = time.monotonic()
    environment = versions()
    detector = fit(
        config,
        x[normal],
        groups=groups[normal],
        group_column=column,
        least_rows=least_rows,
        schema=schema,
        folder=out,
        progress=progress,
        should_stop=should_stop,
        provenance={"input": path.name, "versions": environment, "data": data["rows"]},
    )
    detector.save(out / "detector")
    seconds["train"] = time.monotonic() - clock
    clock = time.monotonic()
    # Scored as loaded from disk, so that the numbers speak of the artifact.
    detector = load(out / "detector")
    of_groups, _ = detector.grouped
    judged = judge_groups(detector, x, groups, y)
    seconds["score"] = time.monotonic() - clock
    numbers = measured(detector, judged)
    metrics = {"rows": int(normal.sum()), "skipped": of_groups.skipped}
    written = write_metrics(out, {}, numbers, metrics, seconds, environment)
    write_group_card(detector, written, out)
    page = write_report(
        detector, judged, out, name=path.name, seconds=seconds, environment=environment
    )
    promise = promise_of(detector.threshold)
    return {
        "run": str(out),
        **({} if promise is None else {"flags_of_normal_rows": promise._asdict()}),
        "measured": numbers,
        "skipped": dict(list(of_groups.skipped.items())[:SKIPPED_SHOWN]),
        **({"left_out": dict(schema.dropped)} if schema.dropped else {}),
        "seconds": seconds,
        "table": str(out / TABLE),
        "report": str(page),
    }


def calibrate_groups_on_file(
    detector: Detector, folder: Path, path: Path | None, rule: Rule, *, selection: Selection
) -> dict[str, Any]:
    """Set the thresholds of saved detectors anew, each on its group's normal rows of a file.

    Groups without rows there keep the threshold that they have.

    Raises:
        InputError: if there is no file, rows don't fit, or the rule needs labels or no scores.
    """
    if needs_labels(rule) or least_scores(rule) == 0 or path is None:
        raise InputError(
            f"rule is {rule_text(rule)!r} and --input is {path}; "
            "allowed with groups: a rule on normal rows, and a file of them"
        )
    of_groups, before = detector.grouped
    x, y, groups, _ = read_groups(path, selection, of_groups.column, expected=detector.schema)
    files.check_finite(x, detector.schema, path)
    if y is not None:
        x, groups = x[y == 0], groups[y == 0]
    places = of_groups.places(groups, len(x))
    known = places >= 0
    changed = detector.calibrate(x[known], groups=groups[known], rule=rule)
    _, after = changed.grouped
    home = artifact.home(folder)
    changed.save(home)
    promise = promise_of(after)
    page = renew_groups(changed, folder) if (folder / KEPT).is_file() else None
    return {
        "detector": str(home),
        "rule": rule_text(rule),
        "rows": int(known.sum()),
        "rows_of_unknown_groups": int((~known).sum()),
        "groups_changed": len(np.unique(places[known])),
        "median_threshold": float(np.median(after.values)),
        "median_threshold_before": float(np.median(before.values)),
        **({} if promise is None else {"flags_of_normal_rows": promise._asdict()}),
        **({} if page is None else {"report": str(page)}),
    }

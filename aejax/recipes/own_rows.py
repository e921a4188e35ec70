"""The recipe for rows of your own: from a file to a run folder, and a new threshold for it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import Config, InputError, Rule, Train, rule_text
from aejax.config.rules import least_scores, needs_labels
from aejax.data import files
from aejax.data.batches import evenly, validation_split
from aejax.data.disk_rows import DiskRows, Stored, split_rows
from aejax.data.places import Finder, Place
from aejax.data.rows import Selection
from aejax.data.spool import remove_spool
from aejax.data.training_rows import MEMORY_LIMIT, OnBadRow, read_training
from aejax.detection.calibration import scores_of_points
from aejax.detection.cross_fitting import cross_fits
from aejax.detection.detector import Detector
from aejax.detection.file_rows import (
    check_rows,
    left_out_alarms,
    schema_of_files,
    stopper,
    training_series,
)
from aejax.detection.loading import load
from aejax.detection.promise import promise_of
from aejax.detection.threshold import fit_threshold
from aejax.recipes.page import Story
from aejax.recipes.recipe import Experiment, final_losses
from aejax.recipes.runner import run_experiment
from aejax.reporting.kept import renew_report
from aejax.reporting.report import KEPT
from aejax.training.run_folder import check_free

# Of test rows in memory, where the training rows are on disk.
MOST_JUDGED_BYTES = 1 << 26

SAID = ("measured", "metrics", "seconds", "report")

logger = logging.getLogger("aejax")


def train_on_file(
    config: Config,
    path: Path,
    out: Path,
    *,
    selection: Selection,
    memory_limit: int = MEMORY_LIMIT,
    on_bad_row: OnBadRow = "leave-out",
    keep_rows: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """Train a detector on the normal rows of a file, or of many.

    The report judges held-out normal rows, and the labelled anomalies where there are any. The
    held-out rows set the threshold, too, unless `config.calibration` has the others set it.

    Args:
        config: all settings.
        path: of the rows: a file, a folder or a pattern.
        out: the run's folder.
        selection: which columns are labels and features.
        memory_limit: most bytes of rows to hold in memory; of more, those that a step needs
            are picked from disk, and the report judges an even sample.
        on_bad_row: "leave-out" goes on without rows that can't be used; "error" stops.
        keep_rows: leave rows that were copied to the run's folder there.
        how: as in `aejax.recipes.runner.run_experiment`.

    Raises:
        InputError: naming the file and the column or row that can't be used.
    """
    story = Story(
        name=path.name,
        title=f"A detector for {path.name}",
        subtitle=f"Trained on the normal rows of {path.name}; judged on rows held out of training.",
        published={},
        identity={"input": path.name, "selection": dataclasses.asdict(selection)},
    )
    check_free(out)
    result = run_experiment(
        config,
        lambda: prepare(
            config,
            path,
            selection,
            out=out,
            memory_limit=memory_limit,
            on_bad_row=on_bad_row,
            after_block=stopper(how.get("should_stop"), path),
        ),
        out,
        story=story,
        measure=measure,
        **how,
    )
    if not keep_rows:
        remove_spool(out)
    if result["report"] is None:
        # Of several processes only the first writes numbers.
        return {"run": str(out), **{name: result[name] for name in SAID}}
    detector = load(out)
    promise, dropped = promise_of(detector.threshold), dict(detector.schema.table.dropped)
    return {
        "run": str(out),
        **{name: result[name] for name in SAID},
        **({} if promise is None else {"flags_of_normal_rows": promise._asdict()}),
        **({"left_out": dropped} if dropped else {}),
    }


def prepare(
    config: Config,
    path: Path,
    selection: Selection,
    *,
    out: Path,
    memory_limit: int = MEMORY_LIMIT,
    on_bad_row: OnBadRow = "leave-out",
    after_block: Callable[[], None] = lambda: None,
) -> Experiment:
    """A file's rows, split into training, held-out and anomalous ones."""
    if config.window is not None:
        return _prepare_series(config, path, selection, memory_limit, on_bad_row, after_block)
    expected = schema_of_files(config, path, selection)
    rows = read_training(
        path,
        selection,
        folder=out,
        memory_limit=memory_limit,
        on_bad_row=on_bad_row,
        expected=expected,
        after_block=after_block,
    )
    check_rows(rows, path)
    normal, anomalous, schema = rows.normal, rows.anomalous, rows.schema
    train = config.train
    x_train, x_held = split_rows(normal, train.validation_fraction, train.seed)
    # Where all of the others set the threshold, these take no part in it.
    crossed = cross_fits(config, len(x_train), on_disk=isinstance(x_train, DiskRows))
    validation = x_held if len(x_held) and not crossed else None
    judged = x_held if len(x_held) else x_train
    spread = slice(None)
    if isinstance(normal, DiskRows):
        row_bytes = normal.nbytes // len(normal)
        spread = evenly(len(judged) + len(anomalous), max(1, MOST_JUDGED_BYTES // row_bytes))
        if spread.step > 1:
            logger.info("aejax: the report judges one of every %d test rows", spread.step)
    few = anomalous[spread]
    x_test = np.concatenate([judged[spread], few])
    finder = Finder(path=path, selection=selection, schema=schema, after_block=after_block)
    return Experiment(
        x_train=x_train,
        x_test=x_test,
        is_anomaly=np.arange(len(x_test)) >= len(x_test) - len(few) if len(few) else None,
        x_validation=validation,
        x_calibrate=validation,
        schema=schema,
        judged=("rows held out of training" if len(x_held) else "the training rows")
        + (", and labelled anomalies" if len(few) else ""),
        alarms=tuple(left_out_alarms(rows.left_out)),
        places=lambda at: places(
            finder,
            at,
            _of_normal(normal, judged, train)[spread],
            np.arange(len(anomalous))[spread],
        ),
    )


def _of_normal(normal: Stored, judged: Stored, train: Train) -> np.ndarray:
    """Positions of the judged rows among the normal ones, whole numbers [judged rows]."""
    if len(judged) == len(normal):
        return np.arange(len(normal))
    if isinstance(judged, DiskRows):
        return judged.places(np.arange(len(judged)))
    return validation_split(len(normal), train.validation_fraction, train.seed)[1]


def places(
    finder: Finder, at: np.ndarray, normal: np.ndarray, anomalous: np.ndarray
) -> list[Place | None]:
    """Where test rows are in their files.

    Args:
        finder: of the rows' files.
        at: positions of test rows.
        normal: of the normal test rows, which come first, positions among all normal ones.
        anomalous: of the anomalous ones behind them, positions among all anomalous ones.
    """
    is_normal = at < len(normal)
    sides = finder.find(normal[at[is_normal]], anomalous[at[~is_normal] - len(normal)])
    both = {True: iter(sides[0]), False: iter(sides[1])}
    return [next(both[bool(side)]) for side in is_normal]


def _prepare_series(
    config: Config,
    path: Path,
    selection: Selection,
    memory_limit: int,
    on_bad_row: OnBadRow,
    after_block: Callable[[], None],
) -> Experiment:
    """A file's windows; the last ones set the threshold, and the report judges them."""
    windows, alarms = training_series(
        config,
        path,
        selection=selection,
        memory_limit=memory_limit,
        on_bad_row=on_bad_row,
        after_block=after_block,
    )
    training, held = windows.split(config.train.validation_fraction)
    judged = held if len(held) else training
    row_bytes = judged.nbytes // len(judged)
    return Experiment(
        x_train=training,
        x_test=judged[evenly(len(judged), max(1, MOST_JUDGED_BYTES // row_bytes))],
        x_validation=held if len(held) else None,
        x_calibrate=held if len(held) else None,
        schema=windows.schema,
        alarms=tuple(alarms),
    )


def measure(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """Losses, the threshold, and AUROC where there are labels."""
    measured = {**final_losses(detector), "threshold": metrics["threshold"]}
    if metrics.get("auroc"):
        measured["auroc"] = metrics["auroc"]["value"]
    return measured


def calibrate_on_file(
    folder: Path, path: Path | None, rule: Rule, *, selection: Selection
) -> dict[str, Any]:
    """Set a saved detector's threshold anew on the normal rows of a file.

    A rule that needs labels takes all rows; one that needs no scores takes no file.

    Raises:
        InputError: if the folder holds no detector, the rows don't fit it, labels are
            missing that the rule needs, or the rule fails.
    """
    detector = load(folder)
    if detector.groups is not None:
        from aejax.recipes.own_groups import calibrate_groups_on_file

        return calibrate_groups_on_file(detector, folder, path, rule, selection=selection)
    if least_scores(rule) == 0:
        if path is not None:
            raise InputError(f"a file is given but the rule is {rule_text(rule)!r}; allowed: none")
        return _keep(
            detector.with_threshold(fit_threshold(rule, ())), folder, detector.threshold_value
        )
    if path is None:
        raise InputError("--input is missing; allowed: without it a rule that needs no scores")
    before = detector.threshold_value
    if detector.schema.series is not None:
        if needs_labels(rule):
            raise InputError(
                f"the rule is {rule_text(rule)!r}; allowed with a series: one without labels"
            )
        windows, _ = training_series(detector.config, path, detector.schema, selection=selection)
        scores = scores_of_points(detector, windows.stored())
        return _keep(detector.calibrate_by(scores, rule=rule), folder, before)
    x, y, schema = files.read(path, selection, expected=detector.schema)
    if schema.columns is not None:
        kept = ~np.isnan(x).all(axis=1)
        x, y = x[kept], None if y is None else y[kept]
    files.check_finite(x, schema, path)
    if needs_labels(rule):
        detector = detector.calibrate(x, rule=rule, is_anomaly=y)
    else:
        detector = detector.calibrate(x if y is None else x[y == 0], rule=rule)
    return _keep(detector, folder, before)


def _keep(detector: Detector, folder: Path, before: float | None) -> dict[str, Any]:
    home = folder / "detector" if (folder / "detector").is_dir() else folder
    detector.save(home)
    assert detector.threshold is not None
    (threshold,) = detector.threshold.each
    promise = promise_of(threshold)
    page = renew_report(detector, folder) if (folder / KEPT).is_file() else None
    return {
        "detector": str(home),
        "threshold": threshold.value,
        "before": before,
        "rule": rule_text(threshold.rule),
        "rows": threshold.rows,
        **({} if promise is None else {"flags_of_normal_rows": promise._asdict()}),
        **({} if page is None else {"report": str(page)}),
    }

"""The recipe for rows of your own: from a file to a run folder, and a new threshold for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import BestF1, Config, Fixed, InputError, Rule, rule_text
from aejax.core import scaling
from aejax.data import batches, files
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.group_loading import is_groups
from aejax.detection.loading import load
from aejax.detection.threshold import Threshold
from aejax.recipes.recipe import Experiment, final_losses
from aejax.recipes.runner import Story, run_experiment

FIXED = "fixed:VALUE"


def train_on_file(
    config: Config, path: Path, out: Path, *, selection: Selection, **how: Any
) -> dict[str, Any]:
    """Train a detector on the normal rows of a file.

    Held-out normal rows set the threshold; they, and the labelled anomalies where there
    are any, are what the report judges.

    Args:
        config: all settings.
        path: of the rows.
        out: the run's folder.
        selection: which columns are labels and features.
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
    result = run_experiment(
        config, lambda: prepare(config, path, selection), out, story=story, measure=measure, **how
    )
    return {
        "run": str(out),
        **{name: result[name] for name in ("measured", "metrics", "seconds", "report")},
    }


def prepare(config: Config, path: Path, selection: Selection) -> Experiment:
    """A file's rows, split into training, held-out and anomalous ones."""
    x, y, schema = files.read(path, selection)
    files.check_finite(x, schema, path)
    normal = x if y is None else x[y == 0]
    anomalous = x[:0] if y is None else x[y == 1]
    if len(normal) < 2:
        raise InputError(f"{path} has {len(normal)} normal rows; allowed: at least 2 to train on")
    check_columns(normal, schema, path)
    train = config.train
    picked, held = batches.validation_split(len(normal), train.validation_fraction, train.seed)
    x_train, x_held = normal[picked], normal[held]
    x_test = np.concatenate([x_held if len(held) else x_train, anomalous])
    return Experiment(
        x_train=x_train,
        x_test=x_test,
        is_anomaly=np.arange(len(x_test)) >= len(x_test) - len(anomalous)
        if len(anomalous)
        else None,
        x_validation=x_held if len(held) else None,
        x_calibrate=x_held if len(held) else None,
        schema=schema,
    )


def check_columns(x: np.ndarray, schema: Schema, path: Path) -> None:
    """Refuse a table's column that never changes: nothing can be learned from it."""
    if schema.kind != "table":
        return
    constant = scaling.constant_features(scaling.measure([x]))
    if len(constant):
        name = schema.feature_name(int(constant[0]))
        value = x.reshape(len(x), -1)[0, constant[0]]
        raise InputError(
            f"{path}: column {name!r} is {value:g} in every normal row; "
            "allowed: columns that vary (leave it out with --drop-columns)"
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

    The rule `BestF1` takes all rows, with their labels; `Fixed` takes no file.

    Raises:
        InputError: if the folder holds no detector, the rows don't fit it, or labels are
            missing that the rule needs.
    """
    if is_groups(folder):
        from aejax.recipes.own_groups import calibrate_groups_on_file

        return calibrate_groups_on_file(folder, path, rule, selection=selection)
    detector = load(folder)
    if isinstance(rule, Fixed):
        if path is not None:
            raise InputError(f"a file is given but the rule is {rule_text(rule)!r}; allowed: none")
        return _keep(detector.with_threshold(fit_fixed(rule)), folder, detector.threshold)
    if path is None:
        raise InputError(f"--input is missing; allowed: without it only the rule {FIXED!r}")
    x, y, schema = files.read(path, selection, expected=detector.schema)
    files.check_finite(x, schema, path)
    before = detector.threshold
    if isinstance(rule, BestF1):
        detector = detector.calibrate(x, rule=rule, is_anomaly=y)
    else:
        detector = detector.calibrate(x if y is None else x[y == 0], rule=rule)
    return _keep(detector, folder, before)


def fit_fixed(rule: Fixed) -> Threshold:
    """The threshold that a person chose; no row had a say in it."""
    return Threshold(value=rule.value, rule=rule, rows=0)


def _keep(detector: Detector, folder: Path, before: Threshold | None) -> dict[str, Any]:
    home = folder / "detector" if (folder / "detector").is_dir() else folder
    detector.save(home)
    assert detector.threshold is not None
    return {
        "detector": str(home),
        "threshold": detector.threshold.value,
        "before": None if before is None else before.value,
        "rule": str(detector.threshold.rule),
        "rows": detector.threshold.rows,
    }

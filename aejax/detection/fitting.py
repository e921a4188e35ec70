"""From normal rows to a detector: split, scale, train, set the first threshold."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Config, InputError
from aejax.config.scores import check_training_rows, score_object
from aejax.core import scaling, steps
from aejax.data import batches
from aejax.data.disk_rows import DiskRows, Stored, split_rows
from aejax.data.offsets import heads, with_offset
from aejax.data.schema import Schema
from aejax.detection import alarms
from aejax.detection.calibration import calibrate
from aejax.detection.detector import Detector
from aejax.detection.file_rows import left_out_alarms, rows_of_files
from aejax.detection.normal import learn_normal
from aejax.detection.precision import choose_precision
from aejax.detection.rows import (
    as_stored,
    check_finite,
    check_kind,
    stored_array,
    training_rows,
)
from aejax.detection.stability import record
from aejax.detection.threshold import check_rule
from aejax.models.backend import shapes_of
from aejax.models.build import build
from aejax.models.heads import heads_of
from aejax.training.loop import train


def fit(
    config: Config,
    x_train: Any,
    *,
    x_validation: Any = None,
    x_scale: Any = None,
    x_calibrate: Any = None,
    labels: Any = None,
    labels_validation: Any = None,
    initial: Mapping[str, Any] | None = None,
    watch: Callable[[Detector], Mapping[str, float]] | None = None,
    schema: Schema | None = None,
    folder: str | Path | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 10.0,
    provenance: dict[str, Any] | None = None,
    devices: int | None = None,
) -> Detector:
    """Train a detector on normal rows and set its first threshold.

    Args:
        config: all settings.
        x_train: normal rows, [n, features], [n, height, width, channels], or a table with named
            columns, as in `Detector.score` (of mixed columns where `config.columns` says so);
            or the path of files that hold them, as in `fit_files`.
        x_validation: rows for the validation loss; None holds out
            `config.train.validation_fraction` of the training rows. Held-out rows are what
            the threshold is set on; where there are none, or rows were given (they may
            hold anomalies), the training rows are.
        x_scale: rows that the scaler is fitted on; None takes the training rows.
        x_calibrate: rows that the threshold is set on instead.
        labels: each training row's class, whole numbers [n], for a `Classifier` only.
        labels_validation: the same of `x_validation`.
        initial: variables to start from instead of fresh ones, as another detector's
            `variables`; see `aejax.detection.transfer`.
        watch: called after every epoch with the detector as it is then, which has no
            threshold; the numbers that it returns join the history.
        schema: of the rows; None infers it.
        folder: keeps checkpoints and history here, and continues the run that it holds.
        tensorboard: folder for TensorBoard event files.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True checkpoints and raises `Interrupted`.
        checkpoint_seconds: least time between two checkpoints.
        provenance: more facts to keep with the detector.
        devices: how many of this process's devices share each batch, in training and in
            scoring by the detector; None takes all.

    Returns:
        A detector with a threshold by `config.rule`.

    Raises:
        InputError: if rows are too few, not numbers, not finite or don't fit the model.
        Diverged: at the first step whose loss is not finite.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
        >>> detector = fit(Config(train=settings.Train(epochs=2)), x)
        >>> detector.score(x).shape
        (500,)
    """
    started = time.monotonic()
    if isinstance(x_train, (str, os.PathLike)):
        home = None if folder is None else Path(folder)
        with rows_of_files(
            config, os.fspath(x_train), folder=home, schema=schema, should_stop=should_stop
        ) as read:
            told = left_out_alarms(read.left_out)
            detector = fit(
                config,
                read.normal,
                x_validation=x_validation,
                x_scale=x_scale,
                x_calibrate=x_calibrate,
                labels=labels,
                labels_validation=labels_validation,
                initial=initial,
                watch=watch,
                schema=read.schema,
                folder=folder,
                tensorboard=tensorboard,
                progress=progress,
                should_stop=should_stop,
                checkpoint_seconds=checkpoint_seconds,
                provenance=provenance,
                devices=devices,
            )
        return dataclasses.replace(detector, provenance=record(detector.provenance, told))
    rows, schema, lost = _training_rows(config, x_train, schema)
    least = 2 if x_validation is None and config.train.validation_fraction > 0 else 1
    if len(rows) < least:
        raise InputError(f"training rows: found {len(rows)}; allowed: at least {least}")
    classes = as_labels(config, labels, len(rows), "labels")
    held: Stored | None = None
    if x_validation is None:
        rows, classes, held, held_classes = _hold_out(config.train, rows, classes)
        validation = held
    else:
        validation = stored_rows(x_validation, schema)
        held_classes = as_labels(config, labels_validation, len(validation), "labels_validation")
    check_training_rows(score_object(config), len(rows))
    calibrating, of_class = (rows, classes) if held is None else (held, held_classes)
    looked_at = calibrating
    if x_calibrate is not None:
        calibrating = stored_rows(x_calibrate, schema)
    check_rule(config.rule, len(calibrating), on_disk=isinstance(calibrating, DiskRows))
    scale_rows = rows if x_scale is None else stored_rows(x_scale, schema)
    blocks = batches.in_blocks(scale_rows)
    scaler = scaling.fit(config.scale, blocks, scale_rows.dtype, heads_of(schema))
    fingerprint = batches.data_fingerprint(rows)
    model = build(config.model, schema)
    check_frozen(config, model, schema)

    def detector_of(variables: dict[str, Any]) -> Detector:
        return Detector(
            config=config, schema=schema, scaler=scaler, variables=variables, devices=devices
        )

    trained = train(
        config,
        model,
        scaler,
        rows,
        validation,
        shape=schema.shape,
        folder=None if folder is None else Path(folder),
        tensorboard=None if tensorboard is None else Path(tensorboard),
        progress=progress,
        should_stop=should_stop,
        checkpoint_seconds=checkpoint_seconds,
        fingerprint=fingerprint,
        labels=classes,
        labels_validation=held_classes,
        initial=initial,
        watch=None if watch is None else lambda variables: watch(detector_of(variables)),
        devices=devices,
    )
    detector = dataclasses.replace(
        detector_of(trained.variables),
        history=trained.history,
        provenance={
            "data": fingerprint,
            "training_rows": len(rows),
            "best_epoch": trained.best_epoch,
            "train_seconds": round(time.monotonic() - started, 3),
            **(provenance or {}),
        },
    )
    if (normal := getattr(detector.scorer.score, "normal_class", None)) is not None:
        # Thresholds are set on normal rows.
        assert of_class is not None
        looked_at = looked_at[of_class == normal]
        calibrating = looked_at if x_calibrate is None else calibrating
    detector = learn_normal(detector, looked_at, rows)
    detector = choose_precision(detector, looked_at)
    found = [*lost, *alarms.alarms_of(detector, looked_at, scale_rows)]
    detector = dataclasses.replace(detector, provenance=record(detector.provenance, found))
    return calibrate(detector, calibrating)


def _hold_out(
    train: settings.Train, rows: Stored, classes: np.ndarray | None
) -> tuple[Stored, np.ndarray | None, Stored | None, np.ndarray | None]:
    """Rows to train on and rows held out, each with their classes; few rows hold none out."""
    if not batches.held_out(len(rows), train.validation_fraction):
        return rows, classes, None, None
    held_classes = None
    if classes is not None:
        picked, left = batches.validation_split(len(rows), train.validation_fraction, train.seed)
        classes, held_classes = classes[picked], classes[left]
    rows, held = split_rows(rows, train.validation_fraction, train.seed)
    return rows, classes, held, held_classes


def _training_rows(
    config: Config, x: Any, schema: Schema | None
) -> tuple[Stored, Schema, list[str]]:
    """Training rows as compiled programs take them, their schema, and what is lost of them."""
    if not isinstance(x, DiskRows):
        given = training_rows(x, schema, config.columns)
        rows = as_stored(given.rows, given.schema)
        check_finite(rows, given.schema)
        return rows, given.schema, given.alarms
    schema = schema or x.schema
    check_kind(config.columns, schema)
    lost = [] if schema.offset is None else with_offset(schema, heads(x))[1]
    return stored_rows(x, schema), schema, lost


def stored_rows(x: Any, schema: Schema) -> Stored:
    """Rows as compiled programs take them, an array or on disk.

    Raises:
        InputError: if they don't fit the schema, or one holds NaN or infinity.
    """
    if not isinstance(x, DiskRows):
        return stored_array(x, schema)
    if x.schema != schema:
        raise InputError(f"rows of {x.path} are {x.schema}; allowed: {schema}")
    return dataclasses.replace(x, less_offset=True)


def as_labels(config: settings.Config, labels: Any, rows: int, name: str) -> np.ndarray | None:
    """Classes as int32 [rows] where the model is a classifier, else None.

    Raises:
        InputError: if a classifier has none, another model has some, or one is no class.
    """
    if not config.model.learns_classes:
        if labels is not None:
            raise InputError(
                f"{name} are given for a {type(config.model).__name__} model; "
                "allowed: with a Classifier"
            )
        return None
    if labels is None:
        raise InputError(f"{name} is None; allowed with a Classifier: each row's class")
    classes = np.asarray(labels)
    if classes.shape != (rows,):
        raise InputError(f"{name} has shape {classes.shape}; allowed: ({rows},), one a row")
    most: int = config.model.classes - 1  # type: ignore[union-attr]
    wrong = np.flatnonzero(~((classes >= 0) & (classes <= most) & (classes == classes // 1)))
    if len(wrong):
        raise InputError(
            f"{name}[{wrong[0]}] is {classes[wrong[0]]}; allowed: whole numbers from 0 to {most}"
        )
    return classes.astype(np.int32)


def check_frozen(config: settings.Config, model: Any, schema: Schema) -> None:
    """Refuse a name in `Train.frozen` that no parameter's path begins with."""
    if not config.train.frozen:
        return
    variables = shapes_of(lambda: steps.new_variables(model, schema.shape, 0))
    for name in config.train.frozen:
        if not any(jax.tree.leaves(steps.is_frozen((name,), variables["params"]))):
            paths = jax.tree_util.tree_leaves_with_path(variables["params"])
            layers = {"/".join(str(part.key) for part in path[:-1]) for path, _ in paths}
            raise InputError(f"Train.frozen holds {name!r}; {settings.suggest(name, layers)}")

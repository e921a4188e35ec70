"""A detector of one network."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from aejax import config as settings
from aejax.config import Config, InputError
from aejax.config.scores import check_training_rows, score_object
from aejax.core import mesh, scaling
from aejax.data import batches
from aejax.data.batches import data_fingerprint
from aejax.data.disk_rows import DiskRows, Stored, split_rows
from aejax.data.offsets import heads, with_offset
from aejax.data.schema import Schema
from aejax.data.series import WindowRows
from aejax.detection.checks import check_training
from aejax.detection.cross_fitting import FOLDS, cross_fits, folds_of, judge, problem_of
from aejax.detection.detector import Detector
from aejax.detection.drift import usual_values
from aejax.detection.members import train_members
from aejax.detection.normal import learn_normal, with_normal
from aejax.detection.plan import Rows, Trained, Training, check_frozen
from aejax.detection.precision import choose_precision
from aejax.detection.rows import as_stored, check_finite, check_kind, stored_rows, training_rows
from aejax.detection.threshold import check_rule
from aejax.models.build import build
from aejax.models.heads import heads_of
from aejax.training.loop import train


def fit_one(config: Config, inputs: Rows, how: Training) -> Trained:
    """Train one network; see `fit`."""
    rows, schema, lost = _training_rows(config, inputs.train, inputs.schema)
    crossed = cross_fits(
        config,
        len(rows),
        on_disk=isinstance(rows, DiskRows),
        windows=True if isinstance(rows, WindowRows) else None,
        x_validation=inputs.validation,
        x_calibrate=inputs.calibrate,
        x_scale=inputs.scale,
        initial=how.initial,
    )
    least = 2 if inputs.validation is None and config.train.validation_fraction > 0 else 1
    if len(rows) < least:
        raise InputError(f"training rows: found {len(rows)}; allowed: at least {least}")
    classes = as_labels(config, inputs.labels, len(rows), "labels")
    held: Stored | None = None
    held_classes, validation = None, None
    if crossed:
        pass
    elif inputs.validation is None:
        rows, classes, held, held_classes = _hold_out(config.train, rows, classes)
        validation = held
    else:
        validation = stored_rows(inputs.validation, schema)
        held_classes = as_labels(
            config, inputs.labels_validation, len(validation), "labels_validation"
        )
    check_training_rows(score_object(config), len(rows))
    normal, of_class = (rows, classes) if held is None else (held, held_classes)
    calibrating = None if inputs.calibrate is None else stored_rows(inputs.calibrate, schema)
    scored = normal if calibrating is None else calibrating
    check_rule(config.rule, len(scored), on_disk=isinstance(scored, DiskRows))
    if (wanted := getattr(score_object(config), "normal_class", None)) is not None:
        # Thresholds are set on normal rows.
        assert of_class is not None
        normal = normal[of_class == wanted]
    scaled = rows if inputs.scale is None else stored_rows(inputs.scale, schema)
    scaler = scaling.fit(config.scale, batches.in_blocks(scaled), scaled.dtype, heads_of(schema))
    model = build(config.model, schema)
    check_frozen(config, model, schema)

    def detector_of(variables: dict[str, Any]) -> Detector:
        return Detector(
            config=config, schema=schema, scaler=scaler, variables=variables, devices=how.devices
        )

    watch, known = how.watch, how.fingerprint
    # Only rows decide these: a second core has them before the first has trained.
    with ThreadPoolExecutor(1) as beside:
        hashed = beside.submit(lambda: known or data_fingerprint(rows))
        values = beside.submit(usual_values, normal, schema)
        at_once = isinstance(rows, DiskRows) or how.folder is not None
        at_once |= mesh.on_all_processes(how.devices).processes > 1
        trained = train(
            config,
            model,
            scaler,
            rows,
            validation,
            shape=schema.shape,
            folder=how.folder,
            tensorboard=how.tensorboard,
            progress=how.progress,
            should_stop=how.should_stop,
            checkpoint_seconds=how.checkpoint_seconds,
            fingerprint=hashed.result() if at_once else known,
            labels=classes,
            labels_validation=held_classes,
            initial=how.initial,
            watch=None if watch is None else lambda variables: watch(detector_of(variables)),
            devices=how.devices,
        )
    detector = dataclasses.replace(
        detector_of(trained.variables),
        history=trained.history,
        provenance={
            "data": hashed.result(),
            "training_rows": len(rows),
            "best_epoch": trained.best_epoch,
            **({"folds": FOLDS} if crossed else {}),
        },
    )
    judged = None
    if crossed:
        assert isinstance(rows, np.ndarray)
        folds = folds_of(config, np.arange(len(rows)))
        left = train_members(
            [fold.member for fold in folds],
            rows,
            schema,
            devices=how.devices,
            progress=how.progress,
            should_stop=how.should_stop,
        )
        if (problem := problem_of(left)) is not None:
            raise InputError(
                f"the networks that set the threshold: {problem}; allowed: finite losses, or "
                "Config.calibration 'held-out'"
            )
        detector = choose_precision(detector, rows)
        judged = judge(detector, [folds], [left], rows, [np.arange(len(rows))])
    (learnt,) = learn_normal(detector, [normal], [rows])
    if judged is not None and judged.usual[0] is not None:
        learnt = {**learnt, "error": judged.usual[0]}
    detector = choose_precision(with_normal(detector, learnt, values.result()), normal)
    means = None if judged is None else judged.means
    (alarms,), _ = check_training(detector, [normal], [scaled], means=means)
    return Trained(
        detector,
        normal if calibrating is None else calibrating,
        None,
        [*lost, *(alarm.sentence for alarm in alarms)],
        None if judged is None else judged.scores[0],
    )


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
    if isinstance(x, WindowRows):
        return x.stored(), x.schema, []
    if not isinstance(x, DiskRows):
        inputs = training_rows(x, schema, config.columns)
        rows = as_stored(inputs.rows, inputs.schema)
        check_finite(rows, inputs.schema)
        return rows, inputs.schema, inputs.alarms
    schema = schema or x.schema
    check_kind(config.columns, schema)
    lost = [] if schema.offset is None else with_offset(schema, heads(x))[1]
    return stored_rows(x, schema), schema, lost


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

"""From normal rows to a detector: split, scale, train, set the first threshold."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aejax import config as settings
from aejax.config import Config, InputError
from aejax.core import scaling
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.rows import as_rows, as_stored, check_finite
from aejax.detection.threshold import check_rule
from aejax.models.build import build
from aejax.training.loop import train


def fit(
    config: Config,
    x_train: Any,
    *,
    x_validation: Any = None,
    x_scale: Any = None,
    schema: Schema | None = None,
    folder: str | Path | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 10.0,
    provenance: dict[str, Any] | None = None,
) -> Detector:
    """Train a detector on normal rows and set its first threshold.

    Args:
        config: all settings.
        x_train: normal rows, [n, features], [n, height, width, channels] or a data frame.
        x_validation: rows for the validation loss; None holds out
            `config.train.validation_fraction` of the training rows. Held-out rows are what
            the threshold is set on; where there are none, or rows were given (they may
            hold anomalies), the training rows are.
        x_scale: rows that the scaler is fitted on; None takes the training rows.
        schema: of the rows; None infers it.
        folder: keeps checkpoints and history here, and continues the run that it holds.
        tensorboard: folder for TensorBoard event files.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True checkpoints and raises `Interrupted`.
        checkpoint_seconds: least time between two checkpoints.
        provenance: more facts to keep with the detector.

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
    rows, schema = as_rows(x_train, schema)
    rows = as_stored(rows, schema)
    least = 2 if x_validation is None and config.train.validation_fraction > 0 else 1
    if len(rows) < least:
        raise InputError(f"training rows: found {len(rows)}; allowed: at least {least}")
    check_finite(rows, schema)
    held: np.ndarray | None = None
    if x_validation is None:
        picked, left = batches.validation_split(
            len(rows), config.train.validation_fraction, config.train.seed
        )
        if len(left):
            rows, held = rows[picked], rows[left]
        validation = held
    else:
        validation = as_stored(as_rows(x_validation, schema)[0], schema)
        check_finite(validation, schema)
    check_rule(config.rule, len(rows if held is None else held))
    scale_rows = rows if x_scale is None else as_stored(as_rows(x_scale, schema)[0], schema)
    check_finite(scale_rows, schema)
    scaler = scaling.fit(config.scale, [scale_rows], scale_rows.dtype)
    fingerprint = data_fingerprint(rows)
    trained = train(
        config,
        build(config.model, schema),
        scaler,
        rows,
        validation,
        shape=schema.shape,
        folder=None if folder is None else Path(folder),
        tensorboard=None if tensorboard is None else Path(tensorboard),
        progress=progress,
        should_stop=should_stop,
        checkpoint_seconds=checkpoint_seconds,
        identity=f"{fingerprint} {settings.to_dict(config)} {schema}",
    )
    detector = Detector(
        config=config,
        schema=schema,
        scaler=scaler,
        variables=trained.variables,
        history=trained.history,
        provenance={
            "data": fingerprint,
            "training_rows": len(rows),
            "best_epoch": trained.best_epoch,
            "train_seconds": round(time.monotonic() - started, 3),
            **(provenance or {}),
        },
    )
    return detector.calibrate(rows if held is None else held)


def data_fingerprint(x: np.ndarray) -> str:
    """SHA-256 of rows, their type and their shape, in hexadecimal."""
    total = hashlib.sha256(f"{x.dtype} {x.shape}".encode())
    total.update(np.ascontiguousarray(x).data)
    return total.hexdigest()

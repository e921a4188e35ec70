"""A detector of a network that was trained elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError, Scale
from aejax.config.effort import LEVELS
from aejax.core import scaling
from aejax.core.scaling import Scaler
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.detection.calibration import calibrate
from aejax.detection.detector import Detector
from aejax.detection.drift import usual_values
from aejax.detection.normal import learn_normal, with_normal
from aejax.detection.rows import as_stored, check_finite, training_rows
from aejax.models.build import build


def assemble(
    network: Any,
    variables: Any,
    *,
    x_normal: Any,
    scaler: Scaler | Scale | None = None,
    config: Config | None = None,
    schema: Schema | None = None,
    provenance: dict[str, Any] | None = None,
) -> Detector:
    """What `Detector.of` gives; see there."""
    if isinstance(scaler, Scale):
        scale = scaler
    elif config is not None and scaler is None:
        scale = config.scale
    else:
        scale = Scale(kind="none")
    base = config or Config()
    # Another network has no use for the score of the default's.
    score: Any = None if base.score == LEVELS else base.score
    config = dataclasses.replace(base, model=network, scale=scale, score=score)
    normal = training_rows(x_normal, schema, config.columns)
    schema = normal.schema
    rows = as_stored(normal.rows, schema)
    check_finite(rows, schema)
    if not len(rows):
        raise InputError("x_normal has 0 rows; allowed: at least 1")
    made = build(config.model, schema)
    if isinstance(scaler, Scaler):
        # What is saved is read back by the settings.
        mixed = schema.columns is not None
        scale, scaler = scaling.described(scaler, schema.shape, mixed=mixed)
        config = dataclasses.replace(config, scale=scale)
    else:
        scaler = scaling.fit(scale, batches.in_blocks(rows), rows.dtype, made.heads)
    kept = {name: jax.tree.map(np.asarray, tree) for name, tree in dict(variables).items()}
    facts = {"data": batches.data_fingerprint(rows), **(provenance or {})}
    detector = Detector(
        config=config, schema=schema, scaler=scaler, variables=kept, provenance=facts
    )
    (learnt,) = learn_normal(detector, [rows], [rows])
    return calibrate(with_normal(detector, learnt, usual_values(rows, schema)), rows)

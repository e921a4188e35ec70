"""Several seeds of one experiment, trained together, each as `fit` would have trained it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aejax.config import Config, InputError
from aejax.data.batches import data_fingerprint
from aejax.data.schema import Schema
from aejax.detection import alarms
from aejax.detection.calibration import calibrate
from aejax.detection.population import (
    Population,
    check_member,
    detector_of,
    new_member,
    train_kinds,
)
from aejax.detection.rows import Given, as_rows, as_stored, check_finite, training_rows
from aejax.detection.stability import record
from aejax.detection.threshold import check_rule
from aejax.training.population import Member


def joined_rows(
    config: Config, x_train: Any, x_validation: Any, x_scale: Any, schema: Schema | None
) -> tuple[Given, np.ndarray]:
    """One array of all rows that members look at; they name theirs by position.

    Args:
        config: of one member.
        x_train: as in `fit`.
        x_validation: likewise, or None.
        x_scale: likewise, or None.
        schema: of the rows; None infers it.

    Returns:
        The rows, as compiled programs take them; and where each of the three ends in them.
    """
    rows, schema, lost = training_rows(x_train, schema, config.columns)
    parts = [as_stored(rows, schema)]
    for more in (x_validation, x_scale):
        parts.append(parts[0][:0] if more is None else as_stored(as_rows(more, schema)[0], schema))
    for part in parts:
        check_finite(part, schema)
    x = np.concatenate(parts) if len(parts[1]) or len(parts[2]) else parts[0]
    return Given(x, schema, lost), np.cumsum([len(part) for part in parts])


def fit_seeds(
    configs: Sequence[Config],
    x_train: Any,
    *,
    x_validation: Any = None,
    x_scale: Any = None,
    x_calibrate: Any = None,
    schema: Schema | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Population:
    """Train one detector for each configuration on the same rows, as `fit` would, but together.

    Args:
        configs: one for each detector.
        x_train: normal rows, as in `fit`.
        x_validation: as in `fit`.
        x_scale: as in `fit`.
        x_calibrate: as in `fit`.
        schema: of the rows; None infers it.
        provenance: more facts to keep with every detector.
        progress: whether to draw a progress bar on stderr.

    Raises:
        InputError: if there are no configurations, or rows don't fit.
    """
    if not configs:
        raise InputError("configs: found 0; allowed: at least 1")
    for config in configs:
        check_member(config)
        if config.precision == "fastest":
            raise InputError(
                "Config.precision is 'fastest'; allowed with seeds trained together: 'float32' or "
                "another type of products"
            )
    started = time.monotonic()
    given, ends = joined_rows(configs[0], x_train, x_validation, x_scale, schema)
    x, schema, lost = given
    if x_calibrate is not None:
        x_calibrate, _ = as_rows(x_calibrate, schema)
    everything = np.arange(ends[0])
    members, calibrating = [], []
    for number, config in enumerate(configs):
        if x_validation is None:
            member = new_member(config, everything, number)
        else:
            held = np.arange(ends[0], ends[1])
            member = Member(config=config, training=everything, validation=held)
        if x_scale is not None:
            member = dataclasses.replace(member, scaling=np.arange(ends[1], ends[2]))
        own = x_validation is None and len(member.validation) > 0
        calibrating.append(member.validation if own else member.training)
        check_rule(config.rule, len(calibrating[-1] if x_calibrate is None else x_calibrate))
        members.append(member)
    trained = train_kinds(members, x, schema, progress=progress)
    seconds = round((time.monotonic() - started) / len(members), 3)
    detectors, problems = [], {}
    for number, (member, found) in enumerate(zip(members, trained, strict=True)):
        facts = {
            "data": data_fingerprint(x[member.training]),
            "training_rows": len(member.training),
            "train_seconds": seconds,
            "trained_together": len(members),
            **(provenance or {}),
        }
        normal = x[calibrating[number]]
        detector = detector_of(member, found, schema, facts, x, normal)
        if detector is None:
            problems[number] = str(found.problem)
        else:
            scaled_on = member.training if member.scaling is None else member.scaling
            raised = alarms.alarms_of(detector, normal, x[scaled_on])
            kept = record(detector.provenance, [*lost, *raised])
            detector = dataclasses.replace(detector, provenance=kept)
            detector = calibrate(detector, normal if x_calibrate is None else x_calibrate)
        detectors.append(detector)
    return Population(detectors=tuple(detectors), problems=problems)

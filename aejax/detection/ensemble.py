"""An ensemble of one configuration: the same rows, other seeds, one detector."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from aejax.config import Combine, Config, InputError, Vary
from aejax.data import batches
from aejax.data.batches import data_fingerprint
from aejax.data.schema import Schema
from aejax.detection.calibration import calibrate
from aejax.detection.detector import Detector
from aejax.detection.population import (
    Population,
    check_member,
    detector_of,
    give_parts,
    train_kinds,
)
from aejax.detection.precision import choose_precision
from aejax.detection.seeds import joined_rows
from aejax.detection.stability import tell
from aejax.detection.subsets import random_parts, random_rows
from aejax.detection.threshold import check_rule
from aejax.training.population import Member

MOST_MEMBERS = 1024


def fit_ensemble(
    config: Config,
    x_train: Any,
    *,
    members: int,
    combine: Combine = "mean",
    vary: Vary | None = None,
    x_validation: Any = None,
    x_scale: Any = None,
    schema: Schema | None = None,
    provenance: dict[str, Any] | None = None,
    progress: bool = False,
    devices: int | None = None,
) -> Detector:
    """Train one configuration from several seeds, and let the members decide together.

    Members are trained as a population, see `fit_population`. All train on the same rows and
    differ in seed: parameters, batches, noise. What varies from run to run averages out, which
    for autoencoders on tables is worth more than another architecture (compare Chen, Sathe,
    Aggarwal and Turaga, "Outlier Detection with Autoencoder Ensembles", SDM 2017). With `vary`
    they differ in features, units, connections or rows too; all still share one program.

    Args:
        config: all settings; members have the seed in it and those after it.
        x_train: normal rows, as in `fit`.
        members: how many.
        combine: how their scores become one.
        vary: what members differ in besides the seed.
        x_validation: as in `fit`.
        x_scale: as in `fit`.
        schema: of the rows; None infers it.
        provenance: more facts to keep with the detector.
        progress: whether to draw a progress bar on stderr.
        devices: how many of this process's devices train members, and score; None takes all.

    Raises:
        InputError: if rows don't fit, `members` is out of range, or all members diverged.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
        >>> fit_ensemble(Config(), x, members=3).members
        3
    """
    if not 1 <= members <= MOST_MEMBERS:
        raise InputError(f"members is {members}; allowed: 1 to {MOST_MEMBERS}")
    check_member(config)
    started = time.monotonic()
    given, ends = joined_rows(config, x_train, x_validation, x_scale, schema)
    x, schema, lost = given
    rows = x[: ends[0]]
    train = config.train
    training, held = batches.validation_split(len(rows), train.validation_fraction, train.seed)
    if x_validation is not None:
        training, held = np.arange(len(rows)), np.arange(ends[0], ends[1])
    scale = training if x_scale is None else np.arange(ends[1], ends[2])
    calibrating = training if x_validation is not None or not len(held) else held
    check_rule(config.rule, len(calibrating))
    vary = vary or Vary()
    rows_of = random_rows(vary, training, members, train.seed)
    population = [
        Member(config=seeded, training=own, validation=held, scaling=scale)
        for seeded, own in zip(seeds(config, members), rows_of, strict=True)
    ]
    if vary.masks:
        parts = random_parts(vary, config.model, schema.features, members, train.seed)
        population = give_parts(population, parts, schema)
    trained = train_kinds(population, x, schema, devices=devices, progress=progress)
    tell(lost)
    facts = {
        "data": data_fingerprint(rows[training]),
        "training_rows": len(training),
        **({} if vary == Vary() else {"vary": dataclasses.asdict(vary)}),
        **({"alarms": lost} if lost else {}),
        **(provenance or {}),
    }
    detectors = [
        detector_of(member, found, schema, facts, x, x[calibrating])
        for member, found in zip(population, trained, strict=True)
    ]
    problems = {
        number: found.problem for number, found in enumerate(trained) if found.problem is not None
    }
    ensemble = Population(detectors=tuple(detectors), problems=problems).ensemble_by(
        x[calibrating], combine=combine
    )
    ensemble = choose_precision(ensemble, x[calibrating])
    if ensemble.config.precision != config.products:
        ensemble = calibrate(ensemble, x[calibrating])
    took = {"train_seconds": round(time.monotonic() - started, 3)}
    return dataclasses.replace(
        ensemble, provenance={**ensemble.provenance, **took}, devices=devices
    )


def seeds(config: Config, count: int) -> list[Config]:
    """A configuration with its own seed and those after it."""
    first = config.train.seed
    return [
        dataclasses.replace(
            config, train=dataclasses.replace(config.train, seed=(first + number) % (1 << 32))
        )
        for number in range(count)
    ]

"""Alarms: what would make a detector fail in silence, said in plain words and kept with it."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np

from aejax.config import Config
from aejax.config.scores import DEFAULT, is_mean_error, learns, score_object
from aejax.core import optimizers, steps
from aejax.core.scaling import Scaler
from aejax.data.batches import evenly, in_blocks
from aejax.data.disk_rows import Stored
from aejax.data.offsets import MOST_WHOLE
from aejax.data.schema import Schema
from aejax.detection.batch_sizes import batch_size_for
from aejax.detection.detector import Detector
from aejax.models.build import build

# Both networks score the same rows, so few of them tell which is better.
MOST_ROWS = 1 << 9
MOST_SCALED_ROWS = 1 << 14
LEAST_SORTED_ROWS, MOST_SORTED = 1 << 9, 1 << 18
LEAST_ROWS_FOR_WILD = 100
# A trained network whose error is above this share of an untrained one's learnt nothing.
LEAST_GAIN = 0.95
HASHED_AT_ONCE = 1 << 12
# Steps of float32 in a feature's spread.
LEAST_STEPS = 64
# Of a value's distance from the median, in distances that 99 % of the rows keep within.
WILD = 100.0


def alarms_of(detector: Detector, normal: Stored, scaled: Stored) -> list[str]:
    """What is wrong with a detector that was just trained.

    Args:
        detector: trained, a single model.
        normal: normal rows, best not trained on.
        scaled: rows that the scaler was fitted on.

    Returns:
        Sentences; none where nothing is wrong.
    """
    found: list[str] = []
    if judged_by_error(detector.config):
        # Whatever the score is made of, training lowers errors.
        by_error = dataclasses.replace(detector.config, score=DEFAULT)
        trained = dataclasses.replace(detector, config=by_error)
        rows = normal[evenly(len(normal), MOST_ROWS)]
        # In batches of the size that the threshold's rows get: no program more.
        size = batch_size_for(len(normal), detector.schema, detector.config)
        scores = [one.score_rows(rows, batch_size=size) for one in (trained, _untrained(trained))]
        found += no_better(*(mean_error(each, detector.config.train.trim) for each in scores))
    found += few_steps(detector.scaler, detector.schema, scaled)
    return found + wild_values(detector.config, detector.schema, scaled)


def judged_by_error(config: Config) -> bool:
    """Whether training lowers the errors that rows of a configuration are scored by, or with."""
    score = score_object(config)
    return config.model.reconstructs and (is_mean_error(score) or learns(score))


def mean_error(errors: np.ndarray, trim: float) -> float:
    """Mean of rows' errors [n] but for the share of the largest that training left out.

    A network that has kept from learning anomalies rebuilds them no better than before, and
    theirs are the errors that a mean of all would consist of.
    """
    kept = max(1, round(len(errors) * (1 - trim)))
    least = np.partition(errors, kept - 1)[:kept] if kept < len(errors) else errors
    return float(least.mean(dtype=np.float64))


def no_better(trained: float, untrained: float) -> list[str]:
    """An alarm if the mean error is hardly below that of the network before its training."""
    if trained <= LEAST_GAIN * untrained:
        return []
    return [
        f"the trained network's mean error is {trained:.4g}, an untrained one's {untrained:.4g}: "
        "it learnt next to nothing; try more epochs or another learning rate"
    ]


def wild_values(config: Config, schema: Schema, rows: Stored) -> list[str]:
    """An alarm if a value that the scaler saw lies so far out that it decided the scale."""
    if (
        config.scale.kind in ("none", "unit", "robust", "quantile")
        or schema.kind != "table"
        or len(rows) < LEAST_ROWS_FOR_WILD
    ):
        return []
    if config.scale.clip is not None:
        return []
    few = rows[evenly(len(rows), MOST_SCALED_ROWS)].reshape(-1, schema.features)
    if schema.columns is not None:
        # A missing cell lies nowhere, and a code lies nowhere near another.
        numbers = np.array([column.kind == "number" for column in schema.columns])
        there = numbers & ~np.isnan(few)
        middles = [
            float(np.median(few[seen, i])) if seen.any() else 0.0 for i, seen in enumerate(there.T)
        ]
        few = np.where(there, few, np.asarray(middles, np.float32))
    # Sorting takes long where there are many features; extremes need none.
    fewer = few[evenly(len(few), max(LEAST_SORTED_ROWS, MOST_SORTED // schema.features))]
    middle = np.median(fewer, axis=0)
    usual = np.quantile(np.abs(fewer - middle), 0.99, axis=0)
    most = np.maximum(few.max(axis=0) - middle, middle - few.min(axis=0))
    times = np.divide(most, usual, out=np.zeros(len(usual)), where=usual > 0)
    worst = int(np.argmax(times))
    if times[worst] <= WILD:
        return []
    return [
        f"{schema.feature_name(worst)} has a value {times[worst]:.0f} times as far from its median "
        "as 99 % of the training rows: it decides the scale; look at it, or set Scale.clip"
    ]


def few_steps(scaler: Scaler, schema: Schema, rows: Stored) -> list[str]:
    """An alarm if a feature is so far from 0 beside its spread that float32 rounds most of it away.

    Rows that came as float64 have an offset then; these came as float32, or their first rows
    didn't show it.
    """
    if schema.dtype == "uint8" or scaler.shift is None or scaler.factor is None:
        return []
    shift, factor = np.asarray(scaler.shift), np.asarray(scaler.factor)
    if not shift.ndim:
        return []
    # Steps of float32 from one number to the next, in units of the spread.
    step = np.abs(shift * factor).ravel() * np.finfo(np.float32).eps
    for worst in np.flatnonzero(step > 1 / LEAST_STEPS).tolist():
        few = rows[evenly(len(rows), MOST_SCALED_ROWS)].reshape(-1, schema.features)[:, worst]
        few = few[np.isfinite(few)]
        whole = (few == np.floor(few)).all() and np.abs(few).max(initial=0) <= MOST_WHOLE
        if whole or len(different := np.unique(few)) < 2:
            continue
        return [
            f"{schema.feature_name(worst)} lies around {shift.ravel()[worst]:.6g}, where "
            f"float32 holds {len(different)} different values of its range: hand the rows over "
            "as float64, or less a constant"
        ]
    return []


def rows_seen_in_training(training: Stored, test: np.ndarray) -> list[str]:
    """An alarm if rows that are to judge a detector are among those it was trained on."""
    if training.dtype != test.dtype:
        return []
    hashes = row_hashes(test)
    found = np.zeros(len(hashes), bool)
    for block in in_blocks(training):
        found |= np.isin(hashes, row_hashes(block))
    seen = int(found.sum())
    if not seen:
        return []
    return [
        f"{seen} of the {len(test)} test rows are among the training rows: "
        "what is measured on them is too good"
    ]


def row_hashes(rows: np.ndarray) -> np.ndarray:
    """A number for the bytes of every row, uint64 [n]; hardly ever the same for other bytes."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:]))
    # By words, where rows have whole ones: a quarter of the numbers.
    flat = flat.view(np.uint8)
    flat = flat.view(np.uint32) if flat.shape[1] % 4 == 0 else flat
    weights = np.random.default_rng(0).integers(0, 1 << 64, flat.shape[1], np.uint64)
    hashes = np.zeros(len(rows), np.uint64)
    for first in range(0, len(rows), HASHED_AT_ONCE):
        part = slice(first, first + HASHED_AT_ONCE)
        # Odd factors mix a word into all higher bits; the one added tells 0 from absence.
        hashes[part] = ((flat[part].astype(np.uint64) + 1) * (weights | 1)).sum(axis=1)
    return hashes


def _untrained(detector: Detector) -> Detector:
    """The same detector before its training; its programs are those of the trained one."""
    config = detector.config
    program = steps.program_of(config, build(config.model, detector.schema))
    values = jax.device_put(optimizers.numbers(config, 1))
    fresh = steps.compiled_new_state(program, detector.schema.shape, values).variables
    kept = {**fresh, "normal": detector.variables["normal"]}
    return dataclasses.replace(detector, variables=kept)

"""Alarms: what would make a detector fail in silence, said in plain words and kept with it."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence

import jax
import numpy as np

from aejax.config import Config
from aejax.core import optimizers, steps
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.normal import evenly
from aejax.models.build import build

logger = logging.getLogger("aejax")

MOST_ROWS = 1 << 12
MOST_SCALED_ROWS = 1 << 14
# A trained network whose error is above this share of an untrained one's learnt nothing.
LEAST_GAIN = 0.95
HASHED_AT_ONCE = 1 << 12
# Of a value's distance from the median, in distances that 99 % of the rows keep within.
WILD = 100.0
# Above this, two distributions are usually called different (Siddiqi, "Credit Risk
# Scorecards", 2006); below 0.1, the same.
DRIFTED = 0.25
LEAST_ROWS_FOR_DRIFT = 100


def alarms_of(detector: Detector, normal: np.ndarray, scaled: np.ndarray) -> list[str]:
    """What is wrong with a detector that was just trained.

    Args:
        detector: trained, a single model.
        normal: normal rows, best not trained on.
        scaled: rows that the scaler was fitted on.

    Returns:
        Sentences; none where nothing is wrong.
    """
    rows = normal[evenly(len(normal), MOST_ROWS)]
    scores = detector.score_rows(rows).astype(np.float64)
    found = constant_scores(scores)
    if detector.scorer.kind == "error":
        untrained = _untrained(detector).score_rows(rows).astype(np.float64)
        found += no_better(float(scores.mean()), float(untrained.mean()))
    return found + wild_values(detector.config, detector.schema, scaled)


def constant_scores(scores: np.ndarray) -> list[str]:
    """An alarm if all of several rows have the same score."""
    if len(scores) < 3 or not np.isfinite(scores).all():
        return []
    if np.ptp(scores) > 1e-6 * max(abs(float(scores.max())), 1e-30):
        return []
    return [
        f"all {len(scores)} rows that the threshold is set on have the score {scores[0]:.6g}: "
        "the model tells no row from another"
    ]


def no_better(trained: float, untrained: float) -> list[str]:
    """An alarm if the mean error is hardly below that of the network before its training."""
    if trained <= LEAST_GAIN * untrained:
        return []
    return [
        f"the trained network's mean error is {trained:.4g}, an untrained one's {untrained:.4g}: "
        "it learnt next to nothing; try more epochs or another learning rate"
    ]


def wild_values(config: Config, schema: Schema, rows: np.ndarray) -> list[str]:
    """An alarm if a value that the scaler saw lies so far out that it decided the scale."""
    if (
        config.scale.kind in ("none", "unit", "robust", "quantile")
        or schema.kind != "table"
        or len(rows) < 100
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
        few = np.where(there, few, np.array(middles, np.float32))
    away = np.abs(few - np.median(few, axis=0))
    usual, most = np.quantile(away, 0.99, axis=0), away.max(axis=0)
    times = np.divide(most, usual, out=np.zeros(len(usual)), where=usual > 0)
    worst = int(np.argmax(times))
    if times[worst] <= WILD:
        return []
    return [
        f"{schema.feature_name(worst)} has a value {times[worst]:.0f} times as far from its median "
        "as 99 % of the training rows: it decides the scale; look at it, or set Scale.clip"
    ]


def rows_seen_in_training(training: np.ndarray, test: np.ndarray) -> list[str]:
    """An alarm if rows that are to judge a detector are among those it was trained on."""
    if training.dtype != test.dtype:
        return []
    seen = int(np.isin(row_hashes(test), row_hashes(training)).sum())
    if not seen:
        return []
    return [
        f"{seen} of the {len(test)} test rows are among the training rows: "
        "what is measured on them is too good"
    ]


def row_hashes(rows: np.ndarray) -> np.ndarray:
    """A number for the bytes of every row, uint64 [n]; hardly ever the same for other bytes."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:]))
    flat = flat.view(np.uint8)
    weights = np.random.default_rng(0).integers(0, 1 << 64, flat.shape[1], np.uint64)
    hashes = np.zeros(len(rows), np.uint64)
    for first in range(0, len(rows), HASHED_AT_ONCE):
        part = slice(first, first + HASHED_AT_ONCE)
        # Odd factors mix a byte into all higher bits; the one added tells 0 from absence.
        hashes[part] = ((flat[part].astype(np.uint64) + 1) * (weights | 1)).sum(axis=1)
    return hashes


def population_stability(expected: np.ndarray, found: np.ndarray) -> float:
    """Population stability index of two distributions over the same bins.

    Args:
        expected: shares of the bins in training, above 0.
        found: shares of the bins now.

    Returns:
        Sum of (found - expected) * log(found / expected); 0 where they are equal. Shares of 0
        count as a ten-thousandth.
    """
    expected, found = np.maximum(expected, 1e-4), np.maximum(found, 1e-4)
    return float(np.sum((found - expected) * np.log(found / expected)))


def drift(stability: float, rows: int) -> list[str]:
    """An alarm if the scores of many rows are distributed unlike the calibration rows'."""
    if rows < LEAST_ROWS_FOR_DRIFT or stability <= DRIFTED:
        return []
    return [
        f"the scores are distributed unlike those of the calibration rows (population stability "
        f"index {stability:.2f}, above {DRIFTED}): the rows have drifted, or hold many anomalies"
    ]


def tell(alarms: Sequence[str]) -> None:
    """Warn of each in the log."""
    for alarm in alarms:
        logger.warning("aejax: warning: %s", alarm)


def _untrained(detector: Detector) -> Detector:
    """The same detector before its training; its programs are those of the trained one."""
    config = detector.config
    program = steps.program_of(config, build(config.model, detector.schema))
    values = jax.device_put(optimizers.numbers(config.train, 1))
    fresh = steps.compiled_new_state(program, detector.schema.shape, values).variables
    kept = {**fresh, "normal": detector.variables["normal"]}
    return dataclasses.replace(detector, variables=kept)

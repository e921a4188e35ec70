"""The threshold and usual errors of a detector, from rows in memory or on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from aejax.config import rules
from aejax.data.batches import evenly
from aejax.data.disk_rows import DiskRows, Stored
from aejax.data.series import WindowRows, scores_of_picked
from aejax.detection.alarms import alarms_of_scores, record
from aejax.detection.detector import Detector
from aejax.detection.placed import batch_size_for
from aejax.detection.promise import unchecked
from aejax.detection.threshold import (
    KEPT_SCORES,
    Threshold,
    deciles_of,
    fit_threshold,
    fit_threshold_streaming,
)

BLOCK_BYTES = 1 << 24


def calibrate(detector: Detector, rows: Stored, *, kept_scores: int = KEPT_SCORES) -> Detector:
    """The same detector with a threshold by its configuration's rule.

    Rows on disk are scored in one pass, a block at a time. Up to `kept_scores` of them, the
    threshold is that of `Detector.calibrate`; beyond, that of `fit_threshold_streaming`, and
    the deciles that drift is measured by are those of evenly spread scores.

    Args:
        detector: trained.
        rows: normal rows that fit its schema, best not trained on.
        kept_scores: most scores to hold in memory.
    """
    if isinstance(rows, WindowRows):
        return detector.calibrate_by(scores_of_points(detector, rows))
    if not isinstance(rows, DiskRows):
        return detector.calibrate_by(detector.score_rows(rows[:], check=True))
    rule = detector.config.rule
    spread = evenly(len(rows), kept_scores)
    if spread.step == 1:
        scores = np.concatenate(list(_scores(detector, rows)))
        return _with(detector, fit_threshold(rule, scores), scores)
    few: list[np.ndarray] = []

    def passing() -> Iterator[np.ndarray]:
        before = 0
        for scores in _scores(detector, rows):
            few.append(scores[-before % spread.step :: spread.step])
            before += len(scores)
            yield scores

    threshold = fit_threshold_streaming(rule, passing(), kept_scores=kept_scores)
    evenly_spread = np.concatenate(few)
    if rules.is_of_normal_rows(rule):
        threshold = dataclasses.replace(threshold, deciles=deciles_of(evenly_spread))
    return _with(detector, threshold, evenly_spread)


def scores_of_points(detector: Detector, windows: WindowRows) -> np.ndarray:
    """Scores of the points that normal windows tell of, float32 [n]."""
    assert windows.schema.series is not None
    scores = np.concatenate(list(_scores(detector, windows)))
    return scores_of_picked(scores, windows.starts, windows.schema.series)


def _with(detector: Detector, threshold: Threshold, scores: np.ndarray) -> Detector:
    raised = [*alarms_of_scores(scores, None), *unchecked(threshold.rule, threshold.rows)]
    alarms = [alarm.sentence for alarm in raised]
    kept = record(detector.provenance, alarms)
    return dataclasses.replace(detector, threshold=threshold, provenance=kept)


def _scores(detector: Detector, rows: DiskRows | WindowRows) -> Iterator[np.ndarray]:
    # Whole batches, and all of the size that they have in memory: so every row has the
    # neighbours that it has there.
    batch = batch_size_for(len(rows), detector.schema, detector.config)
    row_bytes = rows.nbytes // len(rows)
    size = max(1, BLOCK_BYTES // (row_bytes * batch)) * batch
    for first in range(0, len(rows), size):
        yield detector.score_rows(rows[first : first + size], batch_size=batch)

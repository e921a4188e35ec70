"""The type of products that scores fastest on the machine at hand, found by measuring."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np

from aejax.config import Precision
from aejax.data.batches import evenly
from aejax.data.disk_rows import Stored
from aejax.detection.detector import Detector

MOST_ROWS = 1 << 15
# Fewer rows are scored in less time than a clock tells apart from the machine's noise.
LEAST_ROWS = 1 << 10
REPEATS = 7
# Half the bits of every product have to buy something.
LEAST_GAIN = 1.1
# What bfloat16 may do to the order of rows; see docs/design.md.
LEAST_CORRELATION = 0.9999


def choose_precision(
    detector: Detector, rows: Stored, *, clock: Callable[[], float] = time.perf_counter
) -> Detector:
    """A detector of precision "fastest" with the one that is, and the reason in its provenance.

    Both precisions score the rows in turn. bfloat16 is taken where its median time is a tenth
    below float32's and its scores have the same order (rank correlation of at least 0.9999).

    Args:
        detector: trained; one of another precision is returned as it is.
        rows: rows that fit its schema, as stored; of few, or if they are few, none is timed
            and float32 is kept.
        clock: seconds.
    """
    if detector.config.precision != "fastest":
        return detector
    few = rows[evenly(len(rows), MOST_ROWS)]
    float32, bfloat16 = (_of(detector, one) for one in ("float32", "bfloat16"))
    if len(few) < LEAST_ROWS:
        return _told(float32, f"float32: {len(few)} rows are too few to time")
    exact, rounded = float32.score_rows(few), bfloat16.score_rows(few)
    correlation = rank_correlation(exact, rounded)
    if not correlation >= LEAST_CORRELATION:
        return _told(float32, f"float32: bfloat16 changes the order of rows ({correlation:.6f})")
    ratios = []
    for _ in range(REPEATS):
        seconds = []
        for one in (float32, bfloat16):
            started = clock()
            one.score_rows(few)
            seconds.append(clock() - started)
        ratios.append(seconds[0] / max(seconds[1], 1e-9))
    gain = statistics.median(ratios)
    name = "bfloat16" if gain >= LEAST_GAIN else "float32"
    chosen = bfloat16 if name == "bfloat16" else float32
    return _told(chosen, f"{name}: bfloat16 scored {gain:.2f} times as fast as float32")


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two scores of the same rows; 1 where neither ranks anything."""
    from scipy.stats import rankdata

    first, second = rankdata(a), rankdata(b)
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 1.0
    return float(np.corrcoef(first, second)[0, 1])


def _of(detector: Detector, precision: Precision) -> Detector:
    config = dataclasses.replace(detector.config, precision=precision)
    return dataclasses.replace(detector, config=config)


def _told(detector: Detector, reason: str) -> Detector:
    return dataclasses.replace(detector, provenance={**detector.provenance, "precision": reason})

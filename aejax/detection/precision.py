"""The type of products that scores fastest on the machine at hand, found by measuring."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
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
    detector: Detector,
    rows: Stored,
    members: np.ndarray | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Detector:
    """A detector of precision "fastest" with the one that is, and the reason in its provenance.

    The precisions score the rows in turn. The fastest is taken whose median time is a tenth
    below float32's and whose scores have the same order (rank correlation of at least 0.9999).

    Args:
        detector: trained; one of another precision is returned as it is.
        rows: rows that fit its schema, as stored; of few, or if they are few, none is timed
            and float32 is kept.
        members: positions of their groups, where there are any.
        clock: seconds.
    """
    if detector.config.precision != "fastest":
        return detector
    few = rows[evenly(len(rows), MOST_ROWS)]
    own = None if members is None else members[evenly(len(rows), MOST_ROWS)]
    float32 = with_precision(detector, "float32")
    if len(few) < LEAST_ROWS:
        return _logged(float32, f"float32: {len(few)} rows are too few to time")
    exact = float32.score_rows(few, members=own)
    chosen, most, reasons = float32, LEAST_GAIN, []
    for name in _rounded():
        rounded = with_precision(detector, name)
        correlation = rank_correlation(exact, rounded.score_rows(few, members=own))
        if not correlation >= LEAST_CORRELATION:
            reasons.append(f"{name} changes the order of rows ({correlation:.6f})")
            continue
        ratios = []
        for _ in range(REPEATS):
            seconds = []
            for one in (float32, rounded):
                started = clock()
                one.score_rows(few, members=own)
                seconds.append(clock() - started)
            ratios.append(seconds[0] / max(seconds[1], 1e-9))
        gain = statistics.median(ratios)
        reasons.append(f"{name} scored {gain:.2f} times as fast as float32")
        if gain >= most:
            chosen, most = rounded, gain
    return _logged(chosen, f"{chosen.config.precision}: {'; '.join(reasons)}")


def _rounded() -> tuple[Precision, ...]:
    """The precisions besides float32 that are something else on the device at hand."""
    if jax.default_backend() == "cpu":
        return ("bfloat16",)
    return ("tensorfloat32", "bfloat16")


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two scores of the same rows; 1 where neither ranks anything."""
    from scipy.stats import rankdata

    first, second = rankdata(a), rankdata(b)
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 1.0
    return float(np.corrcoef(first, second)[0, 1])


def with_precision(detector: Detector, precision: Precision) -> Detector:
    """A detector that scores with other products."""
    config = dataclasses.replace(detector.config, precision=precision)
    return dataclasses.replace(detector, config=config)


def _logged(detector: Detector, reason: str) -> Detector:
    return dataclasses.replace(detector, provenance={**detector.provenance, "precision": reason})

"""Whether scores still say something: constant ones, and ones that have drifted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

logger = logging.getLogger("aejax")

# Above this, two distributions are usually called different (Siddiqi, "Credit Risk
# Scorecards", 2006); below 0.1, the same.
DRIFTED = 0.25
LEAST_ROWS_FOR_DRIFT = 100


def score_alarms(scores: np.ndarray, deciles: Sequence[float] | None) -> list[str]:
    """What is wrong with the scores that a threshold is set on.

    Args:
        scores: of normal rows, float [n].
        deciles: of the normal rows that the threshold before was set on, nine, if it is known.

    Returns:
        Sentences; none where nothing is wrong.
    """
    found = constant_scores(scores)
    if deciles is not None and np.isfinite(scores).all() and not found:
        places = np.searchsorted(np.asarray(deciles), scores, side="left")
        shares = np.bincount(places, minlength=10) / max(len(scores), 1)
        found = drift(population_stability(np.full(10, 0.1), shares), len(scores))
    return found


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


def record(provenance: dict[str, Any], alarms: Sequence[str]) -> dict[str, Any]:
    """A detector's provenance with further alarms, each of which is also told."""
    tell(alarms)
    if not alarms:
        return provenance
    return {
        **provenance,
        "alarms": list(dict.fromkeys([*provenance.get("alarms", ()), *alarms])),
    }


def tell(alarms: Sequence[str]) -> None:
    """Warn of each in the log."""
    for alarm in alarms:
        logger.warning("aejax: warning: %s", alarm)

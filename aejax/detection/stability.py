"""Whether scores still say something: constant ones, and ones that have drifted.

The population stability index of two samples of one distribution is about chi-square distributed,
with bins - 1 degrees of freedom, times 1 / rows of the one + 1 / rows of the other (Yurdakul,
"Statistical properties of population stability index", 2018). A detector may have been calibrated
on ten scores: then an index of 1 says nothing, and among thousands of groups it is common.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from aejax.detection.threshold import Threshold

logger = logging.getLogger("aejax")

# Above this, two distributions are usually called different (Siddiqi, "Credit Risk
# Scorecards", 2006); below 0.1, the same.
DRIFTED = 0.25
LEAST_ROWS_FOR_DRIFT = 100
# The 0.9999 quantile with 9 degrees of freedom: thousands of groups may be looked at.
CHI_SQUARE = 33.72


def score_alarms(scores: np.ndarray, before: Threshold | None) -> list[str]:
    """What is wrong with the scores that a threshold is set on.

    Args:
        scores: of normal rows, float [n].
        before: the threshold that there was, if any.

    Returns:
        Sentences; none where nothing is wrong.
    """
    found = constant_scores(scores)
    if before and before.deciles and np.isfinite(scores).all() and not found:
        places = np.searchsorted(np.asarray(before.deciles), scores, side="left")
        shares = np.bincount(places, minlength=10) / max(len(scores), 1)
        stability = population_stability(np.full(10, 0.1), shares)
        found = drift(stability, len(scores), before.rows)
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


def least_drift(rows: npt.ArrayLike, calibrated: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The index above which scores have drifted, infinite where there are too few to tell.

    Args:
        rows: scores, [...].
        calibrated: scores that the deciles were found on, [...].
    """
    count = np.asarray(rows, np.float64)
    noise = 1 / np.maximum(count, 1) + 1 / np.maximum(np.asarray(calibrated, np.float64), 1)
    least = np.maximum(DRIFTED, CHI_SQUARE * noise)
    return np.where(count >= LEAST_ROWS_FOR_DRIFT, least, np.inf)


def drift(stability: float, rows: int, calibrated: int) -> list[str]:
    """An alarm if the scores of many rows are distributed unlike the calibration rows'."""
    least = float(least_drift(rows, calibrated))
    if stability <= least:
        return []
    return [
        f"the scores are distributed unlike those of the calibration rows (population stability "
        f"index {stability:.2f}, above {least:.2g}): the rows have drifted, or hold many anomalies"
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

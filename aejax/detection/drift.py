"""Drift of scores: the population stability index, and above which size it says something.

The population stability index of two samples of one distribution is about chi-square distributed,
with bins - 1 degrees of freedom, times 1 / rows of the one + 1 / rows of the other (Yurdakul,
"Statistical properties of population stability index", 2018). A detector may have been calibrated
on ten scores: then an index of 1 says nothing, and among thousands of groups it is common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from aejax.detection.threshold import GroupThresholds, Threshold

BINS = 10
# Above this, two distributions are usually called different (Siddiqi, "Credit Risk
# Scorecards", 2006); below 0.1, the same.
DRIFTED = 0.25
LEAST_ROWS_FOR_DRIFT = 100
# The 0.9999 quantile with 9 degrees of freedom: thousands of groups may be asked about.
CHI_SQUARE = 33.72
LEAST_SHARE = 1e-4

Floats = npt.NDArray[np.float64]


def population_stability(counts: npt.ArrayLike, expected: npt.ArrayLike = 1 / BINS) -> Floats:
    """Population stability indices of rows over the same bins, float64 [...].

    Args:
        counts: rows in each bin now, [..., bins].
        expected: shares of the bins before, [..., bins].

    Returns:
        Sum of (share - expected) * log(share / expected); 0 where they are equal, NaN without
        rows. An empty bin counts as half a row, an expected share of 0 as a ten-thousandth.
    """
    seen = np.asarray(counts, np.float64)
    rows = seen.sum(axis=-1, keepdims=True)
    shares = np.maximum(seen, 0.5) / np.where(rows > 0, rows, np.nan)
    before = np.maximum(np.asarray(expected, np.float64), LEAST_SHARE)
    indices: Floats = ((shares - before) * np.log(shares / before)).sum(axis=-1)
    return indices


def least_drift(rows: npt.ArrayLike, calibrated: npt.ArrayLike) -> Floats:
    """The index above which scores have drifted, infinite where there are too few to tell.

    Args:
        rows: scores, [...].
        calibrated: scores that the deciles were found on, [...].
    """
    count = np.asarray(rows, np.float64)
    noise = 1 / np.maximum(count, 1) + 1 / np.maximum(np.asarray(calibrated, np.float64), 1)
    least = np.maximum(DRIFTED, CHI_SQUARE * noise)
    return np.where(count >= LEAST_ROWS_FOR_DRIFT, least, np.inf)


def tell_apart(deciles: Floats) -> npt.NDArray[np.bool_]:
    """Whether deciles [..., 9] are known and all different, so that each bin expects a tenth."""
    return np.asarray((np.diff(deciles, axis=-1) > 0).all(axis=-1))


def known_deciles(threshold: Threshold | GroupThresholds | None) -> Floats | None:
    """Deciles of calibration scores where drift can be measured by them; else None.

    Returns:
        float64 [9], or of groups [groups, 9], NaN in those without.
    """
    deciles = None if threshold is None else threshold.deciles
    if deciles is None:
        return None
    found = np.array(deciles, np.float64)
    return found if found.ndim > 1 or tell_apart(found) else None


def bins_of(
    scores: np.ndarray, deciles: Floats, members: np.ndarray | None = None
) -> npt.NDArray[np.int8]:
    """Which of the ten bins each score is in, int8 [n]; -1 where that isn't known.

    Args:
        scores: float [n].
        deciles: float64 [9]; or those of each group, [groups, 9].
        members: the position of each score's group, [n], -1 for none, with deciles of groups.
    """
    if members is None:
        known = np.full(len(scores), bool(tell_apart(deciles)))
    else:
        known = tell_apart(deciles)[members] & (members >= 0)
    bins = np.where(known, 0, -1).astype(np.int8)
    # One by one: the deciles of all rows at once would take many times the room of the scores.
    for decile in deciles.T:
        bins += known & (scores > (decile if members is None else decile[members]))
    return bins

"""Whether scores of groups have drifted, told from what few calibration scores do by chance.

The population stability index of two samples of one distribution is about chi-square distributed,
with bins - 1 degrees of freedom, times 1 / rows of the one + 1 / rows of the other (Yurdakul,
"Statistical properties of population stability index", 2018). A group may have been calibrated
on ten scores: then an index of 1 says nothing, and among thousands of groups it is common.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aejax.detection.stability import DRIFTED, LEAST_ROWS_FOR_DRIFT

BINS = 10
# The 0.9999 quantile with 9 degrees of freedom: thousands of groups are looked at.
CHI_SQUARE = 33.72

Floats = npt.NDArray[np.float64]


def stability_indices(counts: npt.NDArray[np.int64]) -> Floats:
    """Population stability index of each group's scores against its own deciles.

    Args:
        counts: scores between the deciles of calibration scores, [groups, 10].

    Returns:
        float64 [groups]; NaN without scores. An empty bin counts as half a score.
    """
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.maximum(counts, 0.5) / np.where(rows > 0, rows, np.nan)
    expected = 1 / BINS
    indices: Floats = ((shares - expected) * np.log(shares / expected)).sum(axis=1)
    return indices


def least_drift(rows: npt.ArrayLike, calibrated: npt.ArrayLike) -> Floats:
    """The index above which scores have drifted, infinite where there are too few to tell.

    Args:
        rows: scores of each group, [groups].
        calibrated: scores that its deciles were found on, [groups].
    """
    count = np.asarray(rows, np.float64)
    noise = 1 / np.maximum(count, 1) + 1 / np.maximum(np.asarray(calibrated, np.float64), 1)
    least: Floats = np.maximum(DRIFTED, CHI_SQUARE * noise)
    return np.where(count >= LEAST_ROWS_FOR_DRIFT, least, np.inf)


def tell_apart(deciles: Floats) -> npt.NDArray[np.bool_]:
    """Whether deciles [groups, 9] are known and all different, so that each bin expects a tenth."""
    return np.asarray((np.diff(deciles, axis=1) > 0).all(axis=1))


def bins_of(scores: np.ndarray, deciles: Floats) -> npt.NDArray[np.int64]:
    """Which of the ten bins each score is in, int64 [n].

    Args:
        scores: float [n].
        deciles: of each score's group, [n, 9].
    """
    bins: npt.NDArray[np.int64] = (scores.astype(np.float64)[:, None] > deciles).sum(axis=1)
    return bins

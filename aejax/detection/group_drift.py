"""Population stability of the scores of many groups at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 10

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

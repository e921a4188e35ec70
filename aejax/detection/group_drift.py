"""Population stability of the scores of many groups at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from aejax.detection.threshold import Threshold

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


def known_deciles(threshold: Threshold | None) -> Floats | None:
    """The deciles of calibration scores, float64 [9], where drift can be measured by them."""
    if threshold is None or threshold.deciles is None:
        return None
    deciles = np.array(threshold.deciles)
    return deciles if tell_apart(deciles[None]).all() else None


def bins_of_members(
    scores: np.ndarray, members: np.ndarray, deciles: Floats
) -> npt.NDArray[np.int8]:
    """Which of the ten bins of its group each score is in, int8 [n]; -1 where that isn't known.

    Args:
        scores: float [n].
        members: the position of each score's group, [n]; -1 for none.
        deciles: of each group, [groups, 9].
    """
    known = tell_apart(deciles)[members] & (members >= 0)
    bins = np.where(known, 0, -1).astype(np.int8)
    # One by one: the deciles of all rows at once would take many times the room of the scores.
    for decile in deciles.T:
        bins += known & (scores > decile[members])
    return bins


def bins_of(scores: np.ndarray, deciles: Floats) -> npt.NDArray[np.int64]:
    """Which of the ten bins each score is in, int64 [n].

    Args:
        scores: float [n].
        deciles: of each score's group, [n, 9].
    """
    bins: npt.NDArray[np.int64] = (scores.astype(np.float64)[:, None] > deciles).sum(axis=1)
    return bins

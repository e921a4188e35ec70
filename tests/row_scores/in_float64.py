"""What scores are made of, by scikit-learn in float64."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors


def nearest(
    kept: np.ndarray, x: np.ndarray, *, itself: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared distance to the 5 nearest of the kept rows, and these; without the very first
    where x are kept rows.
    """
    search = NearestNeighbors(n_neighbors=5 + itself).fit(kept.astype(np.float64))
    far, which = (each[:, int(itself) :] for each in search.kneighbors(x.astype(np.float64)))
    return np.mean(np.square(far), axis=1) / kept.shape[1], which


def spacing(kept: np.ndarray) -> np.ndarray:
    """The space around kept rows."""
    space = nearest(kept, kept, itself=True)[0]
    return space + 0.0025 * space.mean()


def distance(kept: np.ndarray, x: np.ndarray, *, itself: bool = False) -> np.ndarray:
    """The distance to the 5 nearest of the kept rows, in the space around these."""
    far, which = nearest(kept, x, itself=itself)
    return far / np.sqrt(spacing(kept)[which].mean(axis=1))


def joined(error: np.ndarray, far: np.ndarray) -> np.ndarray:
    """The geometric mean of an error and, twice, a distance."""
    return np.cbrt(error.astype(np.float64) * np.square(far))

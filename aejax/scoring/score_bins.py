"""A histogram of scores of any size and sign, in bins that are known before the scores are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

# Histogram bins for a factor of 2 between scores.
BINS_PER_OCTAVE = 4
# Float32 begins at 2^-149.
BIN_OFFSET = 150 * BINS_PER_OCTAVE


def bin_of(scores: np.ndarray) -> np.ndarray:
    """Bin of each score: 0 for 0, and 1 + a position in log space for the rest, with its sign."""
    size = np.abs(scores.astype(np.float64))
    place = np.floor(np.log2(np.where(size == 0, 1.0, size)) * BINS_PER_OCTAVE)
    return np.where(size == 0, 0, np.sign(scores) * (place + BIN_OFFSET)).astype(np.int64)


def histogram_of(bins: Counter[int]) -> dict[str, list[Any]]:
    """Counts between edges; every edge but the last belongs to the bin on its right."""
    edges: list[float] = []
    counts: list[int] = []
    below, above = [n for n in bins if n < 0], [n for n in bins if n > 0]
    if below:
        numbers = range(min(below), max(below) + 1)
        edges += [-_size(1 - number) for number in numbers]
        counts += [bins[number] for number in numbers]
    if bins[0] or below:
        edges.append(-_size(-max(below)) if below else 0.0)
        counts.append(bins[0])
    if above:
        numbers = range(min(above), max(above) + 1)
        edges += [_size(number) for number in numbers]
        counts += [bins[number] for number in numbers]
    if edges:
        edges.append(_size(max(above, default=0) + 1))
    return {"edges": edges, "counts": counts}


def _size(number: int) -> float:
    """The least size of a score in the bin of this number."""
    return float(2.0 ** ((number - BIN_OFFSET) / BINS_PER_OCTAVE))

"""A threshold some standard deviations above the mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aejax.config.checks import check, is_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Of a block's part: what is computed from it then stays in a core's cache.
VALUES_IN_CACHE = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanStd:
    """Threshold at the mean plus `k` (population) standard deviations of the scores.

    Example:
        >>> detector = detector.calibrate(rows, rule=aejax.MeanStd(k=3.0))
    """

    k: float = 3.0

    def __post_init__(self) -> None:
        check(self, "k", "a number, at least 0", is_number(self.k) and self.k >= 0)

    def fit(self, scores: npt.NDArray[np.float64]) -> float:
        """The threshold on scores, float64 [n]."""
        return float(scores.mean() + self.k * scores.std())

    def fit_blocks(self, blocks: Iterable[npt.NDArray[np.float64]]) -> float:
        """The threshold on scores in blocks, exact but for the last bits.

        Moments are merged with the pairwise update of Chan, Golub and LeVeque (1979, Stanford
        report STAN-CS-79-773), which does not lose digits where the mean is large.
        """
        rows, mean, squares = 0, 0.0, 0.0
        for block in blocks:
            for first in range(0, len(block), VALUES_IN_CACHE):
                part = block[first : first + VALUES_IN_CACHE]
                of_part = part.mean()
                gap, before, rows = of_part - mean, rows, rows + len(part)
                mean = mean + gap * (len(part) / rows)
                within = ((part - of_part) ** 2).sum()
                squares = squares + within + gap * gap * (before * len(part) / rows)
        return float(mean + self.k * math.sqrt(squares / rows))

"""p-values of a threshold: how rare a score is among calibration scores, with a guarantee.

For a row exchangeable with the calibration rows, P(p-value <= a) <= a for every a, whatever
the scores' distribution (Vovk, Gammerman and Shafer 2005; for outliers: Bates, Candès, Lei,
Romano and Sesia, "Testing for outliers with conformal p-values", Annals of Statistics 51,
2023, equation 2).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from aejax.config import InputError

Floats = npt.NDArray[np.float64]

# p-values from kept scores are never too small, and too large by at most this share.
RELATIVE_ERROR = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration scores, thinned where p-values are large.

    The largest hundred are all kept; below, ranks grow by 1 %. So a million scores are kept
    as a thousand, p-values stay valid (they only grow), and by less than 1 % of themselves.

    Attributes:
        scores: kept ones, largest first.
        ranks: of each among all calibration scores, 1 for the largest; the last one is
            their number.

    Example:
        >>> calibration = aejax.Calibration.of(np.arange(1.0, 100.0))
        >>> calibration.p_values(np.array([99.5, 50.5])).round(2)
        array([0.01, 0.5 ])
    """

    scores: tuple[float, ...]
    ranks: tuple[int, ...]

    @staticmethod
    def of(scores: npt.ArrayLike, *ranks: int) -> Calibration:
        """What p-values are computed from, of calibration scores.

        Args:
            scores: float [n], finite, n at least 1; of rows taken to be normal.
            ranks: whose scores are kept, too, each from 1 to n.
        """
        falling = np.sort(np.asarray(scores, np.float64).ravel())[::-1]
        kept = np.unique([*_kept_ranks(len(falling)), *ranks])
        return Calibration(scores=tuple(falling[kept - 1].tolist()), ranks=tuple(kept.tolist()))

    @property
    def rows(self) -> int:
        """How many calibration scores there were."""
        return self.ranks[-1]

    def p_values(self, scores: npt.ArrayLike) -> Floats:
        """(1 + number of calibration scores at least as large) / (1 + number of them).

        Args:
            scores: float [...]; NaN has the p-value NaN.

        Returns:
            float64 of the same shape, in (0, 1].
        """
        values = np.asarray(scores, np.float64)
        rising = np.array(self.scores[::-1])
        # The kept score just below bounds the number of calibration scores at least as large.
        at_least = np.array([self.rows, *(rank - 1 for rank in self.ranks[::-1])])
        counted = at_least[np.searchsorted(rising, values, side="left")]
        return np.where(np.isnan(values), np.nan, (1 + counted) / (1 + self.rows))

    def to_dict(self) -> dict[str, Any]:
        """The calibration as a JSON-ready dict."""
        return {"scores": list(self.scores), "ranks": list(self.ranks)}

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_dict` wrote; raises InputError where it isn't one."""
        try:
            scores = tuple(map(float, written["scores"]))
            ranks = tuple(map(int, written["ranks"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"calibration is {str(written)[:80]!r}; allowed: scores, ranks ({error!r})"
            ) from None
        falls = all(a >= b for a, b in pairwise(scores))
        rises = all(a < b for a, b in pairwise((0, *ranks)))
        finite = all(map(math.isfinite, scores))
        if not (scores and len(scores) == len(ranks) and falls and rises and finite):
            raise InputError(
                f"calibration is {str(written)[:80]!r}; "
                "allowed: finite scores, largest first, each with its rank, from 1 up"
            )
        return Calibration(scores=scores, ranks=ranks)


def discoveries(p_values: npt.ArrayLike, rate: float) -> npt.NDArray[np.bool_]:
    """Which rows of a batch to flag so that at most `rate` of the flagged are normal, on average.

    Benjamini and Hochberg's procedure (1995). On conformal p-values, which depend on one
    another through the calibration scores, it keeps its promise (Bates et al. 2023, theorem
    2). A batch of m rows with k anomalies needs about m / (k * rate) calibration scores
    before it can find any.

    Args:
        p_values: float [n]; a row with NaN is left out and not flagged.
        rate: highest expected share of normal rows among the flagged.

    Returns:
        bool [n].

    Raises:
        InputError: if `rate` is not in (0, 1).
    """
    from scipy.stats import false_discovery_control

    if not 0 < rate < 1:
        raise InputError(f"rate is {rate!r}; allowed: a number in (0, 1)")
    values = np.asarray(p_values, np.float64)
    known = ~np.isnan(values)
    flagged = np.zeros(values.shape, bool)
    if known.any():
        flagged[known] = false_discovery_control(values[known], method="bh") <= rate
    return flagged


def _kept_ranks(rows: int) -> list[int]:
    ranks = [1]
    while ranks[-1] < rows:
        ranks.append(min(rows, max(ranks[-1] + 1, math.floor(ranks[-1] * (1 + RELATIVE_ERROR)))))
    return ranks

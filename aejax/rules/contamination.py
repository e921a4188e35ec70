"""A threshold that flags a share of rows that may hold anomalies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aejax.config.checks import check, is_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contamination:
    """Threshold that flags the `rate` share of the calibration scores; 0 flags none of them.

    It is the (1 - rate) quantile that scikit-learn's and PyOD's `contamination` stands for, so
    that ceil(rate * (n - 1)) of n distinct scores are flagged; `rate * n` where that is whole.

    Example:
        >>> detector = detector.calibrate(rows, rule=aejax.Contamination(rate=0.1))
        >>> int(detector.predict(rows).sum())
        30
    """

    rate: float = 0.1

    normal_rows = False

    def __post_init__(self) -> None:
        valid = is_number(self.rate) and 0 <= self.rate < 1
        check(self, "rate", "a number in [0, 1)", valid)

    @property
    def share(self) -> float:
        """The share of the calibration scores that lie above the threshold."""
        return self.rate

    def fit(self, scores: npt.NDArray[np.float64]) -> float:
        """The threshold on scores, float64 [n]."""
        import numpy as np

        from aejax.rules.passes import upper_quantile

        return upper_quantile(np.sort(scores)[::-1], len(scores), self.rate)

    def fit_blocks(self, blocks: Iterable[npt.NDArray[np.float64]], *, kept_scores: int) -> float:
        """The threshold on scores in blocks; see `passes.upper_quantile_of_blocks`."""
        from aejax.rules.passes import upper_quantile_of_blocks

        return upper_quantile_of_blocks(self.fit, self.rate, blocks, kept_scores)

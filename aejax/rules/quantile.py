"""A threshold at a quantile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aejax.config.checks import check, is_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantile:
    """Threshold at the `q` quantile of the calibration scores (linear interpolation).

    Example:
        >>> detector = detector.calibrate(rows, rule=aejax.Quantile(q=0.95))
        >>> int(detector.predict(rows).sum())
        15
    """

    q: float = 0.99

    def __post_init__(self) -> None:
        check(self, "q", "a number in (0, 1]", is_number(self.q) and 0 < self.q <= 1)

    @property
    def share(self) -> float:
        """The share of the calibration scores that lie above the threshold."""
        return 1 - self.q

    def expected(self, rows: int) -> float:
        """The probability that a new normal score passes a threshold set on so many.

        A little more than `share`: interpolated at positions (k - 1) / (n - 1), n scores reach
        from the least to the largest of them.
        """
        return (self.share * (rows - 1) + 1) / (rows + 1)

    def fit(self, scores: npt.NDArray[np.float64]) -> float:
        """The threshold on scores, float64 [n]."""
        import numpy as np

        return float(np.quantile(scores, self.q))

    def fit_blocks(self, blocks: Iterable[npt.NDArray[np.float64]], *, kept_scores: int) -> float:
        """The threshold on scores in blocks; see `passes.upper_quantile_of_blocks`."""
        from aejax.rules.passes import upper_quantile_of_blocks

        return upper_quantile_of_blocks(self.fit, self.share, blocks, kept_scores)

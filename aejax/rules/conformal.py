"""A threshold with a guarantee on false alarms, and p-values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aejax.config.checks import check, is_number
from aejax.config.rules import check_scores_for

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from aejax.rules.p_values import Calibration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conformal:
    """Threshold that a normal score passes with probability at most `alpha`, guaranteed.

    The guarantee holds for any distribution and any number of calibration scores, on
    average over calibration sets; 1 / alpha - 1 scores are the fewest that can give it.
    Keeps what p-values need (Bates et al., "Testing for outliers with conformal p-values",
    Annals of Statistics 51, 2023).

    Example:
        >>> detector = detector.calibrate(rows, rule=aejax.Conformal(alpha=0.05))
        >>> detector.p_values(rows).shape
        (300,)
    """

    alpha: float = 0.01

    # Scores of rows that one network never saw are exchangeable with those of new rows; scores of
    # several networks aren't.
    needs_split = True

    def __post_init__(self) -> None:
        valid = is_number(self.alpha) and 0 < self.alpha < 1
        check(self, "alpha", "a number in (0, 1)", valid)

    @property
    def least(self) -> int:
        """Fewest scores that give p-values as small as `alpha`."""
        about = math.ceil(min(1 / self.alpha, 1e18) - 1)
        # Rounding may have passed a whole number.
        return next((n for n in range(max(about - 1, 1), about + 2) if self._rank(n)), about)

    @property
    def share(self) -> float:
        """Share of the calibration scores that lie above the threshold, at most."""
        return self.alpha

    def expected(self, rows: int) -> float:
        """The probability that a new normal score passes a threshold set on so many."""
        return self._rank(rows) / (rows + 1)

    def fit(self, scores: npt.NDArray[np.float64]) -> tuple[float, Calibration]:
        """The value above which p-values are at most `alpha`, and what they are computed from.

        Args:
            scores: float64 [n], finite, of rows taken to be normal.
        """
        from aejax.rules.p_values import Calibration

        rank = self._rank(len(scores))
        calibration = Calibration.of(scores, rank)
        return calibration.scores[calibration.ranks.index(rank)], calibration

    def fit_blocks(
        self, blocks: Iterable[npt.NDArray[np.float64]], *, kept_scores: int, seed: int
    ) -> tuple[float, Calibration]:
        """The same on a uniform sample of scores in blocks; the guarantee is the same."""
        import numpy as np

        from aejax.rules.passes import sample_of

        sample = sample_of(blocks, kept_scores, np.random.default_rng(seed))
        check_scores_for(self, len(sample))
        return self.fit(sample)

    def _rank(self, rows: int) -> int:
        # Rounding must not lose a rank: 0.29 * 100 is a little less than 29.
        return math.floor(self.alpha * (rows + 1) * (1 + 1e-12))

"""A threshold that keeps a promised rate of false alarms, also where scores are few."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aejax.config.checks import check, is_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# So many scores beyond it, and an order statistic varies no more than a fitted tail; and the
# share of the scores that a tail is fitted to.
ENOUGH, TAIL = 8, 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class FalseAlarms:
    """Threshold that a normal score passes with probability `rate`, on average over samples.

    Where at least 8 scores lie beyond it, it is the order statistic with that expectation (the
    (1 - rate) quantile at positions k / (n + 1); Hyndman and Fan's sixth definition, "Sample
    quantiles in statistical packages", The American Statistician 50, 1996). With fewer it comes
    from a generalised Pareto tail that is fitted to the largest tenth of the scores, and to at
    least 10 (Pickands, "Statistical inference using extreme order statistics", Annals of
    Statistics 3, 1975), so `rate` may be smaller than one over the number of scores. Nothing
    checks such a promise, and the detector says so.

    Example:
        >>> detector = detector.calibrate(rows, rule=aejax.FalseAlarms(rate=0.05))
    """

    rate: float = 0.01

    def __post_init__(self) -> None:
        valid = is_number(self.rate) and 0 < self.rate < 1
        check(self, "rate", "a number in (0, 1)", valid)

    @property
    def share(self) -> float:
        """Share of the calibration scores that lie above the threshold."""
        return self.rate

    def expected(self, rows: int) -> float:
        """The probability that a new normal score passes a threshold set on so many."""
        return self.rate

    def fit(self, scores: npt.NDArray[np.float64]) -> float:
        """The threshold on scores, float64 [n]."""
        import numpy as np

        return self._beyond(np.sort(scores)[::-1], len(scores))

    def fit_blocks(self, blocks: Iterable[npt.NDArray[np.float64]], *, kept_scores: int) -> float:
        """The threshold on scores in blocks; exact while the scores above it are among those kept.

        Beyond, see `passes.upper_quantile_of_blocks`.
        """
        from aejax.rules.passes import largest_of

        rows, largest, sketch = largest_of(blocks, kept_scores, sketched=True)
        if self.rate * (rows + 1) > len(largest) and rows > len(largest):
            return float(sketch.get_quantile(1 - self.rate))
        return self._beyond(largest, rows)

    def _beyond(self, largest: npt.NDArray[np.float64], rows: int) -> float:
        """The threshold by the largest of so many scores, falling."""
        import numpy as np

        from aejax.rules.tails import FEWEST_FOR_SHAPE, beyond

        place = self.rate * (rows + 1)
        peaks = min(max(FEWEST_FOR_SHAPE, int(TAIL * rows)), len(largest) - 1)
        if place < ENOUGH:
            start = largest[peaks]
            excesses = largest[:peaks][largest[:peaks] > start] - start
            # A new score is one of these with the probability of their ranks among all.
            share = len(excesses) / (rows + 1)
            if self.rate < share:
                return float(start + beyond(excesses, share, self.rate))
        return float(np.interp(place, np.arange(1, len(largest) + 1), largest))

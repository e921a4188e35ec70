"""A threshold beyond the calibration scores, by extreme value theory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aejax.config.checks import check, is_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeaksOverThreshold:
    """Threshold that a normal score passes with probability `risk`, by extreme value theory.

    A generalised Pareto tail is fitted to the calibration scores above their `level`
    quantile, so `risk` may be smaller than one over the number of scores (Siffer et al.,
    "Anomaly detection in streams with extreme value theory", KDD 2017).

    Args:
        risk: probability that a normal score is flagged.
        level: quantile above which scores count as peaks.

    Example:
        >>> detector = detector.calibrate(rows, rule=aejax.PeaksOverThreshold(risk=1e-3))
    """

    risk: float = 1e-3
    level: float = 0.98

    def __post_init__(self) -> None:
        valid = is_number(self.level) and 0.5 <= self.level < 1
        check(self, "level", "a number in [0.5, 1)", valid)
        valid = is_number(self.risk) and 0 < self.risk < 1 - self.level
        check(self, "risk", f"a number above 0 and below 1 - level = {1 - self.level:g}", valid)

    def fit(self, scores: npt.NDArray[np.float64]) -> float:
        """The threshold on scores, float64 [n]."""
        import numpy as np

        return self._beyond(np.sort(scores)[::-1], len(scores))

    def fit_blocks(self, blocks: Iterable[npt.NDArray[np.float64]], *, kept_scores: int) -> float:
        """The threshold on scores in blocks, exact in its peaks.

        The largest scores are kept, and the level rises where those above it are more.
        """
        from aejax.rules.passes import largest_of

        rows, largest, _ = largest_of(blocks, kept_scores, sketched=False)
        return self._beyond(largest, rows)

    def _beyond(self, largest: npt.NDArray[np.float64], rows: int) -> float:
        from aejax.rules.tails import tail_threshold

        return tail_threshold(largest, rows, risk=self.risk, level=self.level)

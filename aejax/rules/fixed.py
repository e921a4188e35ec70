"""A threshold that a person chose."""

from __future__ import annotations

import dataclasses

from aejax.config.checks import check, is_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed:
    """Threshold at a value that a person chose, as in a report's slider.

    Example:
        >>> detector.calibrate(rows, rule=aejax.Fixed(value=0.3)).threshold.value
        0.3
    """

    value: float = 0.0

    least = 0

    def __post_init__(self) -> None:
        check(self, "value", "a finite number", is_number(self.value))

    def fit(self, scores: object) -> float:
        """The value, whatever the scores."""
        return self.value

    def fit_blocks(self, blocks: object) -> float:
        """The value, whatever the scores."""
        return self.value

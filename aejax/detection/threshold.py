"""Thresholds as objects: fitted on scores alone, and replaced without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from aejax import config
from aejax.config import InputError, Rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
    """A row is flagged when its score is above `value`.

    Attributes:
        value: in units of the score.
        rule: how it was found.
        rows: scores that it was found on.
    """

    value: float
    rule: Rule
    rows: int

    def flags(self, scores: np.ndarray) -> np.ndarray:
        """Which scores are above the threshold: bool, of the same shape."""
        return np.asarray(scores) > np.float32(self.value)

    def to_dict(self) -> dict[str, Any]:
        """The threshold as a JSON-ready dict."""
        return {"value": self.value, "rule": config.to_dict(self.rule), "rows": self.rows}

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Threshold:
        """The threshold that `to_dict` wrote; raises InputError where it isn't one."""
        try:
            value, rows, rule = float(written["value"]), int(written["rows"]), written["rule"]
            kind = config.RULES[rule["kind_name"]]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"threshold is {str(written)[:80]!r}; allowed: value, rule, rows ({error!r})"
            ) from None
        if not np.isfinite(value):
            raise InputError(f"threshold.value is {value}; allowed: a finite number")
        return Threshold(value=value, rule=cast(Rule, config.from_dict(rule, kind)), rows=rows)


def fit_threshold(rule: Rule, scores: np.ndarray) -> Threshold:
    """Find a threshold on the scores of calibration rows.

    Args:
        rule: `MeanStd(k)`: mean plus k population standard deviations; `Quantile(q)`: the
            q quantile, linearly interpolated.
        scores: float [n], of rows taken to be normal.

    Raises:
        InputError: if there are no scores, or one is not finite.
    """
    values = np.asarray(scores, np.float64).ravel()
    if not len(values):
        raise InputError("calibration scores: found 0; allowed: at least 1")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InputError(
            f"calibration scores: row {wrong[0]} is {values[wrong[0]]}; allowed: finite numbers"
        )
    if isinstance(rule, config.MeanStd):
        value = values.mean() + rule.k * values.std()
    else:
        value = np.quantile(values, rule.q)
    return Threshold(value=float(value), rule=rule, rows=len(values))

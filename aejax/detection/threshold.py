"""Thresholds as objects: fitted on scores alone, and replaced without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from aejax import config
from aejax.config import InputError, Rule
from aejax.detection import conformal, tails
from aejax.detection.conformal import Calibration

Floats = npt.NDArray[np.float64]

NO_LABELS = "rule is 'best-f1' but there are no labels; allowed: with labels only, each 0 or 1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
    """A row is flagged when its score is above `value`.

    Attributes:
        value: in units of the score.
        rule: how it was found.
        rows: scores that it was found on.
        calibration: what p-values are computed from, where the rule keeps it.
        deciles: the nine deciles of those scores, where they were of normal rows; what drift
            is measured by.
    """

    value: float
    rule: Rule
    rows: int
    calibration: Calibration | None = None
    deciles: tuple[float, ...] | None = None

    def flags(self, scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which scores are above the threshold: bool, of the same shape."""
        # In float64: a value between two neighbouring float32 scores must not round to one.
        return np.asarray(scores) > np.float64(self.value)

    def p_values(self, scores: npt.ArrayLike) -> Floats:
        """How rare each score is among normal rows: float64 of the same shape, in (0, 1].

        Raises:
            InputError: if the rule keeps no calibration scores; `Conformal` does.
        """
        if self.calibration is None:
            raise InputError(
                f"the threshold's rule is {config.rule_text(self.rule)!r}, which gives no "
                "p-values; allowed: calibrate with a conformal rule"
            )
        return self.calibration.p_values(scores)

    def to_dict(self) -> dict[str, Any]:
        """The threshold as a JSON-ready dict; bounded, however many scores it was found on."""
        written = {"value": self.value, "rule": config.to_dict(self.rule), "rows": self.rows}
        if self.calibration is not None:
            written["calibration"] = self.calibration.to_dict()
        if self.deciles is not None:
            written["deciles"] = list(self.deciles)
        return written

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Threshold:
        """The threshold that `to_dict` wrote; raises InputError where it isn't one."""
        try:
            value, rows, rule = float(written["value"]), int(written["rows"]), written["rule"]
            kind = config.RULES[rule["kind_name"]]
            calibration = written.get("calibration")
            # Thresholds written before drift was measured have no such field.
            deciles = written.get("deciles")
            deciles = None if deciles is None else tuple(float(decile) for decile in deciles)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"threshold is {str(written)[:80]!r}; allowed: value, rule, rows ({error!r})"
            ) from None
        if not np.isfinite(value):
            raise InputError(f"threshold.value is {value}; allowed: a finite number")
        if deciles is not None and (len(deciles) != 9 or not np.isfinite(deciles).all()):
            raise InputError(f"threshold.deciles is {deciles!r}; allowed: nine finite numbers")
        return Threshold(
            deciles=deciles,
            value=value,
            rule=cast(Rule, config.from_dict(rule, kind)),
            rows=rows,
            calibration=None if calibration is None else Calibration.from_dict(calibration),
        )


def check_rule(rule: Rule, rows: int) -> None:
    """Refuse a rule that scores without labels can't fit, before anything is trained for it.

    Args:
        rule: how a threshold is to be found.
        rows: how many scores there will be.

    Raises:
        InputError: if the rule needs labels, or more scores.
    """
    if isinstance(rule, config.BestF1):
        raise InputError(NO_LABELS)
    if isinstance(rule, config.Conformal):
        conformal.check_rows(rows, rule.alpha)


def fit_threshold(
    rule: Rule, scores: npt.ArrayLike, is_anomaly: npt.ArrayLike | None = None
) -> Threshold:
    """Find a threshold on the scores of calibration rows.

    Args:
        rule: `Fixed(value)`: that value; `MeanStd(k)`: mean plus k population standard
            deviations; `Quantile(q)`: the q quantile, linearly interpolated;
            `Contamination(rate)`: the 1 - rate quantile, so that ceil(rate * (n - 1)) of n
            distinct scores are flagged; `rate * n` where that is whole;
            `PeaksOverThreshold(risk, level)`: see `tails`; `Conformal(alpha)`: see
            `conformal`; `BestF1()`: the best F1 with anomalies as positives, halfway between
            two scores.
        scores: float [n]; of rows taken to be normal, except for `Contamination` (which says
            how many are not) and `BestF1`.
        is_anomaly: [n] booleans or 0 and 1, for `BestF1` only.

    Raises:
        InputError: if there are no or too few scores, one is not finite, or labels are
            missing or given to a rule that takes none.

    Example:
        >>> fit_threshold(config.Contamination(rate=0.25), [1.0, 2.0, 3.0, 9.0]).flags([4.0, 5.0])
        array([False,  True])
    """
    values = finite_scores(scores)
    if not len(values):
        raise InputError("calibration scores: found 0; allowed: at least 1")
    calibration = None
    if isinstance(rule, config.BestF1):
        if is_anomaly is None:
            raise InputError(NO_LABELS)
        value = _best_f1(values, np.asarray(is_anomaly).ravel())
    elif is_anomaly is not None:
        raise InputError(
            f"is_anomaly is given but the rule is {config.rule_text(rule)!r}; allowed: "
            "labels with best-f1 only (give other rules the scores of normal rows)"
        )
    elif isinstance(rule, config.Fixed):
        value = rule.value
    elif isinstance(rule, config.MeanStd):
        value = values.mean() + rule.k * values.std()
    elif isinstance(rule, config.Quantile):
        value = np.quantile(values, rule.q)
    elif isinstance(rule, config.Contamination):
        value = upper_quantile(np.sort(values)[::-1], len(values), rule.rate)
    elif isinstance(rule, config.PeaksOverThreshold):
        value = tails.tail_threshold(
            np.sort(values)[::-1], len(values), risk=rule.risk, level=rule.level
        )
    else:
        value, calibration = conformal.calibrate(values, rule.alpha)
    deciles = None
    if not isinstance(rule, config.BestF1 | config.Contamination):
        deciles = tuple(np.quantile(values, np.arange(1, 10) / 10).tolist())
    return Threshold(
        value=float(value),
        rule=rule,
        rows=len(values),
        calibration=calibration,
        deciles=deciles,
    )


def finite_scores(scores: npt.ArrayLike, before: int = 0) -> Floats:
    """Scores as float64 [n]; raises InputError where one is not finite.

    Args:
        scores: float [...].
        before: scores that came before these, to name the row that is wrong.
    """
    values = np.asarray(scores, np.float64).ravel()
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InputError(
            f"calibration scores: row {before + wrong[0]} is {values[wrong[0]]}; "
            "allowed: finite numbers"
        )
    return values


def upper_quantile(largest: Floats, rows: int, share: float) -> float:
    """The quantile with a share of scores above it, linearly interpolated.

    Args:
        largest: the largest of the scores, largest first; more than `share * (rows - 1)`.
        rows: how many scores there are in all.
        share: in [0, 1).
    """
    place = share * (rows - 1)
    # Rounding must not flag one more: 0.07 * 100 is a little more than 7.
    if abs(place - round(place)) < 1e-9 * max(place, 1):
        return float(largest[round(place)])
    above = int(place)
    upper, lower = largest[above], largest[above + 1]
    value = upper + (place - above) * (lower - upper)
    return float(value if value < upper else lower)


def _best_f1(values: Floats, labels: np.ndarray) -> float:
    from sklearn.metrics import precision_recall_curve

    if labels.shape != values.shape or not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"is_anomaly has {len(labels)} values, {np.unique(labels)[:4]!s}; "
            f"allowed: {len(values)} values, each 0 or 1"
        )
    if labels.all() or not labels.any():
        raise InputError(f"is_anomaly holds {int(labels[0])} only; allowed: both classes")
    precision, recall, cuts = precision_recall_curve(labels.astype(bool), values)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    # The highest of the best cuts: of two equal choices, the one with fewer alarms.
    best = len(cuts) - 1 - int(np.argmax(f1[-2::-1]))
    if best == 0:
        return float(np.nextafter(cuts[0], -np.inf))
    upper, lower = cuts[best], cuts[best - 1]
    halfway = lower + (upper - lower) / 2
    return float(halfway if halfway < upper else lower)

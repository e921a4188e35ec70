"""Thresholds as objects: fitted on scores alone, and replaced without training."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aejax import config
from aejax.config import InputError, Rule, own, rules
from aejax.rules.p_values import Calibration

Floats = npt.NDArray[np.float64]

# Scores of rows on disk that are kept in memory: up to here, and often beyond, results are exact.
KEPT_SCORES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
    """A row is flagged when its score is above `value`.

    Attributes:
        value: in units of the score.
        rule: how it was found; read back, a placeholder where that was an object of one's own.
        rows: scores that it was found on.
        calibration: what p-values are computed from, where the rule keeps it.
        deciles: the nine deciles of those scores, where they were of normal rows; what drift
            is measured by.
        above: how many of those scores are above the value, likewise.

    Example:
        >>> detector.calibrate(rows, rule=aejax.Fixed(value=0.3)).threshold.value
        0.3
    """

    value: float
    rule: Rule
    rows: int
    calibration: Calibration | None = None
    deciles: tuple[float, ...] | None = None
    above: int | None = None

    def flags(self, scores: npt.ArrayLike, members: object = None) -> npt.NDArray[np.bool_]:
        """Which scores are above the threshold: bool, of the same shape."""
        # In float64: a value between two neighbouring float32 scores must not round to one.
        return np.asarray(scores) > np.float64(self.value)

    def p_values(self, scores: npt.ArrayLike, members: object = None) -> Floats:
        """How rare each score is among normal rows: float64 of the same shape, in (0, 1].

        Raises:
            InputError: if the rule keeps no calibration scores; a conformal one does.
        """
        if self.calibration is None:
            raise InputError(
                f"the threshold's rule is {config.rule_text(self.rule)!r}, which gives no "
                "p-values; allowed: calibrate with a conformal rule"
            )
        return self.calibration.p_values(scores)

    @property
    def each(self) -> tuple[Threshold, ...]:
        """Itself: of a detector of groups there are many."""
        return (self,)

    def of(self, members: object) -> None:
        """None: all rows have the same."""

    def to_dict(self) -> dict[str, Any]:
        """The threshold as a JSON-ready dict; bounded, however many scores it was found on."""
        rule = config.part_to_dict(self.rule, Rule)
        written = {"value": self.value, "rule": rule, "rows": self.rows}
        if self.calibration is not None:
            written["calibration"] = self.calibration.to_dict()
        if self.deciles is not None:
            written["deciles"] = list(self.deciles)
        if self.above is not None:
            written["above"] = self.above
        return written

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Threshold:
        """The threshold that `to_dict` wrote; raises InputError where it isn't one."""
        try:
            value, rows, rule = float(written["value"]), int(written["rows"]), written["rule"]
            calibration = written.get("calibration")
            deciles = written.get("deciles")
            deciles = None if deciles is None else tuple(float(decile) for decile in deciles)
            above = None if written.get("above") is None else int(written["above"])
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"threshold is {str(written)[:80]!r}; allowed: value, rule, rows ({error!r})"
            ) from None
        if not np.isfinite(value):
            raise InputError(f"threshold.value is {value}; allowed: a finite number")
        if deciles is not None and (len(deciles) != 9 or not np.isfinite(deciles).all()):
            raise InputError(f"threshold.deciles is {deciles!r}; allowed: nine finite numbers")
        if above is not None and not 0 <= above <= rows:
            raise InputError(f"threshold.above is {above}; allowed: from 0 to the {rows} rows")
        return Threshold(
            deciles=deciles,
            above=above,
            value=value,
            rule=config.part_from_dict(rule, Rule, "threshold.rule"),
            rows=rows,
            calibration=None if calibration is None else Calibration.from_dict(calibration),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupThresholds:
    """A threshold for each group: a row is flagged when its score is above its group's.

    Attributes:
        each: in the order of the groups.

    Example:
        >>> one = aejax.Threshold(value=0.3, rule=aejax.Fixed(value=0.3), rows=9)
        >>> aejax.GroupThresholds(each=(one, one)).values
        array([0.3, 0.3])
    """

    each: tuple[Threshold, ...]
    # There is none for all rows.
    value = None

    @functools.cached_property
    def values(self) -> Floats:
        """Every group's value, float64 [groups]."""
        return np.array([threshold.value for threshold in self.each])

    @functools.cached_property
    def deciles(self) -> Floats:
        """Deciles of the scores that each was set on, float64 [groups, 9]; NaN where unknown."""
        unknown = (np.nan,) * 9
        return np.array([threshold.deciles or unknown for threshold in self.each])

    @functools.cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """Scores that each was found on, int64 [groups]."""
        return np.array([threshold.rows for threshold in self.each])

    @property
    def calibration(self) -> tuple[Calibration, ...] | None:
        """What p-values are computed from, of each; None unless all keep it."""
        kept = [threshold.calibration for threshold in self.each]
        known = tuple(one for one in kept if one is not None)
        return known if len(known) == len(kept) else None

    def of(self, members: npt.NDArray[np.integer] | None) -> Floats:
        """Each row's threshold, float64 [n], by its group's position; NaN for -1."""
        members = _required(members)
        return np.where(members >= 0, self.values[members], np.nan)

    def flags(
        self, scores: npt.ArrayLike, members: npt.NDArray[np.integer] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Which scores [n] are above their groups' thresholds, by position: bool [n]."""
        return np.asarray(scores) > self.of(members)

    def p_values(
        self, scores: npt.ArrayLike, members: npt.NDArray[np.integer] | None = None
    ) -> Floats:
        """How rare each score is among normal rows of its group: float64 [n], NaN for -1.

        Raises:
            InputError: if a rule keeps no calibration scores; a conformal one does.
        """
        members, values = _required(members), np.asarray(scores)
        p = np.full(len(values), np.nan)
        for at in np.unique(members[members >= 0]).tolist():
            own = members == at
            p[own] = self.each[at].p_values(values[own])
        return p

    def to_dict(self) -> list[dict[str, Any]]:
        """The thresholds as a JSON-ready list."""
        return [threshold.to_dict() for threshold in self.each]


def _required(members: npt.NDArray[np.integer] | None) -> npt.NDArray[np.integer]:
    if members is None:
        raise InputError("members is None; allowed with thresholds of groups: each row's group")
    return members


def read_threshold(written: Any, groups: int | None) -> Threshold | GroupThresholds | None:
    """The threshold, or those of groups, that `to_dict` wrote; None where there was none.

    Args:
        written: as read.
        groups: how many there are; None for a detector without.

    Raises:
        InputError: if it isn't one, or there are too few or too many.
    """
    if written is None:
        return None
    if groups is None:
        return Threshold.from_dict(written)
    if not isinstance(written, list) or len(written) != groups:
        raise InputError(f"threshold is {str(written)[:80]!r}; allowed: {groups}, one a group")
    return GroupThresholds(each=tuple(map(Threshold.from_dict, written)))


def check_rule(rule: Rule, scores: int, *, on_disk: bool = False) -> None:
    """Refuse a rule that scores without labels can't fit, before anything is trained for it.

    Args:
        rule: how a threshold is to be found.
        scores: how many there will be.
        on_disk: whether they are of rows on disk, so that memory may not hold all.

    Raises:
        InputError: if the rule needs labels, other code, or more or fewer scores.
    """
    _check_labels(rule, None)
    rules.check_scores_for(rule, scores)
    if on_disk and scores > KEPT_SCORES and not hasattr(rule, "fit_blocks"):
        raise _too_many(rule, f"{scores:,}", KEPT_SCORES)


def fit_threshold(
    rule: Rule, scores: npt.ArrayLike, is_anomaly: npt.ArrayLike | None = None
) -> Threshold:
    """A threshold by a rule, on the scores of calibration rows.

    Args:
        rule: built in, or any object that is an `aejax.config.Rule`.
        scores: float [n]; of rows taken to be normal, unless the rule says otherwise.
        is_anomaly: [n] booleans or 0 and 1, for a rule that takes labels only.

    Raises:
        InputError: if there are no or too few scores, one is not finite, labels are
            missing or given to a rule that takes none, or the rule fails.

    Example:
        >>> from aejax.rules.contamination import Contamination
        >>> fit_threshold(Contamination(rate=0.25), [1.0, 2.0, 3.0, 9.0]).flags([4.0, 5.0])
        array([False,  True])
    """
    values = finite_scores(scores)
    labels = _check_labels(rule, is_anomaly, len(values))
    rules.check_scores_for(rule, len(values))
    normal = rules.is_of_normal_rows(rule) and len(values) > 0
    # A rule may change its scores.
    value, calibration = _fitted(rule, rule.fit, values.copy(), is_anomaly=labels)
    return Threshold(
        value=value,
        rule=rule,
        rows=len(values),
        calibration=calibration,
        deciles=deciles_of(values) if normal else None,
        above=int((values > value).sum()) if normal else None,
    )


def fit_threshold_streaming(
    rule: Rule,
    blocks: Iterable[npt.ArrayLike],
    *,
    kept_scores: int = KEPT_SCORES,
    seed: int = 0,
) -> Threshold:
    """A threshold by a rule, in one pass over scores that come in blocks.

    Up to `kept_scores` scores it is that of `fit_threshold`, but for the deciles. What is exact
    beyond is said by the `fit_blocks` of a rule; one without it is refused.

    Args:
        rule: as in `fit_threshold`, but for those that need labels.
        blocks: scores, float [n] each.
        kept_scores: how many are kept in memory, up to 64 bytes each.
        seed: of a sample, where the rule takes one.

    Raises:
        InputError: if there are no, too few or too many scores, one is not finite, or the rule
            needs labels or fails.

    Example:
        >>> from aejax.rules.quantile import Quantile
        >>> blocks = (np.arange(1000.0) + 1000 * block for block in range(3))
        >>> fit_threshold_streaming(Quantile(q=1.0), blocks).value
        2999.0
    """
    _check_labels(rule, None)
    if kept_scores < 2:
        raise InputError(f"kept_scores is {kept_scores}; allowed: at least 2")
    counted = _Counted(blocks)
    fit_blocks = getattr(rule, "fit_blocks", None)
    if fit_blocks is None:
        kept: list[Floats] = []
        for values in counted:
            if counted.rows > kept_scores:
                raise _too_many(rule, f"more than {kept_scores:,}", kept_scores)
            kept.append(values)
        return fit_threshold(rule, np.concatenate([np.zeros(0), *kept]))
    first = next(counted, None)
    if first is None:
        rules.check_scores_for(rule, 0)
    joined = counted if first is None else itertools.chain([first], counted)
    try:
        value, calibration = _fitted(rule, fit_blocks, joined, kept_scores=kept_scores, seed=seed)
    except InputError:
        if counted.failed is None:
            raise
    if counted.failed is not None:  # Reading or scoring failed, and not the rule.
        raise counted.failed
    for _ in counted:  # What the rule didn't look at counts, too.
        pass
    rules.check_scores_for(rule, counted.rows)
    return Threshold(value=value, rule=rule, rows=counted.rows, calibration=calibration)


def deciles_of(scores: npt.ArrayLike) -> tuple[float, ...]:
    """The nine deciles of scores, float [n], n at least 1."""
    deciles = np.quantile(np.asarray(scores, np.float64), np.arange(1, 10) / 10)
    return tuple(deciles.tolist())


class _Counted(Iterator[Floats]):
    """Blocks of scores that are checked and counted as they pass.

    Attributes:
        rows: that have passed.
        failed: what the blocks raised, if they did.
    """

    def __init__(self, blocks: Iterable[npt.ArrayLike]) -> None:
        self._blocks = iter(blocks)
        self.rows = 0
        self.failed: Exception | None = None

    def __next__(self) -> Floats:
        try:
            while True:
                values = finite_scores(next(self._blocks), before=self.rows)
                if len(values):
                    self.rows += len(values)
                    return values
        except StopIteration:
            raise
        except Exception as error:
            self.failed = error
            raise


def _fitted(
    rule: Rule, fit: Callable[..., Any], scores: object, **optional: Any
) -> tuple[float, Calibration | None]:
    """What a rule finds, checked."""
    try:
        result = own.call(fit, scores, **optional)
    except Exception as error:
        if rules.is_built_in(rule):
            raise
        reason = f"{type(error).__name__}: {own.in_one_line(error, str)}"
        raise InputError(f"rule {config.rule_text(rule)} failed ({reason})") from error
    value, calibration = (
        result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    )
    number = _as_number(value)
    if not math.isfinite(number) or not (
        calibration is None or isinstance(calibration, Calibration)
    ):
        raise InputError(
            f"rule {config.rule_text(rule)} gives {own.in_one_line(result)}; "
            "allowed: one finite number, or a pair of it and a Calibration"
        )
    return number, calibration


def _as_number(value: object) -> float:
    """A Python or NumPy number, or an array of no axes that holds one, as a float; else NaN."""
    if isinstance(value, float):
        return float(value)
    try:
        number = np.asarray(value)
        return float(number) if number.shape == () and number.dtype.kind in "iuf" else math.nan
    except Exception:
        return math.nan


def _check_labels(
    rule: Rule, is_anomaly: npt.ArrayLike | None, scores: int | None = None
) -> npt.NDArray[np.bool_] | None:
    """Labels as bool [n]; raises InputError where they or the rule can't be used."""
    rules.check_is_rule(rule, "rule")
    own.require_here(rule, "rule", "calibrate with rule=...")
    if is_anomaly is None:
        if rules.needs_labels(rule):
            raise InputError(
                f"rule is {config.rule_text(rule)!r} but there are no labels; "
                "allowed: with labels only, each 0 or 1"
            )
        return None
    if not own.accepts(rule.fit, "is_anomaly"):
        raise InputError(
            f"is_anomaly is given but the rule is {config.rule_text(rule)!r}; allowed: with a "
            "rule that takes labels (give this one the scores of normal rows)"
        )
    labels = np.asarray(is_anomaly).ravel()
    if labels.shape != (scores,) or not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"is_anomaly has {len(labels)} values, {np.unique(labels)[:4]!s}; "
            f"allowed: {scores} values, each 0 or 1"
        )
    return labels.astype(bool)


def _too_many(rule: Rule, scores: str, most: int) -> InputError:
    return InputError(
        f"rule {config.rule_text(rule)} is fitted on all scores at once and there are {scores}; "
        f"allowed: at most {most:,} of rows on disk, or a rule with fit_blocks(blocks)"
    )


def finite_scores(scores: npt.ArrayLike, before: int = 0) -> Floats:
    """Scores as float64 [n], a copy; raises InputError where one is not finite.

    Args:
        scores: float [...].
        before: scores that came before these, to name the row that is wrong.
    """
    values = np.array(scores, np.float64).ravel()
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InputError(
            f"calibration scores: row {before + wrong[0]} is {values[wrong[0]]}; "
            "allowed: finite numbers"
        )
    return values

"""How a threshold is set, as objects and as text."""

from __future__ import annotations

import dataclasses
import typing

from aejax.config.checks import InputError, check, is_number, suggest


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanStd:
    """Threshold at the mean plus `k` standard deviations of the calibration scores."""

    k: float = 3.0

    def __post_init__(self) -> None:
        check(self, "k", "a number, at least 0", is_number(self.k) and self.k >= 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantile:
    """Threshold at the `q` quantile of the calibration scores (linear interpolation)."""

    q: float = 0.99

    def __post_init__(self) -> None:
        check(self, "q", "a number in (0, 1]", is_number(self.q) and 0 < self.q <= 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contamination:
    """Threshold that flags the `rate` share of the calibration scores; 0 flags none of them.

    It is the (1 - rate) quantile that scikit-learn's and PyOD's `contamination` stands for.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        valid = is_number(self.rate) and 0 <= self.rate < 1
        check(self, "rate", "a number in [0, 1)", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeaksOverThreshold:
    """Threshold that a normal score passes with probability `risk`, by extreme value theory.

    A generalised Pareto tail is fitted to the calibration scores above their `level`
    quantile, so `risk` may be smaller than one over the number of scores (Siffer et al.,
    "Anomaly detection in streams with extreme value theory", KDD 2017).

    Args:
        risk: probability that a normal score is flagged.
        level: quantile above which scores count as peaks.
    """

    risk: float = 1e-3
    level: float = 0.98

    def __post_init__(self) -> None:
        valid = is_number(self.level) and 0.5 <= self.level < 1
        check(self, "level", "a number in [0.5, 1)", valid)
        valid = is_number(self.risk) and 0 < self.risk < 1 - self.level
        check(self, "risk", f"a number above 0 and below 1 - level = {1 - self.level:g}", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conformal:
    """Threshold that a normal score passes with probability at most `alpha`, guaranteed.

    The guarantee holds for any distribution and any number of calibration scores, on
    average over calibration sets; 1 / alpha - 1 scores are the fewest that can give it.
    Keeps what p-values need (Bates et al., "Testing for outliers with conformal p-values",
    Annals of Statistics 51, 2023).
    """

    alpha: float = 0.01

    def __post_init__(self) -> None:
        valid = is_number(self.alpha) and 0 < self.alpha < 1
        check(self, "alpha", "a number in (0, 1)", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestF1:
    """Threshold with the best F1 on calibration scores whose labels are known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed:
    """Threshold at a value that a person chose, as in a report's slider."""

    value: float = 0.0

    def __post_init__(self) -> None:
        check(self, "value", "a finite number", is_number(self.value))


Rule = Fixed | MeanStd | Quantile | Contamination | PeaksOverThreshold | Conformal | BestF1
RULES: dict[str, type] = {
    "mean-std": MeanStd,
    "quantile": Quantile,
    "contamination": Contamination,
    "peaks-over-threshold": PeaksOverThreshold,
    "conformal": Conformal,
    "best-f1": BestF1,
    "fixed": Fixed,
}
_NAMES = {kind: name for name, kind in RULES.items()}


def parse_rule(text: str) -> Rule:
    """A threshold rule from text such as "quantile:0.99", "mean-std:3" or "best-f1".

    A rule's first number has to be there; those after it may be left out, as in
    "peaks-over-threshold:0.001" for "peaks-over-threshold:0.001:0.98".

    Raises:
        InputError: if the rule is unknown or a number is missing, too many or out of range.
    """
    name, *numbers = text.split(":")
    if name not in RULES:
        raise InputError(
            f"rule is {text!r}; {suggest(name, RULES)}, most with a number, as in quantile:0.99"
        )
    fields = [field.name for field in dataclasses.fields(RULES[name])]
    form = name + ":NUMBER" * min(1, len(fields)) + "[:NUMBER]" * (len(fields) - 1)
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if len(values) != len(numbers) or not min(1, len(fields)) <= len(values) <= len(fields):
        example = f", as in {rule_text(RULES[name]())}" if fields else ""
        raise InputError(f"rule is {text!r}; allowed: {form}{example}")
    return typing.cast(Rule, RULES[name](**dict(zip(fields, values, strict=False))))


def rule_text(rule: Rule) -> str:
    """The text from which `parse_rule` reads this rule."""
    values = [getattr(rule, field.name) for field in dataclasses.fields(rule)]
    return ":".join([_NAMES[type(rule)], *map(repr, values)])

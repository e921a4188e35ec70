"""How a threshold is set: what a rule is, the built-in ones by name, and their text."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Protocol

from aejax.config.checks import InputError, is_number, suggest
from aejax.config.own import Own, accepts, as_numbers, in_one_line, make_named, text_of
from aejax.config.registry import Registry

RULES = Registry(
    {
        "mean-std": "aejax.rules.mean_std:MeanStd",
        "quantile": "aejax.rules.quantile:Quantile",
        "false-alarms": "aejax.rules.false_alarms:FalseAlarms",
        "contamination": "aejax.rules.contamination:Contamination",
        "peaks-over-threshold": "aejax.rules.peaks_over_threshold:PeaksOverThreshold",
        "conformal": "aejax.rules.conformal:Conformal",
        "best-f1": "aejax.rules.best_f1:BestF1",
        "fixed": "aejax.rules.fixed:Fixed",
    }
)
DEFAULT = "quantile"


class Rule(Protocol):
    """How a threshold is found on the scores of calibration rows: any object with `fit`.

    `fit(scores)` or `fit(scores, is_anomaly)` gives the threshold, one finite number; or it and
    the `aejax.rules.p_values.Calibration` that p-values are computed from, as a pair.

        scores: float64 [n], finite, in the order of the rows; a copy that `fit` may change.
        is_anomaly: bool [n], or None where there are no labels; passed by this name.

    What else a rule may have:

        needs_labels: True if it can't be fitted without labels. False if there is none.
        normal_rows: whether its scores are of rows taken to be normal, so that their deciles are
            kept to measure drift by. True if there is none, but for rules that need labels.
        least: fewest scores that it can be fitted on, 1 if there is none. At 0 it needs none, and
            `aejax calibrate` takes no file.
        share: of the calibration scores that the threshold is meant to leave above it. What
            it is fitted on is said to be too few where they can't check it.
        expected(rows): the probability that a new normal row's score is above a threshold that
            is set on so many, on average over samples of them; a report shows it.
        needs_split: True if what it guarantees holds only for rows that one network never saw
            and that take no part in its training, so that it can't be cross-fitted. False if
            there is none.
        text: one line that shows it in reports. Its `repr` if there is none.
        fit_blocks(blocks): the same as `fit`, in one pass over more scores than memory holds,
            which come as float64 [n] each. Passed where it takes them: `kept_scores`, the most
            scores to hold, and `seed`, of a sample. A rule without it is refused
            for more scores on disk than `aejax.detection.threshold.KEPT_SCORES`.

    Built-in rules are frozen dataclasses: their fields are what they are saved as, and the numbers
    after their name on the command line. Another rule is saved as the line that shows it.

    Example:
        >>> import dataclasses
        >>> import numpy as np
        >>> @dataclasses.dataclass(frozen=True)
        ... class MedianMad:
        ...     k: float = 3.0
        ...
        ...     def fit(self, scores):
        ...         median = np.median(scores)
        ...         return median + self.k * np.median(np.abs(scores - median))
        >>> from aejax.detection.threshold import fit_threshold
        >>> fit_threshold(MedianMad(k=2.0), [1.0, 2.0, 3.0, 9.0]).value
        4.5
    """

    def fit(self, *arguments: Any, **optional: Any) -> Any:
        """The threshold, or a pair of it and a `Calibration`."""


def default_rule() -> Rule:
    """The rule of a configuration that names none."""
    rule: Rule = RULES[DEFAULT]()
    return rule


def is_built_in(rule: Any) -> bool:
    """Whether a rule is one that a name stands for."""
    return RULES.name_of(type(rule)) is not None


def needs_labels(rule: Any) -> bool:
    """Whether a rule can't be fitted without labels."""
    return bool(getattr(rule, "needs_labels", False))


def is_of_normal_rows(rule: Any) -> bool:
    """Whether a rule's scores are of rows taken to be normal."""
    return bool(getattr(rule, "normal_rows", not needs_labels(rule)))


def least_scores(rule: Any) -> int:
    """Fewest scores that a rule can be fitted on."""
    return int(getattr(rule, "least", 1))


def share_above(rule: Any) -> float | None:
    """The share of the calibration scores that a rule's threshold leaves above it, or None."""
    share = getattr(rule, "share", None)
    return share if is_number(share) else None


def expected_above(rule: Any, rows: int) -> float | None:
    """The probability that a new normal score is above a threshold set on so many, or None."""
    expected = getattr(rule, "expected", None)
    if not callable(expected) or not rows:
        return None
    share = expected(rows)
    return share if is_number(share) else None


def needs_split(rule: Any) -> bool:
    """Whether a rule guarantees nothing for scores of networks that differ."""
    return bool(getattr(rule, "needs_split", False))


def check_scores_for(rule: Any, scores: int) -> None:
    """Raise InputError where a rule can't be fitted on so few scores."""
    if scores < (least := least_scores(rule)):
        raise InputError(
            f"calibration scores: found {scores}; "
            f"allowed: at least {least} for rule {rule_text(rule)}"
        )


def check_is_rule(value: Any, field: str) -> None:
    """Raise InputError where a value is no rule; a placeholder of one is a rule.

    Args:
        value: what a person gave.
        field: what it was given as, for messages.
    """
    if is_built_in(value) or isinstance(value, Own):
        return
    fit = getattr(value, "fit", None)
    if not callable(fit):
        raise InputError(
            f"{field} is {in_one_line(value)}; "
            f"allowed: {', '.join(RULES.attributes)}, or an object with fit(scores)"
        )
    try:
        signature = inspect.signature(fit)
    except (TypeError, ValueError):  # Of some compiled functions nothing is known.
        signature = None
    if signature is not None:
        labels = {"is_anomaly": None} if accepts(fit, "is_anomaly") else {}
        try:
            signature.bind(None, **labels)
        except TypeError:
            raise InputError(
                f"{field} is {in_one_line(value)}, which has fit{signature}; "
                "allowed: an object with fit(scores) or fit(scores, is_anomaly)"
            ) from None
    for name, default, allowed, valid in (
        ("needs_labels", False, "True, False", lambda value: isinstance(value, bool)),
        ("normal_rows", True, "True, False", lambda value: isinstance(value, bool)),
        ("needs_split", False, "True, False", lambda value: isinstance(value, bool)),
        ("least", 1, "a whole number, at least 0", _is_whole),
    ):
        said = getattr(value, name, default)
        if not valid(said):
            raise InputError(f"{field}.{name} is {in_one_line(said)}; allowed: {allowed}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def parse_rule(text: str) -> Rule:
    """A threshold rule from text such as "quantile:0.99", "mean-std:3" or "best-f1".

    A rule's first number has to be there; those after it may be left out, as in
    "peaks-over-threshold:0.001" for "peaks-over-threshold:0.001:0.98". "package.module:Class"
    makes a rule of a person's own, and runs that code: only for text of a command line.

    Raises:
        InputError: if the rule is unknown, can't be imported or made, or a number is missing, too
            many or out of range.
    """
    name, *numbers = text.split(":")
    if name not in RULES:
        if numbers and numbers[0].isidentifier():
            return _own_rule(text, f"{name}:{numbers[0]}", numbers[1:])
        raise InputError(
            f"rule is {text!r}; {suggest(name, RULES)}, most with a number, as in quantile:0.99, "
            "or package.module:Class"
        )
    fields = [field.name for field in dataclasses.fields(RULES[name])]
    form = name + ":NUMBER" * min(1, len(fields)) + "[:NUMBER]" * (len(fields) - 1)
    values = as_numbers(numbers)
    if values is None or not min(1, len(fields)) <= len(values) <= len(fields):
        example = f", as in {rule_text(RULES[name]())}" if fields else ""
        raise InputError(f"rule is {text!r}; allowed: {form}{example}")
    rule: Rule = RULES[name](**dict(zip(fields, values, strict=False)))
    return rule


def _own_rule(text: str, place: str, numbers: list[str]) -> Rule:
    rule: Rule = make_named(text, place, numbers, "rule")
    check_is_rule(rule, "rule")
    return rule


def rule_text(rule: Any) -> str:
    """One line that shows a rule; of a built-in one that from which `parse_rule` reads it."""
    name = RULES.name_of(type(rule))
    if name is not None:
        values = [getattr(rule, field.name) for field in dataclasses.fields(rule)]
        return ":".join([name, *map(repr, values)])
    text = getattr(rule, "text", None)
    return in_one_line(text, str) if isinstance(text, str) else text_of(rule)

"""What a threshold promises of normal rows, and what the scores that it was set on say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aejax.config import Rule
from aejax.config.rules import expected_above, is_of_normal_rows, share_above
from aejax.detection.alarms import Alarm
from aejax.detection.metrics import INTERVAL_LEVEL
from aejax.detection.threshold import GroupThresholds, Threshold

if TYPE_CHECKING:
    from aejax.detection.detector import Detector


# Scores below which the rate of false alarms that a threshold gives is uncertain.
FEW_SCORES = 100


class Promise(NamedTuple):
    """How many normal rows a threshold is to flag, as shares in [0, 1].

    Of many groups, their shares are averaged by the rows that thresholds were set on, and the
    interval is that of all their rows together.

    Attributes:
        promised: by the rule.
        expected: of new normal rows, on average over samples of as many scores.
        low: lower end of the 95 % interval of the share that this threshold flags, by the scores
            above it (Clopper and Pearson 1934).
        high: its upper end.
        rows: scores that it was set on.
        thresholds: how many there are.
    """

    promised: float
    expected: float
    low: float
    high: float
    rows: int
    thresholds: int = 1

    @property
    def text(self) -> str:
        """In words."""
        return (
            f"promised {_percent(self.promised)}, expected {_percent(self.expected)}, 95 % "
            f"interval {_percent(self.low)} to {_percent(self.high)} by the {self.rows:,} scores "
            + (
                "that the threshold was set on"
                if self.thresholds == 1
                else f"that the {self.thresholds:,} thresholds were set on"
            )
        )


def promise_of(threshold: Threshold | GroupThresholds | None) -> Promise | None:
    """What a threshold, or those of groups, promise; None where a rule promises nothing."""
    if threshold is None:
        return None
    promised = expected = 0.0
    rows = above = 0
    for one in threshold.each:
        share, likely = share_above(one.rule), expected_above(one.rule, one.rows)
        if share is None or likely is None or one.above is None:
            return None
        promised, expected = promised + one.rows * share, expected + one.rows * likely
        rows, above = rows + one.rows, above + one.above
    if not rows:
        return None
    from scipy.stats import beta

    outside = (1 - INTERVAL_LEVEL) / 2
    low = float(beta.ppf(outside, above, rows - above + 1)) if above else 0.0
    high = float(beta.isf(outside, above + 1, rows - above)) if above < rows else 1.0
    return Promise(promised / rows, expected / rows, low, high, rows, len(threshold.each))


def unchecked(rule: Rule, rows: int) -> list[Alarm]:
    """An alarm if a rule promises a rate so low that none of its scores need lie above it.

    Args:
        rule: of the threshold.
        rows: scores that it is set on.
    """
    expected = expected_above(rule, rows)
    least = 1 / (rows + 1)
    if expected is None or not is_of_normal_rows(rule) or expected >= least:
        return []
    text = (
        f"{_percent(expected)} of normal rows are to be flagged, and with {rows:,} "
        f"{'row' if rows == 1 else 'rows'} a rate below {_percent(least)} can't be checked"
    )
    return [Alarm(kind="unchecked promise", size=least / expected, text=text)]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def limits_of(detector: Detector) -> list[str]:
    """What is uncertain about some groups of a detector, in sentences."""
    groups, thresholds = detector.grouped
    said = []
    few = int((thresholds.rows < FEW_SCORES).sum())
    if few:
        said.append(
            f"The thresholds of {few:,} of {len(groups):,} groups rest on fewer than "
            f"{FEW_SCORES} scores each: their rates of false alarms are uncertain."
        )
    alarmed = sum(bool(group.alarms) for group in groups.each)
    if alarmed:
        said.append(
            f"{alarmed:,} of {len(groups):,} groups raised an alarm in training or calibration; "
            "groups.csv of the run says which."
        )
    if groups.skipped:
        said.append(
            f"Groups of the training rows that have no detector: {len(groups.skipped):,}. Their "
            "rows, and those of groups that were not there, get no score."
        )
    return said

"""What thresholds promise of normal rows: SciPy's distributions as the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import aejax
from aejax import Conformal, Contamination, FalseAlarms, MeanStd, Quantile
from aejax.config import Config, Dense, Rule, Train
from aejax.detection.promise import promise_of, unchecked
from aejax.detection.threshold import Threshold, fit_threshold, fit_threshold_streaming

LAWS = [stats.chi2(4), stats.expon(), stats.lognorm(0.7), stats.uniform()]


def passed(rule: Rule, law: Any, rows: int, tables: int = 400) -> np.ndarray:
    """The true probability of a score above the threshold, for every sample of scores."""
    random = np.random.default_rng(0)
    found = [fit_threshold(rule, law.rvs(rows, random_state=random)).value for _ in range(tables)]
    return np.asarray(law.sf(found))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_false_alarms_are_as_many_as_promised(law: Any, rate: float) -> None:
    for rows in (30, 75, 300, 3000):
        mean = passed(FalseAlarms(rate=rate), law, rows).mean()
        # The tail of 10 scores is known to a factor of two or so.
        assert 0.9 * rate < mean < (1.4 if rate * rows > 3 else 2.2) * rate
    # The quantile of few scores is passed several times as often.
    assert passed(Quantile(q=1 - rate), law, 30).mean() > 1.4 * rate
    near = passed(FalseAlarms(rate=rate), law, 3000)
    assert ((near > rate / 2) & (near < 2 * rate)).mean() > 0.95


@pytest.mark.parametrize("rows", [200, 333, 5000])
def test_enough_scores_are_numpys_quantile(rows: int) -> None:
    scores = np.random.default_rng(rows).gamma(2, size=rows)
    wanted = np.quantile(scores, 0.95, method="weibull")
    assert fit_threshold(FalseAlarms(rate=0.05), scores).value == pytest.approx(wanted, rel=1e-12)
    blocks = np.array_split(scores, 7)
    kept = max(rows // 10, 50)
    found = fit_threshold_streaming(FalseAlarms(rate=0.05), blocks, kept_scores=kept)
    assert found.value == pytest.approx(wanted, rel=1e-12)


def test_ties_are_no_tail() -> None:
    scores = np.repeat([0.0, 1.0], [90, 10])
    # A tenth of the rows have the largest score: none of them may be flagged at 1 %.
    assert 1 <= fit_threshold(FalseAlarms(rate=0.01), scores).value < 1.1
    assert fit_threshold(FalseAlarms(rate=0.01), np.ones(50)).value == 1
    assert fit_threshold(FalseAlarms(rate=0.01), [3.0]).value == 3


@pytest.mark.parametrize("rows", [50, 99, 400])
@pytest.mark.parametrize("rule", [Quantile(q=0.99), FalseAlarms(rate=0.05), Conformal(alpha=0.02)])
def test_what_is_expected_is_what_happens_on_average(rule: Rule, rows: int) -> None:
    found = promise_of(fit_threshold(rule, np.random.default_rng(1).exponential(size=rows)))
    assert found is not None
    shares = passed(rule, stats.expon(), rows, 2000)
    # Between two order statistics it isn't quite linear.
    assert found.expected == pytest.approx(shares.mean(), rel=0.25)


def test_the_interval_is_clopper_and_pearsons() -> None:
    scores = np.random.default_rng(2).exponential(size=150)
    threshold = fit_threshold(Quantile(q=0.95), scores)
    promise = promise_of(threshold)
    assert threshold.above == (scores > threshold.value).sum() == 8
    expected = stats.binomtest(8, 150).proportion_ci(0.95)
    assert promise is not None
    assert (promise.low, promise.high) == pytest.approx((expected.low, expected.high))
    assert promise_of(Threshold.from_dict(threshold.to_dict())) == promise
    assert promise_of(fit_threshold(MeanStd(), scores)) is None
    assert promise_of(fit_threshold(Contamination(), scores)) is None
    assert promise.text.startswith("promised 5 %, expected 5.6 %, 95 % interval 2.3 % to 10 % by")


def test_what_rows_are_too_few_to_check_is_said_once() -> None:
    (alarm,) = unchecked(FalseAlarms(rate=0.01), 75)
    assert "with 75 rows a rate below 1.3 % can't be checked" in alarm.sentence
    assert unchecked(FalseAlarms(rate=0.01), 99) == []
    assert unchecked(Quantile(q=0.99), 75) == unchecked(MeanStd(), 75) == []
    x = np.random.default_rng(0).normal(size=(75, 3)).astype(np.float32)
    config = Config(
        model=Dense(hidden=(4,)),
        train=Train(epochs=60, learning_rate=1e-2),
        rule=FalseAlarms(rate=0.01),
        calibration="auto",
    )
    alarms = aejax.fit(config, x).provenance["alarms"]
    assert [one for one in alarms if "can't be checked" in one] == [alarm.sentence]
    groups = aejax.fit(config, x, groups=np.repeat(["a", "b"], [30, 45]))
    (said,) = [one for one in groups.provenance["alarms"] if "can't be checked" in one]
    assert said.startswith("2 of 2 groups promise a rate")

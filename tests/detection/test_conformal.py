"""Conformal p-values against brute force, and the rates that they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from aejax import Conformal, Quantile
from aejax.config import InputError
from aejax.detection.threshold import Threshold, check_rule, fit_threshold
from aejax.rules.p_values import RELATIVE_ERROR, Calibration, discoveries

# Few distinct values, so that ties are common.
TIED = hnp.arrays(np.float64, st.integers(19, 60), elements=st.integers(-6, 6).map(float))


def brute_force(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    at_least = (calibration[None] >= scores[:, None]).sum(axis=1)
    return (1 + at_least) / (1 + len(calibration))


@given(TIED, TIED)
def test_p_values_of_few_scores_are_exact(calibration: np.ndarray, scores: np.ndarray) -> None:
    threshold = fit_threshold(Conformal(alpha=0.05), calibration)
    expected = brute_force(calibration, scores)
    np.testing.assert_array_equal(threshold.p_values(scores), expected)
    np.testing.assert_array_equal(threshold.flags(scores), expected <= 0.05)


@given(st.integers(1, 99), st.integers(1, 400))
def test_flags_are_p_values_of_at_most_alpha(percent: int, n: int) -> None:
    calibration = np.random.default_rng(n).normal(size=n)
    if percent * (n + 1) < 100:
        with pytest.raises(InputError, match=rf"found {n}; allowed: at least \d+ for rule"):
            fit_threshold(Conformal(alpha=percent / 100), calibration)
        return
    threshold = fit_threshold(Conformal(alpha=percent / 100), calibration)
    at_least = (calibration[None] >= calibration[:, None]).sum(axis=1)
    # In whole numbers: (1 + at_least) / (1 + n) <= percent / 100.
    expected = 100 * (1 + at_least) <= percent * (n + 1)
    np.testing.assert_array_equal(threshold.flags(calibration), expected)


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.29, 0.07, 1 / 3, 1e-3])
def test_the_fewest_rows_are_enough_and_one_less_is_not(alpha: float) -> None:
    enough = next(n for n in range(10_000) if 1 / (n + 1) <= alpha)
    check_rule(Conformal(alpha=alpha), enough)
    with pytest.raises(InputError, match=f"found {enough - 1}; allowed: at least {enough} for"):
        check_rule(Conformal(alpha=alpha), enough - 1)


def test_p_values_of_many_scores_are_valid_and_near() -> None:
    random = np.random.default_rng(0)
    calibration = random.gamma(2, size=200_000)
    scores = np.concatenate([random.gamma(2, size=5000), calibration[:5000], [-1, 0, 1e9]])
    _, kept = Conformal(alpha=0.01).fit(calibration)
    assert len(kept.scores) < 1000
    exact = (1 + len(calibration) - np.searchsorted(np.sort(calibration), scores)) / 200_001
    found = kept.p_values(scores)
    assert (found >= exact).all()
    assert (found <= exact * (1 + RELATIVE_ERROR)).all()
    assert found[-1] == 1 / 200_001
    assert found[-3] == 1


def test_nan_has_no_p_value_and_shapes_are_kept() -> None:
    threshold = fit_threshold(Conformal(alpha=0.5), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(threshold.p_values([[np.nan, 2.5]]), [[np.nan, 0.5]])
    assert threshold.p_values(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("kind", ["normal", "heavy", "ties"])
def test_false_alarms_stay_below_alpha(kind: str) -> None:
    """One new score against each of many calibration sets: alarms are binomial."""
    random = np.random.default_rng(1)
    seeds, n, alpha = 3000, 59, 0.05
    draw = {
        "normal": random.normal,
        "heavy": lambda size: random.standard_cauchy(size),
        "ties": lambda size: random.poisson(3.0, size).astype(float),
    }[kind]
    alarms = 0
    for row in draw(size=(seeds, n + 1)):
        alarms += int(fit_threshold(Conformal(alpha=alpha), row[1:]).flags(row[:1])[0])
    assert alarms <= stats.binom.ppf(0.9999, seeds, alpha)
    if kind != "ties":  # Then the rate is alpha * (n + 1) / (n + 1), exactly.
        assert alarms >= stats.binom.ppf(0.0001, seeds, alpha)


def test_false_discoveries_stay_below_the_rate() -> None:
    random = np.random.default_rng(2)
    rate, share_false, share_found = 0.2, [], []
    for _ in range(200):
        threshold = fit_threshold(Conformal(alpha=0.05), random.normal(size=1000))
        is_anomaly = np.arange(200) < 20
        scores = random.normal(size=200) + 4 * is_anomaly
        flagged = discoveries(threshold.p_values(scores), rate)
        share_false.append((flagged & ~is_anomaly).sum() / max(flagged.sum(), 1))
        share_found.append(flagged[is_anomaly].mean())
    error = np.std(share_false) / np.sqrt(len(share_false))
    assert np.mean(share_false) <= rate * 0.9 + 3 * error
    assert np.mean(share_found) > 0.8


@given(
    hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(1e-6, 1)), st.floats(0.01, 0.9)
)
def test_discoveries_are_benjamini_and_hochbergs(p_values: np.ndarray, rate: float) -> None:
    m, ordered = len(p_values), np.sort(p_values)
    passing = [i for i in range(m) if ordered[i] * m / (i + 1) <= rate]
    cut = ordered[passing[-1]] if passing else -1
    np.testing.assert_array_equal(discoveries(p_values, rate), p_values <= cut)


def test_rows_without_a_p_value_are_left_out() -> None:
    assert discoveries([np.nan, 0.04, 0.9], 0.1).tolist() == [False, True, False]
    assert discoveries([np.nan, np.nan], 0.1).tolist() == [False, False]


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, np.nan])
def test_a_rate_out_of_range_is_named(rate: float) -> None:
    with pytest.raises(InputError, match=r"rate is .*; allowed: a number in \(0, 1\)"):
        discoveries([0.5], rate)


def test_json_gives_the_same_p_values_back_and_is_bounded() -> None:
    scores = np.random.default_rng(3).normal(size=100_000).astype(np.float32)
    threshold = fit_threshold(Conformal(alpha=0.02), scores)
    text = json.dumps(threshold.to_dict())
    assert len(text) < 50_000
    found = Threshold.from_dict(json.loads(text))
    assert found == threshold
    np.testing.assert_array_equal(found.p_values(scores), threshold.p_values(scores))


def test_a_rule_without_p_values_says_so() -> None:
    threshold = fit_threshold(Quantile(q=0.9), [1.0, 2.0])
    with pytest.raises(InputError, match=r"'quantile:0\.9', which gives no p-values; allowed"):
        threshold.p_values([1.0])


@pytest.mark.parametrize(
    "written",
    [
        {},
        [],
        7,
        {"scores": [], "ranks": []},
        {"scores": [1.0, 2.0], "ranks": [1, 2]},
        {"scores": [2.0, 1.0], "ranks": [1]},
        {"scores": [2.0, 1.0], "ranks": [2, 1]},
        {"scores": [2.0, 1.0], "ranks": [0, 1]},
        {"scores": [float("nan"), 1.0], "ranks": [1, 2]},
        {"scores": [float("inf"), 1.0], "ranks": [1, 2]},
        {"scores": ["a"], "ranks": [1]},
    ],
)
def test_what_is_no_calibration_is_refused(written: object) -> None:
    with pytest.raises(InputError):
        Calibration.from_dict(written)  # type: ignore[arg-type]
    good = fit_threshold(Conformal(alpha=0.5), [1.0, 2.0]).to_dict()
    with pytest.raises(InputError):
        Threshold.from_dict({**good, "calibration": written})

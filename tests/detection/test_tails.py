"""Peaks over a threshold: SciPy's distributions as the truth, and scores that are hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aejax import PeaksOverThreshold
from aejax.config import InputError
from aejax.detection.threshold import fit_threshold
from aejax.rules.tails import fit_tail, tail_threshold

TAILS = {
    "heavy": stats.t(3),
    "heavier": stats.pareto(1.5),
    "exponential": stats.expon(),
    "gamma": stats.gamma(2),
    "normal": stats.norm(),
    "bounded": stats.beta(2, 3),
    "uniform": stats.uniform(),
}


def realised(distribution: Any, n: int, rule: PeaksOverThreshold, seeds: int) -> np.ndarray:
    """True probability of a score above the threshold, over the one asked for, per seed."""
    found = [
        fit_threshold(rule, distribution.rvs(n, random_state=seed)).value for seed in range(seeds)
    ]
    return distribution.sf(found) / rule.risk


@pytest.mark.parametrize("name", TAILS)
def test_realised_risk_is_within_a_factor_of_two(name: str) -> None:
    ratios = realised(TAILS[name], 20_000, PeaksOverThreshold(risk=1e-3), seeds=20)
    assert (ratios > 0.5).all()
    assert (ratios < 2).all()


@pytest.mark.parametrize("name", sorted(set(TAILS) - {"uniform"}))
def test_it_reaches_beyond_the_scores(name: str) -> None:
    """A risk of a tenth of one over the number of scores; a quantile can't go there."""
    rule = PeaksOverThreshold(risk=2e-5, level=0.95)
    assert 0.5 < np.median(realised(TAILS[name], 5000, rule, seeds=41)) < 2


@pytest.mark.parametrize("shape", [-0.8, -0.3, -0.01, 0.0, 0.01, 0.4, 0.9])
def test_a_tail_is_scipys(shape: float) -> None:
    y = stats.genpareto(shape, scale=3.0).rvs(4000, random_state=0)
    found = fit_tail(y)
    np.testing.assert_allclose(found, (shape, 3.0), atol=0.12)
    if shape > -0.5:  # Below, the likelihood that SciPy maximises has no maximum.
        likeliest, _, scale = stats.genpareto.fit(y, shape, floc=0, scale=3.0)
        np.testing.assert_allclose(found, (likeliest, scale), atol=0.03)


def test_the_threshold_is_the_fitted_tails_quantile() -> None:
    scores = np.sort(stats.gamma(2).rvs(10_000, random_state=0))[::-1]
    value = tail_threshold(scores, 10_000, risk=1e-4, level=0.98)
    shape, scale = fit_tail(scores[:200] - scores[200])
    tail = stats.genpareto(shape, loc=scores[200], scale=scale)
    assert value == pytest.approx(tail.isf(1e-4 / 0.02), rel=1e-9)


def test_few_peaks_are_an_exponential_tail() -> None:
    excesses = np.array([0.5, 1.0, 3.0])
    assert fit_tail(excesses) == (0.0, 1.5)
    # Two of four scores are peaks, above 1: mean excess 2.
    value = tail_threshold(np.array([4.0, 2.0, 1.0, 0.0]), 4, risk=0.01, level=0.5)
    assert value == pytest.approx(1 + 2 * np.log(0.5 / 0.01))


def test_few_scores_lower_the_level() -> None:
    ratios = realised(stats.expon(), 100, PeaksOverThreshold(risk=1e-3), seeds=41)
    assert 0.2 < np.median(ratios) < 5


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=400),
    st.floats(1e-9, 0.019),
    st.floats(0.5, 0.98),
)
def test_ties_and_few_scores_give_a_number(values: list[int], risk: float, level: float) -> None:
    scores = np.array(values, float)
    found = fit_threshold(PeaksOverThreshold(risk=risk, level=level), scores)
    assert np.isfinite(found.value)
    # Never inside more of the scores than the risk allows.
    assert found.flags(scores).mean() <= max(risk, 1 - level) + 1e-9


@given(st.floats(-1e6, 1e6), st.integers(1, 200))
def test_constant_scores_are_not_flagged(value: float, n: int) -> None:
    scores = np.full(n, value)
    found = fit_threshold(PeaksOverThreshold(), scores)
    assert found.value == value
    assert not found.flags(scores).any()


def test_units_do_not_matter() -> None:
    scores = stats.expon().rvs(5000, random_state=0)
    value = fit_threshold(PeaksOverThreshold(), scores).value
    for factor in (1e-12, 1e9):
        found = fit_threshold(PeaksOverThreshold(), scores * factor).value
        assert found == pytest.approx(value * factor, rel=1e-6)


def test_a_risk_inside_what_is_not_kept_is_refused() -> None:
    with pytest.raises(InputError, match=r"risk is 0\.01, 100 of 10000 scores; allowed"):
        tail_threshold(np.arange(50.0)[::-1], 10_000, risk=0.01, level=0.98)

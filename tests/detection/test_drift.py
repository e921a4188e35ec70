"""Drift of scores: an index that is 0 for equals, and few false alarms however few the scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from aejax.detection.drift import (
    CHI_SQUARE,
    DRIFTED,
    bins_of,
    least_drift,
    population_stability,
    tell_apart,
)


def deciles_of(scores: np.ndarray) -> np.ndarray:
    return np.quantile(scores, np.arange(1, 10) / 10, axis=-1)


def test_a_score_is_in_the_bin_that_numpy_finds() -> None:
    random = np.random.default_rng(0)
    deciles = deciles_of(random.gamma(2, size=500))
    scores = random.gamma(2.3, size=2000).astype(np.float32)
    expected = np.searchsorted(deciles, scores, side="left")
    np.testing.assert_array_equal(bins_of(scores, deciles), expected)
    # The same of groups; none is known where a row has no group, or deciles are equal.
    both, members = np.stack([np.zeros(9), deciles]), np.full(2000, 1)
    members[::3], members[1::3] = 0, -1
    wanted = np.where(members == 1, expected, -1)
    np.testing.assert_array_equal(bins_of(scores, both, members), wanted)
    counts = np.bincount(expected, minlength=10)
    by_hand = sum((q - 0.1) * np.log(q / 0.1) for q in counts / 2000)
    np.testing.assert_allclose(population_stability(np.stack([counts, counts])), [by_hand] * 2)


SHARES = st.lists(st.floats(0.01, 1), min_size=10, max_size=10).map(
    lambda shares: np.array(shares) / sum(shares)
)


@given(SHARES, SHARES)
def test_the_index_is_symmetric_and_zero_for_equals(a: np.ndarray, b: np.ndarray) -> None:
    # Counts of rows, enough for every bin to have some.
    assert population_stability(1e6 * a, a) == pytest.approx(0, abs=1e-12)
    found = population_stability(1e6 * b, a)
    assert found >= 0
    np.testing.assert_allclose(found, population_stability(1e6 * a, b), atol=1e-12)
    by_hand = sum((q - p) * np.log(q / p) for p, q in zip(a, b, strict=True))
    np.testing.assert_allclose(found, by_hand, atol=1e-12)


@pytest.mark.parametrize("calibrated", [9, 13, 30, 100, 1000])
@pytest.mark.parametrize("rows", [100, 1000])
def test_groups_that_have_not_drifted_hardly_ever_raise_an_alarm(
    calibrated: int, rows: int
) -> None:
    random = np.random.default_rng(0)
    groups = 3000
    deciles = deciles_of(random.gamma(2, size=(groups, calibrated))).T
    counts = np.zeros((groups, 10), np.int64)
    for _ in range(rows):
        place = bins_of(random.gamma(2, size=groups), deciles, np.arange(groups))
        counts[np.arange(groups), place] += 1
    least = least_drift(np.full(groups, rows), np.full(groups, calibrated))
    indices = population_stability(counts)
    assert (indices > least).mean() <= 2e-3
    if calibrated <= 30:
        # What the bound for many scores alone would say.
        assert (indices > DRIFTED).mean() > (0.8 if calibrated <= 13 else 0.4)


def test_the_bound() -> None:
    assert chi2.ppf(0.9999, 9) == pytest.approx(CHI_SQUARE, abs=1e-2)
    assert least_drift([99, 100, 10**6], [10**6] * 3).tolist()[2] == DRIFTED
    assert np.isinf(least_drift(99, 1000))
    # A shift of many rows is seen although the group was calibrated on 30.
    assert population_stability(np.array([[0] * 8 + [50, 450]]))[0] > least_drift(500, 30)
    # Equal deciles, and none, tell nothing.
    deciles = np.array([np.arange(9.0), [0, 0, *range(1, 8)], np.full(9, np.nan)])
    assert tell_apart(deciles).tolist() == [True, False, False]
    assert np.isnan(population_stability(np.zeros((1, 10), np.int64)))[0]

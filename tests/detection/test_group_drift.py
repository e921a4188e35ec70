"""Drift of groups: the single detector's index, and few false alarms whatever a group's size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from aejax.detection.group_drift import (
    bins_of,
    stability_indices,
    tell_apart,
)
from aejax.detection.stability import CHI_SQUARE, DRIFTED, least_drift, population_stability


def deciles_of(scores: np.ndarray) -> np.ndarray:
    return np.quantile(scores, np.arange(1, 10) / 10, axis=-1)


def test_the_index_is_that_of_a_single_detector() -> None:
    random = np.random.default_rng(0)
    deciles = deciles_of(random.gamma(2, size=500))
    scores = random.gamma(2.3, size=2000).astype(np.float32)
    counts = np.bincount(bins_of(scores, deciles[None]), minlength=10)
    expected = np.bincount(np.searchsorted(deciles, scores, side="left"), minlength=10)
    np.testing.assert_array_equal(counts, expected)
    (found,) = stability_indices(counts[None])
    assert found == pytest.approx(population_stability(np.full(10, 0.1), counts / 2000))


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
        place = bins_of(random.gamma(2, size=groups), deciles)
        counts[np.arange(groups), place] += 1
    least = least_drift(np.full(groups, rows), np.full(groups, calibrated))
    indices = stability_indices(counts)
    assert (indices > least).mean() <= 2e-3
    if calibrated <= 30:
        # What the rule for a single detector would say.
        assert (indices > DRIFTED).mean() > (0.8 if calibrated <= 13 else 0.4)


def test_the_bound() -> None:
    assert chi2.ppf(0.9999, 9) == pytest.approx(CHI_SQUARE, abs=1e-2)
    assert least_drift([99, 100, 10**6], [10**6] * 3).tolist()[2] == DRIFTED
    assert np.isinf(least_drift(99, 1000))
    # A shift of many rows is seen although the group was calibrated on 30.
    assert stability_indices(np.array([[0] * 8 + [50, 450]]))[0] > least_drift(500, 30)
    # Equal deciles, and none, tell nothing.
    deciles = np.array([np.arange(9.0), [0, 0, *range(1, 8)], np.full(9, np.nan)])
    assert tell_apart(deciles).tolist() == [True, False, False]
    assert np.isnan(stability_indices(np.zeros((1, 10), np.int64)))[0]

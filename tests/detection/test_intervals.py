"""Intervals over repeats against SciPy's, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aejax.config import InputError
from aejax.detection.metrics import mean_interval, repeat_seeds


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_interval_is_students(count: int) -> None:
    values = np.random.default_rng(count).normal(3, 2, size=count)
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(found[:3], [values.mean(), low, high], rtol=1e-12)
    assert found.repeats == count


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    found = [mean_interval(random.normal(size=5)) for _ in range(2000)]
    share = np.mean([not interval.excludes_zero for interval in found])
    # Four standard deviations of a share of 2000.
    assert abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


def test_one_repeat_has_no_interval() -> None:
    found = mean_interval([0.25])
    assert found == (0.25, None, None, 1)
    assert not found.excludes_zero
    assert found.text() == "0.250"


def test_a_rates_interval_stays_one() -> None:
    found = mean_interval([0.9, 1.0], within=(0, 1))
    assert found.high == 1
    assert found.low is not None
    assert 0 <= found.low < 0.9
    assert found.text(1, 100).startswith("95.0 [")


@pytest.mark.parametrize("values", [[], [np.nan], [[1.0]]])
def test_what_is_no_list_of_numbers_is_refused(values: list) -> None:
    with pytest.raises(InputError, match="at least one finite number"):
        mean_interval(values)


def test_seeds_of_repeats_differ_and_more_begin_with_the_fewer() -> None:
    five, three = repeat_seeds(7, 5), repeat_seeds(7, 3)
    assert five[:3] == three
    every = [seed for run in range(50) for seed in repeat_seeds(run, 5)]
    assert len(set(every)) == len(every)
    assert all(0 <= seed < 1 << 32 for seed in every)

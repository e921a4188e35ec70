"""Distances to the nearest kept rows, against scikit-learn's in float64."""

from __future__ import annotations

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from aejax.row_scores.neighbours import nearest_distance


def found(kept: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.asarray(nearest_distance(jnp.asarray(kept, jnp.float32), jnp.asarray(x)))


def expected(kept: np.ndarray, x: np.ndarray, *, itself: bool = False) -> np.ndarray:
    """By scikit-learn; with `itself`, without the nearest row."""
    count = min(5, len(kept) - itself) + itself
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(kept.astype(np.float64))
    distance = search.kneighbors(x.astype(np.float64))[0][:, int(itself) :]
    return np.mean(np.square(distance), axis=1) / kept.shape[1]


def rows(seed: int, count: int, values: int, *, centre: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (centre + random.normal(size=(count, values))).astype(np.float32)


@pytest.mark.parametrize("kept", [2, 3, 5, 6, 48, 64, 65, 500, 513, 1700])
@pytest.mark.parametrize("values", [1, 7, 40])
def test_distances_are_those_of_scikit_learn(kept: int, values: int) -> None:
    among, x = rows(0, kept, values), rows(1, 33, values)
    np.testing.assert_allclose(found(among, x), expected(among, x), rtol=1e-5)


def test_a_row_that_was_kept_is_judged_by_the_others() -> None:
    among = rows(0, 300, 6)
    left_out = [expected(np.delete(among, at, axis=0), among[at : at + 1])[0] for at in range(20)]
    np.testing.assert_allclose(found(among, among[:20]), left_out, rtol=1e-5)
    np.testing.assert_allclose(found(among, among), expected(among, among, itself=True), rtol=1e-5)


def test_of_a_row_that_is_there_often_one_is_passed_over() -> None:
    among = np.concatenate([np.repeat(rows(0, 1, 4), 4, axis=0), rows(1, 30, 4)])
    distance = np.sort(np.sum(np.square(among - among[0]), axis=1))[1:6]
    assert (distance[:3] == 0).all()
    np.testing.assert_allclose(found(among, among[:1]), distance.mean() / 4, rtol=1e-5)


def test_infinite_rows_are_none() -> None:
    among, x = rows(0, 100, 5), rows(1, 20, 5)
    filled = np.concatenate([among, np.full((37, 5), np.inf, np.float32)])
    # The mean of the kept rows is another sum.
    np.testing.assert_allclose(found(filled, x), found(among, x), rtol=1e-5)
    few = np.concatenate([among[:3], np.full((61, 5), np.inf, np.float32)])
    np.testing.assert_allclose(found(few, x), expected(among[:3], x), rtol=1e-5)


def test_small_distances_far_from_the_origin_are_not_lost() -> None:
    """Products of values near 1,000 are off by more than these distances are long."""
    among, x = rows(0, 400, 8, centre=1e3), rows(1, 50, 8, centre=1e3)
    np.testing.assert_allclose(found(among, x), expected(among, x), rtol=1e-4)


def test_wild_rows_have_large_distances_and_those_without_a_number_none() -> None:
    among = rows(0, 100, 3)
    x = np.array([[1e15, 0, 0], [0, np.nan, 0], [0, 0, 0]], np.float32)
    far, none, near = found(among, x)
    assert far == pytest.approx(1e30 / 3, rel=1e-4)
    assert np.isnan(none)
    assert near < 1


@pytest.mark.slow
@hypothesis.given(st.integers(0, 1 << 16), st.integers(2, 200), st.integers(1, 9))
@hypothesis.settings(max_examples=25, deadline=None)
def test_the_order_of_the_kept_rows_does_not_matter(seed: int, kept: int, values: int) -> None:
    among, x = rows(seed, kept, values), rows(seed + 1, 16, values)
    shuffled = np.random.default_rng(seed).permutation(among)
    np.testing.assert_allclose(found(shuffled, x), found(among, x), rtol=1e-5)
    np.testing.assert_allclose(found(among, x[::-1])[::-1], found(among, x), rtol=1e-5)

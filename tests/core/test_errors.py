"""Reconstruction error against float64 NumPy and scikit-learn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error

from aejax.core import errors

REFERENCES = {"squared": mean_squared_error, "absolute": mean_absolute_error}


def pair(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    return x, y


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 4, 2), (2, 1), (1, 1000), (0, 3)])
@pytest.mark.parametrize("name", ["squared", "absolute"])
def test_row_error_is_the_mean_over_features(name: str, shape: tuple[int, ...]) -> None:
    x, y = pair(shape)
    found = errors.row_error(name, jnp.asarray(x), jnp.asarray(y))
    assert found.shape == shape[:1]
    assert found.dtype == jnp.float32
    expected = [
        REFERENCES[name](a.ravel().astype(float), b.ravel().astype(float))
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["squared", "absolute"])
def test_feature_errors_average_to_the_row_error(name: str) -> None:
    x, y = pair((6, 5, 2))
    of_features = errors.feature_error(name, x, y)
    assert of_features.shape == x.shape
    assert (of_features >= 0).all()
    np.testing.assert_allclose(
        np.asarray(of_features, np.float64).mean((1, 2)), errors.row_error(name, x, y), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["squared", "absolute"])
def test_one_row_lifted_over_rows_equals_the_batch(name: str) -> None:
    x, y = pair((6, 5))
    one = jax.vmap(lambda a, b: errors.feature_error(name, a, b).mean())
    np.testing.assert_allclose(one(x, y), errors.row_error(name, x, y), rtol=1e-6)


def test_a_row_with_nan_spoils_itself_only() -> None:
    x, y = pair((4, 3))
    x[2, 1] = np.nan
    found = np.asarray(errors.row_error("squared", x, y))
    assert np.isnan(found[2])
    assert np.isfinite(found[[0, 1, 3]]).all()


@given(st.lists(st.tuples(st.floats(-100, 100, width=32), st.booleans()), min_size=1, max_size=30))
def test_masked_mean(cells: list[tuple[float, bool]]) -> None:
    values, mask = (np.array(column) for column in zip(*cells, strict=True))
    found = errors.masked_mean(values.astype(np.float32), mask)
    expected = values[mask].mean() if mask.any() else 0.0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_masked_mean_ignores_what_is_masked() -> None:
    values = jnp.array([1.0, jnp.nan, 3.0, jnp.inf])
    assert errors.masked_mean(values, jnp.array([True, False, True, False])) == 2

"""Rows from arrays and data frames, and batches that leave no trace in the result."""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import strategies as st

import aejax
from aejax.config import Dense, InputError, Train
from aejax.data.schema import Schema
from aejax.detection import rows as rows_module
from aejax.detection.placed import default_batch_size, fitting_batch_size
from aejax.detection.rows import (
    as_rows,
    as_stored,
    check_finite,
    infer_schema,
    map_batches,
)
from tests.plain import plain_config

TABLE = Schema(shape=(3,), names=("a", "b", "c"))
X = np.arange(12, dtype=np.float64).reshape(4, 3)
FRAMES = [pd.DataFrame, lambda data: pl.DataFrame(data)]
COLUMNS = {name: X[:, i] for i, name in enumerate("abc")}


def test_arrays_of_any_number_type() -> None:
    for given in (X, X.astype(np.int32), X.astype(bool), X.tolist(), np.asfortranarray(X)):
        found, schema = as_rows(given, TABLE)
        assert as_stored(found, schema).dtype == np.float32
        assert as_stored(found, schema).flags.c_contiguous
        assert schema is TABLE
        np.testing.assert_array_equal(found, np.asarray(given, np.float32))


def test_an_array_of_the_right_type_is_not_copied() -> None:
    x = X.astype(np.float32)
    assert np.shares_memory(as_rows(x, TABLE)[0], x)
    assert as_stored(x, TABLE) is x


def test_schemas_are_inferred() -> None:
    assert as_rows(X, None)[1] == Schema(shape=(3,))
    images = np.zeros((2, 4, 5, 1), np.uint8)
    assert as_rows(images, None)[1] == Schema(shape=(4, 5, 1), dtype="uint8", kind="image")
    assert infer_schema(images.astype(np.int64)).dtype == "float32"


@pytest.mark.parametrize("frame", FRAMES)
class TestFrames:
    def test_names_are_inferred(self, frame: Any) -> None:
        found, schema = as_rows(frame(COLUMNS), None)
        assert schema == TABLE
        np.testing.assert_array_equal(found, X)

    def test_columns_are_matched_by_name(self, frame: Any) -> None:
        shuffled = frame({name: COLUMNS[name] for name in "cab"} | {"more": X[:, 0]})
        np.testing.assert_array_equal(as_rows(shuffled, TABLE)[0], X)

    def test_a_missing_column_is_named(self, frame: Any) -> None:
        with pytest.raises(InputError, match="rows have no column 'b'; found: a, c"):
            as_rows(frame({"a": X[:, 0], "c": X[:, 2]}), TABLE)

    def test_without_names_in_the_schema_columns_count_by_position(self, frame: Any) -> None:
        np.testing.assert_array_equal(as_rows(frame(COLUMNS), Schema(shape=(3,)))[0], X)

    def test_mixed_numbers(self, frame: Any) -> None:
        mixed = frame({"a": [1, 2], "b": [0.5, 1.5], "c": np.array([1, 2], np.uint8)})
        np.testing.assert_array_equal(as_rows(mixed, TABLE)[0], [[1, 0.5, 1], [2, 1.5, 2]])

    def test_text_is_refused(self, frame: Any) -> None:
        with pytest.raises(InputError, match="allowed: numbers"):
            as_rows(frame({"a": ["x", "y"], "b": [1, 2], "c": [1, 2]}), TABLE)


def test_pandas_columns_that_are_numbers_are_matched_by_name() -> None:
    frame = pd.DataFrame(X)
    found, schema = as_rows(frame, None)
    assert schema.names == ("0", "1", "2")
    np.testing.assert_array_equal(as_rows(frame[[2, 0, 1]], schema)[0], found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X[:, :2], r"rows have shape \[4, 2\]; allowed: \[rows, 3\]"),
        (X[0], r"rows have shape \[3\]; allowed: \[rows, 3\]"),
        (X[None], r"rows have shape \[1, 4, 3\]"),
        (np.float32(1), r"rows have shape \[\]"),
        (np.array([["a", "b", "c"]]), "rows are <U1; allowed: numbers"),
        (np.array([[1, "x", 2]], object), "allowed: numbers"),
        (X.astype(complex), "rows are complex128; allowed: numbers"),
        (X.astype("datetime64[s]"), "allowed: numbers"),
    ],
)
def test_what_does_not_fit_is_named(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_rows(given, TABLE)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_a_schema_is_inferred_from_tables_and_images_only(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="allowed: \\[rows, features\\] or"):
        as_rows(np.zeros(shape), None)


BYTES = Schema(shape=(2,), dtype="uint8")


@pytest.mark.parametrize("given", [[[0, 255]], [[0.0, 255.0]], [[True, False]]])
def test_whole_numbers_in_range_are_bytes(given: Any) -> None:
    np.testing.assert_array_equal(as_rows(np.array(given), BYTES)[0], np.array(given))


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ([[0.25, 1.0]], "0.25"),
        ([[3, 256]], "256"),
        ([[-1, 3]], "-1"),
        ([[1.0, float("nan")]], "nan"),
        ([[float("inf"), 1.0]], "inf"),
    ],
)
def test_what_has_no_byte_of_its_value_is_refused(given: Any, value: str) -> None:
    with pytest.raises(
        InputError, match=rf"rows hold {value}; allowed: whole numbers of type uint8"
    ):
        as_rows(np.array(given), BYTES)


def test_beyond_the_stored_types_range_is_found_as_infinite() -> None:
    found = as_stored(*as_rows(np.array([[0, 1e300, 1]]), TABLE))
    with pytest.raises(InputError, match="row 0, b is inf"):
        check_finite(found, TABLE)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
def test_check_finite_names_row_and_feature(wild: float) -> None:
    x = X.astype(np.float32)
    check_finite(x, TABLE)
    x[2, 1] = wild
    with pytest.raises(InputError, match=f"row 2, b is {wild}; allowed: finite numbers"):
        check_finite(x, TABLE)


def test_check_finite_names_a_pixel() -> None:
    x = np.zeros((3, 4, 5, 2), np.float32)
    x[1, 2, 3, 1] = np.nan
    with pytest.raises(InputError, match=r"row 1, pixel\[2,3,1\] is nan"):
        check_finite(x, Schema(shape=(4, 5, 2), kind="image"))


def test_opposite_infinities_and_large_sums_are_distinguished() -> None:
    with pytest.raises(InputError, match="row 0, a is inf"):
        check_finite(np.array([[np.inf, -np.inf, 0]], np.float32), TABLE)
    check_finite(np.full((4, 3), np.finfo(np.float32).max), TABLE)
    check_finite(np.full((4, 3), np.finfo(np.float64).max), TABLE)
    check_finite(np.zeros((0, 3), np.float32), TABLE)
    check_finite(np.full((4, 3), 255, np.uint8), TABLE)


@pytest.mark.parametrize("given", ["float32", "float64"])
@pytest.mark.parametrize("ahead", [1, 4])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 16, 100])
def test_map_batches_equals_the_function_of_all_rows(
    n: int, ahead: int, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "AHEAD", ahead)
    x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    shapes = set()

    @jax.jit
    def function(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        shapes.add(batch.shape)
        return batch.max(axis=1), (batch[:, :2] > 0)

    largest, positive = map_batches(function, x.astype(given), 8, "float32")
    assert shapes == {(8, 3)}
    assert largest.dtype == np.float32
    assert positive.dtype == bool
    assert largest.shape == (n,)
    assert positive.shape == (n, 2)
    np.testing.assert_array_equal(largest, x.max(axis=1, initial=-np.inf))
    np.testing.assert_array_equal(positive, x[:, :2] > 0)


def test_map_batches_leaves_the_rows_alone() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    before = x.copy()
    map_batches(jax.jit(lambda batch: (jnp.square(batch),)), x, 8, "float32")
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("n", [8, 80, 83])
@pytest.mark.parametrize("given", ["float32", "float64"])
def test_a_result_that_is_the_batch_itself_survives_the_next_batches(n: int, given: str) -> None:
    """Batches are made in memory that is used again."""
    x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    (found,) = map_batches(lambda batch: (batch,), x.astype(given), 8, "float32")
    np.testing.assert_array_equal(found, x)
    assert not np.shares_memory(found, x)


@pytest.mark.parametrize("features", [1, 3, 784, 10_000, 1 << 24])
def test_default_batch_size_is_a_bounded_power_of_two(features: int) -> None:
    config = plain_config(model=Dense(hidden=(8,)))
    size = default_batch_size(Schema(shape=(features,)), config)
    assert size & (size - 1) == 0
    assert 64 <= size <= 1 << 14
    # Wide rows meet many weights, which a batch reads anew.
    assert size == 64 or size * features <= (1 << 23 if features > 1024 else 1 << 22)
    # And those that look for neighbours, some thousand distances each.
    searching = dataclasses.replace(config, score="error-and-neighbours")
    fewer = default_batch_size(Schema(shape=(features,)), searching)
    assert 64 <= fewer <= min(size, 1 << 10)
    assert fewer == 64 or fewer * features <= 1 << 18


@hypothesis.given(st.integers(0, 1 << 20), st.integers(6, 14))
def test_a_batch_fits_the_rows_that_are_there(rows: int, exponent: int) -> None:
    most = 1 << exponent
    size = fitting_batch_size(rows, most)
    if rows == 1:
        # A single row is padded with nothing.
        assert size == 1
        return
    assert size in {most >> 3 * k for k in range(5)}
    if size < 32:
        # A handful of rows, in one call.
        assert rows <= size
        assert size >= 4
        return
    # Never more padding than rows, but for the smallest batch there is.
    padding = -rows % size
    assert padding < max(rows, 1) or size // 8 < 32
    # And no smaller batch than must be: one whole batch is there, or nothing smaller.
    assert rows >= size or size // 8 < 32
    assert rows > size // 8


@pytest.mark.parametrize("n", [1, 4, 5, 33, 300, 2_100])
def test_few_rows_score_as_they_do_among_many(n: int) -> None:
    x = np.random.default_rng(0).normal(size=(20_000, 12)).astype(np.float32)
    settings = plain_config(model=Dense(hidden=(8, 3)), train=Train(epochs=1))
    detector = aejax.fit(settings, x[:500])
    np.testing.assert_allclose(detector.score(x[:n]), detector.score(x)[:n], rtol=1e-6)

"""Scalers against scikit-learn's, in any split of the rows, and inside compiled programs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from aejax.config import InputError, Scale
from aejax.core import scaling
from aejax.core.scaling import Scaler

FLOAT32 = np.dtype(np.float32)
KINDS = ("none", "min-max", "min-max-all", "standard")


def rows(n: int = 200, features: int = 5) -> np.ndarray:
    random = np.random.default_rng(0)
    spread = np.array([1e-3, 1, 10, 1e4, 5])[:features]
    centre = np.array([0, -3, 100, 1e4, 0.1])[:features]
    return (random.normal(size=(n, features)) * spread + centre).astype(np.float32)


def fitted(kind: str, x: np.ndarray, clip: float | None = None) -> Scaler:
    return scaling.fit(Scale(kind=kind, clip=clip), [x], x.dtype)


def scaled(scaler: Scaler, x: np.ndarray) -> np.ndarray:
    return np.asarray(scaling.apply(scaler, jnp.asarray(x)))


def expected_of(kind: str, x: np.ndarray) -> np.ndarray:
    exact = x.astype(np.float64)
    if kind == "none":
        return exact
    if kind == "min-max":
        return MinMaxScaler().fit_transform(exact)
    if kind == "min-max-all":
        return (exact - exact.min()) / (exact.max() - exact.min())
    return StandardScaler().fit_transform(exact)


@pytest.mark.parametrize("kind", KINDS)
def test_as_scikit_learn_scales(kind: str) -> None:
    x = rows()
    found = scaled(fitted(kind, x), x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_of(kind, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_new_rows_are_scaled_as_training_rows_are(kind: str) -> None:
    x, new = rows(), rows(n=300)[200:] * np.float32(1.5)
    exact = x.astype(np.float64)
    if kind == "standard":
        expected = StandardScaler().fit(exact).transform(new.astype(np.float64))
    elif kind == "min-max":
        expected = MinMaxScaler().fit(exact).transform(new.astype(np.float64))
    else:
        low, high = (exact.min(), exact.max()) if kind == "min-max-all" else (0, 1)
        expected = (new.astype(np.float64) - low) / (high - low)
    found = scaled(fitted(kind, x), new)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_unit_divides_by_the_types_maximum(dtype: type) -> None:
    most = np.iinfo(dtype).max
    x = np.array([[0, 1, most // 2, most]], dtype)
    found = scaled(fitted("unit", x), x)
    np.testing.assert_allclose(found, x / most, rtol=1e-6)
    assert found.max() <= 1 + 1e-6


def test_unit_refuses_rows_that_are_not_integers() -> None:
    with pytest.raises(InputError, match=r"Scale\.kind is 'unit' but rows are float32"):
        fitted("unit", rows())


@pytest.mark.parametrize("kind", ["min-max", "min-max-all", "standard", "unit", "none"])
def test_bytes_do_not_wrap(kind: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 1)).astype(np.uint8)
    flat = x.reshape(50, -1)
    expected = flat / 255.0 if kind == "unit" else expected_of(kind, flat)
    found = scaled(fitted(kind, x), x).reshape(50, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (3, 2), (2, 3, 1)])
def test_images_have_one_scale_and_other_rows_one_for_each_feature(shape: tuple[int, ...]) -> None:
    x = rows(features=3).repeat(2, axis=1).reshape(-1, *shape)
    expected = expected_of("min-max-all" if len(shape) == 3 else "standard", x.reshape(len(x), -1))
    found = scaled(scaling.fit(Scale(), [x], x.dtype), x)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["auto", "none", "unit", "min-max", "min-max-all", "standard"])
@pytest.mark.parametrize("clip", [None, 3.0])
def test_like_is_the_structure_of_what_is_fitted(kind: str, clip: float | None) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 2, 3, 1)).astype(np.uint8)
    scale = Scale(kind=kind, clip=clip)
    scaler, like = scaling.fit(scale, [x], x.dtype), scaling.like(scale, x.shape[1:])
    assert jax.tree.structure(scaler) == jax.tree.structure(like)
    for found, wanted in zip(jax.tree.leaves(scaler), jax.tree.leaves(like), strict=True):
        assert np.shape(found) == wanted.shape
        assert np.asarray(found).dtype == wanted.dtype == np.float32


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.integers(1, 4)),
        elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
    ),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_any_split_into_blocks_equals_one_block(x: np.ndarray, cuts: list[int]) -> None:
    whole = scaling.measure([x])
    blocks = scaling.measure(np.split(x, sorted(cut % (len(x) + 1) for cut in cuts)))
    assert blocks.rows == len(x)
    np.testing.assert_array_equal(blocks.low, x.min(0))
    np.testing.assert_array_equal(blocks.high, x.max(0))
    np.testing.assert_allclose(blocks.mean, whole.mean, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(blocks.squares, whole.squares, rtol=1e-10, atol=1e-8)
    np.testing.assert_allclose(whole.mean, x.astype(np.float64).mean(0), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scaler_fitted_row_by_row_is_the_same(kind: str) -> None:
    x = rows()
    one = fitted(kind, x)
    many = scaling.fit(Scale(kind=kind), (row[None] for row in x), x.dtype)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("mean", [1e3, 1e5, 1e7])
def test_streaming_keeps_its_digits_where_the_mean_is_large(mean: float) -> None:
    x = np.random.default_rng(0).normal(mean, 1, (5000, 2))
    moments = scaling.measure(np.array_split(x, 37))
    spread = np.sqrt(moments.squares / moments.rows)
    np.testing.assert_allclose(spread, x.std(0), rtol=1e-9)
    # What would be lost otherwise: the textbook formula in float32.
    single = x.astype(np.float32)
    with np.errstate(invalid="ignore"):
        naive = np.sqrt(np.mean(single**2, 0, dtype=np.float32) - np.mean(single, 0) ** 2)
    if mean >= 1e5:
        assert not np.allclose(naive, x.std(0), rtol=1e-2)


@pytest.mark.parametrize("mean", [1e4, 1e5, 1e6])
def test_large_means_are_standardised(mean: float) -> None:
    x = np.random.default_rng(0).normal(mean, 10, (2000, 3)).astype(np.float32)
    found = scaled(fitted("standard", x), x)
    # The shift is stored in float32, so it is known to half a unit in its last place.
    offset = np.spacing(np.float32(mean)) / 2 / 10
    np.testing.assert_allclose(found, expected_of("standard", x), rtol=1e-4, atol=offset + 1e-5)


def test_a_small_spread_on_a_large_mean_does_not_drown_the_other_columns() -> None:
    # Seconds since 1970 within a quarter of an hour, next to an ordinary column.
    x = np.random.default_rng(0).normal([1.7e9, 0], [900, 1], (2000, 2)).astype(np.float32)
    found = scaled(fitted("standard", x), x)
    assert np.abs(found).max() < 10


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e-20, 123456.7, 3e7])
@pytest.mark.parametrize("kind", ["min-max", "standard"])
def test_a_constant_column_is_shifted_not_stretched(kind: str, value: float) -> None:
    x = np.concatenate([rows(n=101), np.full((101, 1), value, np.float32)], axis=1)
    scaler = scaling.fit(Scale(kind=kind), np.array_split(x, 7), x.dtype)
    assert np.asarray(scaler.factor)[-1] == 1
    np.testing.assert_allclose(scaled(scaler, x)[:, -1], 0, atol=abs(value) * 1e-7)


@pytest.mark.parametrize("kind", ["min-max", "min-max-all", "standard"])
def test_one_row_scales_to_finite_values(kind: str) -> None:
    x = rows(n=1)
    assert np.isfinite(scaled(fitted(kind, x), x)).all()


@pytest.mark.parametrize("kind", ["min-max", "min-max-all", "standard"])
def test_a_spread_below_the_smallest_normal_number_does_not_overflow(kind: str) -> None:
    x = np.array([[0.0], [1e-40]], np.float32)
    scaler = fitted(kind, x)
    assert np.isfinite(scaler.factor).all()
    assert np.isfinite(scaled(scaler, x)).all()


@pytest.mark.parametrize("blocks", [[], [np.zeros((0, 3), np.float32)]])
@pytest.mark.parametrize("kind", ["min-max", "min-max-all", "standard"])
def test_no_rows_are_refused(kind: str, blocks: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="training rows: found 0"):
        scaling.fit(Scale(kind=kind), blocks, FLOAT32)


@pytest.mark.parametrize("kind", KINDS)
def test_clip_bounds_both_sides(kind: str) -> None:
    x = rows()
    wild = np.concatenate([x, x[:1] + 1e9, x[:1] - 1e9]).astype(np.float32)
    found = scaled(fitted(kind, x, clip=0.5), wild)
    plain = scaled(fitted(kind, x), wild)
    assert np.abs(found).max() == np.float32(0.5)
    np.testing.assert_array_equal(found, np.clip(plain, -0.5, 0.5))


def test_without_clip_nothing_is_bounded() -> None:
    assert scaled(fitted("standard", rows()), rows() * np.float32(1e20)).max() > 1e19


def test_nan_stays_nan() -> None:
    x = rows()
    wild = x[:2].copy()
    wild[1, 2] = np.nan
    assert np.isnan(scaled(fitted("standard", x, clip=3.0), wild)).sum() == 1


@pytest.mark.parametrize("kind", [*KINDS, "unit"])
def test_invert_undoes_apply(kind: str) -> None:
    x = rows() if kind != "unit" else np.arange(256, dtype=np.uint8)[:, None]
    scaler = fitted(kind, x)
    back = scaling.invert(scaler, scaled(scaler, x))
    largest = np.abs(x.astype(np.float64)).max(0)
    if kind == "min-max-all":
        largest = largest.max()
    assert (np.abs(back - x.astype(np.float64)) <= 1e-6 * largest + 1e-7).all()


def test_inside_a_compiled_program_over_members() -> None:
    x = rows()
    kinds = (("standard", x), ("min-max", x), ("standard", x * 2))
    scalers = [fitted(kind, of, clip=limit) for limit, (kind, of) in enumerate(kinds, start=1)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *scalers)
    together = jax.jit(jax.vmap(scaling.apply, in_axes=(0, None)))(stacked, x)
    for found, scaler in zip(together, scalers, strict=True):
        np.testing.assert_allclose(found, scaled(scaler, x), rtol=1e-6, atol=1e-6)


def test_one_row_lifted_over_rows_equals_the_batch() -> None:
    x = rows()
    scaler = fitted("standard", x)
    by_row = jax.jit(jax.vmap(scaling.apply, in_axes=(None, 0)))(scaler, x)
    np.testing.assert_allclose(by_row, scaled(scaler, x), rtol=1e-6, atol=1e-6)

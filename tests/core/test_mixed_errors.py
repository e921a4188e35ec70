"""Errors of mixed tables, ranks and trimmed means, against float64 NumPy and scikit-learn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax
from sklearn.preprocessing import QuantileTransformer, RobustScaler

from aejax.config import InputError, Scale
from aejax.core import errors, mixed, scaling
from aejax.models.dense import DenseAutoencoder
from aejax.models.heads import Head, runs_of
from aejax.models.mixed import MixedAutoencoder

HEADS = (
    Head("number"),
    Head("number"),
    Head("category", 3),
    Head("category", 2),
    Head("boolean"),
    Head("cycle", 24),
    Head("cycle", 7),
    Head("number"),
)
OUTPUTS = sum(head.outputs for head in HEADS)


def rows(n: int = 40) -> np.ndarray:
    """Every kind of cell; each column misses some, and the last row all."""
    random = np.random.default_rng(0)
    x = random.normal(size=(n, len(HEADS)))
    x[:, 2], x[:, 3] = random.integers(0, 4, n), random.integers(0, 3, n)
    x[:, 4], x[:, 5], x[:, 6] = (
        random.integers(0, 2, n),
        24 * random.random(n),
        7 * random.random(n),
    )
    x[random.random(x.shape) < 0.2] = np.nan
    x[-1] = np.nan
    return x.astype(np.float32)


def outputs(n: int = 40) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, OUTPUTS)).astype(np.float32)


def reference(x: np.ndarray, y: np.ndarray, power: int) -> np.ndarray:
    """Cell by cell, in float64, from the definition."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    found = np.full(x.shape, np.nan)
    for row in range(len(x)):
        number, angle = y[row], 2 * np.pi * x[row] / np.array([1] * 5 + [24, 7, 1])
        for column, output in ((0, 0), (1, 1), (7, 14)):
            found[row, column] = abs(x[row, column] - number[output]) ** power
        for column, first, size in ((2, 2, 4), (3, 6, 3)):
            if not np.isnan(x[row, column]):
                logits = number[first : first + size]
                found[row, column] = -log_softmax(logits)[int(x[row, column])]
        if not np.isnan(x[row, 4]):
            p = expit(number[9])
            found[row, 4] = -np.log(p if x[row, 4] else 1 - p)
        # Of two cycles side by side, both sines come before both cosines.
        for column, sine, cosine in ((5, 10, 12), (6, 11, 13)):
            apart = np.array(
                [np.sin(angle[column]) - number[sine], np.cos(angle[column]) - number[cosine]]
            )
            found[row, column] = (np.abs(apart) ** power).mean()
    return found


@pytest.mark.parametrize(("name", "power"), [("squared", 2), ("absolute", 1)])
def test_every_kind_of_column_has_its_error(name: str, power: int) -> None:
    x, y = rows(), outputs()
    expected = reference(x, y, power)
    found = errors.feature_error(name, jnp.asarray(x), jnp.asarray(y), HEADS)
    np.testing.assert_allclose(found, np.nan_to_num(expected), rtol=2e-5, atol=1e-6)
    score = errors.row_error(name, jnp.asarray(x), jnp.asarray(y), HEADS)
    np.testing.assert_allclose(score[:-1], np.nanmean(expected[:-1], axis=1), rtol=2e-5)
    assert np.isnan(score[-1])


def test_runs_join_neighbours_of_a_kind_but_not_categories() -> None:
    runs = [(run.head.kind, run.first, run.columns, run.outputs) for run in runs_of(HEADS)]
    assert runs == [
        ("number", 0, 2, 0),
        ("category", 2, 1, 2),
        ("category", 3, 1, 6),
        ("boolean", 4, 1, 9),
        ("cycle", 5, 2, 10),
        ("number", 7, 1, 14),
    ]


def test_what_is_expected_is_in_the_form_of_rows() -> None:
    y = np.zeros((1, OUTPUTS), np.float32)
    y[0, [0, 1, 4, 8, 9, 14]] = [1.5, -2, 9, 9, 3, 0.25]
    hour, weekday = 2 * np.pi * 18.5 / 24, 2 * np.pi * 6.0 / 7
    y[0, 10:14] = np.sin(hour), np.sin(weekday), np.cos(hour), np.cos(weekday)
    found = np.asarray(mixed.expected(HEADS, jnp.asarray(y)))[0]
    np.testing.assert_allclose(found, [1.5, -2, 2, 2, expit(3), 18.5, 6.0, 0.25], rtol=1e-5)


@pytest.mark.parametrize("embedding", [0, 5])
def test_missing_cells_reach_no_gradient_and_no_other_row(embedding: int) -> None:
    heads = tuple(
        head._replace(embedding=embedding if head.kind == "category" else 0, indicator=True)
        for head in HEADS
    )
    network = DenseAutoencoder(shape=(OUTPUTS,), hidden=(6, 3), decoder=(6,))
    model = MixedAutoencoder(heads=heads, network=network)
    x = jnp.asarray(rows())
    variables = model.init(jax.random.key(0), x)

    def loss(variables: object) -> jax.Array:
        y = model.apply(variables, x)
        return jnp.sum(errors.feature_error("squared", x, y, heads))

    gradient = jax.grad(loss)(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    width = model.apply(variables, x, method="inputs").shape[1]
    assert width == 3 + 1 + 4 + (2 * embedding or 5) + len(heads)
    # A value that is not known is no input, as a missing one; only the indicator differs.
    one = jnp.zeros((2, len(heads))).at[0, 2].set(3).at[1, 2].set(jnp.nan)
    unknown, missing = model.apply(variables, one, method="inputs")
    assert np.flatnonzero(np.asarray(unknown != missing)).tolist() == [width - len(heads) + 2]


@pytest.mark.parametrize("trim", [0.1, 0.25, 0.5])
def test_the_trimmed_mean_leaves_out_the_largest(trim: float) -> None:
    random = np.random.default_rng(0)
    values, mask = random.exponential(size=50).astype(np.float32), random.random(50) < 0.8
    kept = np.sort(values[mask].astype(np.float64))
    expected = kept[: len(kept) - int(trim * len(kept))].mean()
    found, gradient = jax.value_and_grad(errors.trimmed_mean)(
        jnp.asarray(values), jnp.asarray(mask), trim
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.count_nonzero(gradient) == len(kept) - int(trim * len(kept))
    assert errors.trimmed_mean(jnp.ones(3), jnp.zeros(3, bool), trim) == 0


def skewed(n: int = 1000) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.exp(random.normal(size=(n, 3)) * [0.5, 1, 2] + [0, 3, -2]).astype(np.float32)


def test_the_robust_scale_is_scikit_learns() -> None:
    x = skewed()
    scaler = scaling.fit(Scale(kind="robust"), np.array_split(x, 7), x.dtype)
    expected = RobustScaler(unit_variance=True).fit_transform(x.astype(np.float64))
    np.testing.assert_allclose(scaling.apply(scaler, x), expected, rtol=2e-2, atol=2e-2)
    # Two wild rows of 1,000 hardly move a quartile, which the definition says; they decide a
    # standard deviation.
    wild = x.copy()
    wild[:2] *= 1e6
    moved = scaling.fit(Scale(kind="robust"), [wild], x.dtype)
    exact = RobustScaler(unit_variance=True).fit(wild.astype(np.float64))
    np.testing.assert_allclose(1 / np.asarray(moved.factor), exact.scale_, rtol=1e-2)
    np.testing.assert_allclose(moved.factor, scaler.factor, rtol=0.05)
    standard = [scaling.fit(Scale(kind="standard"), [rows], x.dtype) for rows in (x, wild)]
    assert (np.asarray(standard[0].factor) > 100 * np.asarray(standard[1].factor)).all()


def test_the_quantile_scale_ranks_as_scikit_learn_does() -> None:
    x = skewed()
    scaler = scaling.fit(Scale(kind="quantile"), np.array_split(x, 7), x.dtype)
    found = np.asarray(scaling.apply(scaler, jnp.asarray(x)))
    transformer = QuantileTransformer(n_quantiles=1000, subsample=None)
    ranks = transformer.fit_transform(x.astype(np.float64))
    np.testing.assert_allclose(found, np.sqrt(12) * (ranks - 0.5), atol=0.03)
    inside = (x > np.quantile(x, 0.01, axis=0)) & (x < np.quantile(x, 0.99, axis=0))
    back = scaling.invert(scaler, found)
    np.testing.assert_allclose(back[inside], x[inside], rtol=1e-3)
    beyond = scaling.apply(scaler, jnp.asarray(x[:2] * 0 + 1e30))
    np.testing.assert_allclose(beyond, np.sqrt(3), rtol=1e-6)


@pytest.mark.parametrize("kind", ["min-max", "standard", "robust", "quantile"])
def test_only_present_numbers_are_scaled(kind: str) -> None:
    x = rows(400)
    scale = Scale(kind=kind, clip=1.5)  # type: ignore[arg-type]
    scaler = scaling.fit(scale, np.array_split(x, 3), x.dtype, HEADS)
    like = scaling.like(scale, x.shape[1:], mixed=True)
    assert jax.tree.map(np.shape, scaler) == jax.tree.map(lambda leaf: leaf.shape, like)
    found = np.asarray(scaling.apply(scaler, jnp.asarray(x)))
    codes = slice(2, 7)
    np.testing.assert_array_equal(found[:, codes], x[:, codes])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
    exact = x.astype(np.float64)
    low, mid, high = np.nanquantile(exact, [0.25, 0.5, 0.75], axis=0)
    expected = {
        "min-max": (exact - np.nanmin(exact, axis=0))
        / (np.nanmax(exact, axis=0) - np.nanmin(exact, axis=0)),
        "standard": (exact - np.nanmean(exact, axis=0)) / np.nanstd(exact, axis=0),
        "robust": (exact - mid) / (high - low) * 1.3489795,
        "quantile": np.sqrt(12)
        * (
            np.array([(c[:, None] <= c).sum(axis=0) / (~np.isnan(c)).sum() for c in exact.T]).T
            - 0.5
        ),
    }[kind]
    for column in (0, 1, 7):
        there = ~np.isnan(x[:, column])
        wanted = np.clip(expected[there, column], -1.5, 1.5)
        np.testing.assert_allclose(found[there, column], wanted, rtol=3e-2, atol=3e-2)


def test_no_rows_are_refused() -> None:
    for kind in ("standard", "quantile"):
        with pytest.raises(InputError, match="found 0"):
            scaling.fit(Scale(kind=kind), [], np.dtype(np.float32), HEADS)

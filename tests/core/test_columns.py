"""Scores of rows that lie side by side: the same numbers as those of rows, and of float64 NumPy."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from aejax.config import Dense, Scale
from aejax.core import scaling, steps
from aejax.data.schema import Schema
from aejax.models.build import build, network_for
from aejax.row_scores.norm import NoiseLevelsAndNorm

FEATURES = 7
ERRORS = {
    "squared": lambda x, y: np.square(x - y),
    "absolute": lambda x, y: np.abs(x - y),
    "bernoulli": lambda x, y: -(x * np.log(y) + (1 - x) * np.log1p(-y)),
}


def rows(n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.05, 0.95, (n, FEATURES)).astype(np.float32)


def fresh(network: Any) -> Any:
    return jax.jit(network.init, static_argnums=1)(jax.random.key(1), (FEATURES,))


def by_hand(variables: Any, settings: Dense, x: np.ndarray) -> np.ndarray:
    """The network of relu and sigmoid in float64."""
    layers = variables["params"]
    names = [f"encoder_layers_{i}" for i in range(len(settings.hidden))]
    names += [f"decoder_layers_{i}" for i in range(len(settings.hidden) - 1)]
    for name in names:
        x = np.maximum(x @ np.float64(layers[name]["kernel"]) + layers[name]["bias"], 0)
    last = layers["output_layer"]
    return 1 / (1 + np.exp(-(x @ np.float64(last["kernel"]) + last["bias"])))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("squared", "none"),
        ("squared", "standard"),
        ("absolute", "quantile"),
        ("bernoulli", "min-max"),
    ],
)
def test_columns_get_the_scores_of_rows(error: Any, kind: Any) -> None:
    settings = Dense(hidden=(5, 3), output="sigmoid")
    network = build(settings, Schema(shape=(FEATURES,)))
    scorer = steps.Scorer(model=network, error=error)
    assert scorer.takes_columns
    x = rows()
    scaler = scaling.fit(Scale(kind=kind, clip=2.0), [x], np.dtype(np.float32))
    variables = fresh(network)
    found = steps.compiled_score_columns(scorer, variables, scaler, np.ascontiguousarray(x.T))
    of_rows = np.asarray(steps.compiled_score(scorer, variables, scaler, x))
    np.testing.assert_allclose(found, of_rows, rtol=1e-5)
    scaled = np.float64(scaling.apply(scaler, x))
    expected = ERRORS[error](scaled, by_hand(variables, settings, scaled)).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_activation_and_precision(activation: Any, precision: Any) -> None:
    settings = Dense(hidden=(6, 2, 4), activation=activation, decoder=(5,))
    network = build(settings, Schema(shape=(FEATURES,)), precision=precision)
    scorer = steps.Scorer(model=network, error="squared")
    variables, scaler = fresh(network), scaling.Scaler(None, None, None)
    x = rows()
    found = steps.compiled_score_columns(scorer, variables, scaler, np.ascontiguousarray(x.T))
    of_rows = steps.compiled_score(scorer, variables, scaler, x)
    np.testing.assert_allclose(found, of_rows, rtol=1e-5 if precision == "float32" else 1e-2)


def test_features_that_a_member_does_not_see_do_not_count() -> None:
    settings = Dense(hidden=(3,))
    network = network_for(settings, (FEATURES,))
    scorer = steps.Scorer(model=network, error="squared")
    weights = np.float32([0, 0, *[FEATURES / 5] * 5])
    variables = {**fresh(network), "weights": {"features": weights}}
    scaler = scaling.Scaler(None, None, None)
    x = rows()
    found = steps.compiled_score_columns(scorer, variables, scaler, np.ascontiguousarray(x.T))
    _, y = steps.compiled_reconstruct(scorer, variables, scaler, x)
    seen = np.square(x - y)[:, 2:].mean(axis=1)
    np.testing.assert_allclose(found, seen, rtol=1e-5)


def test_who_takes_columns_and_who_gets_rows() -> None:
    dense = steps.Scorer(model=network_for(Dense(hidden=(3,)), (FEATURES,)), error="squared")
    assert dense.takes_columns
    for other in (
        dataclasses.replace(dense, combine="mean"),
        dataclasses.replace(dense, error=lambda x, y: abs(x - y)),
        dataclasses.replace(dense, score=NoiseLevelsAndNorm()),
        dataclasses.replace(
            dense, model=network_for(Dense(hidden=(3,), batch_norm=True), (FEATURES,))
        ),
        dataclasses.replace(dense, model=network_for(Dense(hidden=(3,)), (4, 4, 1))),
    ):
        assert not other.takes_columns

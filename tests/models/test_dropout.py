"""Dropout with a rate that is an array: Flax's units, and no random bits where there is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import config
from aejax.config import Scale
from aejax.core import objectives, optimizers, scaling, steps
from aejax.core.objectives import Fed
from aejax.data.schema import Column, Schema
from aejax.models.build import build
from aejax.models.layers import rates
from tests.plain import plain_config

KEY = jax.random.key(3)
DROPPING = config.Dense(hidden=(7, 3), activation="tanh", output="sigmoid", dropout=0.4)
MIXED = Schema(
    shape=(3,),
    names=("a", "b", "c"),
    columns=(
        Column(name="a", source="a", kind="number"),
        Column(name="b", source="b", kind="category", categories=("x", "y")),
        Column(name="c", source="c", kind="boolean"),
    ),
)
FAMILIES = [
    (DROPPING, Schema(shape=(3,))),
    (DROPPING, MIXED),
    (config.Variational(network=DROPPING, latent=2), Schema(shape=(3,))),
    (config.Classifier(network=DROPPING), Schema(shape=(3,))),
]


class PlainDense(nn.Module):
    """The same network with `flax.linen.Dropout`, whose rate is a constant."""

    rate: float

    def setup(self) -> None:
        self.encoder_layers = [nn.Dense(7), nn.Dense(3)]
        self.decoder_layers = [nn.Dense(7)]
        self.output_layer = nn.Dense(10)
        self.drop = nn.Dropout(self.rate)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in (*self.encoder_layers, *self.decoder_layers):
            x = self.drop(jnp.tanh(layer(x)), deterministic=False)
        return nn.sigmoid(self.output_layer(x))


@pytest.mark.parametrize("rate", [0.4, 0.1, 0.0])
def test_the_units_are_those_that_flax_drops(rate: float) -> None:
    module = build(DROPPING, Schema(shape=(10,))).module
    x = jax.random.normal(jax.random.key(0), (50, 10))
    variables = module.init(jax.random.key(1), x)
    found = module.apply(
        {**variables, **rates(module, jnp.float32(rate))}, x, train=True, rngs={"dropout": KEY}
    )
    wanted = PlainDense(rate).apply(variables, x, rngs={"dropout": KEY})
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_rate_of_0_leaves_the_very_bits_of_no_dropout() -> None:
    module = build(DROPPING, Schema(shape=(10,))).module
    x = jax.random.normal(jax.random.key(0), (50, 10))
    variables = module.init(jax.random.key(1), x)
    found = module.apply(
        {**variables, **rates(module, jnp.float32(0))}, x, train=True, rngs={"dropout": KEY}
    )
    np.testing.assert_array_equal(found, module.apply(variables, x, train=True))


def test_the_share_and_the_scale_are_as_asked() -> None:
    module = build(config.Dense(hidden=(400,), decoder=()), Schema(shape=(400,))).module
    x = jnp.ones((100, 400))
    variables = jax.tree.map(lambda leaf: leaf * 0, module.init(jax.random.key(1), x))
    for layer in variables["params"].values():
        layer["kernel"] = jnp.eye(400)
    found = np.asarray(
        module.apply({**variables, **rates(module, 0.3)}, x, train=True, rngs={"dropout": KEY})
    )
    # 40,000 units: the share of those dropped has a standard deviation of 0.0023.
    assert np.mean(found == 0) == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(found[found != 0], 1 / 0.7, rtol=1e-6)


@pytest.mark.parametrize(("model", "schema"), FAMILIES)
def test_every_family_drops_what_its_configuration_says(
    model: config.Model, schema: Schema
) -> None:
    def losses(model: config.Model, train: bool, seed: int) -> np.ndarray:
        settings = plain_config(model=model, scale=Scale(kind="min-max"))
        network = build(model, schema)
        x = jnp.tile(jnp.array([0.5, 1.0, 0.0]), (200, 1))
        variables = steps.new_variables(network, schema.shape, 0)
        values = optimizers.numbers(settings, 1)
        classes = jnp.zeros(200, jnp.int32) if model.learns_classes else None
        fed = Fed(x, classes, jnp.ones(200, bool), jax.random.key(seed), values)
        objective = objectives.objective_of(settings)

        def rows(variables: Any, fed: Fed) -> jax.Array:
            return objectives.row_losses(objective, network, variables, fed, train=train)[0]

        return np.asarray(jax.jit(rows)(variables, fed))

    varies = isinstance(model, config.Variational)
    # Equal rows have equal losses, unless units of theirs are dropped (or latents are drawn).
    assert np.ptp(losses(model, True, 1)) > 0
    assert model.dropout == 0.4
    assert model.without_dropout().dropout == 0
    quiet = losses(model.without_dropout(), True, 1)
    assert (np.ptp(quiet) < 1e-6) != varies
    np.testing.assert_array_equal(
        losses(model, False, 1), losses(model.without_dropout(), False, 1)
    )
    assert not np.allclose(losses(model, True, 1), quiet)


def test_settings_without_dropout_are_the_models_own_otherwise() -> None:
    assert DROPPING.without_dropout() == dataclasses.replace(DROPPING, dropout=0.0)
    for model in (config.Conv(), config.SuperResolution(), config.Context()):
        assert model.dropout == 0
        assert model.without_dropout() is model
    assert config.Variational(network=config.Conv()).dropout == 0


@pytest.mark.parametrize(("dropout", "drawn"), [(0.0, False), (0.2, True)])
def test_a_program_without_dropout_draws_no_random_bits(dropout: float, drawn: bool) -> None:
    settings = plain_config(model=config.Dense(hidden=(4,), dropout=dropout))
    program = steps.program_of(settings, build(settings.model, Schema(shape=(3,))))
    values = optimizers.numbers(settings, 1)
    x = np.ones((5, 3), np.float32)
    state = jax.eval_shape(lambda: steps.new_state(program, (3,), values))
    scaler = scaling.fit(settings.scale, [x], x.dtype)

    def step(state: Any, values: Any) -> Any:
        return steps.train_step(program, state, x, np.ones(5, bool), scaler, values)

    assert ("random_bits" in str(jax.make_jaxpr(step)(state, values))) == drawn

"""Whole models: shapes, parameters, masks, and the same values as plain Flax and NumPy."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import config
from aejax.data.columns import Column
from aejax.data.schema import Schema
from aejax.models import layers
from aejax.models.build import build

IMAGE = Schema(shape=(8, 12, 1), kind="image")
MODELS = [
    (config.Dense(hidden=(12, 5), batch_norm=True), Schema(shape=(4, 5)), (5,)),
    (config.Dense(hidden=(6,), decoder=()), Schema(shape=(9,)), (6,)),
    (config.Conv(channels=(6, 4)), IMAGE, (2, 3, 4)),
    (config.Conv(channels=(6, 4), down="pool", batch_norm=True), IMAGE, (2, 3, 4)),
    (config.Conv(channels=(4,), kernel=5, batch_norm=True), IMAGE, (4, 6, 4)),
]


@pytest.mark.parametrize(("settings", "schema", "latent"), MODELS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_contract(
    settings: config.Model, schema: Schema, latent: tuple[int, ...], precision: config.Precision
) -> None:
    network = build(settings, schema, precision=precision)
    assert hash(network) == hash(build(settings, schema, precision=precision))
    assert network == build(settings, schema, precision=precision)
    module = network.module
    x = jax.random.uniform(jax.random.key(0), (3, *schema.shape))
    variables = jax.jit(module.init)(jax.random.key(1), x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    y = jax.jit(module.apply)(variables, x)
    assert y.shape == x.shape
    assert y.dtype == jnp.float32
    encode = functools.partial(module.apply, method="encode")
    assert jax.eval_shape(encode, variables, x).shape == (3, *latent)
    train = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    trained, updates = train(variables, x, mask=jnp.ones(3, bool))
    assert trained.shape == x.shape
    assert bool(updates) == settings.batch_norm


@pytest.mark.parametrize("settings", [s for s, _, _ in MODELS if s.batch_norm])
def test_padded_rows_enter_no_statistics(settings: config.Model) -> None:
    module = build(settings, IMAGE).module
    x = jax.random.uniform(jax.random.key(0), (5, *IMAGE.shape))
    variables = jax.jit(module.init)(jax.random.key(1), x)
    mask = jnp.array([True, True, False, True, False])

    def train(rows: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, dict]:
        apply = functools.partial(module.apply, train=True, mutable=["batch_stats"])
        return jax.jit(apply)(variables, rows, mask=mask)

    found, updated = train(jnp.where(mask[:, None, None, None], x, 1e3), mask)
    expected, alone = train(x[mask], None)
    np.testing.assert_allclose(found[mask], expected, atol=1e-5)
    for one, other in zip(jax.tree.leaves(updated), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_dense_is_numpy_in_float64() -> None:
    settings = config.Dense(hidden=(7, 3), activation="tanh", output="sigmoid", batch_norm=True)
    module = build(settings, Schema(shape=(2, 5))).module
    x = jax.random.normal(jax.random.key(0), (6, 2, 5))
    variables = jax.jit(module.init)(jax.random.key(1), x)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    found, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
    hidden = np.asarray(x, np.float64).reshape(6, 10)
    for name in ("encoder_layers_0", "encoder_layers_1", "decoder_layers_0"):
        hidden = hidden @ params[name]["kernel"] + params[name]["bias"]
        mean, variance = hidden.mean(0), hidden.var(0)
        moving = updated["batch_stats"][name.replace("layers", "norms")]
        # Keras' moving averages: momentum 0.99 from 0 and 1, with the biased variance.
        np.testing.assert_allclose(moving["mean"], 0.01 * mean, atol=1e-6)
        np.testing.assert_allclose(moving["var"], 0.99 + 0.01 * variance, atol=1e-6)
        hidden = np.tanh((hidden - mean) / np.sqrt(variance + 1e-3))
    output = hidden @ params["output_layer"]["kernel"] + params["output_layer"]["bias"]
    np.testing.assert_allclose(found.reshape(6, 10), 1 / (1 + np.exp(-output)), atol=1e-5)


class PlainConv(nn.Module):
    """The two documented networks, in plain Flax, without normalisation."""

    pool: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in (6, 4):
            x = nn.relu(nn.Conv(width, (3, 3), strides=1 if self.pool else 2)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2)) if self.pool else x
        for width in (4, 6):
            if self.pool:
                x = nn.relu(nn.Conv(width, (3, 3))(x))
                x = x.repeat(2, axis=1).repeat(2, axis=2)
            else:
                x = nn.relu(nn.ConvTranspose(width, (3, 3), strides=(2, 2))(x))
        x = nn.relu(nn.Conv(6, (3, 3))(x)) if self.pool else x
        return nn.sigmoid(nn.Conv(1, (3, 3))(x))


@pytest.mark.parametrize("pool", [False, True])
def test_conv_is_plain_flax(pool: bool) -> None:
    module = build(config.Conv(channels=(6, 4), down="pool" if pool else "stride"), IMAGE).module
    x = jax.random.uniform(jax.random.key(0), (3, *IMAGE.shape))
    ours = jax.jit(module.init)(jax.random.key(1), x)["params"]
    plain = jax.jit(PlainConv(pool).init)(jax.random.key(1), x)["params"]
    names = ["Conv_0", "Conv_1", *([f"Conv_{i}" for i in (2, 3, 4, 5)] if pool else [])]
    if not pool:
        names += ["ConvTranspose_0", "ConvTranspose_1", "Conv_2"]
    levels = [f"encoder_layers_{i}" for i in range(2)]
    levels += [f"decoder_layers_{i}" for i in range(3 if pool else 2)] + ["output_layer"]
    copied = {name: ours[level] for name, level in zip(names, levels, strict=True)}
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, copied)

    def loss(params: dict, apply: object) -> jax.Array:
        return jnp.mean(jnp.square(apply({"params": params}, x) - x))

    np.testing.assert_allclose(
        module.apply({"params": ours}, x), PlainConv(pool).apply({"params": copied}, x), atol=1e-5
    )
    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    found = gradient(ours, module.apply)
    expected = gradient(copied, PlainConv(pool).apply)
    for name, level in zip(names, levels, strict=True):
        np.testing.assert_allclose(
            found[level]["kernel"], expected[name]["kernel"], atol=1e-6, rtol=1e-4
        )


def test_precision_changes_products_only() -> None:
    schema = Schema(shape=(50,))
    x = jax.random.normal(jax.random.key(0), (20, 50))
    module = build(config.Dense(hidden=(16,)), schema).module
    variables = jax.jit(module.init)(jax.random.key(1), x)
    half = build(config.Dense(hidden=(16,)), schema, precision="bfloat16").module.apply(
        variables, x
    )
    full = module.apply(variables, x)
    assert 0 < float(jnp.abs(half - full).max()) < 0.05


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 30, 1)])
def test_image_that_cannot_be_halved(shape: tuple[int, ...]) -> None:
    with pytest.raises(config.InputError, match=r"\(\d+, \d+, 1\).*divisible by 4"):
        build(config.Conv(channels=(4, 4)), Schema(shape=shape, kind="image"))


def test_row_that_is_no_image() -> None:
    with pytest.raises(config.InputError, match=r"\(28,\).*\(height, width, channels\)"):
        build(config.Conv(), Schema(shape=(28,)))


def test_activations_cover_the_settings() -> None:
    assert set(layers.ACTIVATIONS) == {"relu", "gelu", "silu", "tanh", "sigmoid", "linear"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_compiler_gets_the_precision_of_mixed_tables_too(
    precision: config.Precision,
) -> None:
    """Programs of bfloat16 products get other options on CPUs than those of float32."""
    columns = tuple(
        Column(name=n, kind=k, source=n) for n, k in (("a", "number"), ("b", "boolean"))
    )  # type: ignore[arg-type]
    schema = Schema(shape=(2,), names=("a", "b"), columns=columns)
    network = build(config.Dense(hidden=(4,)), schema, precision=precision)
    assert network.precision == precision

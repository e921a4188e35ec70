"""The super-resolving network against NumPy in float64: values and gradients."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax import config
from aejax.config import InputError
from aejax.data.schema import Schema
from aejax.models.build import build

SCHEMA = Schema(shape=(8, 12, 2), kind="image")
MODEL = config.SuperResolution(levels=2, convolutions=2, channels=3)
EPSILON = 1e-3


def variables_of(model: config.SuperResolution, schema: Schema = SCHEMA) -> dict[str, Any]:
    """Parameters and statistics, none of them 0 or 1."""
    module = build(model, schema).module
    made = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *schema.shape)))
    random = np.random.default_rng(1)
    return {
        "params": jax.tree.map(
            lambda leaf: np.float32(random.normal(scale=0.4, size=leaf.shape)), made["params"]
        ),
        "batch_stats": jax.tree.map(
            lambda leaf: np.float32(random.uniform(0.5, 1.5, size=leaf.shape)),
            made.get("batch_stats", {}),
        ),
    }


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A convolution with zeros around, pixel by pixel of the kernel."""
    size = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def restored(x: np.ndarray, variables: dict[str, Any]) -> np.ndarray:
    """The whole network with its moving statistics, in float64."""
    params, kept = (jax.tree.map(np.float64, variables[name]) for name in ("params", "batch_stats"))
    rows, height, width, channels = x.shape
    x = x.reshape(rows, height // 4, 4, width // 4, 4, channels).max(axis=(2, 4))
    for index in range(4):
        if index % 2 == 0:
            x = x.repeat(2, axis=1).repeat(2, axis=2)
        layer, norm = params[f"decoder_layers_{index}"], params[f"decoder_norms_{index}"]
        moving = kept[f"decoder_norms_{index}"]
        x = np.maximum(convolve(x, layer["kernel"]) + layer["bias"], 0)
        x = (x - moving["mean"]) / np.sqrt(moving["var"] + EPSILON)
        x = x * norm["scale"] + norm["bias"]
    layer = params["output_layer"]
    return 1 / (1 + np.exp(-(convolve(x, layer["kernel"]) + layer["bias"])))


def test_values_are_numpys_in_float64() -> None:
    x = np.random.default_rng(0).random((3, *SCHEMA.shape))
    variables = variables_of(MODEL)
    found = jax.jit(build(MODEL, SCHEMA).module.apply)(variables, np.float32(x))
    assert found.shape == x.shape
    np.testing.assert_allclose(found, restored(x, variables), atol=2e-6)


def test_latent_values_are_the_shrunk_image() -> None:
    x = np.random.default_rng(0).random((3, *SCHEMA.shape)).astype(np.float32)
    module, variables = build(MODEL, SCHEMA).module, variables_of(MODEL)
    latent = module.apply(variables, x, method="encode")
    np.testing.assert_array_equal(latent, x.reshape(3, 2, 4, 3, 4, 2).max(axis=(2, 4)))
    apply = jax.jit(module.apply)
    found = apply(variables, x)
    decoded = jax.jit(functools.partial(module.apply, method="decode"))(variables, latent)
    np.testing.assert_allclose(decoded, found, atol=1e-6)
    # What shrinking loses is lost: images with the same maxima are restored alike.
    coarse = apply(variables, latent.repeat(4, axis=1).repeat(4, axis=2))
    np.testing.assert_allclose(coarse, found, atol=1e-6)


@pytest.mark.parametrize("place", [("decoder_layers_0", "kernel"), ("decoder_layers_3", "bias")])
def test_gradients_are_finite_differences(place: tuple[str, str]) -> None:
    x = np.random.default_rng(0).random((2, *SCHEMA.shape))
    variables = variables_of(MODEL)
    layer, name = place

    def loss(params: Any) -> jax.Array:
        y = build(MODEL, SCHEMA).module.apply({**variables, "params": params}, np.float32(x))
        return jnp.mean(jnp.square(y - np.float32(x)))

    found = np.asarray(jax.jit(jax.grad(loss))(variables["params"])[layer][name])
    step = 1e-5
    for position in np.random.default_rng(2).integers(found.size, size=4):
        losses = []
        for sign in (1, -1):
            moved = jax.tree.map(np.float64, variables)
            moved["params"][layer][name].flat[position] += sign * step
            losses.append(np.mean(np.square(restored(x, moved) - x)))
        expected = (losses[0] - losses[1]) / (2 * step)
        np.testing.assert_allclose(found.flat[position], expected, rtol=1e-3, atol=1e-7)


def test_training_normalises_by_the_rows_that_are_there() -> None:
    x = np.random.default_rng(0).random((5, *SCHEMA.shape)).astype(np.float32)
    mask = np.array([True, False, True, True, False])
    module, variables = build(MODEL, SCHEMA).module, variables_of(MODEL)
    wild = np.where(mask[:, None, None, None], x, 50)
    apply = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    found, kept = apply(variables, wild, mask=mask)
    expected, alone = apply(variables, x[mask])
    np.testing.assert_allclose(found[mask], expected, atol=1e-5)
    for one, other in zip(jax.tree.leaves(kept), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_articles_network_has_its_parameters() -> None:
    schema = Schema(shape=(28, 28, 1), kind="image")
    made = jax.eval_shape(
        build(config.SuperResolution(), schema).module.init,
        jax.random.key(0),
        jnp.zeros((1, 28, 28, 1)),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(made["params"]))
    # Conv 1 -> 8, three times 8 -> 8, 8 -> 1, and scale and bias of four normalisations.
    assert count == (9 * 8 + 8) + 3 * (9 * 64 + 8) + (9 * 8 + 1) + 4 * 16


def test_image_that_cannot_be_halved_so_often() -> None:
    with pytest.raises(InputError, match=r"\(28, 28, 1\).*divisible by 8"):
        build(config.SuperResolution(levels=3), Schema(shape=(28, 28, 1), kind="image"))

"""Layers against `flax.linen`'s, in value and gradient."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aejax.models import layers
from aejax.models.convolution import Resize

RESIZES: tuple[Resize, ...] = ("none", "stride", "transpose", "repeat")


def reference(layer: layers.Conv) -> nn.Module:
    size = (layer.kernel, layer.kernel)
    if layer.resize == "transpose":
        return nn.ConvTranspose(layer.features, size, strides=(2, 2))
    return nn.Conv(layer.features, size, strides=(2, 2) if layer.resize == "stride" else (1, 1))


def apply_reference(layer: layers.Conv, variables: dict, x: jax.Array) -> jax.Array:
    if layer.resize == "repeat":
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    y = reference(layer).apply(variables, x)
    return layers.ACTIVATIONS[layer.activation](y)


def draw(layer: layers.Conv, shape: tuple[int, ...], seed: int = 0) -> tuple[dict, jax.Array]:
    keys = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(keys[0], shape)
    kernel = jax.random.normal(
        keys[1], (layer.kernel, layer.kernel, shape[-1], layer.features)
    ) / np.sqrt(shape[-1])
    bias = jax.random.normal(keys[2], (layer.features,))
    return {"params": {"kernel": kernel, "bias": bias}}, x


def assert_same(layer: layers.Conv, shape: tuple[int, ...]) -> None:
    variables, x = draw(layer, shape)

    @jax.jit
    def both(variables: dict, x: jax.Array) -> tuple:
        expected, flax_gradient = jax.vjp(
            lambda variables, x: apply_reference(layer, variables, x), variables, x
        )
        found, our_gradient = jax.vjp(
            lambda variables, x: layers.as_image(layer.apply(variables, x)), variables, x
        )
        cotangent = jax.random.normal(jax.random.key(9), expected.shape)
        return (found, our_gradient(cotangent)), (expected, flax_gradient(cotangent))

    found, expected = both(variables, x)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * (1 + np.abs(other).max()), rtol=1e-5)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize(
    ("shape", "features", "kernel"),
    [
        ((3, 28, 28, 1), 16, 3),
        ((2, 7, 9, 3), 5, 5),
        ((1, 8, 6, 5), 2, 7),
        ((2, 5, 4, 2), 3, 1),
    ],
)
def test_conv_is_flaxs(resize: Resize, shape: tuple[int, ...], features: int, kernel: int) -> None:
    assert_same(layers.Conv(features, kernel, resize, "tanh"), shape)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    resize=st.sampled_from(RESIZES),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.integers(1, 4),
    features=st.integers(1, 4),
    kernel=st.sampled_from([1, 3, 5]),
)
def test_conv_is_flaxs_for_any_size(
    resize: Resize, size: tuple[int, int], channels: int, features: int, kernel: int
) -> None:
    assert_same(layers.Conv(features, kernel, resize), (2, *size, channels))


@pytest.mark.parametrize("resize", RESIZES)
def test_blocks_are_the_image_they_hold(resize: Resize) -> None:
    layer = layers.Conv(3, 3, resize)
    variables, x = draw(layer, (2, 8, 6, 4))
    blocks = layers.as_blocks(x)
    np.testing.assert_array_equal(layers.as_image(blocks), x)
    np.testing.assert_allclose(
        layers.as_image(layer.apply(variables, blocks)),
        apply_reference(layer, variables, x),
        atol=1e-5,
    )


@pytest.mark.parametrize("resize", RESIZES)
def test_vmap_over_parameters_and_scan_are_a_loop(resize: Resize) -> None:
    layer = layers.Conv(3, 3, resize)
    members = [draw(layer, (2, 4, 6, 2), seed) for seed in range(3)]
    x = members[0][1]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(member[0] for member in members))
    expected = jnp.stack([apply_reference(layer, member[0], x) for member in members])

    def loss(variables: dict) -> jax.Array:
        return jnp.sum(jnp.square(layers.as_image(layer.apply(variables, x))))

    def reference_loss(variables: dict) -> jax.Array:
        return jnp.sum(jnp.square(apply_reference(layer, variables, x)))

    @jax.jit
    def gradients(stacked: dict) -> tuple:
        _, scanned = jax.lax.scan(
            lambda _, variables: (None, jax.grad(loss)(variables)), None, stacked
        )
        return (
            scanned,
            jax.vmap(jax.grad(loss))(stacked),
            jax.vmap(jax.grad(reference_loss))(stacked),
        )

    mapped = jax.jit(jax.vmap(lambda variables: layers.as_image(layer.apply(variables, x))))
    np.testing.assert_allclose(mapped(stacked), expected, atol=1e-5)
    scanned, vmapped, wanted = (tree["params"]["kernel"] for tree in gradients(stacked))
    np.testing.assert_allclose(scanned, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(vmapped, wanted, rtol=1e-4, atol=1e-4)


def test_cpu_program_holds_no_convolution_and_exports_hold_both_forms() -> None:
    layer = layers.Conv(3, 3, "stride")
    variables, x = draw(layer, (2, 4, 6, 2))
    apply = jax.jit(layer.apply)
    assert "convolution" not in apply.lower(variables, x).as_text()
    exported = jax.export.export(apply, platforms=("cpu", "cuda", "tpu"))(variables, x)
    assert "stablehlo.convolution" in exported.mlir_module()
    np.testing.assert_allclose(
        exported.call(variables, x), apply_reference(layer, variables, x), atol=1e-5
    )


@pytest.mark.parametrize("resize", RESIZES)
def test_native_form_is_flaxs(resize: Resize) -> None:
    layer = layers.Conv(3, 5, resize)
    variables, x = draw(layer, (2, 5, 6, 2))
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    found = layers.convolve(x, kernel, resize, "float32") + bias
    np.testing.assert_allclose(found, apply_reference(layer, variables, x), atol=1e-5)


@pytest.mark.parametrize("resize", RESIZES)
def test_bfloat16_rounds_inputs_and_accumulates_in_float32(resize: Resize) -> None:
    layer = layers.Conv(3, 3, resize, precision="bfloat16")
    variables, x = draw(layer, (2, 4, 4, 16))
    variables["params"]["bias"] = jnp.zeros(3)
    rounded = jax.tree.map(lambda a: a.astype(jnp.bfloat16).astype(jnp.float32), (variables, x))
    found = layers.as_image(layer.apply(variables, x))
    assert found.dtype == jnp.float32
    # "repeat" adds kernel positions that read one pixel before it rounds them.
    tolerance = 0.05 if resize == "repeat" else 1e-5
    np.testing.assert_allclose(found, apply_reference(layer, *rounded), atol=tolerance)


def test_dense_is_flaxs_and_rounds_on_request() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 300))
    variables = layers.Dense(7).init(jax.random.key(1), x)
    kernel = np.asarray(variables["params"]["kernel"], np.float64)
    np.testing.assert_allclose(
        layers.Dense(7).apply(variables, x), np.asarray(x, np.float64) @ kernel, atol=1e-5
    )
    expected = nn.Dense(7).init_with_output(jax.random.key(1), x)[1]
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)
    half = layers.Dense(7, "bfloat16").apply(variables, x)
    rounded = [np.asarray(a.astype(jnp.bfloat16), np.float64) for a in (x, jnp.asarray(kernel))]
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, rounded[0] @ rounded[1], atol=1e-5)


def test_initial_kernels_are_keras() -> None:
    x = jnp.zeros((1, 8, 8, 16))
    kernel = layers.Conv(32).init(jax.random.key(0), x)["params"]["kernel"]
    limit = np.sqrt(6 / (9 * 16 + 9 * 32))
    assert float(jnp.abs(kernel).max()) <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.03)


def test_max_pool_is_flaxs_in_value_and_gradient_with_ties() -> None:
    x = nn.relu(jax.random.normal(jax.random.key(0), (3, 8, 6, 5)))  # many zeros tie

    def pooled(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (2, 2), strides=(2, 2))

    np.testing.assert_array_equal(layers.max_pool(x), pooled(x))
    cotangent = jax.random.normal(jax.random.key(1), (3, 4, 3, 5))
    found = jax.vjp(layers.max_pool, x)[1](cotangent)[0]
    np.testing.assert_array_equal(found, jax.vjp(pooled, x)[1](cotangent)[0])
    bad = x.at[0, 1, 1, 0].set(jnp.nan)
    assert bool(jnp.isnan(layers.max_pool(bad)[0, 0, 0, 0]))


def test_upsample_is_numpys_repeat() -> None:
    x = np.arange(24.0, dtype=np.float32).reshape(2, 2, 3, 2)
    np.testing.assert_array_equal(
        layers.upsample(jnp.asarray(x)), x.repeat(2, axis=1).repeat(2, axis=2)
    )

"""Batch normalisation is Flax's: values, running statistics, gradients, masks; in every shape."""

from __future__ import annotations

import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.models import layers

SHAPES = [(9, 5), (9, 6, 4, 3), (9, 3, 2, 5, 2, 4)]
REFERENCE = nn.BatchNorm(momentum=0.99, epsilon=1e-3)


def drawn(shape: tuple[int, ...]) -> tuple[dict[str, Any], jax.Array]:
    """Parameters and statistics that are not their initial values, and an input."""
    random = np.random.default_rng(len(shape))
    width = shape[-1]
    variables = {
        "params": {
            "scale": jnp.asarray(random.uniform(0.5, 2, width), jnp.float32),
            "bias": jnp.asarray(random.normal(size=width), jnp.float32),
        },
        "batch_stats": {
            "mean": jnp.asarray(random.normal(size=width), jnp.float32),
            "var": jnp.asarray(random.uniform(0.5, 2, width), jnp.float32),
        },
    }
    return variables, jnp.asarray(2 + 3 * random.normal(size=shape), jnp.float32)


def flaxs(variables: Any, x: jax.Array, train: bool, mask: Any) -> Any:
    if mask is not None:
        mask = mask.reshape((-1,) + (1,) * (x.ndim - 1))
    how: Any = {"use_running_average": not train, "mask": mask, "mutable": ["batch_stats"]}
    return REFERENCE.apply(variables, x, **how)


def ours(variables: Any, x: jax.Array, train: bool, mask: Any) -> Any:
    how: Any = {"train": train, "mask": mask, "mutable": ["batch_stats"]}
    return layers.BatchNorm().apply(variables, x, **how)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_values_statistics_and_gradients_are_flaxs(
    shape: tuple[int, ...], masked: bool, train: bool
) -> None:
    variables, x = drawn(shape)
    mask = jnp.arange(shape[0]) % 3 > 0 if masked else None
    weights = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)

    def loss(apply: Any, params: Any, x: jax.Array) -> Any:
        y, changed = apply({**variables, "params": params}, x, train, mask)
        if mask is not None:
            y = jnp.where(mask.reshape((-1,) + (1,) * (x.ndim - 1)), y, 0)
        return jnp.sum(y * weights), (y, changed)

    results = [
        jax.jit(jax.value_and_grad(lambda p, x, f=f: loss(f, p, x), argnums=(0, 1), has_aux=True))(
            variables["params"], x
        )
        for f in (ours, flaxs)
    ]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
        *[(aux, gradient) for (_, aux), gradient in results],
    )


def test_initial_values_are_flaxs() -> None:
    x = jnp.ones((2, 4, 4, 3))
    found = layers.BatchNorm().init(jax.random.key(0), x, train=True)
    expected = REFERENCE.init(jax.random.key(0), x, use_running_average=False)
    jax.tree.map(np.testing.assert_array_equal, dict(found), dict(expected))


def test_a_cpu_program_transposes_nothing_between_neighbours() -> None:
    """What made the pooled network twice as slow: transposes of whole images around the norm."""

    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = layers.Conv(8, activation="relu")(x)
            x = layers.BatchNorm()(x, train=False)
            return layers.Conv(8)(x)

    x = jnp.zeros((16, 12, 12, 8))
    variables = Pair().init(jax.random.key(0), x)
    text = jax.jit(Pair().apply).lower(variables, x).compile().as_text()
    assert text is not None
    shapes = re.findall(r"= f32\[([0-9,]+)\]\S* transpose\(", text)
    large = [shape for shape in shapes if math.prod(map(int, shape.split(","))) == x.size]
    # One into the layout of the first convolution and one out of that of the last.
    assert len(large) <= 2

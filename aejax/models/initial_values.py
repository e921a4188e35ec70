"""Parameters of the networks, and their initial values: drawn on the host where the key is known.

A program that draws them takes longer to compile than a table's network takes to train: every
shape gets a loop of its own. NumPy draws the same bits without one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Above it a compiled program is faster, compiling included.
MOST_ON_HOST = 1 << 20

# Where each round of Threefry-2x32 rotates by, and the constant of its key schedule
# (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def parameter(
    module: nn.Module,
    name: str,
    initial: Callable[..., Any],
    shape: tuple[int, ...],
) -> jax.Array:
    """A module's parameter: as `module.param`, without tracing `initial` where there is a value.

    Where there is none, it is drawn at once of a key that is known, also while rows are traced.
    """
    value: jax.Array
    if module.has_variable("params", name):
        value = module.get_variable("params", name)
    else:
        assert module.scope is not None
        traced = isinstance(module.scope.rngs["params"].rng, jax.core.Tracer)
        with contextlib.nullcontext() if traced else jax.ensure_compile_time_eval():
            value = module.param(name, initial, shape)
    return value


def zeros(key: jax.Array, shape: tuple[int, ...]) -> Any:
    """Zeros, float32: NumPy's where the key is not traced."""
    return (jnp if isinstance(key, jax.core.Tracer) else np).zeros(shape, np.float32)


def ones(key: jax.Array, shape: tuple[int, ...]) -> Any:
    """Ones, float32: NumPy's where the key is not traced."""
    return (jnp if isinstance(key, jax.core.Tracer) else np).ones(shape, np.float32)


def glorot_uniform(key: jax.Array, shape: tuple[int, ...]) -> Any:
    """Uniform values within +-sqrt(6 / (inputs + outputs)): `flax.linen.initializers`', bit by bit.

    Args:
        key: typed; one that is traced gives a traced array, another NumPy's.
        shape: the last axis is outputs, the last but one inputs, others a kernel's extent.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    size = int(np.prod(shape))
    if isinstance(key, jax.core.Tracer) or size > MOST_ON_HOST:
        return nn.initializers.glorot_uniform()(key, shape)
    extent = int(np.prod(shape[:-2]))
    variance = np.float32(2 / ((shape[-2] + shape[-1]) * extent))
    # Between 1 and 2 first, from 23 random bits: what is doubled and shifted then is exact.
    ones = (_bits(np.asarray(jax.random.key_data(key)), size) >> 9) | np.uint32(0x3F800000)
    values = (ones.view(np.float32) - np.float32(1)) * np.float32(2) - np.float32(1)
    return (values * np.sqrt(np.float32(3) * variance)).reshape(shape)


def _bits(key: np.ndarray, size: int) -> np.ndarray:
    """The bits that `jax.random.bits` draws, uint32 [size], of a key uint32 [2]."""
    # Arrays of one: NumPy warns where a scalar overflows.
    first, second = key[:1], key[1:]
    schedule = (first, second, first ^ second ^ _PARITY)
    left = np.repeat(first, size)
    right = np.arange(size, dtype=np.uint32) + second
    turned = np.empty_like(right)
    for at in range(5):
        for distance in _ROTATIONS[at % 2]:
            left += right
            np.left_shift(right, np.uint32(distance), out=turned)
            right >>= np.uint32(32 - distance)
            right |= turned
            right ^= left
        left += schedule[(at + 1) % 3]
        right += schedule[(at + 2) % 3] + np.uint32(at + 1)
    return left ^ right

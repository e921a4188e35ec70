"""What training minimises, as one loss per row. The caller masks and averages."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from aejax.config import ErrorName
from aejax.core import errors
from aejax.core.optimizers import Numbers

Variables = dict[str, Any]


def corrupt(
    x: jax.Array,
    key: jax.Array,
    deviation: jax.Array | float,
    bounds: tuple[float, float] | None,
) -> jax.Array:
    """Rows with normal noise added: the input of a denoising autoencoder (Vincent et al. 2008).

    Args:
        x: scaled rows, float32 [B, ...].
        key: of this batch's noise.
        deviation: standard deviation of the noise.
        bounds: lowest and highest value of the result, or None.
    """
    noisy = x + deviation * jax.random.normal(key, x.shape, x.dtype)
    return noisy if bounds is None else jnp.clip(noisy, *bounds)


def reconstruct(
    model: nn.Module,
    variables: Variables,
    x: jax.Array,
    mask: jax.Array,
    key: jax.Array,
    values: Numbers,
    *,
    loss: ErrorName,
    noisy: bool,
    bounds: tuple[float, float] | None,
    train: bool,
) -> tuple[jax.Array, Variables]:
    """Reconstruction error of every row against the clean row.

    Args:
        model: an autoencoder.
        variables: its parameters and batch statistics.
        x: scaled rows, float32 [B, ...].
        mask: bool [B]; padding must not enter batch statistics.
        key: of this batch; noise and dropout are folded out of it.
        values: the run's numbers.
        loss: which error.
        noisy: whether the input is corrupted.
        bounds: range of the corrupted input.
        train: batch statistics and dropout as in training.

    Returns:
        float32 [B], and the model's other variables after this batch.
    """
    seen = corrupt(x, jax.random.fold_in(key, 0), values.noise, bounds) if noisy else x
    if not train:
        y: Any = model.apply(variables, seen, train=False)
        return errors.row_error(loss, x, y), {}
    found: Any = model.apply(
        variables,
        seen,
        train=True,
        mask=mask,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.fold_in(key, 1)},
    )
    y, changed = found
    return errors.row_error(loss, x, y), changed

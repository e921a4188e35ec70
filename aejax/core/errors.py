"""Reconstruction error: of a feature, of a row, of a batch; training and scoring share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from aejax.config import ErrorName, InputError
from aejax.config.own import require_here
from aejax.core import masks, mixed
from aejax.models.heads import Head, outputs_of
from aejax.models.network import Variables

# Float32's sigmoid reaches 1 exactly, and one such pixel would make a row's score infinite.
LEAST_PROBABILITY = 1e-6


def squared(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared difference of each feature, in squared units of the scaled row."""
    return jnp.square(x - y)


def absolute(x: jax.Array, y: jax.Array) -> jax.Array:
    """Absolute difference of each feature, in units of the scaled row."""
    return jnp.abs(x - y)


def bernoulli(x: jax.Array, y: jax.Array) -> jax.Array:
    """Cross-entropy in nats of a value in [0, 1] when `y` is the probability of 1."""
    y = jnp.clip(y, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return -(x * jnp.log(y) + (1 - x) * jnp.log1p(-y))


# A name of `ERRORS`, or a function of rows and reconstructions.
Error = ErrorName | Callable[[jax.Array, jax.Array], jax.Array]
ERRORS: dict[ErrorName, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "squared": squared,
    "absolute": absolute,
    "bernoulli": bernoulli,
}


def of_shape(output: Any, shape: tuple[Any, ...], what: str = "the network gives") -> jax.Array:
    """What a network gave, if that is what it has to be.

    Broadcasting would compare anything else with something, and train on it without a word.

    Args:
        output: anything.
        shape: wanted; a size of None is any of at least 2.
        what: it is, for the message.

    Raises:
        InputError: if it is no floating-point array of this shape.
    """
    sizes, dtype = getattr(output, "shape", None), getattr(output, "dtype", None)
    if sizes is None or dtype is None:
        said = f"a {type(output).__name__}"
    else:
        fits = len(sizes) == len(shape) and all(
            size >= 2 if wanted is None else size == wanted
            for size, wanted in zip(sizes, shape, strict=True)
        )
        if fits and jnp.issubdtype(dtype, jnp.floating):
            array: jax.Array = output
            return array
        said = f"{dtype}[{', '.join(map(str, sizes))}]"
    allowed = ", ".join("at least 2" if size is None else str(size) for size in shape)
    raise InputError(f"{what} {said}; allowed: float32[{allowed}]")


def feature_error(
    name: Error, x: jax.Array, y: jax.Array, heads: tuple[Head, ...] | None = None
) -> jax.Array:
    """Error of every feature.

    Args:
        name: which error, or a function of row and reconstruction.
        x: the row, scaled, float32 [...].
        y: its reconstruction, float32 of the same shape.
        heads: of the columns, where x is rows of a mixed table, [B, columns], and y is what
            the model gave for them.

    Returns:
        float32 of the same shape as x, at least 0.

    Raises:
        InputError: if y is not what is to be compared with x.
    """
    if heads is not None:
        return mixed.feature_error(heads, name, x, of_shape(y, (x.shape[0], outputs_of(heads))))
    if isinstance(name, str):
        return ERRORS[name](x, of_shape(y, x.shape))  # type: ignore[index]
    require_here(name, "Config.error", "load it where its code is")
    return of_shape(name(x, of_shape(y, x.shape)), x.shape, "Config.error gives")


def row_losses(name: Error, variables: Variables, x: jax.Array, y: jax.Array) -> jax.Array:
    """What training minimises of every row, float32 [B], by a loss that `Train.loss` may name.

    Args:
        name: which, or a function of target and output that gives [B, ...] or [B].
        variables: of a member; those that lack features hold "weights".
        x: the target, scaled, float32 [B, ...].
        y: the output, of the same shape.

    Raises:
        InputError: if the loss gives another shape.
    """
    if isinstance(name, str):
        return row_mean(masks.weighted(variables, feature_error(name, x, y)))
    require_here(name, "Train.loss", "a loss that is here")
    losses = name(x, of_shape(y, x.shape))
    if getattr(losses, "shape", None) == x.shape:
        return row_mean(masks.weighted(variables, of_shape(losses, x.shape, "Train.loss gives")))
    if "weights" in variables:
        raise InputError(
            "Train.loss gives one value a row; allowed with Vary.features: one a feature"
        )
    return of_shape(losses, x.shape[:1], "Train.loss gives")


def row_error(
    name: Error, x: jax.Array, y: jax.Array, heads: tuple[Head, ...] | None = None
) -> jax.Array:
    """Error of every row: the mean over its features.

    Args:
        name: which error, or a function of row and reconstruction.
        x: rows, scaled, float32 [B, ...].
        y: their reconstructions, float32 of the same shape.
        heads: as in `feature_error`; only present cells count then.

    Returns:
        float32 [B].
    """
    if heads is not None:
        return mixed.row_error(heads, name, x, of_shape(y, (x.shape[0], outputs_of(heads))))
    return row_mean(feature_error(name, x, y))


def row_mean(error: jax.Array) -> jax.Array:
    """Mean of every row's values, float32 [B], of float32 [B, ...]."""
    return jnp.mean(error, axis=tuple(range(1, error.ndim)))


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the values whose mask is True; 0 where none is.

    Args:
        values: float32 [B].
        mask: bool [B].
    """
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)


def trimmed_mean(values: jax.Array, mask: jax.Array, trim: float) -> jax.Array:
    """Mean without the largest values: least trimmed squares, where values are squares.

    Args:
        values: float32 [B].
        mask: bool [B]; values whose mask is False don't count.
        trim: share of the others that is left out, at most a half, rounded down.
    """
    count = jnp.sum(mask)
    kept = count - jnp.floor(trim * count).astype(count.dtype)
    ordered = jnp.sort(jnp.where(mask, values, jnp.inf))
    total = jnp.sum(jnp.where(jnp.arange(len(values)) < kept, ordered, 0))
    return total / jnp.maximum(kept, 1)

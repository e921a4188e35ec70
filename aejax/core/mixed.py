"""Errors of mixed tables: one for every column, whatever it holds, and none of missing cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aejax.models.heads import Head, Run, runs_of
from aejax.models.mixed import turns


def feature_error(heads: tuple[Head, ...], name: object, x: jax.Array, y: jax.Array) -> jax.Array:
    """Error of every column.

    Of a number its squared (or absolute) difference in scaled units; of a cycle half the
    squared distance (or the mean absolute difference) of two points on the unit circle; of a
    boolean or a category the cross-entropy in nats, -log of the probability that the model
    gave to what was found. A missing cell has no error.

    Args:
        heads: of the columns.
        name: "squared" or "absolute", of numbers and cycles.
        x: float32 [B, columns]: scaled numbers, codes, and NaN for missing cells.
        y: outputs of the model, float32 [B, outputs].

    Returns:
        float32 [B, columns], at least 0, and 0 where x is NaN.
    """
    parts = []
    for run in runs_of(heads):
        columns = slice(run.first, run.first + run.columns)
        there = ~jnp.isnan(x[:, columns])
        # Without this, what is done to NaN would reach the gradient.
        value = jnp.where(there, x[:, columns], 0)
        each = _error(run, heads[columns], value, _outputs(run, y), name == "absolute")
        parts.append(jnp.where(there, each, 0))
    return jnp.concatenate(parts, axis=1)


def row_error(heads: tuple[Head, ...], name: object, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean error over a row's present columns, float32 [B]; NaN of a row that has none."""
    each = feature_error(heads, name, x, y)
    count = jnp.sum(~jnp.isnan(x), axis=1)
    mean = jnp.sum(each, axis=1) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, jnp.nan)


def expected(heads: tuple[Head, ...], y: jax.Array) -> jax.Array:
    """What the outputs stand for, in the form of rows: float32 [B, columns].

    A category is the code of the likeliest, a boolean its probability of being true, a cycle
    the value of the angle, in [0, period).
    """
    parts = []
    for run in runs_of(heads):
        outputs = _outputs(run, y)
        match run.head.kind:
            case "category":
                outputs = jnp.argmax(outputs, axis=1, keepdims=True).astype(jnp.float32)
            case "boolean":
                outputs = jax.nn.sigmoid(outputs)
            case "cycle":
                sine, cosine = jnp.split(outputs, 2, axis=1)
                angle = jnp.arctan2(sine, cosine)
                angle = jnp.where(angle < 0, angle + 2 * jnp.pi, angle)
                outputs = angle / turns(heads[run.first : run.first + run.columns])
        parts.append(outputs)
    return jnp.concatenate(parts, axis=1)


def _outputs(run: Run, y: jax.Array) -> jax.Array:
    return y[:, run.outputs : run.outputs + run.columns * run.head.outputs]


def _error(
    run: Run, heads: tuple[Head, ...], value: jax.Array, y: jax.Array, absolute: bool
) -> jax.Array:
    match run.head.kind:
        case "category":
            chosen = value == jnp.arange(run.head.outputs)
            return -jnp.sum(jnp.where(chosen, jax.nn.log_softmax(y), 0), axis=1, keepdims=True)
        case "boolean":
            return jax.nn.softplus(y) - value * y
        case "cycle":
            angle = value * turns(heads)
            apart = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1) - y
            size = jnp.abs(apart) if absolute else jnp.square(apart)
            sine, cosine = jnp.split(size, 2, axis=1)
            return 0.5 * (sine + cosine)
    apart = value - y
    return jnp.abs(apart) if absolute else jnp.square(apart)

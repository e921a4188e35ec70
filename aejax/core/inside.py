"""Looking inside: reconstructions, errors, latent values and states. Pure and unjitted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from aejax.core import errors, masks, mixed, scaling
from aejax.core.scaling import Scaler
from aejax.core.score import Scorer


def reconstruct_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scaled rows and their reconstructions (means over members), both float32 [B, ...].

    Of a mixed table what is expected in each column: see `core.mixed.expected`. A category
    has no mean over members; it is the first member's.
    """
    if scorer.combine is None:
        return _reconstruct_one(scorer, variables, scaler, x)
    scaled, y = jax.lax.map(
        lambda member: _reconstruct_one(scorer, member[0], member[1], x), (variables, scaler)
    )
    if scorer.heads is not None:
        return scaled[0], y[0]
    return jnp.mean(scaled, axis=0), jnp.mean(y, axis=0)


def _reconstruct_one(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    scaled = scaling.apply(scaler, x)
    y: Any = scorer.model.apply(variables, scaled)
    if scorer.heads is not None:
        return scaled, mixed.expected(scorer.heads, y)
    return scaled, masks.seen(variables, scaled, errors.of_shape(y, x.shape))


def error_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Error of every feature as it counts (means over members), float32 [B, ...].

    0 of a missing cell, and in a member that doesn't see the feature.
    """

    def one(member: tuple[dict[str, Any], Scaler]) -> jax.Array:
        variables, scaler = member
        scaled = scaling.apply(scaler, x)
        y: Any = scorer.model.apply(variables, scaled)
        error = errors.feature_error(scorer.error, scaled, y, scorer.heads)
        return masks.weighted(variables, error)

    if scorer.combine is None:
        return one((variables, scaler))
    return jnp.mean(jax.lax.map(one, (variables, scaler)), axis=0)


def encode_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Latent values of every row of one model, float32 [B, ...]."""
    latent: Any = scorer.model.call("encode", variables, scaling.apply(scaler, x))
    return latent


def decode_rows(scorer: Scorer, variables: dict[str, Any], latent: jax.Array) -> jax.Array:
    """Scaled rows float32 [B, ...] that latent values float32 [B, ...] stand for."""
    rows: Any = scorer.model.call("decode", variables, latent)
    return rows


def output_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """What the model gives for every row of one model, as it is: a classifier's logits, say."""
    found: Any = scorer.model.apply(variables, scaling.apply(scaler, x))
    return found


def state_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> dict[str, jax.Array]:
    """The state of every layer's neurons, after the activation: layer -> float32 [B, ...].

    Layers of a network inside the model are named by their path, as "network/encoder_0".
    """
    return scorer.model.states(variables, scaling.apply(scaler, x))


def layer_state(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array, layer: str
) -> jax.Array:
    """The state of one layer's neurons, float32 [B, ...]; the others are never kept."""
    return state_rows(scorer, variables, scaler, x)[layer]

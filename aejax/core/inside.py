"""Looking inside: reconstructions, errors, latent values, states, and reasons. Pure, unjitted."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from aejax.config.scores import is_mean_error
from aejax.core import errors, masks, mixed, scaling
from aejax.core.scaling import Scaler
from aejax.core.score import Scorer, combined, member_scores, ranked

# Features that are replaced one by one when reasons are looked for: each takes a pass.
MOST_REPLACED = 8


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
    outputs: Any = scorer.model.apply(variables, scaling.apply(scaler, x))
    return outputs


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


def explain_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array, top: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores with the features that are wrong; reconstructions stay on the device.

    A wrong feature spoils the reconstruction of the others. So a feature that was found is
    replaced by its reconstruction before the next one is looked for, up to
    `MOST_REPLACED` times. Where features' usual errors are known, an error counts over the
    square root of the usual one: half-way between the plain error, which names what is
    always reconstructed badly, and their ratio, which names what hardly ever errs. Members'
    errors are averaged feature by feature.

    Returns:
        scores float32 [B]; flat feature positions int32 [B, top], those of the largest error over
        the square root of the usual one first; their errors float32 [B, top] in the
        reconstruction of the row as it is.
    """
    if scorer.combine is None:
        variables, scaler = jax.tree.map(lambda leaf: leaf[None], (variables, scaler))

    def errors_of(replaced: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Errors [members, B, features] and reconstructions [members, B, ...]."""

        def one(member: tuple[dict[str, Any], Scaler, jax.Array]) -> tuple[jax.Array, jax.Array]:
            variables, scaler, old = member
            scaled = scaling.apply(scaler, x)
            seen = jnp.where(replaced.reshape(scaled.shape), old, scaled)
            y: Any = scorer.model.apply(variables, seen)
            each = errors.feature_error(scorer.error, scaled, y, scorer.heads)
            each = masks.weighted(variables, each).reshape(x.shape[0], -1)
            if scorer.heads is not None:
                return each, mixed.expected(scorer.heads, y)
            return each, masks.seen(variables, scaled, y)

        explained: tuple[jax.Array, jax.Array] = jax.lax.map(one, (variables, scaler, before))
        return explained

    features = math.prod(x.shape[1:])
    usual = variables.get("normal", {}).get("error", jnp.ones((1, features)))
    weight = jax.lax.rsqrt(jnp.mean(usual, axis=0))

    def weighted(each: jax.Array, named: jax.Array) -> jax.Array:
        return jnp.where(named, -jnp.inf, jnp.mean(each, axis=0) * weight)

    def search(
        carried: tuple[jax.Array, jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        named, y, each = carried
        worst = jnp.argmax(weighted(each, named), axis=1)
        named = named | (jnp.arange(features) == worst[:, None])
        each, y = errors_of(named, y)
        return (named, y, each), worst

    none = jnp.zeros((x.shape[0], features), bool)
    members = jax.tree.leaves(variables)[0].shape[0]
    first, y = errors_of(none, jnp.zeros((members, *x.shape), jnp.float32))
    replaced = min(top - 1, MOST_REPLACED)
    (named, _, each), worst = jax.lax.scan(search, (none, y, first), length=replaced)
    _, others = jax.lax.top_k(weighted(each, named), top - replaced)
    named = jnp.concatenate([worst.T, others], axis=1).astype(jnp.int32)
    # The first is the largest of all; what was found behind it is listed by its size in the row
    # as it is, as people read a list.
    sizes = jnp.take_along_axis(weighted(first, none), named, axis=1)
    named = jnp.take_along_axis(named, jnp.argsort(-sizes, axis=1, stable=True), axis=1)
    return (
        _explained_scores(scorer, variables, scaler, x, first),
        named,
        jnp.take_along_axis(jnp.mean(first, axis=0), named, axis=1),
    )


def _explained_scores(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array, error: jax.Array
) -> jax.Array:
    """Scores of rows whose errors [members, B, features] are known already."""
    rows = jnp.mean(error, axis=2)
    if scorer.heads is not None:
        count = jnp.sum(~jnp.isnan(x), axis=1)
        rows = jnp.where(count > 0, jnp.sum(error, axis=2) / jnp.maximum(count, 1), jnp.nan)
    if not is_mean_error(scorer.score):
        return combined(scorer, member_scores(scorer, variables, scaler, x))
    return combined(scorer, ranked(scorer, variables, rows))

"""Scoring: rows to scores, reasons, reconstructions and latent values. Pure and unjitted."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from aejax.config import Combine, ErrorName
from aejax.core import errors, scaling
from aejax.core.scaling import Scaler


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """What a scoring program is specialised on; hashable, compared by value.

    Attributes:
        model: the network.
        error: error of a feature.
        combine: None for one model. Otherwise variables and scaler have a leading axis of
            members, and this is how their scores become one.
    """

    model: nn.Module
    error: ErrorName
    combine: Combine | None = None


def _reconstruct_one(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    scaled = scaling.apply(scaler, x)
    y: Any = scorer.model.apply(variables, scaled, train=False)
    return scaled, y


def _score_one(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    return errors.row_error(scorer.error, *_reconstruct_one(scorer, variables, scaler, x))


def member_scores(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Every member's score of every row, float32 [members, B].

    Members take turns over one batch, which stays in cache; side by side, their
    reconstructions would not.
    """
    members = (variables, scaler)
    return jax.lax.map(lambda member: _score_one(scorer, member[0], member[1], x), members)


def reconstruct_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scaled rows and their reconstructions (means over members), both float32 [B, ...]."""
    if scorer.combine is None:
        return _reconstruct_one(scorer, variables, scaler, x)
    scaled, y = jax.lax.map(
        lambda member: _reconstruct_one(scorer, member[0], member[1], x), (variables, scaler)
    )
    return jnp.mean(scaled, axis=0), jnp.mean(y, axis=0)


def score_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Score of every row: larger is more anomalous.

    Args:
        scorer: model, error, and how members' scores become one.
        variables: parameters and batch statistics.
        scaler: fitted on training rows.
        x: rows as stored, [B, ...].

    Returns:
        float32 [B].
    """
    if scorer.combine is None:
        return _score_one(scorer, variables, scaler, x)
    scores = member_scores(scorer, variables, scaler, x)
    return jnp.median(scores, axis=0) if scorer.combine == "median" else jnp.mean(scores, axis=0)


def explain_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array, top: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores with the features of the largest errors; reconstructions stay on the device.

    Members' errors are averaged feature by feature.

    Returns:
        scores float32 [B], flat feature positions int32 [B, top], their errors float32 [B, top].
    """

    def error_of(variables: dict[str, Any], scaler: Scaler) -> jax.Array:
        scaled, y = _reconstruct_one(scorer, variables, scaler, x)
        return errors.feature_error(scorer.error, scaled, y).reshape(len(x), -1)

    if scorer.combine is None:
        error = error_of(variables, scaler)
        scores = jnp.mean(error, axis=1)
    else:
        each = jax.lax.map(lambda member: error_of(*member), (variables, scaler))
        error = jnp.mean(each, axis=0)
        rows = jnp.mean(each, axis=2)
        scores = jnp.median(rows, axis=0) if scorer.combine == "median" else jnp.mean(rows, axis=0)
    largest, features = jax.lax.top_k(error, top)
    return scores, features, largest


def encode_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Latent values of every row of one model, float32 [B, ...]."""
    latent: Any = scorer.model.apply(variables, scaling.apply(scaler, x), method="encode")
    return latent

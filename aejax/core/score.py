"""Scoring: rows to scores, reasons, reconstructions and latent values. Pure and unjitted."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from aejax.config import ErrorName
from aejax.core import errors, scaling
from aejax.core.scaling import Scaler


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """What a scoring program is specialised on; hashable, compared by value."""

    model: nn.Module
    error: ErrorName


def reconstruct_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scaled rows and their reconstructions, both float32 [B, ...]."""
    scaled = scaling.apply(scaler, x)
    y: Any = scorer.model.apply(variables, scaled, train=False)
    return scaled, y


def score_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Score of every row: larger is more anomalous.

    Args:
        scorer: model and error.
        variables: its parameters and batch statistics.
        scaler: fitted on training rows.
        x: rows as stored, [B, ...].

    Returns:
        float32 [B].
    """
    return errors.row_error(scorer.error, *reconstruct_rows(scorer, variables, scaler, x))


def explain_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array, top: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores with the features of the largest errors; reconstructions stay on the device.

    Returns:
        scores float32 [B], flat feature positions int32 [B, top], their errors float32 [B, top].
    """
    scaled, y = reconstruct_rows(scorer, variables, scaler, x)
    error = errors.feature_error(scorer.error, scaled, y).reshape(len(x), -1)
    largest, features = jax.lax.top_k(error, top)
    return jnp.mean(error, axis=1), features, largest


def encode_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Latent values of every row, float32 [B, ...]."""
    latent: Any = scorer.model.apply(variables, scaling.apply(scaler, x), method="encode")
    return latent

"""Mahalanobis distances from normal rows, of residuals and of latent values."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from aejax.config import InputError
from aejax.core.errors import of_shape

MOST_VALUES = 4096


@dataclasses.dataclass(frozen=True)
class ResidualDistance:
    """Squared distance of a row's residual, over the number of features."""

    needs: ClassVar[tuple[str, ...]] = ("encode", "decode")

    def learn(self, known: Any) -> dict[str, Any]:
        """Mean and whitening matrix of normal rows' residuals."""
        return {"residual": whitening(_flat(known.residuals))}

    def apply(self, network: Any, variables: Any, x: jax.Array, learnt: Any) -> jax.Array:
        """Float32 [B]."""
        residual, _ = _residual_and_latent(network, variables, x)
        return whitened(learnt["residual"], residual) / residual.shape[1]


@dataclasses.dataclass(frozen=True)
class LatentDistance:
    """Squared distance of a row's latent values, over their number."""

    needs: ClassVar[tuple[str, ...]] = ("encode",)

    def learn(self, known: Any) -> dict[str, Any]:
        """Mean and whitening matrix of normal rows' latent values."""
        return {"latent": whitening(_flat(known.latent))}

    def apply(self, network: Any, variables: Any, x: jax.Array, learnt: Any) -> jax.Array:
        """Float32 [B]."""
        latent = _flat(network.encode(variables, x))
        return whitened(learnt["latent"], latent) / latent.shape[1]


@dataclasses.dataclass(frozen=True)
class ResidualAndLatentDistance:
    """Half the sum of both squared distances."""

    needs: ClassVar[tuple[str, ...]] = ("encode", "decode")

    def learn(self, known: object) -> dict[str, Any]:
        """What both of the others learn."""
        return {**ResidualDistance().learn(known), **LatentDistance().learn(known)}

    def apply(self, network: Any, variables: Any, x: jax.Array, learnt: Any) -> jax.Array:
        """Float32 [B]."""
        residual, latent = _residual_and_latent(network, variables, x)
        return 0.5 * (whitened(learnt["residual"], residual) + whitened(learnt["latent"], latent))


def _flat(values: Any) -> Any:
    return values.reshape(values.shape[0], -1)


def whitened(learnt: dict[str, jax.Array], values: jax.Array) -> jax.Array:
    """Squared Mahalanobis distance of float32 [B, n] from the rows that were learnt from."""
    centred = values - learnt["mean"]
    white = jnp.matmul(centred, learnt["whitening"], precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(jnp.square(white), axis=1)


def _residual_and_latent(network: Any, variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    latent = network.encode(variables, x)
    residual = x - of_shape(network.decode(variables, latent), x.shape)
    return _flat(residual), _flat(latent)


def whitening(values: np.ndarray, *, least: float = 1e-9) -> dict[str, np.ndarray]:
    """Mean, and the matrix that makes normal rows uncorrelated with variance 1.

    The Cholesky factor of the inverse of the covariance, shrunk as in Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices" (2004).

    Args:
        values: float32 [rows, n].
        least: variance that is added to each, as a share of their mean.

    Returns:
        "mean" float32 [n] and "whitening" float32 [n, n].

    Raises:
        InputError: if there are more values than a matrix can be found for.
    """
    from sklearn.covariance import ledoit_wolf

    count = values.shape[1]
    if count > MOST_VALUES:
        raise InputError(
            f"a distance of {count} values was asked for; allowed: at most {MOST_VALUES}"
        )
    values = values.astype(np.float64)
    mean = values.mean(axis=0)
    covariance, _ = ledoit_wolf(values - mean, assume_centered=True)
    # Values that never change have no spread to be measured in.
    covariance[np.diag_indices(count)] += max(least * np.trace(covariance) / count, 1e-12)
    factor = np.linalg.cholesky(np.linalg.inv(covariance))
    return {"mean": mean.astype(np.float32), "whitening": factor.astype(np.float32)}

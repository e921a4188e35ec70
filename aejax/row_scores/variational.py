"""Likelihoods of a row under a variational model."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from aejax.core.learn import named_key
from aejax.models.variational import divergence


@dataclasses.dataclass(frozen=True)
class NegativeElbo:
    """Upper bound of -log p(row), in nats."""

    needs: ClassVar[tuple[str, ...]] = ("posterior", "negative_log_likelihood")

    def apply(self, network: object, variables: object, x: jax.Array) -> jax.Array:
        """Float32 [B]."""
        reconstruction, apart = _sampled(network, variables, x)
        return reconstruction + apart


@dataclasses.dataclass(frozen=True)
class ReconstructionProbability:
    """Mean of -log p(row | latent) over the posterior's samples."""

    needs: ClassVar[tuple[str, ...]] = ("posterior", "negative_log_likelihood")

    def apply(self, network: object, variables: object, x: jax.Array) -> jax.Array:
        """Float32 [B]."""
        return _sampled(network, variables, x)[0]


def _sampled(network: Any, variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both terms of the negative evidence lower bound, averaged over the model's samples."""
    mean, log_variance = network.call("posterior", variables, x)
    deviation = jnp.exp(0.5 * log_variance)

    def one(noise: jax.Array) -> jax.Array:
        terms: jax.Array = network.call(
            "negative_log_likelihood", variables, x, mean + deviation * noise
        )
        return terms

    # One seed for all rows and all runs: a score depends on the model and the row only. One
    # after the other: side by side, the decodings would leave the cache, and a program with
    # sixteen of them takes minutes to compile.
    noise = jax.random.normal(named_key(0, "score"), (network.module.samples, mean.shape[1]))
    return jnp.mean(jax.lax.map(one, noise), axis=0), divergence(mean, log_variance)

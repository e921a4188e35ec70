"""Scores of networks that reconstruct nothing."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from aejax.core.errors import of_shape


@dataclasses.dataclass(frozen=True)
class LogOdds:
    """Log-odds of class 1 against class 0: class 1 is the anomaly."""

    normal_class: ClassVar[int] = 0

    def apply(self, network: Any, variables: Any, x: jax.Array) -> jax.Array:
        """Float32 [B]."""
        logits = of_shape(network.apply(variables, x), (x.shape[0], None))
        return logits[:, 1] - logits[:, 0]


@dataclasses.dataclass(frozen=True)
class Distrust:
    """1 minus the probability of the likeliest class."""

    def apply(self, network: Any, variables: Any, x: jax.Array) -> jax.Array:
        """Float32 [B]."""
        logits = of_shape(network.apply(variables, x), (x.shape[0], None))
        return 1 - jnp.max(jax.nn.softmax(logits), axis=1)


@dataclasses.dataclass(frozen=True)
class Surprise:
    """-log of the probability of the middle of a window, in nats."""

    def apply(self, network: Any, variables: Any, x: jax.Array) -> jax.Array:
        """Float32 [B]."""
        surprise: jax.Array = network.apply(variables, x)
        return surprise

"""The error over levels of noise, and the row's own size: for rows among anomalies."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from aejax.row_scores.noise_levels import NoiseLevels

# Standard deviations.
MOST = 3.0


@dataclasses.dataclass(frozen=True)
class NoiseLevelsAndNorm:
    """The geometric mean of `NoiseLevels` and the mean square of the scaled row, its cells clipped.

    What was trained on may be an anomaly, so training rows nearby say little; how far a row lies
    from their middle doesn't depend on what was learnt by heart. Cells are clipped at 3 standard
    deviations, so that many unusual ones count more than one that is wild: chosen on
    `benchmarks.development_sets`.
    """

    needs: ClassVar[tuple[str, ...]] = NoiseLevels.needs
    words: ClassVar[str] = (
        "how badly {model}, trained on {rows}, restores it from noise and how far it lies from "
        "their middle"
    )

    def apply(self, network: object, variables: object, x: jax.Array, error: object) -> jax.Array:
        """Float32 [B]."""
        levels = NoiseLevels().apply(network, variables, x, error)
        norm = jnp.mean(jnp.square(jnp.clip(x, -MOST, MOST)), axis=tuple(range(1, x.ndim)))
        # Of a wild row the product would be infinite.
        return jnp.sqrt(levels) * jnp.sqrt(norm)

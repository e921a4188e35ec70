"""The error over levels of noise that a network is given: alone, and with other measures."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from aejax.row_scores.neighbours import ErrorAndNeighbours

# Standard deviations.
MOST = 3.0


@dataclasses.dataclass(frozen=True)
class NoiseLevels:
    """The mean error of a row that is restored from noise, over levels of noise.

    At each of the network's levels, evenly spaced in their logarithms, one noise is added to the
    row, and then its negative. It is the same for all rows: a score depends on the model and the
    row only.
    """

    needs: ClassVar[tuple[str, ...]] = ("denoise",)
    words: ClassVar[str] = "how badly {model}, trained on {rows}, restores it from noise"

    def apply(self, network: Any, variables: Any, x: jax.Array, error: Any) -> jax.Array:
        """Float32 [B]."""
        module = network.module
        levels = np.repeat(levels_of(module.lowest, module.highest, module.levels), 2)
        noise = np.repeat(noise_of(module.levels, x.shape[1:]), 2, axis=0)
        noise[1::2] *= -1

        def restored(total: jax.Array, one: tuple[jax.Array, jax.Array]) -> Any:
            level, each = one
            y = network.call("denoise", variables, x + level * each, level)
            return total + error.mean(x, y), None

        # One after the other: side by side, their activations would leave the cache, and each would
        # be compiled by itself.
        steps = (jnp.asarray(levels), jnp.asarray(noise))
        total, _ = jax.lax.scan(restored, jnp.zeros(x.shape[:1]), steps)
        return total / len(levels)


@dataclasses.dataclass(frozen=True)
class NoiseLevelsAndNeighbours(ErrorAndNeighbours):
    """The geometric mean of `NoiseLevels` and the distance from the nearest kept rows."""

    needs: ClassVar[tuple[str, ...]] = NoiseLevels.needs
    words: ClassVar[str] = (
        "how badly {model}, trained on {rows}, restores it from noise and how far it lies from "
        "those rows that are nearest to it"
    )

    def apply(self, network: object, variables: object, x: jax.Array, error: object) -> jax.Array:
        """The mean error over levels, float32 [B]."""
        return NoiseLevels().apply(network, variables, x, error)


def levels_of(lowest: float, highest: float, count: int) -> np.ndarray:
    """The levels that scores are averaged over, float32 [count]."""
    return np.geomspace(lowest, highest, count).astype(np.float32)


def noise_of(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """The noise of every level with standard deviation 1, float32 [count, *shape].

    Drawn on the host: it is a constant of the program, so an export needs no random numbers.
    """
    return np.random.default_rng(0).standard_normal((count, *shape), dtype=np.float32)


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

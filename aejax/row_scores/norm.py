"""The error over levels of noise, and the row's distance from the middle: among anomalies."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from aejax.row_scores.distances import whitened, whitening
from aejax.row_scores.noise_levels import NoiseLevels

# Standard deviations at which cells are cut; the share of the rows that is taken for normal, and
# how often it is chosen; the most values that have a covariance, and the most rows that it is of.
MOST, CORE, TURNS = 3.0, 0.6, 4
MOST_VALUES, MOST_ROWS = 1024, 1 << 13
# Variance that is added to each, of their mean: what is constant among the rows that lie closest
# together may vary among the others.
LEAST = 1e-3


@dataclasses.dataclass(frozen=True)
class NoiseLevelsAndNorm:
    """The geometric mean of `NoiseLevels`, the scaled row's mean square and a robust distance.

    What was trained on may be an anomaly, so training rows nearby say little; how far a row lies
    from their middle doesn't depend on what was learnt by heart. The distance is Mahalanobis' from
    the six tenths of the rows that lie closest together, found by concentration steps (Rousseeuw
    and Van Driessen, "A fast algorithm for the minimum covariance determinant estimator", 1999)
    from those of the least norm. Cells are cut at 3 standard deviations, so that many unusual ones
    count more than one that is wild. All this was chosen on `benchmarks.development_sets`.
    Rows of more than 1,024 values have no such distance, and their norm counts twice.
    """

    least: ClassVar[int] = 3
    of_training_rows: ClassVar[bool] = True
    most_rows: ClassVar[int] = 1 << 11
    needs: ClassVar[tuple[str, ...]] = NoiseLevels.needs
    words: ClassVar[str] = (
        "how badly {model}, trained on {rows}, restores it from noise and how far it lies from "
        "their middle"
    )

    def learn(self, known: Any) -> dict[str, Any]:
        """Mean and whitening matrix of the rows that lie closest together, if any is needed."""
        if int(np.prod(known.rows.shape[1:])) > MOST_VALUES:
            return {}
        rows = known.training(MOST_ROWS)
        cut = np.clip(rows.reshape(len(rows), -1), -MOST, MOST)
        distance = np.mean(np.square(cut), axis=1)
        for _ in range(TURNS):
            nearest = np.argsort(distance, kind="stable")[: max(2, round(CORE * len(cut)))]
            core = whitening(cut[nearest], least=LEAST)
            white = (cut - core["mean"]) @ core["whitening"]
            distance = np.mean(np.square(white), axis=1)
        return core

    def apply(
        self, network: object, variables: object, x: jax.Array, learnt: Any, error: object
    ) -> jax.Array:
        """Float32 [B]."""
        levels = NoiseLevels().apply(network, variables, x, error)
        cut = jnp.clip(x.reshape(x.shape[0], -1), -MOST, MOST)
        norm = jnp.mean(jnp.square(cut), axis=1)
        middle = whitened(learnt, cut) / cut.shape[1] if learnt else norm
        # Of a wild row the product would be infinite.
        return jnp.cbrt(levels) * jnp.cbrt(norm) * jnp.cbrt(middle)

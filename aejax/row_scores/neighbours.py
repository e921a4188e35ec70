"""The error and the distance from the nearest training rows, at which a detector keeps some."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from aejax.row_scores.nearest import nearest_distance, spacing_of

# Rows, and values in them: 16,384 of up to 512 features.
MOST_NEIGHBOURS, MOST_VALUES = 1 << 14, 1 << 23
# Of all groups together, each with as many places as the largest; and the fewest for one.
MOST_VALUES_OF_GROUPS, FEWEST_OF_A_GROUP = 1 << 26, 16
# Standard deviations from the mean at which cells are cut before distances are taken, so that many
# unusual ones count more than one that is wild: chosen on `benchmarks.development_sets`.
MOST = 4.0
# Distances to thousands of kept rows have to stay in cache, and the nearest of those rows; a
# device without such a cache takes more rows at once.
BATCH_ROWS, BATCH_VALUES, ON_ACCELERATORS = 1 << 10, 1 << 18, 1 << 4


@dataclasses.dataclass(frozen=True)
class ErrorAndNeighbours:
    """The geometric mean of a row's mean error and, twice, its distance from the nearest rows kept.

    The distance is measured in the space that these rows have around them (`nearest_distance`).
    That it counts twice was chosen on `benchmarks.development_sets`, as was the rest.
    """

    words: ClassVar[str] = (
        "how badly {model}, trained on {rows}, rebuilds it and how far it lies from those rows "
        "that are nearest to it"
    )
    least: ClassVar[int] = 2
    of_training_rows: ClassVar[bool] = True
    # It asks for training rows; of the others, for none.
    most_rows: ClassVar[int] = 1 << 11

    def batch_rows(self, features: int, on_cpu: bool) -> int:
        """Most rows in a batch."""
        more = 1 if on_cpu else ON_ACCELERATORS
        return min(more * BATCH_ROWS, more * BATCH_VALUES // features)

    def learn(self, known: Any) -> dict[str, Any]:
        """Scaled training rows, evenly spread.

        Returns:
            "neighbours" float32 [rows, values], cut at "low" and "high" float32 [values], and
            each one's "spacing" float32 [rows].
        """
        values = int(np.prod(known.rows.shape[1:]))
        total = MOST_VALUES_OF_GROUPS // (known.sharing * values)
        most = min(MOST_NEIGHBOURS, max(FEWEST_OF_A_GROUP, total), max(2, MOST_VALUES // values))
        rows = known.training(most).reshape(-1, values)
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        # A value that never changed may change as much as others do, or by a unit of the scale.
        usual = np.sqrt(np.mean(np.square(spread))) or np.float32(1)
        reach = MOST * np.maximum(spread, usual)
        low, high = mean - reach, mean + reach
        kept = np.clip(rows, low, high)
        return {"neighbours": kept, "spacing": spacing_of(kept), "low": low, "high": high}

    def stack(self, learnt: Sequence[dict[str, Any]], ensemble: bool) -> dict[str, Any]:
        """Rows of several detectors, [detectors, most rows, values]; infinity stands for none.

        An ensemble's members share out the first one's: looked through once, and held once.
        """
        parts = [(one["neighbours"], one["spacing"]) for one in learnt]
        if ensemble:
            rows, spacing = parts[0]
            count = len(parts)
            parts = [(rows[first::count], spacing[first::count]) for first in range(count)]
        most = max(len(rows) for rows, _ in parts)
        filled = np.full((len(parts), most, parts[0][0].shape[1]), np.inf, np.float32)
        spaces = np.ones((len(parts), most), np.float32)
        for member, (rows, spacing) in enumerate(parts):
            filled[member, : len(rows)], spaces[member, : len(rows)] = rows, spacing
        bounds = {name: np.stack([one[name] for one in learnt]) for name in ("low", "high")}
        return {"neighbours": filled, "spacing": spaces, **bounds}

    def shared(self, x: jax.Array, learnt: Any) -> jax.Array:
        """Each row's distance from the rows that all members hold between them, float32 [B]."""
        kept = learnt["neighbours"]
        cut = jnp.clip(x.reshape(x.shape[0], -1), learnt["low"][0], learnt["high"][0])
        return nearest_distance(kept.reshape(-1, kept.shape[2]), cut, learnt["spacing"].reshape(-1))

    def apply(self, network: Any, variables: Any, x: jax.Array, error: Any) -> jax.Array:
        """The mean error, float32 [B]."""
        errors: jax.Array = error.mean(x, network.apply(variables, x))
        return errors

    def join(self, scores: jax.Array, shared: jax.Array) -> jax.Array:
        """The geometric mean of an error and, twice, a distance."""
        # Of a wild row the product would be infinite.
        return jnp.cbrt(scores) * jnp.square(jnp.cbrt(shared))

"""The error and the distance from the nearest training rows, at which a detector keeps some."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from aejax.row_scores.nearest import nearest_distance

# Rows, and values in them: 16,384 of up to 512 features.
MOST_NEIGHBOURS, MOST_VALUES = 1 << 14, 1 << 23
# Of all groups together, each with as many places as the largest; and the fewest for one.
MOST_VALUES_OF_GROUPS, FEWEST_OF_A_GROUP = 1 << 26, 16
# Distances to thousands of kept rows have to stay in cache, and the nearest of those rows; a
# device without such a cache takes more rows at once.
BATCH_ROWS, BATCH_VALUES, ON_ACCELERATORS = 1 << 10, 1 << 18, 1 << 4


@dataclasses.dataclass(frozen=True)
class ErrorAndNeighbours:
    """The geometric mean of a row's mean error and its distance from the nearest kept rows."""

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
        """Scaled training rows, evenly spread, float32 [rows, values]."""
        values = int(np.prod(known.rows.shape[1:]))
        total = MOST_VALUES_OF_GROUPS // (known.sharing * values)
        most = min(MOST_NEIGHBOURS, max(FEWEST_OF_A_GROUP, total), max(2, MOST_VALUES // values))
        rows = known.training(most)
        return {"neighbours": rows.reshape(len(rows), -1)}

    def stack(self, learnt: Sequence[dict[str, Any]], ensemble: bool) -> dict[str, Any]:
        """Rows of several detectors, [detectors, most rows, values]; infinity stands for none.

        An ensemble's members share out the first one's: looked through once, and held once.
        """
        rows_of = [one["neighbours"] for one in learnt]
        if ensemble:
            rows_of = [rows_of[0][first :: len(rows_of)] for first in range(len(rows_of))]
        most = max(map(len, rows_of))
        filled = np.full((len(rows_of), most, rows_of[0].shape[1]), np.inf, np.float32)
        for own, rows in zip(filled, rows_of, strict=True):
            own[: len(rows)] = rows
        return {"neighbours": filled}

    def shared(self, x: jax.Array, learnt: Any) -> jax.Array:
        """Each row's distance from the rows that all members hold between them, float32 [B]."""
        kept = learnt["neighbours"]
        return nearest_distance(kept.reshape(-1, kept.shape[2]), x.reshape(x.shape[0], -1))

    def apply(self, network: Any, variables: Any, x: jax.Array, error: Any) -> jax.Array:
        """The mean error, float32 [B]."""
        found: jax.Array = error.mean(x, network.apply(variables, x))
        return found

    def join(self, scores: jax.Array, shared: jax.Array) -> jax.Array:
        """The geometric mean of both."""
        # Of a wild row the product would be infinite.
        return jnp.sqrt(scores) * jnp.sqrt(shared)

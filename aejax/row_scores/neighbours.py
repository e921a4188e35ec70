"""The error and the distance from the nearest training rows, at which a detector keeps some."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

COUNT = 5
# Kept rows that are compared with a batch at a time, and those of which only the nearest counts
# until the nearest groups are known: sorting all distances takes a CPU longer than the products.
TILE, GROUP = 512, 8
# Squared distance, next to the row's mean square, below which two rows are the same but for the
# rounding of their scaling.
SAME = 1e-11
# Rows, and values in them: 16,384 of up to 512 features.
MOST_NEIGHBOURS, MOST_VALUES = 1 << 14, 1 << 23
# Of all groups together, each with as many places as the largest; and the fewest for one.
MOST_VALUES_OF_GROUPS, FEWEST_OF_A_GROUP = 1 << 26, 16
# Distances to thousands of kept rows have to stay in cache, and the nearest of those rows; a
# device without such a cache takes more rows at once.
BATCH_ROWS, BATCH_VALUES, ON_ACCELERATORS = 1 << 10, 1 << 18, 1 << 4


def nearest_distance(kept: jax.Array, x: jax.Array) -> jax.Array:
    """Mean squared distance to the 5 nearest of the kept rows, over the number of values.

    A kept row that equals the row is passed over, once: so a row that was trained on is
    judged by the others, and has the score that it would have had if it had been left out.

    The nearest are found by ||a - b||^2 = ||a||^2 - 2 ab + ||b||^2, as products; distances are
    then taken of differences, so that rounding doesn't swallow small ones.

    Args:
        kept: float32 [n, values], at least 2; rows of infinity stand for none.
        x: float32 [B, values].

    Returns:
        float32 [B]; NaN where a row holds NaN.
    """
    there = jnp.isfinite(kept[:, 0])
    centre = jnp.mean(kept, axis=0, where=there[:, None])
    tiles = _tiles(jnp.where(there[:, None], kept - centre, jnp.inf))
    x = x - centre
    groups = tiles.reshape(-1, GROUP, kept.shape[1])
    # All of the nearest rows are in the groups whose nearest row is nearest.
    _, picked = jax.lax.top_k(-_nearest_of_groups(tiles, x), COUNT + 1)
    near = groups[picked].reshape(x.shape[0], -1, kept.shape[1])
    distance = jnp.mean(jnp.square(x[:, None, :] - near), axis=2)
    # An infinite distance can be a wild row's, too.
    distance = jnp.where(jnp.isfinite(near[:, :, 0]), distance, jnp.inf)
    ascending = -jax.lax.top_k(-distance, COUNT + 1)[0]
    itself = ascending[:, 0] <= SAME * jnp.mean(jnp.square(x), axis=1)
    nearest = jnp.where(itself[:, None], ascending[:, 1:], ascending[:, :-1])
    count = jnp.clip(jnp.sum(there) - itself, 1, COUNT)
    counts = jnp.arange(COUNT) < count[:, None]
    return jnp.sum(jnp.where(counts, nearest, 0), axis=1) / count


def _tiles(kept: jax.Array) -> jax.Array:
    """Rows as [tiles, T, values], the last one filled up with rows of infinity."""
    size = min(TILE, -(-len(kept) // 64) * 64)
    padding = ((0, -len(kept) % size), (0, 0))
    filled = jnp.pad(kept, padding, constant_values=jnp.inf)
    return filled.reshape(-1, size, kept.shape[1])


def _nearest_of_groups(tiles: jax.Array, x: jax.Array) -> jax.Array:
    """Squared distance to each group's nearest row, [B, groups], up to a constant of the row."""

    def nearest(_: None, tile: jax.Array) -> tuple[None, jax.Array]:
        squared = jnp.sum(jnp.square(tile), axis=1)
        # A product with infinity may be no number.
        finite = jnp.where(jnp.isfinite(squared)[:, None], tile, 0)
        product = jnp.matmul(x, finite.T, precision=jax.lax.Precision.HIGHEST)
        distance = squared - 2 * product
        return None, jnp.min(distance.reshape(x.shape[0], -1, GROUP), axis=2)

    _, found = jax.lax.scan(nearest, None, tiles)
    return jnp.moveaxis(found, 0, 1).reshape(x.shape[0], -1)


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

"""How far rows lie from the nearest rows that were kept. Pure and unjitted."""

from __future__ import annotations

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
# Of the mean spacing, added to each: rows that repeat lie in no space at all.
FLOOR = 0.0025
# Rows whose distances from all others are held at a time.
BLOCK = 128


def spacing_of(kept: np.ndarray) -> np.ndarray:
    """Each row's mean squared distance from its 5 nearest others, over the number of values.

    Args:
        kept: float32 [n, values], at least 2.

    Returns:
        float32 [n], above 0: with a small part of their mean added to each.
    """
    centred = kept - kept.mean(axis=0)
    squared = np.einsum("ij,ij->i", centred, centred)
    count = min(COUNT, len(kept) - 1)
    spacing = np.empty(len(kept), np.float32)
    for first in range(0, len(kept), BLOCK):
        x = centred[first : first + BLOCK]
        distance = np.full((len(x), -(-len(kept) // GROUP) * GROUP), np.inf, np.float32)
        distance[:, : len(kept)] = squared - 2 * (x @ centred.T)
        # Itself.
        distance[np.arange(len(x)), first + np.arange(len(x))] = np.inf
        nearest = _smallest(distance, count)
        between = np.square(x[:, None, :] - centred[nearest]).mean(axis=2)
        spacing[first : first + BLOCK] = between.mean(axis=1)
    tiny = np.finfo(np.float32).tiny
    return np.maximum(spacing + np.float32(FLOOR) * spacing.mean(), tiny)


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the smallest of each row are, int [rows, count]: sorted among few groups of values."""
    # A group's values lie apart, so that their least is taken of whole stretches at a time.
    groups = values.reshape(len(values), GROUP, -1)
    least = groups.min(axis=1)
    few = min(count, least.shape[1])
    picked = np.argpartition(least, few - 1, axis=1)[:, :few]
    among = np.take_along_axis(groups, picked[:, None, :], axis=2).reshape(len(values), -1)
    order = np.argpartition(among, count - 1, axis=1)[:, :count]
    return order // few * least.shape[1] + np.take_along_axis(picked, order % few, axis=1)


def nearest_distance(kept: jax.Array, x: jax.Array, spacing: jax.Array | None = None) -> jax.Array:
    """Mean squared distance to the 5 nearest of the kept rows, over the number of values.

    With `spacing` it is divided by the square root of these rows' mean spacing, halfway to the
    ratio of the local outlier factor (Breunig et al., "LOF: Identifying density-based local
    outliers", 2000): the same distance is more unusual where rows lie close together.

    A kept row that equals the row is passed over, once: so a row that was trained on is
    judged by the others, and has the score that it would have had if it had been left out.

    The nearest are found by ||a - b||^2 = ||a||^2 - 2 ab + ||b||^2, as products; distances are
    then taken of differences, so that rounding doesn't swallow small ones.

    Args:
        kept: float32 [n, values], at least 2; rows of infinity stand for none.
        x: float32 [B, values].
        spacing: float32 [n], as `spacing_of` gives it; what stands for none may be anything.

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
    negative, order = jax.lax.top_k(-distance, COUNT + 1)
    itself = -negative[:, 0] <= SAME * jnp.mean(jnp.square(x), axis=1)
    count = jnp.clip(jnp.sum(there) - itself, 1, COUNT)
    counts = jnp.arange(COUNT) < count[:, None]

    def mean(ascending: jax.Array) -> jax.Array:
        nearest = jnp.where(itself[:, None], ascending[:, 1:], ascending[:, :-1])
        return jnp.sum(jnp.where(counts, nearest, 0), axis=1) / count

    if spacing is None:
        return mean(-negative)
    spaces = jnp.pad(spacing, (0, groups.shape[0] * GROUP - len(spacing))).reshape(-1, GROUP)
    near_spaces = spaces[picked].reshape(x.shape[0], -1)
    return mean(-negative) / jnp.sqrt(mean(jnp.take_along_axis(near_spaces, order, axis=1)))


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

    _, distances = jax.lax.scan(nearest, None, tiles)
    return jnp.moveaxis(distances, 0, 1).reshape(x.shape[0], -1)

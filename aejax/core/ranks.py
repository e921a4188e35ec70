"""Quantiles of columns: found in one pass by a sketch, applied as ranks on the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Of the t-digest (Dunning and Ertl, 2019, arXiv:1902.04023), which, unlike sketches that
# sample, gives the same numbers every time.
COMPRESSION = 1000
# Points of the curve from values to ranks.
KNOTS = 129
# A uniform variable of mean 0 and standard deviation 1 lies in [-SPREAD, SPREAD].
SPREAD = float(np.sqrt(3.0))


def quantiles(blocks: Iterable[np.ndarray], ranks: np.ndarray) -> np.ndarray:
    """Quantiles of every column, without its missing cells.

    Args:
        blocks: rows, float [n, ...]; NaN is a missing cell.
        ranks: rising, in [0, 1], float64 [k].

    Returns:
        float64 [k, ...]: 0 and 1 exact, those between from a sketch; NaN of a column that
        has no value.
    """
    import datasketches

    digests: list[Any] = []
    shape: tuple[int, ...] = ()
    for block in blocks:
        shape = block.shape[1:]
        columns = np.asarray(block, np.float64).reshape(len(block), -1).T
        digests = digests or [datasketches.tdigest_double(COMPRESSION) for _ in columns]
        for digest, column in zip(digests, columns, strict=True):
            # Sorted, because the digest sorts what it is given, in small pieces and more slowly.
            digest.update(np.sort(column[~np.isnan(column)]))
    found = [
        np.full(len(ranks), np.nan)
        if digest.is_empty()
        else np.array([digest.get_quantile(rank) for rank in ranks])
        for digest in digests
    ]
    return np.maximum.accumulate(np.stack(found, axis=1)).reshape(len(ranks), *shape)


def spread_evenly(knots: jax.Array, x: jax.Array) -> jax.Array:
    """Every value's rank among the training rows, as a uniform variable with variance 1.

    Args:
        knots: quantiles at even ranks, rising, float32 [k, ...]; a column of NaN is left as it is.
        x: float32 [B, ...].

    Returns:
        float32 [B, ...]: in [-SPREAD, SPREAD]; NaN where x is.
    """
    ranks = jnp.linspace(-SPREAD, SPREAD, len(knots), dtype=jnp.float32)

    def column(values: jax.Array, own: jax.Array) -> jax.Array:
        # Of equal knots the middle counts: a value that a third of the rows have lies
        # half-way between the ranks of its first and its last.
        low = jnp.interp(values, own, ranks)
        high = -jnp.interp(-values, -own[::-1], ranks)
        return jnp.where(jnp.isnan(own[0]) | jnp.isnan(values), values, 0.5 * (low + high))

    flat = jax.vmap(column, in_axes=1, out_axes=1)(
        x.reshape(x.shape[0], -1), knots.reshape(len(knots), -1)
    )
    return flat.reshape(x.shape)


def from_ranks(knots: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The values that `spread_evenly` made `x` of: the inverse, on the host."""
    ranks = np.linspace(-SPREAD, SPREAD, len(knots))
    flat, own = x.reshape(len(x), -1), knots.reshape(len(knots), -1)
    columns = [
        values if np.isnan(curve[0]) else np.interp(values, ranks, curve)
        for values, curve in zip(flat.T, own.T, strict=True)
    ]
    return np.stack(columns, axis=1).reshape(x.shape)

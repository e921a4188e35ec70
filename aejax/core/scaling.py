"""Scalers: fitted once by streaming over training rows, applied inside the compiled program.

A scaler is a pytree, so it travels with the parameters, is mapped with them over a
population's members, and becomes part of an exported program. What it doesn't do is None
in it: a part of its structure, so that no program spends time on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aejax.config import InputError, Scale

# A standard deviation this small beside the mean is rounding, not spread.
_VALUES_IN_CACHE = 1 << 16
_CONSTANT = 10 * float(np.finfo(np.float32).eps)


Leaf = jax.Array | np.ndarray | np.float32 | jax.ShapeDtypeStruct


class Scaler(NamedTuple):
    """`clip((x - shift) * factor, -limit, limit)`, without the parts that are None.

    Attributes:
        shift: float32, of the row's shape, or a scalar.
        factor: float32, of the row's shape, or a scalar.
        limit: float32 scalar.
    """

    shift: Leaf | None
    factor: Leaf | None
    limit: Leaf | None


def apply(scaler: Any, x: jax.Array) -> jax.Array:
    """Scale rows of any stored type.

    Args:
        scaler: fitted on training rows.
        x: [B, ...], float or integer.

    Returns:
        float32 of the same shape.
    """
    scaled = x.astype(jnp.float32)
    if scaler.shift is not None:
        scaled = scaled - scaler.shift
    if scaler.factor is not None:
        scaled = scaled * scaler.factor
    if scaler.limit is not None:
        scaled = jnp.clip(scaled, -scaler.limit, scaler.limit)
    return scaled


def invert(scaler: Scaler, x: np.ndarray) -> np.ndarray:
    """Rows in the units they were stored in; what was clipped stays clipped."""
    factor = 1 if scaler.factor is None else np.asarray(scaler.factor)
    shift = 0 if scaler.shift is None else np.asarray(scaler.shift)
    return np.asarray(x) / factor + shift


class Moments(NamedTuple):
    """What one pass over rows must remember, in float64 and of the row's shape."""

    rows: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


def measure(blocks: Iterable[np.ndarray]) -> Moments:
    """Extremes, mean and sum of squared deviations of rows that come in blocks.

    Blocks are merged with the pairwise update of Chan, Golub and LeVeque (1979,
    Stanford report STAN-CS-79-773), which does not lose digits where the mean is large.

    Raises:
        InputError: if there are no rows.
    """
    total: Moments | None = None
    for part_of_block in _in_cache(blocks):
        x = np.asarray(part_of_block, np.float64)
        mean = x.mean(axis=0)
        part = Moments(len(x), x.min(axis=0), x.max(axis=0), mean, np.square(x - mean).sum(axis=0))
        total = part if total is None else _merge(total, part)
    if total is None:
        raise InputError("training rows: found 0; allowed: at least 1")
    return total


def _in_cache(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks in parts small enough that their float64 copies stay in a core's cache."""
    for block in blocks:
        if len(block):
            rows = max(1, _VALUES_IN_CACHE * len(block) // block.size)
            for first in range(0, len(block), rows):
                yield block[first : first + rows]


def _merge(a: Moments, b: Moments) -> Moments:
    rows = a.rows + b.rows
    gap = b.mean - a.mean
    return Moments(
        rows,
        np.minimum(a.low, b.low),
        np.maximum(a.high, b.high),
        a.mean + gap * (b.rows / rows),
        a.squares + b.squares + np.square(gap) * (a.rows * b.rows / rows),
    )


def constant_features(moments: Moments) -> np.ndarray:
    """Flat positions of the features that never change."""
    return np.flatnonzero(np.ravel(moments.low == moments.high))


def fit(scale: Scale, blocks: Iterable[np.ndarray], dtype: np.dtype) -> Scaler:
    """Fit a scaler in one pass.

    A feature that never changes keeps its unit: it is shifted, not stretched.

    Args:
        scale: which scaler.
        blocks: training rows, [n, ...] each.
        dtype: the type in which rows are stored.

    Raises:
        InputError: if `scale.kind` is "unit" and rows are not integers, or there are no rows.
    """
    limit = None if scale.clip is None else np.float32(scale.clip)
    if scale.kind == "none":
        return Scaler(None, None, limit)
    if scale.kind == "unit":
        if not np.issubdtype(dtype, np.integer):
            raise InputError(f"Scale.kind is 'unit' but rows are {dtype}; allowed: integer rows")
        return Scaler(None, np.float32(1 / np.iinfo(dtype).max), limit)
    moments = measure(blocks)
    if scale.kind == "standard":
        shift, spread = moments.mean, np.sqrt(moments.squares / moments.rows)
        # Not stretched; but a large one is still shrunk, or it would drown every other feature.
        rounding = spread <= _CONSTANT * np.abs(shift)
        spread = np.where(rounding, np.maximum(spread, 1), spread)
    else:
        low, high = moments.low, moments.high
        if scale.kind == "min-max-all":
            low, high = low.min(), high.max()
        shift, spread = low, high - low
    factor = 1 / np.where(spread > np.finfo(np.float32).tiny, spread, 1)
    return Scaler(np.float32(shift), np.float32(factor), limit)


def like(scale: Scale, row_shape: tuple[int, ...]) -> Scaler:
    """The structure of a fitted scaler for rows of one shape, as `jax.ShapeDtypeStruct`s."""

    def number(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    shape = row_shape if scale.kind in ("min-max", "standard") else ()
    return Scaler(
        shift=None if scale.kind in ("none", "unit") else number(shape),
        factor=None if scale.kind == "none" else number(shape),
        limit=None if scale.clip is None else number(()),
    )

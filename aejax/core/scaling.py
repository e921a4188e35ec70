"""Scalers: fitted once by streaming over training rows, applied inside the compiled program.

A scaler is a pytree, so it travels with the parameters, is mapped with them over a
population's members, and becomes part of an exported program. What it doesn't do is None
in it: a part of its structure, so that no program spends time on it. Quantiles of columns come
from a sketch, in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aejax.config import InputError, Scale
from aejax.models.heads import Head

# Of the t-digest (Dunning and Ertl, 2019, arXiv:1902.04023), which, unlike sketches that
# sample, gives the same numbers every time.
COMPRESSION = 1000
# Points of the curve from values to ranks.
KNOTS = 129
# A uniform variable of mean 0 and standard deviation 1 lies in [-SPREAD, SPREAD].
SPREAD = float(np.sqrt(3.0))
# Of a block's part: its float64 copies then stay in a core's cache.
_VALUES_IN_CACHE = 1 << 16
# Height, width and channels.
_IMAGE_AXES = 3
# A standard deviation this small beside the mean is rounding, not spread.
_CONSTANT = 10 * float(np.finfo(np.float32).eps)
# Between the quartiles of a normal variable with standard deviation 1.
_QUARTILES_APART = 1.3489795
Leaf = jax.Array | np.ndarray | np.float32 | jax.ShapeDtypeStruct


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
    parts = [
        np.full(len(ranks), np.nan)
        if digest.is_empty()
        else np.array([digest.get_quantile(rank) for rank in ranks])
        for digest in digests
    ]
    return np.maximum.accumulate(np.stack(parts, axis=1)).reshape(len(ranks), *shape)


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


class Scaler(NamedTuple):
    """`clip((x - shift) * factor, -limit, limit)`, without the parts that are None.

    Of a mixed table columns that are no numbers have shift 0, factor 1, limit infinity and
    knots of NaN: they pass as they are. A missing cell, NaN, stays one.

    Attributes:
        shift: float32, of the row's shape, or a scalar.
        factor: float32, of the row's shape, or a scalar.
        limit: float32 scalar, or of the row's shape.
        knots: float32 [k, *row's shape], quantiles that values are ranked among; before the rest.

    Example:
        >>> scaler = aejax.Scaler(np.float32([1, 2]), np.float32([2, 2]), limit=None)
        >>> scaler.knots is None
        True
    """

    shift: Leaf | None
    factor: Leaf | None
    limit: Leaf | None
    knots: Leaf | None = None


def apply(scaler: Any, x: jax.Array) -> jax.Array:
    """Scale rows of any stored type.

    Args:
        scaler: fitted on training rows.
        x: [B, ...], float or integer.

    Returns:
        float32 of the same shape.
    """
    scaled = x.astype(jnp.float32)
    if scaler.knots is not None:
        scaled = spread_evenly(scaler.knots, scaled)
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
    unscaled: np.ndarray = np.asarray(x) / factor + shift
    if scaler.knots is not None:
        return from_ranks(np.asarray(scaler.knots), unscaled)
    return unscaled


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
    """Blocks, cut into parts of at most so many values, or of one row."""
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


def fit(
    scale: Scale,
    blocks: Iterable[np.ndarray],
    dtype: np.dtype,
    heads: tuple[Head, ...] | None = None,
) -> Scaler:
    """Fit a scaler in one pass.

    A feature that never changes keeps its unit: it is shifted, not stretched.

    Args:
        scale: which scaler.
        blocks: training rows, [n, ...] each.
        dtype: the type in which rows are stored.
        heads: of the columns of a mixed table: missing cells don't count then, and what is no
            number stays as it is.

    Raises:
        InputError: if `scale.kind` is "unit" and rows are not integers, or there are no rows.
    """
    if heads is not None:
        return _fit_columns(scale, blocks, heads)
    limit = None if scale.clip is None else np.float32(scale.clip)
    if scale.kind == "none":
        return Scaler(None, None, limit)
    if scale.kind == "unit":
        if not np.issubdtype(dtype, np.integer):
            raise InputError(f"Scale.kind is 'unit' but rows are {dtype}; allowed: integer rows")
        return Scaler(None, np.float32(1 / np.iinfo(dtype).max), limit)
    if scale.kind in ("robust", "quantile"):
        return _fit_ranks(scale, _some(blocks), limit)
    moments = measure(blocks)
    kind = _kind(scale, moments.mean.shape)
    if kind == "standard":
        shift, spread = moments.mean, np.sqrt(moments.squares / moments.rows)
        # Not stretched; but a large one is still shrunk, or it would drown every other feature.
        rounding = spread <= _CONSTANT * np.abs(shift)
        spread = np.where(rounding, np.maximum(spread, 1), spread)
    else:
        low, high = moments.low, moments.high
        if kind == "min-max-all":
            low, high = low.min(), high.max()
        shift, spread = low, high - low
    return Scaler(np.float32(shift), _factor(spread), limit)


def _kind(scale: Scale, shape: tuple[int, ...]) -> str:
    """What a scale is for rows of one shape."""
    if scale.kind != "auto":
        return scale.kind
    return "min-max-all" if len(shape) == _IMAGE_AXES else "standard"


def _factor(spread: np.ndarray) -> Any:
    return np.float32(1 / np.where(spread > np.finfo(np.float32).tiny, spread, 1))


def _some(blocks: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """The blocks; raises where they hold no row."""
    rows = 0
    for block in blocks:
        rows += len(block)
        if len(block):
            yield block
    if not rows:
        raise InputError("training rows: found 0; allowed: at least 1")


def _fit_ranks(scale: Scale, blocks: Iterable[np.ndarray], limit: Any) -> Scaler:
    if scale.kind == "quantile":
        knots = quantiles(blocks, np.linspace(0, 1, KNOTS))
        return Scaler(None, None, limit, np.float32(knots))
    low, middle, high = quantiles(blocks, np.array([0.25, 0.5, 0.75]))
    # More than half of the values are the same: nothing is known of the spread.
    spread = np.where(high > low, (high - low) / _QUARTILES_APART, 1)
    return Scaler(np.float32(middle), _factor(spread), limit)


def _fit_columns(scale: Scale, blocks: Iterable[np.ndarray], heads: tuple[Head, ...]) -> Scaler:
    """The scaler of a mixed table: fitted on the present cells of its numbers."""
    numbers = np.array([head.kind == "number" for head in heads])
    limit = None
    if scale.clip is not None:
        limit = np.where(numbers, scale.clip, np.inf).astype(np.float32)
    if scale.kind == "none":
        return Scaler(None, None, limit)
    if scale.kind in ("robust", "quantile"):
        fitted = _fit_ranks(scale, _some(blocks), limit)
    else:
        count = np.zeros(len(heads))
        total, squares = np.zeros(len(heads)), np.zeros(len(heads))
        low, high = np.full(len(heads), np.inf), np.full(len(heads), -np.inf)
        for block in _some(blocks):
            x = np.asarray(block, np.float64)
            there = ~np.isnan(x)
            fresh = there.sum(axis=0)
            mean = np.where(there, x, 0).sum(axis=0) / np.maximum(fresh, 1)
            apart = np.square(np.where(there, x - mean, 0)).sum(axis=0)
            # The pairwise update of `measure`, with a count for each column.
            gap = mean - np.divide(total, count, out=np.zeros_like(total), where=count > 0)
            squares += apart + np.square(gap) * count * fresh / np.maximum(count + fresh, 1)
            total, count = total + mean * fresh, count + fresh
            low = np.minimum(low, np.where(there, x, np.inf).min(axis=0))
            high = np.maximum(high, np.where(there, x, -np.inf).max(axis=0))
        few = np.maximum(count, 1)
        standard = scale.kind in ("auto", "standard")
        shift = total / few if standard else np.where(count > 0, low, 0)
        spread = np.sqrt(squares / few) if standard else np.where(count > 0, high - shift, 1)
        if standard:
            spread = np.where(spread <= _CONSTANT * np.abs(shift), np.maximum(spread, 1), spread)
        fitted = Scaler(np.float32(shift), _factor(spread), limit)
    if fitted.knots is not None:
        knots = np.where(numbers, np.asarray(fitted.knots), np.float32(np.nan))
        return fitted._replace(knots=knots)
    known = numbers & np.isfinite(np.asarray(fitted.shift))
    return fitted._replace(
        shift=np.where(known, np.asarray(fitted.shift), np.float32(0)),
        factor=np.where(known, np.asarray(fitted.factor), np.float32(1)),
    )


def like(scale: Scale, row_shape: tuple[int, ...], *, mixed: bool = False) -> Scaler:
    """The structure of a fitted scaler for rows of one shape, as `jax.ShapeDtypeStruct`s."""

    def number(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    kind = _kind(scale, row_shape)
    shape = row_shape if kind in ("min-max", "standard", "robust") else ()
    return Scaler(
        shift=None if scale.kind in ("none", "unit", "quantile") else number(shape),
        factor=None if scale.kind in ("none", "quantile") else number(shape),
        limit=None if scale.clip is None else number(row_shape if mixed else ()),
        knots=number((KNOTS, *row_shape)) if scale.kind == "quantile" else None,
    )


def described(
    scaler: Scaler, row_shape: tuple[int, ...], *, mixed: bool = False
) -> tuple[Scale, Scaler]:
    """Settings from which `like` gives a scaler's structure, and the scaler in that structure.

    Args:
        scaler: of a person's own: numbers, or arrays that broadcast to a row's shape.
        row_shape: of one row.
        mixed: whether rows are of a mixed table.

    Raises:
        InputError: naming the attribute that can't be one of a scaler for such rows.
    """

    def filled(name: str, shape: tuple[int, ...], default: float = 0) -> np.ndarray:
        value = getattr(scaler, name)
        try:
            array = np.asarray(default if value is None else value, np.float32)
            return np.array(np.broadcast_to(array, shape))
        except (TypeError, ValueError):
            raise InputError(
                f"scaler.{name} is {value!r:.80}; "
                f"allowed: numbers that broadcast to {list(shape)}, or None"
            ) from None

    limit, clip = None, None
    if scaler.limit is not None:
        limit = filled("limit", row_shape if mixed else ())
        finite = limit[np.isfinite(limit)]
        clip = float(finite.flat[0]) if finite.size else None
        limit = None if clip is None else limit
    if scaler.knots is not None:
        if scaler.shift is not None or scaler.factor is not None:
            raise InputError("scaler has knots beside shift or factor; allowed: one of both")
        knots = filled("knots", (KNOTS, *row_shape))
        return Scale(kind="quantile", clip=clip), Scaler(None, None, limit, knots)
    if scaler.shift is None and scaler.factor is None:
        return Scale(kind="none", clip=clip), Scaler(None, None, limit)
    shift, factor = filled("shift", row_shape), filled("factor", row_shape, 1)
    return Scale(kind="standard", clip=clip), Scaler(shift, factor, limit)

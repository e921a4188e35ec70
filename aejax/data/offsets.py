"""Numbers far from 0 beside their spread: what is subtracted before rows become float32.

Epoch seconds, counters, coordinates and meter readings differ in digits that float32 doesn't
have. Such a column is centred in float64: its offset, a part of the schema, is the median of
its first values. A column is centred

- where its median is more than 4,096 times its spread (float32 would then round its values by
  more than an eight-thousandth of the spread), or
- where float32 would hold at most half of its different values,

but never where float32 holds every value as it is (whole numbers up to 2 ** 24), and never for
differences that are rounding of float64. Other tables have no offset.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from aejax.data.schema import Schema

FAR = 4096.0
# float32 holds every whole number up to here.
MOST_WHOLE = float(1 << 24)
# And float64 up to here.
MOST_WHOLE_DOUBLE = float(1 << 53)
# Of a column's different values; with fewer, that is said.
LEAST_HELD = 0.75
# Of a value's size: smaller differences, unless of whole numbers, are what arithmetic left.
ROUNDING = 2.0**-36
# The quartiles of a normal variable with standard deviation 1 lie so far apart.
QUARTILES_APART = 1.3489795
# Rows examined, and values of wide ones; more where a column has no value in them.
HEAD_ROWS, HEAD_VALUES, LEAST_ROWS = 1 << 10, 1 << 18, 1 << 6
# Rows of each of many groups that decide.
GROUP_ROWS = 1 << 7
# Of the columns that are sorted together.
VALUES_AT_ONCE = 1 << 14
MOST_HEADS = 64


def is_wide(dtype: np.dtype) -> bool:
    """Whether a type holds numbers that float32 doesn't."""
    return (dtype.kind == "f" and dtype.itemsize > 4) or (dtype.kind in "iu" and dtype.itemsize > 2)


def centred(x: np.ndarray, schema: Schema) -> np.ndarray:
    """Rows less the schema's offset, float32 [n, ...]; the same array where it has none.

    Args:
        x: numbers of the schema's shape, [n, ...].
        schema: of the rows.
    """
    if schema.offset is None:
        return x
    return less(x, np.array(schema.offset).reshape(schema.shape))


def less(x: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Rows less what belongs to each, in float64 and then as float32 [n, ...]."""
    out = np.empty(x.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        np.subtract(x, offset, out=out, casting="unsafe")
    return out


def less_each(x: np.ndarray, offsets: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Rows each less its own offset, as `less`.

    Args:
        x: numbers, [n, ...].
        offsets: float64 [offsets, ...].
        which: of them belongs to each row, whole numbers [n].
    """
    out = np.empty(x.shape, np.float32)
    for first in range(0, len(x), HEAD_VALUES):
        some = slice(first, first + HEAD_VALUES)
        out[some] = less(x[some], offsets[which[some]])
    return out


def head_rows(features: int) -> int:
    """How many of the first rows decide."""
    return max(LEAST_ROWS, min(HEAD_ROWS, HEAD_VALUES // features))


def heads(x: Any) -> Iterator[np.ndarray]:
    """Rows of an array, or on disk, from the first on, as many at a time as decide."""
    size = head_rows(max(1, math.prod(x.shape[1:])))
    for first in range(0, len(x), size):
        yield x[first : first + size]


def with_offset(schema: Schema, blocks: Iterable[np.ndarray]) -> tuple[Schema, list[str]]:
    """The schema with the offset that rows need, and a sentence where values are lost all the same.

    Args:
        schema: of the rows; one that has an offset keeps it.
        blocks: rows as they are given, [n, ...] each, of which only the first are read:
            until every feature had a value.

    Returns:
        The schema, of float64 where it has an offset; and sentences, none where float32 holds
        nearly all of every feature's different values.
    """
    head = _first_values(blocks, schema.features)
    offset, held, different = _centres(head, schema.offset)
    lost = np.flatnonzero(held < LEAST_HELD * different)
    if schema.offset is None and (offset.any() or len(lost)):
        schema = schema.with_offset(tuple(offset.tolist()))
    alarms = []
    if len(lost):
        worst = int(lost[np.argmin(held[lost] / different[lost])])
        others = f" ({len(lost) - 1} more features likewise)" if len(lost) > 1 else ""
        alarms.append(
            f"{schema.feature_name(worst)} has {different[worst]:,} different values in the first "
            f"{len(head):,} rows, of which float32 holds {held[worst]:,}{others}: they differ too "
            "little beside how far apart others lie"
        )
    most = np.where(np.isfinite(head), np.abs(head), 0).max(axis=0, initial=0)
    for beyond in np.flatnonzero(most >= MOST_WHOLE_DOUBLE).tolist():
        values = np.unique(head[np.isfinite(head[:, beyond]), beyond])
        if len(values) > 1 and np.median(np.diff(values)) <= 2 * np.spacing(most[beyond]):
            name = schema.feature_name(beyond)
            alarms.append(
                f"{name} holds numbers beyond 2 ** 53, where float64 holds every other one or "
                "fewer: leave it out, or take it for text"
            )
            break
    return schema, alarms


def centres(head: np.ndarray) -> np.ndarray:
    """What to subtract from each column, float64 [columns]; 0 where nothing has to be.

    Args:
        head: numbers, float64 [n, columns]; NaN and infinity are no values.
    """
    return _centres(head, None)[0]


def _centres(
    head: np.ndarray, offset: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each column's offset, and how many values it has, as float32 less the offset and at all."""
    rows, columns = head.shape
    known = None if offset is None else np.array(offset)
    size = max(1, VALUES_AT_ONCE // max(1, rows))
    parts = [(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for first in range(0, columns, size):
        some = slice(first, first + size)
        ordered = np.sort(np.where(np.isfinite(head[:, some]), head[:, some], np.nan), axis=0)
        centre = _centre(ordered) if known is None else known[some]
        parts.append((centre, *_different(ordered, centre)))
    centre, held, different = (np.concatenate(part) for part in zip(*parts, strict=True))
    return centre, held, different


def offsets_of_groups(
    x: np.ndarray, rows_of: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What to subtract from the rows of each group, float64 [groups, ...], 0 for nothing.

    Args:
        x: numbers, [n, ...].
        rows_of: positions of each group's rows, of which the first decide.

    Returns:
        The offsets; and for each group whether a feature loses many of its different values all
        the same, bool [groups].
    """
    flat = x.reshape(len(x), -1)
    features = flat.shape[1]
    offsets, lost = np.zeros((len(rows_of), features)), np.zeros(len(rows_of), bool)
    together = max(1, HEAD_VALUES // (GROUP_ROWS * features))
    for first in range(0, len(rows_of), together):
        some = rows_of[first : first + together]
        most = min(GROUP_ROWS, max(map(len, some)))
        head = np.full((most, len(some), features), np.nan)
        for at, rows in enumerate(some):
            picked = flat[rows[:most]]
            head[: len(picked), at] = picked
        centre, held, different = (
            part.reshape(len(some), features) for part in _centres(head.reshape(most, -1), None)
        )
        offsets[first : first + together] = centre
        lost[first : first + together] = (held < LEAST_HELD * different).any(axis=1)
    return offsets.reshape(-1, *x.shape[1:]), lost


def _centre(ordered: np.ndarray) -> np.ndarray:
    """As `centres`, of columns in rising order, NaN behind their values."""
    count = np.sum(~np.isnan(ordered), axis=0)
    if not len(ordered):
        return np.zeros(ordered.shape[1])

    def at(share: float) -> np.ndarray:
        place = np.floor(share * np.maximum(count - 1, 0)).astype(np.int64)
        centre: np.ndarray = np.take_along_axis(ordered, place[None], axis=0)[0]
        return centre

    lowest, low, middle, high, highest = map(at, (0, 0.25, 0.5, 0.75, 1))
    size = np.abs(middle)
    with np.errstate(invalid="ignore", over="ignore"):
        whole = ((ordered == np.floor(ordered)) | np.isnan(ordered)).all(axis=0)
        rounding = np.where(whole, 0, ROUNDING * size)
        spread = (high - low) / QUARTILES_APART
        # Most values are the same: the others say how they differ.
        few = np.flatnonzero(spread <= rounding)
        apart = np.nan_to_num(ordered[:, few] - middle[few])
        spread[few] = np.sqrt(np.square(apart).sum(axis=0) / np.maximum(count[few], 1))
        # A column that never changes keeps its unit, as its scaler does.
        spread[lowest == highest] = 1
        far = (size > FAR * spread) & (spread > rounding)
        exact = whole & (np.maximum(np.abs(lowest), np.abs(highest)) <= MOST_WHOLE)
    held, different = _different(ordered, np.zeros(len(middle)))
    needed = (far | (2 * held <= different)) & ~exact & (count > 0)
    return np.where(needed, middle, 0.0)


def _different(ordered: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many different values each column has, as float32 less an offset and as it is."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(ordered, axis=0)
        rounded = np.diff(less(ordered, offset), axis=0) > 0
        # Of whole numbers no difference is rounding.
        rounding = np.minimum(ROUNDING * np.abs(ordered[1:]), 1 - ROUNDING)
    some = (~np.isnan(ordered)).any(axis=0)
    return (rounded & (steps > rounding)).sum(axis=0) + some, (steps > rounding).sum(axis=0) + some


def _first_values(blocks: Iterable[np.ndarray], features: int) -> np.ndarray:
    """The first rows, float64 [n, features], until every feature had a value or many had none."""
    parts: list[np.ndarray] = []
    missing = np.ones(features, bool)
    for number, block in enumerate(blocks):
        rows = np.asarray(block[: head_rows(features)], np.float64).reshape(-1, features)
        missing &= ~np.isfinite(rows).any(axis=0)
        if number == 0 or np.isfinite(rows).any():
            parts.append(rows)
        if not missing.any() or number == MOST_HEADS:
            break
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.empty((0, features)), *parts])

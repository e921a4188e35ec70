"""Rows to batches of one fixed shape: order, padding, masks, and a prefetching stream."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from aejax.data.overlap import made_ahead

NewNumbers = Callable[..., np.ndarray]
# Of numbers that are filled in, and bytes of rows that are passed through, at once.
NUMBERS_AT_ONCE = 1 << 18
BLOCK_BYTES = 1 << 23


class Batch(NamedTuple):
    """Rows of a fixed count.

    Attributes:
        x: rows as stored, [B, ...].
        mask: bool [B]; False marks padding.
    """

    x: np.ndarray
    mask: np.ndarray


class Picked:
    """Some rows of an array, by position: indexed by slices as an array of them would be.

    Args:
        rows: [n, ...].
        at: positions of those that are meant, whole numbers [m].
    """

    def __init__(self, rows: np.ndarray, at: np.ndarray) -> None:
        self._rows, self._at = rows, at
        self.dtype, self.shape = rows.dtype, (len(at), *rows.shape[1:])

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, part: slice | np.ndarray, /) -> np.ndarray:
        return self._rows[self._at[part]]


class RowSource(Protocol):
    """Rows that can be picked by position: an array, a memory map, or a reader of files."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


def host_random(seed: int, name: str, *position: int) -> np.random.Generator:
    """A generator of host randomness for one use, at one position (an epoch, say) of a run."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *position])


def shuffled(
    rows: int, seed: int, name: str, *position: int, size: int = 0, new: NewNumbers = np.empty
) -> np.ndarray:
    """All positions of so many rows in random order; -1 fills up to `size`.

    Args:
        rows: how many.
        seed: of the run.
        name: what the order is for.
        position: of the use in the run.
        size: numbers in the result, if more than rows.
        new: makes an array for them, of a length and a type.

    Returns:
        int32, or int64 where there are too many rows for that; [max(rows, size)].
    """
    order = new(max(rows, size), np.int32 if rows <= np.iinfo(np.int32).max else np.int64)
    for first in range(0, rows, NUMBERS_AT_ONCE):
        order[first : first + NUMBERS_AT_ONCE] = np.arange(
            first, min(first + NUMBERS_AT_ONCE, len(order))
        )
    order[rows:] = -1
    # The same draws as in `permutation`, in place and on numbers of half the size.
    host_random(seed, name, *position).shuffle(order[:rows])
    return order


def epoch_order(
    rows: int, batch_size: int, seed: int, epoch: int, *, new: NewNumbers = np.empty
) -> np.ndarray:
    """Which rows make each batch of an epoch: every row once, shuffled.

    The last batch is filled up with rows of its own, as ~position (so -1 is padding, too): they
    are masked, and a network that doesn't take the mask sees no rows but the batch's.

    Args:
        rows: how many.
        batch_size: rows in a batch.
        seed: of the run.
        epoch: from 0.
        new: makes an array for the numbers, of a length and a type.

    Returns:
        int32 (int64 from 2**31 rows on), [steps, batch_size].
    """
    steps = -(-rows // batch_size)
    order = shuffled(rows, seed, "order", epoch, size=steps * batch_size, new=new)
    by_batch = order.reshape(steps, batch_size)
    if steps:
        pad_order(by_batch[-1], rows - (steps - 1) * batch_size)
    return by_batch


def pad_order(batch: np.ndarray, count: int) -> None:
    """Fill positions [B] after the first `count` with those, as ~position."""
    batch[count:] = ~np.resize(batch[:count], len(batch) - count)


def held_out(rows: int, fraction: float) -> int:
    """How many rows are held out for validation."""
    return min(max(1, round(rows * fraction)), rows - 1) if fraction > 0 else 0


def validation_split(rows: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and validation rows, both in ascending order.

    At least one row is held out where `fraction` is above 0, and at least one is left.
    """
    held = held_out(rows, fraction)
    order = host_random(seed, "validation").permutation(rows)
    return np.sort(order[held:]), np.sort(order[:held])


def in_blocks(rows: Any) -> Iterator[np.ndarray]:
    """Consecutive rows, some megabytes at a time: the same blocks wherever the rows are.

    Args:
        rows: an array, rows on disk, or any `RowSource`, [n, ...].
    """
    sliced = hasattr(rows, "shape")
    row = rows if sliced else rows[np.arange(min(1, len(rows)))]
    size = max(1, BLOCK_BYTES // max(1, row.dtype.itemsize * math.prod(row.shape[1:])))
    for first in range(0, len(rows), size):
        stop = min(first + size, len(rows))
        yield rows[first:stop] if sliced else rows[np.arange(first, stop)]


def data_fingerprint(rows: Any) -> str:
    """SHA-256 of rows, their type and their shape, in hexadecimal.

    Args:
        rows: as in `in_blocks`; windows know it of their points.
    """
    if hasattr(rows, "fingerprint"):
        own: str = rows.fingerprint()
        return own
    row = rows if hasattr(rows, "shape") else rows[np.arange(min(1, len(rows)))]
    total = hashlib.sha256(f"{row.dtype} {(len(rows), *row.shape[1:])}".encode())
    for block in in_blocks(rows):
        total.update(np.ascontiguousarray(block).data)
    return total.hexdigest()


def pad(x: np.ndarray, size: int) -> Batch:
    """Fill up with rows of zeros to `size` rows; returns the same array where it is full."""
    count = len(x)
    mask = np.arange(size) < count
    if count == size:
        return Batch(x, mask)
    padded = np.zeros((size, *x.shape[1:]), x.dtype)
    padded[:count] = x
    return Batch(padded, mask)


def tiles(x: np.ndarray, size: int) -> Batch:
    """All rows as tiles of one shape: x [T, size, ...], mask [T, size]."""
    count = -(-len(x) // size)
    padded = pad(x, count * size)
    return Batch(padded.x.reshape(count, size, *x.shape[1:]), padded.mask.reshape(count, size))


def stream(rows: RowSource, order: Sequence[np.ndarray] | np.ndarray) -> Generator[Batch]:
    """Batches in the given order, gathered ahead of their use.

    Args:
        rows: where rows are picked from.
        order: int32 [steps, B]; ~position is padding that holds the row of that position.
    """

    def gather(picked: np.ndarray) -> Batch:
        return Batch(rows[np.maximum(picked, ~picked)], picked >= 0)

    return made_ahead(gather, order, depth=8, threads=2)


def evenly(rows: int, most: int) -> slice:
    """At most so many of some rows, evenly spread."""
    return slice(None, None, max(1, -(-rows // most)))

"""Rows to batches of one fixed shape: order, padding, masks, and a prefetching stream."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Batch(NamedTuple):
    """Rows of a fixed count.

    Attributes:
        x: rows as stored, [B, ...].
        mask: bool [B]; False marks padding.
    """

    x: np.ndarray
    mask: np.ndarray


class RowSource(Protocol):
    """Rows that can be picked by position: an array, a memory map, or a reader of files."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


def host_random(seed: int, name: str, *position: int) -> np.random.Generator:
    """A generator of host randomness for one use, at one position (an epoch, say) of a run."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *position])


def epoch_order(rows: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Which rows make each batch of an epoch: every row once, shuffled; -1 pads the last batch.

    Returns:
        int32 [steps, batch_size].
    """
    steps = -(-rows // batch_size)
    order = np.full(steps * batch_size, -1, np.int32)
    order[:rows] = host_random(seed, "order", epoch).permutation(rows)
    return order.reshape(steps, batch_size)


def validation_split(rows: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and validation rows, both in ascending order.

    At least one row is held out where `fraction` is above 0, and at least one is left.
    """
    held = min(max(1, round(rows * fraction)), rows - 1) if fraction > 0 else 0
    shuffled = host_random(seed, "validation").permutation(rows)
    return np.sort(shuffled[held:]), np.sort(shuffled[:held])


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


def stream(rows: RowSource, order: Sequence[np.ndarray] | np.ndarray) -> Iterator[Batch]:
    """Batches in the given order, gathered ahead of their use by Grain's prefetching threads.

    Args:
        rows: where rows are picked from.
        order: int32 [steps, B]; -1 is padding (its content is arbitrary, its mask False).
    """
    import grain

    def gather(picked: np.ndarray) -> Batch:
        return Batch(rows[np.maximum(picked, 0)], picked >= 0)

    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return iter(grain.MapDataset.source(order).map(gather).to_iter_dataset(ahead))

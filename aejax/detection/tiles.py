"""Rows of many groups to tiles of one group each, and results back in the rows' order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from aejax.core import mesh

# Rows in a tile: below this, fetching a member's parameters costs more than using them; above,
# a tile of a narrow model leaves nothing to gain.
LEAST_TILE, MOST_TILE = 8, 512
# Dispatched and not yet read.
AHEAD = 4


def tile_rows(members: np.ndarray) -> int:
    """Rows in a tile, a power of two: about half of what a group has here.

    So a quarter of the places at most are padding, for groups of one size, and few programs
    are compiled. It depends on the rows of one call only.

    Args:
        members: int32 [n], each row's group; -1 for none.
    """
    known = members[members >= 0]
    groups = max(len(np.unique(known)), 1)
    half = max(len(known) // groups // 2, 1)
    return min(MOST_TILE, max(LEAST_TILE, 1 << (half.bit_length() - 1)))


def pack(members: np.ndarray, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Places for rows in tiles that hold rows of one group each.

    Args:
        members: int32 [n], each row's group; rows of -1 get no place.
        tile: rows in a tile.

    Returns:
        Which row is where, int64 [tiles, tile], -1 for padding; each tile's group, int32 [tiles].
    """
    order = np.argsort(members, kind="stable")
    order = order[np.searchsorted(members[order], 0) :]
    groups, first, counts = np.unique(members[order], return_index=True, return_counts=True)
    tiles_of = -(-counts // tile)
    starts = np.cumsum(tiles_of) - tiles_of
    rank = np.arange(len(order)) - np.repeat(first, counts)
    placed = np.full(int(tiles_of.sum()) * tile, -1, np.int64)
    placed[np.repeat(starts * tile, counts) + rank] = order
    return placed.reshape(-1, tile), np.repeat(groups, tiles_of).astype(np.int32)


def map_tiles(
    functions: Mapping[jax.Device, Callable[[Any, Any], Any]],
    x: np.ndarray,
    members: np.ndarray,
    *,
    batch_size: int,
    dtype: str,
) -> list[np.ndarray]:
    """Apply a compiled function to rows in tiles, dispatching ahead.

    Args:
        functions: by the device that each computes on, which take turns: tiles [K, T, ...] and
            their groups int32 [K] -> an array [K, T, ...] or a tuple of them.
        x: rows, [n, ...].
        members: int32 [n], each row's group; -1 for none.
        batch_size: rows in all tiles of one call of the function, about.
        dtype: of the tiles.

    Returns:
        One array [n, ...] for each of the function's; NaN, or 0, in rows without a group.
    """
    tile = min(tile_rows(members), batch_size)
    at_once = max(1, batch_size // tile)
    places, groups = pack(members, tile)
    # An empty input still runs one batch of padding, so that results have their shapes.
    count = max(1, -(-len(places) // at_once))
    padding = count * at_once - len(places)
    places = np.concatenate([places, np.full((padding, tile), -1)])
    groups = np.concatenate([groups, np.zeros(padding, np.int32)])
    pending: deque[tuple[np.ndarray, Any]] = deque()
    out: list[np.ndarray] = []

    def read() -> None:
        placed, results = pending.popleft()
        real = placed >= 0
        for index, result in enumerate(jax.device_get(results)):
            if len(out) <= index:
                empty = np.nan if result.dtype.kind == "f" else 0
                out.append(np.full((len(x), *result.shape[2:]), empty, result.dtype))
            out[index][placed[real]] = result[real]

    turns = itertools.cycle(functions.items())
    for first in range(0, len(places), at_once):
        placed = places[first : first + at_once]
        with np.errstate(over="ignore"):
            rows = (
                x[np.maximum(placed, 0)].astype(dtype, copy=False)
                if len(x)
                else np.zeros((at_once, tile, *x.shape[1:]), dtype)
            )
        device, function = next(turns)
        results = function(*mesh.on_device(device, (rows, groups[first : first + at_once])))
        pending.append((placed, results if isinstance(results, tuple) else (results,)))
        if len(pending) > AHEAD * len(functions):
            read()
    while pending:
        read()
    return out

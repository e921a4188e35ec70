"""Rows of many detectors in one program: tiles of rows, and which member each tile belongs to.

A tile holds rows of one member only, so that a member's parameters are fetched once for all
of them and meet them in one product. Pure and unjitted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from aejax.core.reasons import explain_rows
from aejax.core.scaling import Scaler
from aejax.core.score import Scorer, encode_rows, reconstruct_rows, score_rows

Variables = dict[str, Any]


def _by_tile(
    function: Callable[..., Any],
    variables: Variables,
    scaler: Scaler,
    x: jax.Array,
    members: jax.Array,
    side_by_side: bool,
) -> Any:
    def one(tile: tuple[jax.Array, jax.Array]) -> Any:
        rows, member = tile
        own = jax.tree.map(lambda leaf: leaf[member], (variables, scaler))
        return function(*own, rows)

    # On a CPU a tile and its member stay in cache while tiles take turns.
    return jax.vmap(one)((x, members)) if side_by_side else jax.lax.map(one, (x, members))


def score_tiles(
    scorer: Scorer,
    variables: Variables,
    scaler: Scaler,
    x: jax.Array,
    members: jax.Array,
    *,
    side_by_side: bool,
) -> jax.Array:
    """Scores of tiles of rows, each by its own member.

    Args:
        scorer: of one member.
        variables: of all members, with a leading axis.
        scaler: likewise.
        x: rows as stored, [tiles, T, ...].
        members: int32 [tiles], whose rows each tile holds.
        side_by_side: all tiles at once, for devices that are wide; otherwise in turns.

    Returns:
        float32 [tiles, T].
    """
    found: jax.Array = _by_tile(
        lambda *given: score_rows(scorer, *given), variables, scaler, x, members, side_by_side
    )
    return found


def explain_tiles(
    scorer: Scorer,
    variables: Variables,
    scaler: Scaler,
    x: jax.Array,
    members: jax.Array,
    *,
    top: int,
    side_by_side: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `explain_rows` gives, of tiles as in `score_tiles`: each [tiles, T, ...]."""
    found: tuple[jax.Array, jax.Array, jax.Array] = _by_tile(
        lambda *given: explain_rows(scorer, given[0], given[1], given[2], top),
        variables,
        scaler,
        x,
        members,
        side_by_side,
    )
    return found


def reconstruct_tiles(
    scorer: Scorer,
    variables: Variables,
    scaler: Scaler,
    x: jax.Array,
    members: jax.Array,
    *,
    side_by_side: bool,
) -> tuple[jax.Array, jax.Array]:
    """Scaled rows and their reconstructions, of tiles as in `score_tiles`."""
    found: tuple[jax.Array, jax.Array] = _by_tile(
        lambda *given: reconstruct_rows(scorer, *given),
        variables,
        scaler,
        x,
        members,
        side_by_side,
    )
    return found


def encode_tiles(
    scorer: Scorer,
    variables: Variables,
    scaler: Scaler,
    x: jax.Array,
    members: jax.Array,
    *,
    side_by_side: bool,
) -> jax.Array:
    """Latent values, of tiles as in `score_tiles`."""
    found: jax.Array = _by_tile(
        lambda *given: encode_rows(scorer, *given), variables, scaler, x, members, side_by_side
    )
    return found

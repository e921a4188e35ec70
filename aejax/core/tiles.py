"""Rows of many detectors in one program: tiles of rows, and which member each tile belongs to.

A tile holds rows of one member only, so that a member's parameters are fetched once for all
of them and meet them in one product. Pure and unjitted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from aejax.core.scaling import Scaler
from aejax.core.score import Scorer


def tiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one member's rows, as one of tiles of rows, each by its own member.

    Args:
        function: of a scorer, variables, a scaler and rows [T, ...], as `score_rows`; by
            keyword, what else it takes.

    Returns:
        A function of the same and, by position:
            scorer: of one member.
            variables: of all members, with a leading axis.
            scaler: likewise.
            x: rows as stored, [tiles, T, ...].
            members: int32 [tiles], whose rows each tile holds.
        By keyword:
            side_by_side: all tiles at once, for devices that are wide; otherwise in turns, in
                which a tile and its member stay in a CPU's cache.
        It gives arrays [tiles, T, ...] where `function` gives [T, ...].
    """

    def over_tiles(
        scorer: Scorer,
        variables: dict[str, Any],
        scaler: Scaler,
        x: jax.Array,
        members: jax.Array,
        *,
        side_by_side: bool,
        **how: Any,
    ) -> Any:
        def one(tile: tuple[jax.Array, jax.Array]) -> Any:
            rows, member = tile
            own = jax.tree.map(lambda leaf: jnp.asarray(leaf)[member], (variables, scaler))
            return function(scorer, *own, rows, **how)

        return jax.vmap(one)((x, members)) if side_by_side else jax.lax.map(one, (x, members))

    # What profiles and compiled programs are named by.
    over_tiles.__name__ = f"{function.__name__}_of_tiles"
    return over_tiles

"""Layers that stay as they are in training."""

from __future__ import annotations

from typing import Any

import jax


def is_frozen(frozen: tuple[str, ...], tree: Any) -> Any:
    """Which leaves of a tree of parameters are frozen, a tree of bool.

    Args:
        frozen: beginnings of paths, such as "network/encoder_layers_0".
        tree: parameters, or batch statistics.
    """

    def one(path: Any, _: Any) -> bool:
        parts = [str(part.key) for part in path]
        return any(parts[: len(start)] == start for start in starts)

    starts = [start.split("/") for start in frozen]
    return jax.tree_util.tree_map_with_path(one, tree)


def kept(frozen: tuple[str, ...], new: object, old: object) -> Any:
    """The new tree with the old one's frozen leaves.

    Args:
        frozen: as in `is_frozen`.
        new: a tree of parameters, or batch statistics.
        old: one of the same structure.
    """
    if not frozen:
        return new
    return jax.tree.map(lambda keep, a, b: b if keep else a, is_frozen(frozen, old), new, old)

"""Scores as pure functions, to be composed with jit, vmap, grad and shardings of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from aejax.config import InputError
from aejax.core import steps
from aejax.core.tiles import tiled
from aejax.detection.detector import Detector


def score_fn(detector: Detector) -> Callable[..., jax.Array]:
    """A pure function of rows as `Detector.prepare` gives them, [B, ...] -> float32 [B].

    It holds the detector's arrays as constants; `scores` takes the detector as an argument.
    It composes with `jax.jit`, `jax.vmap`, `jax.grad` (of built-in networks and those whose code
    is here) and `shard_map`, and checks nothing: a row with NaN has the score NaN. Of a detector
    of groups it takes the position of each row's group besides, int32 [B], as
    `detector.groups.places` gives it.

    Args:
        detector: of any kind.

    Example:
        >>> x = detector.prepare(rows)
        >>> jax.jit(score_fn(detector))(x[:5]).shape
        (5,)
    """
    return functools.partial(scores, detector)


def scores(detector: Detector, x: Any, members: Any = None) -> jax.Array:
    """Score of every row, float32 [B]: as `score_fn`, with the detector as an argument.

    A detector is a pytree, whose leaves are the arrays of its scaler and variables:
    `jax.jit(aejax.scores)(detector, x)` compiles once for all detectors of one network.

    Args:
        detector: of any kind.
        x: rows as `Detector.prepare` gives them, [B, ...].
        members: int32 [B], the position of each row's group, of a detector of groups only.

    Raises:
        InputError: if positions are missing or not asked for.

    Example:
        >>> import jax
        >>> jax.jit(aejax.scores)(detector, detector.prepare(rows)).shape
        (300,)
    """
    scorer, variables, scaler = detector.scoring, detector.variables, detector.scaler
    if (detector.groups is None) != (members is None):
        allowed = "None" if detector.groups is None else "the position of each row's group"
        raise InputError(f"members is {type(members).__name__}; allowed here: {allowed}")
    if members is None:
        return steps.score_rows(scorer, variables, scaler, x)
    one = tiled(steps.score_rows)
    by_row: jax.Array = one(
        scorer, variables, scaler, x[:, None], members, side_by_side=scorer.maps
    )
    return by_row[:, 0]

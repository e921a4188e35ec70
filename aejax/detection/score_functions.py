"""Scores as pure functions, to be composed with jit, vmap, grad and shardings of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aejax.config import InputError
from aejax.core import mesh, steps
from aejax.core.tiles import tiled
from aejax.data.offsets import centred
from aejax.detection.detector import Detector
from aejax.detection.placed import PlacedModel
from aejax.models.backend import transfers_allowed


def prepared_scorer(model: PlacedModel, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of rows [batch, ...] that gives their scores; see `Detector.scorer`."""
    if model.parted is not None:
        raise InputError(
            "scorer: the detector is one of groups; allowed: a single model or an ensemble; a "
            "group's own is member(NAME).scorer()"
        )
    if batch < 1:
        raise InputError(f"batch is {batch}; allowed: at least 1")
    schema = model.schema
    shape, dtype = (batch, *schema.shape), np.dtype(schema.device_dtype)
    taken = dtype if schema.offset is None else np.dtype("float64")
    program = steps.compiled_score.bound(model.scoring, *model.arrays_on(mesh.ONE_DEVICE))
    with transfers_allowed():
        # Compiles it.
        program(np.zeros(shape, dtype))

    def score(rows: np.ndarray) -> np.ndarray:
        if rows.shape != shape or rows.dtype != taken:
            raise InputError(
                f"rows are {rows.dtype}{list(rows.shape)}; allowed: {taken}{list(shape)}"
            )
        if taken is not dtype:
            rows = centred(rows, schema)
        with transfers_allowed():
            return np.array(program(rows))

    return score


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
    found: jax.Array = one(scorer, variables, scaler, x[:, None], members, side_by_side=scorer.maps)
    return found[:, 0]

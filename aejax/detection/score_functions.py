"""Scores as pure functions, to be composed with jit, vmap, grad and shardings of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from aejax.core import steps
from aejax.detection.detector import Detector


def score_fn(detector: Detector) -> Callable[[jax.Array], jax.Array]:
    """A pure function of rows as `Detector.prepare` gives them, [B, ...] -> float32 [B].

    It holds the detector's arrays as constants; `scores` takes the detector as an argument.
    It composes with `jax.jit`, `jax.vmap`, `jax.grad` (of built-in networks and those whose code
    is here) and `shard_map`, and checks nothing: a row with NaN has the score NaN.

    Args:
        detector: a single model or an ensemble.

    Example:
        >>> import aejax, numpy as np
        >>> x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
        >>> detector = aejax.fit(aejax.Config(train=aejax.Train(epochs=2)), x)
        >>> jax.jit(score_fn(detector))(x[:5]).shape
        (5,)
    """
    scorer, variables, scaler = detector.scorer, detector.variables, detector.scaler

    def score(x: jax.Array) -> jax.Array:
        return steps.score_rows(scorer, variables, scaler, x)

    return score


def scores(detector: Detector, x: Any) -> jax.Array:
    """Score of every row, float32 [B]: as `score_fn`, with the detector as an argument.

    A detector is a pytree, whose leaves are the arrays of its scaler and variables:
    `jax.jit(aejax.scores)(detector, x)` compiles once for all detectors of one network.

    Args:
        detector: a single model or an ensemble.
        x: rows as `Detector.prepare` gives them, [B, ...].
    """
    return steps.score_rows(detector.scorer, detector.variables, detector.scaler, x)

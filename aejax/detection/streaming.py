"""Thresholds on more scores than memory holds: one pass, memory that doesn't grow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from aejax import config
from aejax.config import InputError, Rule
from aejax.core import scaling
from aejax.detection import tails
from aejax.detection.threshold import (
    NO_LABELS,
    Floats,
    Threshold,
    finite_scores,
    fit_threshold,
    upper_quantile,
)

# Scores kept as they are: up to here, and often beyond, results are exact.
KEPT_SCORES = 1 << 20
# Of the quantile sketch. The share of scores above a sketched quantile is off by at most
# 0.8 % of itself (three standard errors, as datasketches states them).
SKETCH_SIZE = 50


def fit_threshold_streaming(
    rule: Rule,
    blocks: Iterable[npt.ArrayLike],
    *,
    kept_scores: int = KEPT_SCORES,
    seed: int = 0,
) -> Threshold:
    """Find a threshold in one pass over scores that come in blocks.

    Up to `kept_scores` scores the threshold is that of `fit_threshold`. Beyond:

    - `MeanStd` stays exact (moments are merged).
    - `PeaksOverThreshold` stays exact in its peaks: the largest scores are kept, and the
      level rises where those above it are more.
    - `Conformal` calibrates on a uniform sample; the guarantee is the same.
    - `Quantile` and `Contamination` stay exact while the scores above them are among those
      kept; then they come from a relative-error quantile sketch of Apache DataSketches
      (Cormode et al., "Relative error streaming quantiles", PODS 2021): the share of scores
      above the threshold is off by at most 0.8 % of itself, with probability 0.997.

    Args:
        rule: any but `BestF1`, which needs labels beside the scores.
        blocks: scores, float [n] each.
        kept_scores: how many are kept in memory, up to 64 bytes each.
        seed: of the sample.

    Raises:
        InputError: if there are no or too few scores, one is not finite, or the rule needs
            labels.

    Example:
        >>> blocks = (np.arange(1000.0) + 1000 * block for block in range(3))
        >>> fit_threshold_streaming(config.Quantile(q=1.0), blocks).value
        2999.0
    """
    if isinstance(rule, config.BestF1):
        raise InputError(NO_LABELS)
    if kept_scores < 2:
        raise InputError(f"kept_scores is {kept_scores}; allowed: at least 2")
    if isinstance(rule, config.Fixed):
        rows = sum(map(len, _counted(blocks)))
        return Threshold(value=rule.value, rule=rule, rows=rows)
    if isinstance(rule, config.MeanStd):
        return _mean_std(rule, blocks)
    if isinstance(rule, config.Conformal):
        rows, sample = _sample(blocks, kept_scores, np.random.default_rng(seed))
        found = fit_threshold(rule, sample)
        return dataclasses.replace(found, rows=rows)
    rows, largest, sketch = _largest(
        blocks, kept_scores, sketched=not isinstance(rule, config.PeaksOverThreshold)
    )
    if not rows:
        raise InputError("calibration scores: found 0; allowed: at least 1")
    if isinstance(rule, config.PeaksOverThreshold):
        value = tails.tail_threshold(largest, rows, risk=rule.risk, level=rule.level)
        return Threshold(value=value, rule=rule, rows=rows)
    share = 1 - rule.q if isinstance(rule, config.Quantile) else rule.rate
    if rows == len(largest):
        return fit_threshold(rule, largest)
    if share * (rows - 1) + 1 < len(largest):
        return Threshold(value=upper_quantile(largest, rows, share), rule=rule, rows=rows)
    return Threshold(value=float(sketch.get_quantile(1 - share)), rule=rule, rows=rows)


def _counted(blocks: Iterable[npt.ArrayLike]) -> Iterable[Floats]:
    rows = 0
    for block in blocks:
        values = finite_scores(block, before=rows)
        rows += len(values)
        yield values


def _mean_std(rule: config.MeanStd, blocks: Iterable[npt.ArrayLike]) -> Threshold:
    try:
        moments = scaling.measure(_counted(blocks))
    except InputError as error:
        raise InputError(str(error).replace("training rows", "calibration scores")) from None
    deviation = np.sqrt(moments.squares / moments.rows)
    value = float(moments.mean + rule.k * deviation)
    return Threshold(value=value, rule=rule, rows=moments.rows)


def _sample(
    blocks: Iterable[npt.ArrayLike], most: int, random: np.random.Generator
) -> tuple[int, Floats]:
    """How many scores there are, and a uniform sample of at most `most`, without replacement.

    Every score draws a number; those with the smallest numbers are the sample.
    """
    rows, ceiling = 0, 1.0
    kept = np.zeros((2, 0))
    waiting: list[Floats] = []
    for values in _counted(blocks):
        rows += len(values)
        drawn = np.stack([random.random(len(values)), values])
        waiting.append(drawn[:, drawn[0] < ceiling])
        if sum(part.shape[1] for part in waiting) >= most:
            kept = _first(np.concatenate([kept, *waiting], axis=1), most)
            waiting = []
            ceiling = kept[0].max() if kept.shape[1] == most else 1.0
    return rows, _first(np.concatenate([kept, *waiting], axis=1), most)[1]


def _first(drawn: Floats, most: int) -> Floats:
    if drawn.shape[1] <= most:
        return drawn
    return drawn[:, np.argpartition(drawn[0], most - 1)[:most]]


def _largest(
    blocks: Iterable[npt.ArrayLike], most: int, *, sketched: bool
) -> tuple[int, Floats, Any]:
    """How many scores there are, at most `most` of the largest, falling, and a sketch of all."""
    from datasketches import req_floats_sketch

    sketch = req_floats_sketch(SKETCH_SIZE, True)
    rows, floor = 0, -np.inf
    kept = np.zeros(0)
    waiting: list[Floats] = []
    for values in _counted(blocks):
        rows += len(values)
        if sketched:
            sketch.update(values)
        waiting.append(values[values > floor])
        if sum(map(len, waiting)) >= most:
            kept = np.sort(np.concatenate([kept, *waiting]))[-most:]
            waiting = []
            floor = kept[0] if len(kept) == most else -np.inf
    return rows, np.sort(np.concatenate([kept, *waiting]))[::-1][:most], sketch

"""What rules keep of scores that memory doesn't hold: the largest, a sketch, a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Of the quantile sketch. The share of scores above a sketched quantile is off by at most
# 0.8 % of itself (three standard errors, as datasketches states them).
SKETCH_SIZE = 50


def upper_quantile(largest: Floats, rows: int, share: float) -> float:
    """The quantile with a share of scores above it, linearly interpolated.

    Args:
        largest: the largest of the scores, largest first; more than `share * (rows - 1)`.
        rows: how many scores there are in all.
        share: in [0, 1).
    """
    place = share * (rows - 1)
    # Rounding must not flag one more: 0.07 * 100 is a little more than 7.
    if abs(place - round(place)) < 1e-9 * max(place, 1):
        return float(largest[round(place)])
    above = int(place)
    upper, lower = largest[above], largest[above + 1]
    value = upper + (place - above) * (lower - upper)
    return float(value if value < upper else lower)


def upper_quantile_of_blocks(
    fit: Callable[[Floats], float], share: float, blocks: Iterable[Floats], kept_scores: int
) -> float:
    """The quantile with a share of scores above it, from one pass.

    It is exact while the scores above it are among those kept. Then it comes from a relative-error
    quantile sketch of Apache DataSketches (Cormode et al., "Relative error streaming quantiles",
    PODS 2021): the share of scores above it is off by at most 0.8 % of itself, with
    probability 0.997.

    Args:
        fit: gives it where all scores are kept.
        share: in [0, 1).
        blocks: scores, float64 [n] each.
        kept_scores: most scores to keep.
    """
    rows, largest, sketch = largest_of(blocks, kept_scores, sketched=True)
    if rows == len(largest):
        return fit(largest)
    if share * (rows - 1) + 1 < len(largest):
        return upper_quantile(largest, rows, share)
    return float(sketch.get_quantile(1 - share))


def largest_of(blocks: Iterable[Floats], most: int, *, sketched: bool) -> tuple[int, Floats, Any]:
    """How many scores there are, at most `most` of the largest, falling, and a sketch of all."""
    from datasketches import req_floats_sketch

    sketch = req_floats_sketch(SKETCH_SIZE, True)
    rows, floor = 0, -np.inf
    kept = np.zeros(0)
    waiting: list[Floats] = []
    for values in blocks:
        rows += len(values)
        if sketched:
            sketch.update(values)
        waiting.append(values[values > floor])
        if sum(map(len, waiting)) >= most:
            kept = np.sort(np.concatenate([kept, *waiting]))[-most:]
            waiting = []
            floor = kept[0] if len(kept) == most else -np.inf
    return rows, np.sort(np.concatenate([kept, *waiting]))[::-1][:most], sketch


def sample_of(blocks: Iterable[Floats], most: int, random: np.random.Generator) -> Floats:
    """A uniform sample of at most `most` scores, without replacement.

    Every score draws a number; those with the smallest numbers are the sample.
    """
    ceiling = 1.0
    kept = np.zeros((2, 0))
    waiting: list[Floats] = []
    for values in blocks:
        drawn = np.stack([random.random(len(values)), values])
        waiting.append(drawn[:, drawn[0] < ceiling])
        if sum(part.shape[1] for part in waiting) >= most:
            kept = _first(np.concatenate([kept, *waiting], axis=1), most)
            waiting = []
            ceiling = kept[0].max() if kept.shape[1] == most else 1.0
    return _first(np.concatenate([kept, *waiting], axis=1), most)[1]


def _first(drawn: Floats, most: int) -> Floats:
    if drawn.shape[1] <= most:
        return drawn
    return drawn[:, np.argpartition(drawn[0], most - 1)[:most]]

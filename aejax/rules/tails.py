"""How far out a score has to be for a given small risk: peaks over a threshold."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from aejax.config import InputError

Floats = npt.NDArray[np.float64]

# Fewer peaks than this lower the level at which peaks begin, down to the median.
WANTED_PEAKS = 30
# Fewer than this say nothing about a tail's shape: it is taken to be exponential.
FEWEST_FOR_SHAPE = 10
# A shape this near 0 is the exponential limit, where the general formula divides 0 by 0.
_NO_SHAPE = 1e-9


def fit_tail(excesses: npt.ArrayLike) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution.

    Shape 0 is the exponential tail, above it heavy tails, below it bounded ones. Estimated
    as Zhang and Stephens do ("A new and efficient estimation method for the generalized
    Pareto distribution", Technometrics 51, 2009): a mean over the profile likelihood that
    Grimshaw's method, and with it Siffer et al. (2017), maximises. It always exists, where
    the maximum doesn't for shapes below -1/2, a uniform tail among them.

    Args:
        excesses: float [n], above 0; at least one.

    Returns:
        Shape, and scale in units of the excesses.
    """
    from scipy.special import softmax

    y = np.sort(np.asarray(excesses, np.float64))
    if len(y) < FEWEST_FOR_SHAPE:
        return 0.0, float(y.mean())
    # Candidates for -shape / scale; all are below 1 / max(y), as a bounded tail's must be.
    candidates = 30 + math.isqrt(len(y))
    lower_quarter = y[int(len(y) / 4 + 0.5) - 1]
    position = np.arange(1, candidates + 1) - 0.5
    slope = 1 / y[-1] + (1 - np.sqrt(candidates / position)) / (3 * lower_quarter)
    slope = np.where(np.abs(slope) * y[-1] < _NO_SHAPE, _NO_SHAPE / y[-1], slope)
    shape = np.array([np.log1p(-value * y).mean() for value in slope])
    likelihood = len(y) * (np.log(-slope / shape) - shape - 1)
    best = float(slope @ softmax(likelihood))
    if abs(best) * y[-1] < _NO_SHAPE:
        return 0.0, float(y.mean())
    shape_at = float(np.log1p(-best * y).mean())
    return shape_at, -shape_at / best


def tail_threshold(largest: Floats, rows: int, *, risk: float, level: float) -> float:
    """The value that a score passes with probability `risk` (Siffer et al. 2017, equation 1).

    Args:
        largest: float64 [m], the largest of the scores, largest first; m at least 1.
        rows: how many scores there are in all.
        risk: probability of a score above the value.
        level: quantile above which scores count as peaks; it gives way where peaks would be
            fewer than `WANTED_PEAKS`, or more than `largest` holds.

    Raises:
        InputError: if more scores are above the value than `largest` holds.
    """
    peaks = max(int(rows * (1 - level)), min(WANTED_PEAKS, rows // 2))
    start = largest[min(peaks, len(largest) - 1)]
    excesses = largest[largest > start] - start
    share = len(excesses) / rows
    if risk >= share:
        # Inside the scores, nothing is extrapolated. Ties at the start end here too.
        place = int(risk * rows)
        if place >= len(largest):
            raise InputError(
                f"PeaksOverThreshold.risk is {risk}, {place} of {rows} scores; "
                f"allowed: fewer than the {len(largest)} largest, or a quantile as the rule"
            )
        return float(largest[place])
    return float(start + beyond(excesses, share, risk))


def beyond(excesses: npt.ArrayLike, share: float, risk: float) -> float:
    """How far beyond a tail's start a score lies that is passed with probability `risk`.

    Args:
        excesses: over the start, float [n], above 0; at least one.
        share: probability of a score beyond the start, above `risk`.
        risk: of the score that is wanted.
    """
    shape, scale = fit_tail(excesses)
    times = math.log(share / risk)
    return scale * (times if abs(shape) < _NO_SHAPE else math.expm1(shape * times) / shape)

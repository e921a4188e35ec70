"""How sure a mean over repeats is: Student's t interval over independent repeats.

A repeat is a whole experiment with another seed. Bootstrap intervals over the rows of one
experiment are `aejax.detection.metrics.evaluate`'s; they don't see how trainings differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aejax.config import InputError
from aejax.data import batches
from aejax.detection.metrics import INTERVAL_LEVEL


class Interval(NamedTuple):
    """A mean and where the true one is likely to be.

    Attributes:
        mean: of the repeats.
        low: lower end of the 95 % interval; None where one repeat says nothing about it.
        high: its upper end, or None.
        repeats: how many.
    """

    mean: float
    low: float | None
    high: float | None
    repeats: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; never known from one repeat."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def text(self, digits: int = 3, scale: float = 1.0) -> str:
        """The mean with its interval, as in "0.912 [0.905, 0.919]"; `scale` 100 gives per cent."""
        mean = f"{self.mean * scale:.{digits}f}"
        if self.low is None or self.high is None:
            return mean
        return f"{mean} [{self.low * scale:.{digits}f}, {self.high * scale:.{digits}f}]"


def mean_interval(
    values: Sequence[float] | npt.ArrayLike, *, within: tuple[float, float] | None = None
) -> Interval:
    """The mean of independent repeats with Student's t interval at the 95 % level.

    Args:
        values: one number a repeat, [n].
        within: range that the quantity can't leave, as (0, 1) of a rate; the interval is cut
            to it.

    Returns:
        The mean and its interval; without the interval where there is one repeat.

    Raises:
        InputError: if there is no value, or one is not finite.

    Example:
        >>> mean_interval([0.90, 0.92, 0.94]).text()
        '0.920 [0.870, 0.970]'
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise InputError(f"values are {found}; allowed: at least one finite number, [n]")
    mean, repeats = float(found.mean()), len(found)
    if repeats == 1:
        return Interval(mean, None, None, repeats)
    from scipy.stats import t

    half = float(t.ppf((1 + INTERVAL_LEVEL) / 2, repeats - 1) * found.std(ddof=1))
    low, high = mean - half / math.sqrt(repeats), mean + half / math.sqrt(repeats)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    return Interval(mean, low, high, repeats)


def repeat_seeds(seed: int, repeats: int) -> list[int]:
    """The seeds of an experiment's repeats: whole numbers below 2**32, different for every seed.

    A larger number of repeats begins with the seeds of a smaller one.
    """
    random = batches.host_random(seed, "repeats")
    return [int(drawn) for drawn in random.integers(1 << 32, size=repeats)]

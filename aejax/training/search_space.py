"""What tuning searches: settings with a range or with choices, and draws from them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aejax.config import Config, InputError, from_dict, to_dict
from aejax.data import batches

# Up to so many combinations are listed and drawn without replacement. Beyond, they are drawn one
# by one, until so many draws in a row were known or refused.
MOST_LISTED = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers between two bounds.

    Args:
        low: the least, itself included.
        high: the largest, itself included.
        log: whether equal ratios, rather than equal steps, are equally likely.
        whole: whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, random: np.random.Generator) -> float | int:
        """One number."""
        # A whole number stands for the interval around it, so that both ends get their share.
        margin = 0.5 if self.whole else 0.0
        low, high = self.low - margin, self.high + margin
        if self.log:
            value = math.exp(random.uniform(math.log(low), math.log(high)))
        else:
            value = random.uniform(low, high)
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def ends(self) -> tuple[Any, ...]:
        """The values to check a setting's bounds with."""
        return (round(self.low), round(self.high)) if self.whole else (self.low, self.high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """A few values, equally likely."""

    values: tuple[Any, ...]

    def draw(self, random: np.random.Generator) -> Any:
        """One of them."""
        return self.values[int(random.integers(len(self.values)))]

    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values


Dimension = Range | Choices


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What is searched, and what is fixed.

    Attributes:
        base: the configuration around it, with the fixed values.
        searched: what is drawn, by dotted name, as "train.learning_rate".
        source: where it is from, for messages.
    """

    base: Config
    searched: Mapping[str, Dimension]
    source: str = "space"

    def config(self, settings: Mapping[str, Any]) -> Config:
        """The configuration with these settings, by dotted name."""
        return with_settings(self.base, settings)

    def to_dict(self) -> dict[str, Any]:
        """What is searched, JSON-ready."""
        return {name: dataclasses.asdict(found) for name, found in self.searched.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """A configuration, and what sets it apart.

    Attributes:
        settings: its value of every searched setting, by dotted name.
        config: all settings.
    """

    settings: dict[str, Any]
    config: Config


def draw(space: SearchSpace, count: int, seed: int) -> list[Drawn]:
    """Different configurations, drawn independently of each other (random search).

    Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization" (JMLR 13, 2012),
    show why it beats a grid: few settings matter, and every draw tries a new value of each.
    Combinations that `Config` refuses are passed over.

    Args:
        space: what to draw from.
        count: how many; a space that holds fewer gives all that it holds.
        seed: of the draws, and of every configuration's training. A larger count begins with
            the configurations of a smaller one.

    Raises:
        InputError: if `count` is not a whole number above 0, or no combination is allowed.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"configurations is {count!r}; allowed: a whole number, at least 1")
    base = dataclasses.replace(space.base, train=dataclasses.replace(space.base.train, seed=seed))
    space = dataclasses.replace(space, base=base)
    drawn: list[Drawn] = []
    seen: set[str] = set()
    refused: InputError | None = None
    missed = 0
    for settings in _proposals(space, batches.host_random(seed, "configurations")):
        if len(drawn) == count or missed == MOST_LISTED:
            break
        missed += 1
        if repr(settings) in seen:
            continue
        seen.add(repr(settings))
        try:
            drawn.append(Drawn(settings=settings, config=space.config(settings)))
        except InputError as error:
            refused = error
        else:
            missed = 0
    if not drawn:
        raise InputError(f"{space.source}: no combination is allowed: {refused}")
    return drawn


def _proposals(space: SearchSpace, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    names, dimensions = list(space.searched), list(space.searched.values())
    lists = [_listed(dimension) for dimension in dimensions]
    if all(values is not None for values in lists):
        sizes = [len(values or ()) for values in lists]
        if math.prod(sizes) <= MOST_LISTED:
            every = list(itertools.product(*(values or () for values in lists)))
            for place in random.permutation(len(every)):
                yield dict(zip(names, every[place], strict=True))
            return
    while True:
        yield {name: found.draw(random) for name, found in space.searched.items()}


def _listed(dimension: Dimension) -> tuple[Any, ...] | None:
    if isinstance(dimension, Choices):
        return dimension.values
    # On a log scale small numbers are likelier: listing would make all of them equally likely.
    if dimension.whole and not dimension.log and dimension.high - dimension.low < MOST_LISTED:
        return tuple(range(round(dimension.low), round(dimension.high) + 1))
    return None


def with_settings(base: Config, settings: Mapping[str, Any]) -> Config:
    """A configuration with some settings replaced, by dotted name."""
    # Objects of a person's own stay what they are.
    described = to_dict(base, keep_own=True)
    for name, value in settings.items():
        *groups, field = name.split(".")
        owner = described
        for group in groups:
            owner = owner[group]
        owner[field] = value
    return from_dict(described)

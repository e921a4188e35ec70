"""What tuning searches, settings with a range or choices: the file that says it, and draws."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import Config, Dense, InputError, from_dict, suggest, to_dict
from aejax.config.effort import LEVELS
from aejax.config.own import describe
from aejax.config.written import read_bounded
from aejax.data import batches

# Up to so many combinations are listed and drawn without replacement. Beyond, they are drawn one
# by one, until so many draws in a row were known or refused.
MOST_LISTED = 100_000
# The file that says what tuning searches: settings with a range, with choices, or fixed.
#
# A space is written in TOML, one line a setting, under the names that `Config` gives them:
#
#     train.epochs = 20                                            # fixed
#     train.learning_rate = { low = 1e-4, high = 1e-2, log = true }
#     model.hidden = { choices = [[32, 16, 8], [64, 16]] }
#
# What a file doesn't name keeps the value of the base configuration.
MAX_BYTES = 1 << 20
TRIES = 50
# They decide nothing that a search could compare; a file may fix them.
FIXED_ONLY = ("rule", "precision", "train.feed")
# What settings are written as; whatever else stands for itself is an object of a person's own.
JSON_VALUES = (list, str, int, float, type(None))
ALLOWED = "a value, { low, high, log } or { choices }"


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
        return {name: dataclasses.asdict(dimension) for name, dimension in self.searched.items()}


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
        yield {name: each.draw(random) for name, each in space.searched.items()}


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


def read_space(path: str | Path, base: Config | None = None) -> SearchSpace:
    """The space in a TOML file.

    Args:
        path: of the file.
        base: what settings that it doesn't name are; None takes those of
            `Config(model=Dense())`.

    Raises:
        InputError: naming the file and the setting that is unknown, empty or of a wrong type.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("space.toml").write_text("train.learning_rate = { low = 1e-4, high = 1e-2 }")
        >>> list(aejax.read_space("space.toml").searched)
        ['train.learning_rate']
    """
    path = Path(path)
    written = read_bounded(path, MAX_BYTES, tomllib.loads, "TOML")
    return parse_space(written, base, source=str(path))


def parse_space(
    written: Mapping[str, Any], base: Config | None = None, *, source: str = "space"
) -> SearchSpace:
    """The space that nested or dotted names describe.

    Args:
        written: setting -> a value, {"low", "high", "log"} or {"choices"}; "train.epochs" and
            {"train": {"epochs": ...}} are the same.
        base: what settings that aren't named are; None takes those of
            `Config(model=Dense())`.
        source: where it is from, for messages.

    Raises:
        InputError: naming the setting that is unknown, empty or of a wrong type.

    Example:
        >>> space = parse_space({"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}})
        >>> list(space.searched)
        ['train.learning_rate']
    """
    try:
        nested = _nested(written)
        base = _of_kinds(base or Config(model=Dense()), nested)
        fixed: dict[str, Any] = {}
        searched: dict[str, Dimension] = {}
        for name, value, hint in _leaves(nested, base):
            if isinstance(value, Mapping):
                searched[name] = _dimension(name, value, hint)
            else:
                fixed[name] = _optional(value, hint)
        if not searched:
            raise InputError("nothing is searched; allowed: at least one range or list of choices")
        space = SearchSpace(base=with_settings(base, fixed), searched=searched, source=source)
        for name, dimension in searched.items():
            for value in dimension.ends():
                _check_value(space, name, value)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return space


def _nested(written: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as nested ones."""
    nested: dict[str, Any] = {}
    for key, value in written.items():
        first, _, rest = str(key).partition(".")
        if isinstance(value, Mapping):
            value = _nested(value)
        part = {rest: value} if rest else value
        if rest:
            part = _nested(part)
        if isinstance(part, dict) and isinstance(nested.get(first), dict):
            nested[first] = {**nested[first], **part}
        else:
            nested[first] = part
    return nested


def _of_kinds(base: Config, nested: Mapping[str, Any]) -> Config:
    """The base with the classes of model and rule that the file names, at their defaults."""
    described = to_dict(base, keep_own=True)
    while _choose_kind(described, nested, ""):
        described = to_dict(from_dict(described), keep_own=True)
    return from_dict(described)


def _choose_kind(described: dict[str, Any], nested: Mapping[str, Any], above: str) -> bool:
    """Replace the first group that is of another class than is asked for; whether there was one."""
    for group, part in nested.items():
        inner = described.get(group)
        if not isinstance(part, Mapping) or isinstance(inner, JSON_VALUES):
            continue
        named = part.get("kind_name")
        own = inner.get("kind_name") if isinstance(inner, dict) else describe(inner).own
        if isinstance(named, Mapping):
            raise InputError(f"{above}{group}.kind_name is searched; allowed: one value")
        if named not in (None, own) and own is not None:
            described[group] = {"kind_name": named}
            if group == "model" and described["score"] == LEVELS:
                # Of the network that was there.
                del described["score"]
            return True
        if not isinstance(inner, dict):
            setting = next(iter(part), "kind_name")
            raise InputError(
                f"{above}{group}.{setting} is set but {above}{group} is {own}; "
                f"allowed: {above}{group}.kind_name, of a built-in one"
            )
        if _choose_kind(inner, part, f"{above}{group}."):
            return True
    return False


def _leaves(nested: Mapping[str, Any], owner: object, above: str = "") -> Iterator[tuple[Any, ...]]:
    """Every setting that is named: its dotted name, what is written, the type of its field."""
    hints = typing.get_type_hints(type(owner))
    for key, value in nested.items():
        name = above + key
        # Taken care of: the base is of this class.
        if key == "kind_name" and above:
            continue
        if key not in hints:
            every = [setting for setting, _ in _fields(owner, above)]
            near = difflib.get_close_matches(name, every, n=1)
            said = f"did you mean {near[0]!r}? " if near else ""
            siblings = ", ".join(above + field for field in sorted(hints))
            raise InputError(f"{name!r} is no setting; {said}allowed: {siblings}")
        inner = getattr(owner, key)
        if dataclasses.is_dataclass(inner):
            if not isinstance(value, Mapping):
                raise InputError(
                    f"{name} is {value!r}; allowed: its settings, as in "
                    f"{next(_fields(inner, name + '.'), (name + '.kind_name',))[0]}"
                )
            yield from _leaves(value, inner, name + ".")
            continue
        if name == "train.seed":
            raise InputError("train.seed is set; allowed: the seed of the search, by --seed")
        is_fixed_only = any(name == fixed or name.startswith(fixed + ".") for fixed in FIXED_ONLY)
        if is_fixed_only and isinstance(value, Mapping):
            raise InputError(
                f"{name} is searched, but decides nothing that is compared; allowed: one value"
            )
        yield name, value, hints[key]


def _fields(owner: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(owner):
        inner = getattr(owner, field.name)
        if dataclasses.is_dataclass(inner):
            yield from _fields(inner, f"{above}{field.name}.")
        else:
            yield above + field.name, inner


def _options(hint: object) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _optional(value: object, hint: object) -> Any:
    """TOML has no null: "none" stands for it where a setting may be None."""
    return None if value == "none" and type(None) in _options(hint) else value


def _dimension(name: str, written: Mapping[str, Any], hint: object) -> Dimension:
    keys = set(written)
    if keys == {"choices"}:
        values = written["choices"]
        if not isinstance(values, list | tuple) or not values:
            raise InputError(f"{name}.choices is {values!r}; allowed: a list of at least 1 value")
        values = tuple(_optional(value, hint) for value in values)
        if len({repr(value) for value in values}) < len(values):
            raise InputError(f"{name}.choices names a value twice; allowed: different values")
        return Choices(values=values)
    if unknown := sorted(keys - {"low", "high", "log", "choices"}):
        known = ("low", "high", "log", "choices")
        raise InputError(f"{name} has no {unknown[0]!r}; {suggest(unknown[0], known)}")
    if not {"low", "high"} <= keys or "choices" in keys:
        raise InputError(f"{name} has {', '.join(sorted(keys)) or 'nothing'}; allowed: {ALLOWED}")
    options = _options(hint)
    if int not in options and float not in options:
        raise InputError(f"{name} has a range, but is no number; allowed: {{ choices }}")
    low, high, log = written["low"], written["high"], written.get("log", False)
    whole = float not in options
    for end, value in (("low", low), ("high", high)):
        is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            allowed = "a whole number" if whole else "a number"
            raise InputError(f"{name}.{end} is {value!r}; allowed: {allowed}")
    if not isinstance(log, bool):
        raise InputError(f"{name}.log is {log!r}; allowed: true or false")
    if low >= high:
        raise InputError(f"{name} has low {low!r} and high {high!r}; allowed: low below high")
    if log and low <= 0:
        raise InputError(f"{name}.low is {low!r} on a log scale; allowed: a number above 0")
    return Range(low=low, high=high, log=log, whole=whole)


def _check_value(space: SearchSpace, name: str, value: object) -> None:
    """Refuse a value that no combination with the other settings makes right."""
    random = np.random.default_rng(0)
    refused: InputError | None = None
    for _ in range(TRIES):
        settings = {other: dimension.draw(random) for other, dimension in space.searched.items()}
        try:
            space.config({**settings, name: value})
            return
        except InputError as error:
            refused = error
    raise InputError(f"{name} = {value!r}: {refused}")

"""Objects of a person's own in settings: described where they are saved, and called as they ask.

What is saved of one is its description. Where it is read back a placeholder stands for it, which
shows itself and runs nothing; only a command line may name code (`import_named`).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from aejax.config.checks import InputError

MOST_CHARACTERS = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own:
    """What is known of somebody's own object where its code isn't.

    Attributes:
        own: its class (or the function that it is), as "module.Class".
        text: one line that shows it.
    """

    own: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """The description as a JSON-ready dict."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(written: Mapping[str, Any], field: str) -> Own:
        """The description that `to_dict` wrote; raises InputError where it isn't one."""
        values = [written.get(name) for name in ("own", "text")]
        if set(written) != {"own", "text"} or not all(isinstance(v, str) for v in values):
            raise InputError(f"{field} is {in_one_line(written)}; allowed: own and text, as text")
        return Own(own=in_one_line(written["own"], str), text=in_one_line(written["text"], str))


def describe(value: Any, text: str | None = None) -> Own:
    """What is saved of an object: its class and one line that shows it.

    Args:
        value: any object; a placeholder describes itself.
        text: the line; None takes `text_of`.
    """
    if isinstance(value, Own):
        return value
    if isinstance(getattr(value, "own", None), str) and isinstance(value.text, str):
        # What stands for an object that was saved describes that object.
        return Own(own=value.own, text=value.text)
    named = value if hasattr(value, "__qualname__") else type(value)
    return Own(own=f"{named.__module__}.{named.__qualname__}", text=text or text_of(value))


def shown(value: object) -> str:
    """The name of a built-in part, or of somebody's own object."""
    return value if isinstance(value, str) else describe(value).own


def text_of(value: object) -> str:
    """One line that shows an object, the same in every process: no address is in it."""
    if in_one_line(value) == in_one_line(value, object.__repr__):
        fields = getattr(value, "__dict__", {})
        return in_one_line(
            f"{type(value).__name__}({', '.join(f'{k}={v!r}' for k, v in fields.items())})", str
        )
    return in_one_line(value)


def in_one_line(value: object, text: Callable[[Any], str] = repr) -> str:
    """A value's text without line breaks and addresses, cut where it is long."""
    try:
        shown = text(value)
    except Exception:  # A stranger's __repr__ must not end a training that is done.
        shown = f"<{type(value).__qualname__}>"
    line = " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", shown).split())
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 3] + "..."


def require_here(value: object, field: str, allowed: str) -> None:
    """Raise InputError where a placeholder stands for code that this process doesn't have."""
    if isinstance(value, Own):
        raise InputError(
            f"{field} is {value.own}, which this process doesn't have; allowed: {allowed}"
        )


def check_part(
    owner: object, field: str, names: object, own: str, is_one: Callable[[Any], bool]
) -> None:
    """Check a field that takes a name, or an object of a person's own.

    Args:
        owner: of the field.
        field: its name.
        names: a `Literal` of the names.
        own: what an object has to be, in words.
        is_one: whether an object is.

    Raises:
        InputError: naming the field, if it holds neither, or an object that isn't hashable: it
            is part of what programs are compiled for.
    """
    value, known = getattr(owner, field), typing.get_args(names)
    if isinstance(value, Own) or (isinstance(value, str) and value in known):
        return
    name = f"{type(owner).__name__}.{field}"
    allowed = f"{', '.join(map(repr, known))}, or {own}"
    if isinstance(value, str | type(None)) or not is_one(value):
        raise InputError(f"{name} is {in_one_line(value)}; allowed: {allowed}")
    require_hashable(value, f"{name} is {in_one_line(value)}", allowed)


def require_hashable(value: object, said: str, allowed: str) -> None:
    """Raise InputError where a part of what programs are compiled for can't be hashed."""
    try:
        hash(value)
    except TypeError as error:
        reason = in_one_line(error, str)
        raise InputError(f"{said}, which is not hashable ({reason}); allowed: {allowed}") from None


def accepts(function: Callable[..., Any], keyword: str) -> bool:
    """Whether a function takes a keyword."""
    plain = getattr(function, "__func__", function)
    known = _keywords(plain) if isinstance(plain, types.FunctionType) else _asked(function)
    return known is None or keyword in known


@functools.lru_cache(maxsize=256)
def _keywords(function: types.FunctionType) -> frozenset[str] | None:
    # Thresholds of many groups are fitted by one rule; asking takes longer than a small fit.
    return _asked(function)


def _asked(function: Callable[..., Any]) -> frozenset[str] | None:
    """The keywords that a function takes; None where it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # Of some compiled functions nothing is known.
        return frozenset()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY)


def taken(function: Callable[..., Any], optional: dict[str, Any]) -> dict[str, Any]:
    """Those of some keywords that a function takes."""
    return {name: value for name, value in optional.items() if accepts(function, name)}


def call(function: Callable[..., Any], *arguments: Any, **optional: Any) -> Any:
    """What a function gives, called with those of the optional keywords that it takes."""
    return function(*arguments, **taken(function, optional))


def import_named(place: str, field: str) -> Any:
    """What a person's own code has under "package.module:name", from the working folder too.

    It runs that code: only for text that a person gave on a command line, never from a file.

    Raises:
        InputError: if the module can't be imported or has no such name.
    """
    module, _, name = place.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), name)
    # A script that ends itself when it is imported must not end this process without a word.
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{field} is {place!r}, which can't be imported ({in_one_line(error, str)}); "
            "allowed: package.module:Class"
        ) from error


def make_named(text: str, place: str, numbers: list[str], field: str) -> Any:
    """An object of a person's own from text of a command line; it runs that code.

    Args:
        text: all of it, for messages.
        place: "package.module:name" of its class, a function that makes it, or the object.
        numbers: its first arguments, as text.
        field: what it is made for, for messages.

    Raises:
        InputError: if it can't be imported or made.
    """
    make, values = import_named(place, field), as_numbers(numbers)
    try:
        if values is None:
            raise ValueError("allowed: numbers after its name")
        # By name, so that fields which are keywords only can be given, too.
        names = list(inspect.signature(make).parameters) if values else []
        if len(values) > len(names):
            raise ValueError(f"allowed: at most {len(names)} numbers after its name")
        return make(**dict(zip(names, values, strict=False))) if callable(make) else make
    except Exception as error:
        reason = in_one_line(error, str)
        raise InputError(f"{field} is {text!r}, which can't be made: {reason}") from error


def as_numbers(texts: list[str]) -> list[float] | None:
    """Numbers from their text; None where one is none."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None

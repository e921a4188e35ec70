"""What a setting may be, the one error for what a person gave, and what extras bring."""

from __future__ import annotations

import difflib
import math
import os
import typing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal


class InputError(ValueError):
    """What a person gave cannot be used: the message names it, and what is found and allowed.

    Example:
        >>> aejax.Quantile(q=2.0)
        Traceback (most recent call last):
        aejax.config.checks.InputError: Quantile.q is 2.0; allowed: a number in (0, 1]
    """


def check(owner: object, field: str, allowed: str, valid: bool) -> None:
    """Raise `InputError` with the field, its value and what is allowed, unless it is valid."""
    if not valid:
        value = getattr(owner, field)
        raise InputError(f"{type(owner).__name__}.{field} is {value!r}; allowed: {allowed}")


def is_count(value: object) -> bool:
    """Whether a value is a whole number, at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # A whole number beyond the range of floats.
        return False


def check_choices(owner: object) -> None:
    """Check every field that is annotated with a `Literal` or as bool against its choices."""
    for name, hint in typing.get_type_hints(type(owner)).items():
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
            check(owner, name, ", ".join(map(repr, choices)), getattr(owner, name) in choices)
        elif hint is bool:
            check(owner, name, "True, False", isinstance(getattr(owner, name), bool))


def check_counts(owner: object, *fields: str) -> None:
    """Check that fields are whole numbers, at least 1."""
    for field in fields:
        check(owner, field, "a whole number, at least 1", is_count(getattr(owner, field)))


def check_sizes(owner: object, field: str, at_least: int = 1) -> None:
    """Check that a field is a tuple of whole numbers, each at least 1."""
    sizes = getattr(owner, field)
    valid = isinstance(sizes, tuple) and len(sizes) >= at_least and all(map(is_count, sizes))
    check(owner, field, "a tuple of whole numbers, each at least 1", valid)


def check_unicode(path: Path) -> None:
    """Refuse a path that readers and writers in C++ don't take, and no column of text can hold."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path} is not in Unicode; allowed: paths in UTF-8") from None


def suggest(name: str, known: Iterable[str]) -> str:
    """A line that lists what is allowed and, where one is near, what was probably meant."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed: {', '.join(names)}"


@contextmanager
def extra(name: str) -> Iterator[None]:
    """A block that imports what the extra `name` of pyproject.toml installs.

    Raises:
        InputError: naming the package that is missing, and the extra.

    Example:
        >>> with extra("recipes"):
        ...     import json
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0]
        raise InputError(
            f'{package} is not installed; allowed: pip install "aejax[{name}]"'
        ) from None

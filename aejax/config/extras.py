"""Packages that come with an extra: imported when they are needed, or named in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aejax.config.checks import InputError


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

"""Sizes of memory as people write them."""

from __future__ import annotations

import re

from aejax.config.checks import InputError

UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
}


def parse_bytes(text: str, name: str) -> int:
    """A number of bytes.

    Args:
        text: such as "2 GiB", "500MB" or "1048576".
        name: of the setting, for messages.

    Raises:
        InputError: if it is no size.

    Example:
        >>> parse_bytes("1.5 KiB", "memory_limit")
        1536
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if found is None or found[2].upper() not in UNITS:
        raise InputError(f"{name} is {text!r}; allowed: bytes, as in 500MB, 2 GiB or 1048576")
    return int(float(found[1]) * UNITS[found[2].upper()])

"""Which decimal point the numbers of an input have, one answer for all its files."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from aejax.config import InputError
from aejax.config.columns import MISSING, Decimal
from aejax.data.rows import UNREADABLE, Selection
from aejax.data.sniffing import LEAST_SHARE, Text, is_number, sniff

# Of many files, spread from the first to the last.
EXAMINED_FILES = 16
_NULLS = frozenset(MISSING)
_DIGITS = re.compile(r"[-+\u2212(]?\s*(\d*)([.,])(\d+)(?:[eE][-+]?\d+)?\s*[-)%]?")
_MANY = re.compile(r"[-+\u2212(]?\s*\d{1,3}([.,])\d{2,3}(\1\d{2,3})*\1\d{3}\s*[-)%]?")
_BOTH = re.compile(r".*\d([.,])\d+(\1\d+)*(?!\1)([.,])\d*.*")

logger = logging.getLogger("aejax")
_warned: set[tuple[Path, tuple[str, ...]]] = set()


def with_decimal(paths: Sequence[Path], selection: Selection, trained: str) -> Selection:
    """A selection that says which decimal point numbers have.

    Args:
        paths: files of text; those that can't be read are passed over.
        selection: how they are read.
        trained: the decimal point of the rows that a detector was trained on.

    Raises:
        InputError: if numbers such as 1,234 may be one thousand or one.
    """
    dialect = selection.dialect
    step = max(1, len(paths) // EXAMINED_FILES)
    texts = []
    for path in paths[::step][:EXAMINED_FILES]:
        try:
            texts.append((path, sniff(path, dialect, selection.header)))
        except (InputError, *UNREADABLE):
            continue  # Whoever reads it says what is wrong.
    decimal = dialect.decimal or _decided(texts, trained)
    for path, text in texts:
        said = (*text.said, *(["decimal commas"] if decimal == "," else []))
        if said and (key := (path.parent, said)) not in _warned:
            if len(_warned) > 1 << 10:
                _warned.clear()
            _warned.add(key)
            flags = "--delimiter, --decimal, --encoding (Dialect) say otherwise"
            logger.warning("aejax: %s is read with %s. %s", path, ", ".join(said), flags)
    return dataclasses.replace(selection, dialect=dataclasses.replace(dialect, decimal=decimal))


def _decided(texts: Sequence[tuple[Path, Text]], trained: str) -> Decimal:
    commas = points = 0
    unclear: tuple[Path, str] | None = None
    dotted = semicolons = False
    for path, text in texts:
        for column in text.cells:
            for mark, clear, cell in _marks(column):
                if clear:
                    commas, points = commas + (mark == ","), points + (mark == ".")
                elif mark == ",":
                    unclear = unclear or (path, cell)
                    semicolons |= text.delimiter == ";"
                else:
                    dotted = True
    if commas and not points:
        return ","
    if points or (unclear is None and not dotted):
        return "."
    if trained == "," or semicolons:
        return ","
    if unclear is None:
        return "."
    path, cell = unclear
    raise InputError(
        f"{path}: {cell} may be a thousand or a fraction; allowed: --decimal . or --decimal , "
        "(Dialect.decimal)"
    )


def _marks(column: Iterable[str]) -> list[tuple[str, bool, str]]:
    """What the cells of a column of numbers say: a decimal point, and whether it is clear."""
    cells = [cell for cell in column if cell not in _NULLS]
    if not cells or sum(map(is_number, cells)) < LEAST_SHARE * len(cells):
        return []
    said = {}
    for cell in cells:
        if match := _BOTH.fullmatch(cell):
            said[match[3], True] = cell
        elif match := _MANY.fullmatch(cell):
            said["," if match[1] == "." else ".", True] = cell
        elif match := _DIGITS.fullmatch(cell):
            whole, mark, fraction = match.groups()
            grouped = len(fraction) == 3 and 0 < len(whole) < 4 and not whole.startswith("0")
            said[mark, not grouped] = cell
    return [(mark, clear, cell) for (mark, clear), cell in said.items()]

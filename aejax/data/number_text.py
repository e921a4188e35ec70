"""Numbers as people write them, from text: 1.234,5  (12)  12-  5 %; and their decimal points."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from aejax.config import InputError
from aejax.config.columns import MISSING, Decimal
from aejax.data.arrow_types import array_of_text
from aejax.data.rows import UNREADABLE, Selection
from aejax.data.sniffing import LEAST_SHARE, Text, is_number, sniff

_NULLS = array_of_text(MISSING)
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_INFINITE = r"^(?i)[+-]?inf(inity)?$"
_CURRENCY = r"^([+-]?)\s*[€$£¥]\s*|\s*[€$£¥]$"
# What sets groups of three digits apart: the other point, apostrophes, spaces of any width.
_GROUPS = (",", ".", "'", "\u2019", " ", "\u00a0", "\u2009", "\u202f")


# Of many files, spread from the first to the last.
EXAMINED_FILES = 16
_DIGITS = re.compile(r"[-+\u2212(]?\s*(\d*)([.,])(\d+)(?:[eE][-+]?\d+)?\s*[-)%]?")
_MANY = re.compile(r"[-+\u2212(]?\s*\d{1,3}([.,])\d{2,3}(\1\d{2,3})*\1\d{3}\s*[-)%]?")
_BOTH = re.compile(r".*\d([.,])\d+(\1\d+)*(?!\1)([.,])\d*.*")
logger = logging.getLogger("aejax")
_warned: set[tuple[Path, tuple[str, ...]]] = set()


def is_missing(text: pa.Array, more: tuple[str, ...] = ()) -> pa.Array:
    """Which cells of a column of numbers say that there is none: bool [n], of trimmed text."""
    words = array_of_text([*MISSING, *more]) if more else _NULLS
    return pc.is_in(text, words.cast(text.type))


def numbers_of_text(
    cells: pa.Array, decimal: str = ".", missing: tuple[str, ...] = ()
) -> tuple[pa.Array, pa.Array]:
    """Cells as numbers, and which of them are none.

    Args:
        cells: text.
        decimal: the decimal point.
        missing: further words for a missing number.

    Returns:
        float64 (int64 where all are whole), null where a cell is missing or no number; and bool,
        true of cells that are there and no number.
    """
    text = pc.utf8_trim_whitespace(cells)
    text = pc.if_else(is_missing(text, missing), pa.scalar(None, text.type), text)
    if decimal == ".":
        for dtype in (pa.int64(), pa.float64()):
            try:
                return text.cast(dtype), pa.repeat(False, len(text))
            except pa.ArrowInvalid:
                continue
    is_plain = pc.match_substring_regex(text, _NUMBER) if decimal == "." else None
    if is_plain is not None:
        odd = pc.fill_null(pc.invert(is_plain), False)
        plain = pc.replace_with_mask(text, odd, _plain(text.filter(odd), decimal))
    else:
        plain = _plain(text, decimal)
    percent = pc.fill_null(pc.ends_with(plain, "%"), False)
    plain = pc.replace_substring_regex(plain, r"\s*%$", "")
    known = pc.or_(
        pc.match_substring_regex(plain, _NUMBER), pc.match_substring_regex(plain, _INFINITE)
    )
    wrong = pc.fill_null(pc.invert(known), False)
    plain = pc.if_else(known, plain, pa.scalar(None, plain.type))
    if not pc.any(percent).as_py():
        try:
            return plain.cast(pa.int64()), wrong
        except pa.ArrowInvalid:
            pass
    # Arrow's own parser takes no leading plus.
    values = pc.replace_substring_regex(plain, r"^\+", "").cast(pa.float64())
    return pc.if_else(percent, pc.divide(values, 100.0), values), wrong


def _plain(text: pa.Array, decimal: str) -> pa.Array:
    """Numbers with a point, a sign in front and nothing between digits; other text as it was."""
    replace = pc.replace_substring_regex
    out = replace(text, "[\u2212\u2013]", "-")
    out = replace(out, _CURRENCY, r"\1")
    out = replace(out, r"^\(\s*([^-+].*?)\s*\)$", r"-\1")
    out = replace(out, r"^(\d.*?)\s*([-+])$", r"\2\1")
    out = replace(out, r"^([-+])\s+", r"\1")
    for mark in _GROUPS:
        if mark == decimal:
            continue
        grouped = pc.fill_null(pc.match_substring_regex(out, _grouped(mark, decimal)), False)
        if pc.any(grouped).as_py():
            out = pc.replace_with_mask(
                out, grouped, pc.replace_substring(out.filter(grouped), mark, "")
            )
    if decimal != ".":
        # Of these a point is none: 1.5 is not to become 15 or 1,5.
        point = pc.fill_null(pc.match_substring(out, "."), False)
        out = pc.if_else(point, pa.scalar("no number", out.type), out)
        out = pc.if_else(pc.is_null(text), pa.scalar(None, out.type), out)
        out = pc.replace_substring(out, decimal, ".")
    return out


@functools.cache
def _grouped(mark: str, decimal: str) -> str:
    """Groups of three digits; of two before the last, as in India."""
    m, d = (rf"\{one}" if one in ".'" else one for one in (mark, decimal))
    m = mark if mark in "'\u2019" else m
    return rf"^[+-]?\d{{1,3}}({m}\d{{2,3}})*{m}\d{{3}}({d}\d*)?([eE][+-]?\d+)?\s*%?$"


_NO_MARKS = frozenset(MISSING)


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
    cells = [cell for cell in column if cell not in _NO_MARKS]
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

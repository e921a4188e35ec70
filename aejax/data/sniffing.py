"""How a file of text is written, by its first lines: what is between cells, and where rows begin.

Between cells is the character that cuts lines into equally many cells, more than one, of which
most are numbers. How numbers are written is decided once for all files of an input: what a row
says must not depend on how rows were cut into files. Where nothing tells, the input is refused,
with the flag that tells.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aejax.config import InputError
from aejax.config.columns import MISSING, Dialect
from aejax.data.sources import binary_suffix
from aejax.data.text_input import open_text

HEAD_BYTES = 1 << 16
# A first line longer than that is refused.
LINE_BYTES = 1 << 26
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# In Western languages letters with marks stand between others.
_NOT_WESTERN = re.compile(rb"[\xc0-\xff]{3}")
_NOT_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
HEAD_LINES, HEAD_CELLS = 200, 4000
DELIMITERS = (",", ";", "\t", "|", " ")
LEAST_SHARE = 0.98
_MARKS = ("#", "%", "//", "!")
_NUMBERISH = re.compile(
    r"[-+\u2212(]?\s*[€$£¥]?\s*\d[\d.,'\u2019\s]*([eE][-+]?\d+)?\s*[-)%€$£¥]?|[.,]\d+|nan|inf"
)
_NULLS = frozenset(MISSING)
_SAID = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}


def head_of(path: Path) -> tuple[bytes, bool]:
    """A file's first bytes, at least a line, and whether these are all."""
    head = bytearray()
    with open_text(path) as file:
        while len(head) < HEAD_BYTES or not re.search(rb"[\r\n]", head):
            piece = file.read(HEAD_BYTES)
            if not piece:
                return bytes(head), True
            head += piece
            if len(head) > LINE_BYTES:
                raise ValueError(f"its first line is longer than {LINE_BYTES} bytes")
    return bytes(head), False


def encoding_of(path: Path, head: bytes) -> str:
    """The encoding of a file of text, as Python names it: by its mark, or what its bytes can be.

    Args:
        path: the file, for messages.
        head: its first bytes.

    Raises:
        InputError: if they are neither UTF-8, UTF-16 nor Western, or of a file of another format.
    """
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if suffix := binary_suffix(head):
        raise InputError(
            f"{path} holds no text but begins as files ending in {suffix} do; "
            f"allowed: text, or a name that ends in {suffix}"
        )
    zeros = head[: 1 << 12].count(0)
    if zeros > len(head[: 1 << 12]) // 4:
        return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
    try:
        # A character may be cut at the end.
        head[: len(head) - 4 if len(head) >= HEAD_BYTES else len(head)].decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        if error.start >= len(head) - 8 and len(head) >= HEAD_BYTES:
            return "utf-8"
    if _NOT_CP1252.search(head) or _NOT_WESTERN.search(head):
        raise InputError(
            f"{path} is neither in UTF-8 nor, by its letters, in cp1252; allowed: any encoding "
            "that is named, as in --encoding cp1251"
        )
    return "cp1252"


class Row(NamedTuple):
    """A row's cells, and its first physical line."""

    line: int
    cells: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """Where the cells of a file of text are.

    Attributes:
        delimiter: between them.
        encoding: of the bytes.
        columns: a name for each column, of those without one "" or "Unnamed: 3".
        unnamed: how many columns at the end have neither a name nor cells.
        skip: lines before the first row.
        comment: what lines between rows begin with that are none; "".
        rows: whether there is a row among the first lines.
        width: characters of the longest of the first lines.
        said: what is not as in most files, in words.
        cells: of the first rows, by column.
    """

    delimiter: str
    encoding: str
    columns: tuple[str, ...]
    unnamed: int
    skip: int
    comment: str
    rows: bool
    width: int
    said: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...] = dataclasses.field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that count."""
        return self.columns[: len(self.columns) - self.unnamed]


def sniff(path: Path, dialect: Dialect, header: bool) -> Text:
    """Where the cells of a file are, by its first lines.

    Args:
        path: the file.
        dialect: what is known.
        header: whether a line names the columns.

    Raises:
        InputError: if the encoding is unknown.
        OSError, ValueError: if the bytes can't be read.
    """
    facts = path.stat()
    return _sniffed(path, dialect, header, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(64)
def _sniffed(path: Path, dialect: Dialect, header: bool, when: int, size: int) -> Text:
    head, whole = head_of(path)
    encoding = dialect.encoding or encoding_of(path, head)
    # A character may be cut at the end of what was read.
    text = head.decode(encoding, "replace").removeprefix("\ufeff")
    lines = re.split(r"\r\n|\r|\n", text)
    lines = (lines if whole or len(lines) == 1 else lines[:-1])[:HEAD_LINES]
    said = [] if encoding == "utf-8" else [f"encoding {encoding}"]
    first, delimiter = 0, dialect.delimiter
    if match := re.fullmatch(r'"?sep=(.)"?', lines[0]):
        first, delimiter = 1, delimiter or match[1]
    comment = _comment_of(lines[first:])
    delimiter = delimiter or _delimiter_of(lines[first:], comment, path)
    rows = list(_rows(lines, first, comment, delimiter))
    if comment and _are_rows(lines, first, comment, delimiter, rows):
        comment, rows = "", list(_rows(lines, first, "", delimiter))
    begin = _table_begins(rows)
    names: list[str] = []
    data = rows[begin:]
    if header and rows:
        above = _named_above(lines, comment, delimiter, rows[begin])
        names, data = (above, data) if above else (data[0].cells, data[1:])
        if _is_no_row(data, names):
            said.append(f"line {data[0].line + 1} ({', '.join(data[0].cells)[:40]}) passed over")
            data = data[1:]
    columns, unnamed = _columns(names, data, header)
    skip = data[0].line if data else len(lines)
    between = comment and any(_marked(line, comment) for line in lines[skip:])
    if begin or (comment and skip > header):
        said.append(f"{rows[begin].line} lines above the table passed over")
    if between:
        said.append(f"lines that begin with {comment} passed over")
    if between or delimiter == " ":
        skip -= sum(_marked(line, comment) for line in lines[:skip]) if between else 0
    if delimiter != ",":
        said.insert(0, f"{_SAID.get(delimiter, repr(delimiter))} between cells")
    taken = data[: max(1, HEAD_CELLS // max(1, len(columns)))]
    return Text(
        delimiter=delimiter,
        encoding=encoding,
        columns=tuple(columns),
        unnamed=unnamed,
        skip=skip,
        comment=comment if between else "",
        rows=bool(data),
        width=max(map(len, lines)),
        said=tuple(said),
        cells=tuple(
            tuple(row.cells[place].strip() for row in taken if place < len(row.cells))
            for place in range(len(columns))
        ),
    )


def is_number(cell: str) -> bool:
    """Whether a cell looks like a number, whatever its decimal point."""
    return _NUMBERISH.fullmatch(cell.strip().lower()) is not None


def _marked(line: str, comment: str) -> bool:
    return bool(comment) and line.lstrip().startswith(comment)


def _comment_of(lines: Sequence[str]) -> str:
    """What lines begin with that are no rows: fewer than half do; ""."""
    there = [line for line in lines if line.strip()]
    for mark in _MARKS:
        marked = sum(_marked(line, mark) for line in there)
        if marked and 2 * marked < len(there) + (_marked(there[0], mark)):
            return mark
    return ""


def _rows(lines: Sequence[str], first: int, comment: str, delimiter: str) -> Iterator[Row]:
    """Rows of cells; empty lines and comments are none."""
    taken: list[int] = []

    def feed() -> Iterator[str]:
        for number in range(first, len(lines)):
            if not _marked(lines[number], comment):
                taken.append(number)
                line = lines[number]
                yield (re.sub(r"[ \t]+", " ", line.strip()) if delimiter == " " else line) + "\n"

    reader, before = csv.reader(feed(), delimiter=delimiter, skipinitialspace=True), 0
    try:
        for cells in reader:
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield Row(taken[before], cells)
            before = reader.line_num
    except csv.Error:
        return


def _delimiter_of(lines: Sequence[str], comment: str, path: Path) -> str:
    best, chosen = 0.0, ""
    candidates: tuple[str, ...] = DELIMITERS
    if ".tsv" in path.name.lower():
        candidates = ("\t", *(one for one in DELIMITERS if one != "\t"))
    for delimiter in candidates:
        rows = list(_rows(lines, 0, comment, delimiter))
        if not rows:
            continue
        counts = Counter(len(row.cells) for row in rows)
        (width, often), *_ = counts.most_common(1)
        cells = [cell for row in rows for cell in row.cells][:HEAD_CELLS]
        numbers = sum(is_number(cell) or cell.strip() in _NULLS for cell in cells) / len(cells)
        alike = often / len(rows)
        # Words, too, have spaces between them.
        if width < 2 or (delimiter == " " and (alike < LEAST_SHARE or numbers < 0.5)):
            continue
        if (score := alike * (1 + numbers)) > best + 1e-9:
            best, chosen = score, delimiter
    return chosen or ","


def _are_rows(
    lines: Sequence[str], first: int, comment: str, delimiter: str, rows: Sequence[Row]
) -> bool:
    """Whether lines with a comment's mark between rows are rows: of as many cells, first text."""
    widths = Counter(len(row.cells) for row in rows).most_common(1)
    later = [n for n, line in enumerate(lines) if rows and n > rows[0].line]
    later = [number for number in later if _marked(lines[number], comment)]
    cut = [len(row.cells) for n in later for row in _rows([lines[n]], 0, "", delimiter)]
    text = [row for row in rows[1:] if not is_number(row.cells[0])]
    return bool(cut) and set(cut) == {widths[0][0]} and 2 * len(text) > len(rows)


def _table_begins(rows: Sequence[Row]) -> int:
    """Which row is the first of the table: lines above may be a title, a date, an instrument."""
    if len(rows) < 2:
        return 0
    counts = [len(row.cells) for row in rows]
    width = Counter(counts[len(counts) // 2 :]).most_common(1)[0][0]
    first = counts.index(width)
    if not first:
        return 0
    above, row = rows[first - 1].cells, rows[first].cells
    near = len(above) == width - 1 or (len(above) == width + 1 and not above[-1].strip())
    is_header = not any(map(is_number, above)) and all(cell.strip() for cell in above[:-1])
    if near and is_header and (any(map(is_number, row)) or first == 1):
        return first - 1
    return first


def _named_above(lines: Sequence[str], comment: str, delimiter: str, row: Row) -> list[str] | None:
    """Names in the last comment above a first row of numbers, as NumPy writes them."""
    if not comment or not all(map(is_number, row.cells)):
        return None
    above = [line for line in lines[: row.line] if _marked(line, comment)]
    if not above:
        return None
    named = list(_rows([above[-1].lstrip()[len(comment) :]], 0, "", delimiter))
    return named[0].cells if named and len(named[0].cells) == len(row.cells) else None


def _is_no_row(data: Sequence[Row], names: Sequence[str]) -> bool:
    """Whether the line below the names has units, or names again, where others have numbers."""
    if len(data) < 3 or len(data[0].cells) < 2:
        return False
    first = [cell.strip() for cell in data[0].cells]
    if first == [name.strip() for name in names] and not any(map(is_number, first)):
        return True
    units = 0
    for place, cell in enumerate(first):
        column = [row.cells[place].strip() for row in data[1:] if place < len(row.cells)]
        there = [one for one in column if one not in _NULLS]
        if there and all(map(is_number, there)):
            if is_number(cell) or cell == "?":
                return False
            units += cell not in _NULLS
    # One odd cell is a bad cell.
    return units > 1 or (units == 1 and re.fullmatch(r"[\[(].*[\])]", "".join(first)) is not None)


def _columns(names: Sequence[str], data: Sequence[Row], header: bool) -> tuple[list[str], int]:
    """A name for each column, and how many at the end have neither a name nor cells."""
    width = Counter(len(row.cells) for row in data).most_common(1)[0][0] if data else len(names)
    if not header:
        return [f"column_{number}" for number in range(width)], 0
    columns = [name.strip() for name in names]
    rows = [row.cells for row in data if len(row.cells) == width]
    if len(columns) == width + 1 and not columns[-1]:
        columns.pop()
    elif len(columns) == width - 1 and columns:
        if not any(cells[-1].strip() for cells in rows):
            columns.append("")
        elif _are_labels([cells[0].strip() for cells in rows]):
            # As R writes them: nothing stands above the names of rows.
            columns.insert(0, "")
    unnamed = 0
    while len(columns) > unnamed + 1 and not columns[-1 - unnamed]:
        place = len(columns) - 1 - unnamed
        if any(place < len(cells) and cells[place].strip() for cells in rows):
            break
        unnamed += 1
    # A name for Arrow, which nobody sees.
    nameless = [place for place, name in enumerate(columns) if not name]
    if len(nameless) > 1:
        for place in nameless[1:] if nameless[0] == 0 else nameless:
            columns[place] = f"Unnamed: {place}"
    return columns, unnamed


def _are_labels(cells: Sequence[str]) -> bool:
    if len(set(cells)) < len(cells):
        return False
    if all(cell.isdecimal() for cell in cells):
        return [int(cell) - int(cells[0]) for cell in cells] == list(range(len(cells)))
    return not any(map(is_number, cells))

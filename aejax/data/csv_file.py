"""A file of text with cells, opened by Arrow as its first lines say; what its columns hold."""

from __future__ import annotations

import ctypes
import dataclasses
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.types as types

from aejax.config import InputError
from aejax.config.columns import MISSING
from aejax.data.number_text import numbers_of_text
from aejax.data.rows import NoRows, Selection
from aejax.data.sniffing import LEAST_SHARE, Text, is_number, sniff
from aejax.data.text_input import open_text, without_comments

BLOCK_BYTES = 1 << 22
# A thread of Arrow's may let go of a handler after its reader is closed, and aborts the process
# where Python has ended by then. So the last ones stay here, and this stays for ever.
_KEPT: deque[pyarrow.csv.ParseOptions] = deque(maxlen=64)
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_KEPT))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CsvFile:
    """A file of text with cells.

    Attributes:
        path: of it.
        text: where its cells are.
        decimal: the decimal point of its numbers.
        missing: further words for a missing cell.
    """

    path: Path
    text: Text
    decimal: str
    missing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that count, in order."""
        return self.text.names

    def open(
        self,
        convert: pyarrow.csv.ConvertOptions,
        *,
        on_broken_row: Callable[[Any], str] | None = None,
        threads: bool = True,
    ) -> pyarrow.csv.CSVStreamingReader:
        """A reader of the file's rows.

        Args:
            convert: cells to what.
            on_broken_row: called for rows of too few or too many cells, gives "skip" or "error".
            threads: whether to parse on several; rows are numbered on one only.
        """
        text = self.text
        is_plain = not text.comment and text.delimiter != " "
        source: Any = str(self.path)
        if not is_plain:
            file = open_text(self.path)
            source = without_comments(file, text.encoding, text.comment, text.delimiter == " ")
        elif self.path.suffix.lower() in (".xz", ".zip"):  # Which Arrow doesn't unpack.
            source = open_text(self.path)
        parse = pyarrow.csv.ParseOptions(
            delimiter=text.delimiter,
            # Without this, a line break in a quoted cell at the edge of a block splits its row.
            newlines_in_values=True,
            invalid_row_handler=on_broken_row,
        )
        if on_broken_row is not None:
            _KEPT.append(parse)
        read = pyarrow.csv.ReadOptions(
            use_threads=threads,
            block_size=max(BLOCK_BYTES, 8 * text.width),
            column_names=text.columns,
            skip_rows=text.skip,
            encoding=text.encoding if is_plain else "utf8",
        )
        return pyarrow.csv.open_csv(source, read, parse, convert)

    def convert(
        self, column_types: Mapping[str, pa.DataType], columns: Sequence[str] | None = None
    ) -> pyarrow.csv.ConvertOptions:
        """How cells are converted.

        Args:
            column_types: of columns; of the others Arrow finds them out by a first block.
            columns: those that are read; None for all.
        """
        return pyarrow.csv.ConvertOptions(
            column_types=column_types,
            include_columns=list(columns or self.names),
            decimal_point=self.decimal,
            null_values=[*MISSING, *self.missing],
        )

    def row_of(self, broken: Any) -> int:
        """The position of a row of too few or too many cells, read on one thread."""
        return int(broken.number) - 1 - self.text.skip

    def tidy(self, cells: pa.Array) -> pa.Array:
        """Cells of a column of text without spaces around them, null where they are missing."""
        cells = pc.utf8_trim_whitespace(cells)
        if self.missing:
            cells = pc.if_else(pc.is_in(cells, pa.array(self.missing)), None, cells)
        return cells

    def types(self, least_share: float = LEAST_SHARE, *, codes: bool = False) -> list[pa.DataType]:
        """What the first rows show the columns to hold: numbers, booleans, dates, text, nothing.

        Args:
            least_share: of a column of numbers, the share of cells that have to be numbers.
            codes: whether whole numbers with zeros in front are text.

        Raises:
            NoRows: if there is no row.
        """
        batch = None
        if self.text.rows:
            with self.open(
                self.convert({}), on_broken_row=lambda row: "skip", threads=False
            ) as reader:
                batch = next((batch for batch in reader if batch.num_rows), None)
        if batch is None:
            below = " below the line of column names"
            raise NoRows(f"{self.path} has 0 rows; allowed: at least 1{below}")
        return [
            pa.string()
            if codes and types.is_integer(column.type) and self._are_codes(name)
            else self._type(name, column, least_share)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]

    def _type(self, name: str, column: pa.Array, least_share: float) -> pa.DataType:
        if not (types.is_string(column.type) or types.is_binary(column.type)):
            return column.type
        text = text_of_bytes(column)
        text = text.filter(pc.not_equal(text, name))
        numbers, wrong = numbers_of_text(text, self.decimal, self.missing)
        there = len(text) - numbers.null_count + pc.sum(wrong).as_py() if len(text) else 0
        if not there:
            return pa.null()
        good = there - pc.sum(wrong).as_py()
        return pa.float64() if good and good >= least_share * there else pa.string()

    def _are_codes(self, name: str) -> bool:
        """Whether whole numbers are codes: all of one length, some with zeros in front."""
        cells = [cell for cell in self.text.cells[self.names.index(name)] if is_number(cell)]
        led = any(cell.startswith("0") and len(cell) > 1 for cell in cells)
        return led and len({len(cell) for cell in cells}) == 1 and all(map(str.isdecimal, cells))


def csv_file(path: Path, selection: Selection) -> CsvFile:
    """A file of text with cells, its first lines examined.

    Args:
        path: of it.
        selection: how its text is written, as far as that is known.

    Raises:
        InputError: if the encoding is unknown, or numbers stand for column names.
        OSError, ValueError: if the bytes can't be read.
    """
    dialect = selection.dialect
    # The decimal point is a question of all files of an input, see `decimals`.
    text = sniff(path, dataclasses.replace(dialect, decimal=None), selection.header)
    if selection.header and text.rows and _are_numbers(text.names):
        raise InputError(
            f"{path}: its first line holds numbers ({text.names[0]}, ...); "
            "allowed: column names, or header=False (--no-header)"
        )
    return CsvFile(path=path, text=text, decimal=dialect.decimal or ".", missing=dialect.missing)


def tidied(batch: pa.RecordBatch, file: CsvFile, columns: Collection[str]) -> pa.RecordBatch:
    """A batch whose columns of text are tidy, see `CsvFile.tidy`."""
    for name in columns:
        place = batch.schema.get_field_index(name)
        batch = batch.set_column(place, name, file.tidy(batch.column(place)))
    return batch


def text_of_bytes(column: pa.Array) -> pa.Array:
    """Cells as text; those that are not in UTF-8 as cp1252, what has no meaning there marked."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_text(cell) for cell in column.to_pylist()], pa.string())


def _text(cell: bytes | None) -> str | None:
    if cell is None:
        return None
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell.decode("cp1252", "replace")


def _are_numbers(names: Sequence[str]) -> bool:
    """True of 0.5, 1, -1e-3; not of 0, 1, 2, which pandas uses as names of unnamed columns."""
    try:
        return len([float(name) for name in names if not name.isdecimal()]) > 0
    except ValueError:
        return False

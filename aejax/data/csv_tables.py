"""Rows of .csv and .csv.gz files, read by pyarrow one batch at a time."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.types

from aejax.config import InputError
from aejax.data import csv_bad_cells
from aejax.data.blocks import Block, Part
from aejax.data.overlap import ahead
from aejax.data.rows import UNREADABLE, Selection, unreadable
from aejax.data.schema import Schema
from aejax.data.tables import NO_CONSTANTS, Layout, choose_columns, to_block

CSV_BLOCK_BYTES = 1 << 22
CSV_HEADER_BYTES = 1 << 16
CSV_LINE_BYTES = 1 << 26
_CSV_COLUMN = re.compile(r"In CSV column #(\d+): (.*)", re.DOTALL)
# A quoted cell may hold a line break; without this, one at the edge of a block splits its row.
_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)


def open_csv(
    path: Path,
    selection: Selection,
    expected: Schema | None,
    constants: Mapping[str, pa.Scalar] = NO_CONSTANTS,
) -> Part:
    """A CSV file, plain or gzipped: commas, UTF-8, quotes doubled inside quotes."""
    tolerant = selection.bad_cells == "null"
    try:
        names, types, block_bytes = csv_columns(path, selection)
        layout = choose_columns(path, names, types, selection, expected, constants)
    except InputError:
        raise
    except UNREADABLE as error:
        raise csv_error(path, [], error) from error
    # One type for the whole file: left to itself, Arrow fixes each column's type by its first
    # block, and an integer column then fails at its first fraction.
    logical = {n for n, kind in zip(names, types, strict=True) if pyarrow.types.is_boolean(kind)}
    if layout.schema.columns is not None:
        logical = {c.source for c in layout.schema.columns if c.kind == "boolean"}
    numbers = [name for name in layout.numbers if name in layout.columns]
    wanted = {name: pa.bool_() if name in logical else pa.float64() for name in numbers}
    texts = set(layout.columns) - set(numbers)
    convert = pyarrow.csv.ConvertOptions(
        column_types={**wanted, **dict.fromkeys(texts, pa.string())}, include_columns=layout.columns
    )

    def batches(threads: bool) -> Iterator[pa.RecordBatch]:
        read = pyarrow.csv.ReadOptions(
            use_threads=threads,
            block_size=block_bytes,
            column_names=None if selection.header else names,
        )
        with pyarrow.csv.open_csv(path, read, _PARSE, convert) as reader:
            yield from reader

    def chunks(start: int, size: int) -> Iterator[Block]:
        first = 0
        try:
            # Arrow parses on one core: the batch before is turned to rows on another.
            with contextlib.closing(ahead(batches(threads=True), 1)) as parsed:
                for batch in parsed:
                    if block := _from(batch, layout, first, start):
                        yield block
                    first += batch.num_rows
        except InputError:
            raise
        except UNREADABLE as error:
            if not tolerant:
                raise csv_error(
                    path, names, _error_with_row(batches(threads=False)) or error
                ) from error
            try:
                yield from csv_bad_cells.blocks(
                    layout, names, wanted, texts, block_bytes, max(first, start)
                )
            except InputError:
                raise
            except UNREADABLE as again:
                raise csv_error(path, names, again) from again
            return
        yield csv_bad_cells.end_of(layout, first)

    return Part(path=path, schema=layout.schema, rows=None, chunks=chunks, wide=True)


def _from(batch: pa.RecordBatch, layout: Layout, first: int, start: int) -> Block | None:
    """The batch's rows from row `start` of the file."""
    skipped = min(max(start - first, 0), batch.num_rows)
    if skipped == batch.num_rows:
        return None
    return to_block(batch.slice(skipped), layout, first + skipped)


def csv_columns(path: Path, selection: Selection) -> tuple[list[str], list[pa.DataType], int]:
    """A CSV file's column names, the types that its first rows show, and a large enough block."""
    with pa.input_stream(str(path), compression="detect") as file:
        first_line = bytearray()
        while b"\n" not in first_line and (piece := file.read(CSV_HEADER_BYTES)):
            first_line += piece
            if len(first_line) > CSV_LINE_BYTES:
                raise ValueError(f"its first line is longer than {CSV_LINE_BYTES} bytes")
    width = len(first_line.split(b"\n", 1)[0])
    block_bytes = max(CSV_BLOCK_BYTES, 8 * width)
    read = pyarrow.csv.ReadOptions(
        use_threads=False,
        block_size=block_bytes,
        autogenerate_column_names=not selection.header,
    )
    tolerant = selection.bad_cells == "null"
    parse = csv_bad_cells.parse_options(lambda row: "skip") if tolerant else _PARSE
    with pyarrow.csv.open_csv(path, read, parse) as reader:
        schema = reader.schema
        batch = next((batch for batch in reader if batch.num_rows), None)
    names = (
        list(schema.names)
        if selection.header
        else [f"column_{i}" for i in range(len(schema.names))]
    )
    if batch is None:
        raise InputError(f"{path} has 0 rows; allowed: at least 1 below the line of column names")
    if selection.header and _is_numbers(names):
        raise InputError(
            f"{path}: its first line holds numbers ({names[0]}, ...); "
            "allowed: column names, or header=False (--no-header)"
        )
    types = list(schema.types)
    if tolerant:
        # One bad cell makes text of a column of numbers.
        types = [
            pa.float64() if csv_bad_cells.holds_numbers(column) else column.type
            for column in batch.columns
        ]
    return names, types, block_bytes


def _is_numbers(names: Sequence[str]) -> bool:
    """True of 0.5, 1, -1e-3; not of 0, 1, 2, which pandas uses as names of unnamed columns."""
    try:
        return len([float(name) for name in names if not name.isdecimal()]) > 0
    except ValueError:
        return False


def _error_with_row(batches: Iterator[pa.RecordBatch]) -> BaseException | None:
    """The error that reading again on one thread ends in; only there does Arrow count rows."""
    try:
        for _ in batches:
            pass
    except UNREADABLE as error:
        return error
    return None


def csv_error(path: Path, names: Sequence[str], error: BaseException) -> InputError:
    """What Arrow says of a CSV file, in one line that names the file and the column."""
    if (found := _CSV_COLUMN.match(str(error))) and int(found[1]) < len(names):
        name = names[int(found[1])]
        return InputError(
            f"{path}: column {name!r}: {found[2]}; allowed: numbers, or --drop-columns {name}"
        )
    return unreadable(path, "CSV", error)

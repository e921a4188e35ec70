"""Rows of text files with cells (.csv, .tsv, .txt), read by pyarrow one batch at a time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.types

from aejax.config import InputError
from aejax.data.blocks import Block, Part, Wrong
from aejax.data.csv_file import CsvFile, csv_file, text_of_bytes, tidied
from aejax.data.number_text import is_missing, numbers_of_text
from aejax.data.overlap import ahead
from aejax.data.rows import UNREADABLE, Selection, unreadable
from aejax.data.schema import Schema
from aejax.data.tables import NO_CONSTANTS, Layout, choose_columns, read_in_columns, to_block

# Rows of a CSV file that has bad cells: all cells are read as text, then made numbers if they are.
#
# Arrow gives up on a whole block for one cell that is no number, and on the file for one row
# with too few cells. Here such a row keeps its place, with NaN and what is wrong with it.
_SHOWN = 40
_DEFAULTS = pyarrow.csv.ConvertOptions()


def blocks(
    file: CsvFile,
    layout: Layout,
    numbers: Mapping[str, pa.DataType],
    categories: Collection[str],
    start: int,
) -> Iterator[Block]:
    """The file's rows from `start`, and an empty block that says how many there are.

    Args:
        file: to read.
        layout: what is read of it.
        numbers: the type of each column that holds numbers; the others are text.
        categories: those of text that are features.
        start: the first row wanted.

    Raises:
        InputError: at the first bad cell, where the selection says so.
    """
    broken: deque[tuple[int, str]] = deque()

    def note(row: Any) -> str:
        what = f"it has {row.actual_columns} cells, allowed: {row.expected_columns}"
        kind = f"the row does not have {row.expected_columns} cells"
        broken.append((file.row_of(row), Wrong(what, kind)))
        return "skip"

    # As they are written: one cell in another encoding makes no other one unreadable.
    as_written = file.convert(dict.fromkeys(layout.columns, pa.binary()), layout.columns)
    row = 0

    def passed(count: int) -> tuple[int, int]:
        """How many of the next `count` rows lie before `start`, and the row of the first kept."""
        skipped = min(max(start - row, 0), count)
        return skipped, row + skipped

    # Rows are numbered on one thread only.
    with file.open(as_written, on_broken_row=note, threads=False) as reader:
        for batch in reader:
            while batch.num_rows or (broken and broken[0][0] == row):
                if broken and broken[0][0] == row:
                    what = broken.popleft()[1]
                    if row >= start:
                        yield _broken_row(layout, batch.schema, numbers, row, what)
                    row += 1
                    continue
                until = broken[0][0] - row if broken else batch.num_rows
                piece = batch.slice(0, until)
                batch = batch.slice(piece.num_rows)
                skipped, first = passed(piece.num_rows)
                if skipped < piece.num_rows:
                    yield _cells(piece.slice(skipped), file, layout, numbers, categories, first)
                row += piece.num_rows
        while broken:
            what = broken.popleft()[1]
            if row >= start:
                yield _broken_row(layout, reader.schema, numbers, row, what)
            row += 1
    yield end_of(layout, row)


def end_of(layout: Layout, rows: int) -> Block:
    """The empty block that says how many rows a file had."""
    return Block(
        first_row=rows,
        x=np.empty((0, *layout.schema.shape), layout.schema.dtype),
        y=None,
        keys=None,
    )


def _cells(
    batch: pa.RecordBatch,
    file: CsvFile,
    layout: Layout,
    numbers: Mapping[str, pa.DataType],
    categories: Collection[str],
    first_row: int,
) -> Block:
    bad: dict[int, str] = {}
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        text = text_of_bytes(column)
        if name in numbers and pyarrow.types.is_boolean(numbers[name]):
            text = _logical(name, text, file.missing, bad)
        elif name in numbers:
            text = _numbers(name, text, file, bad)
        elif name in categories:
            text = file.tidy(text)
        columns.append(text)
    if bad and layout.selection.bad_cells == "error":
        row = min(bad)
        raise _refused(layout, first_row + row, bad[row])
    return to_block(
        pa.record_batch(columns, names=batch.schema.names), layout, first_row, dict(bad)
    )


def _refused(layout: Layout, row: int, what: str) -> InputError:
    return InputError(
        f"{layout.path}: row {row}: {what}; allowed: numbers as in the other rows, --missing WORD, "
        "--decimal, or --drop-columns"
    )


def _numbers(name: str, text: pa.Array, file: CsvFile, bad: dict[int, str]) -> pa.Array:
    known, wrong = numbers_of_text(text, file.decimal, file.missing)
    for row in np.flatnonzero(wrong.to_numpy(zero_copy_only=False)):
        cell, kind = text[int(row)].as_py()[:_SHOWN], f"{name} is not a number"
        bad.setdefault(int(row), Wrong(f"{name} is {cell!r}, not a number", kind))
    return known.cast(pa.float64())


def _logical(name: str, text: pa.Array, missing: tuple[str, ...], bad: dict[int, str]) -> pa.Array:
    cells = pc.utf8_trim_whitespace(text)
    cells = pc.if_else(is_missing(cells, missing), None, cells)
    true, false = (
        pc.is_in(cells, pa.array(words))
        for words in (_DEFAULTS.true_values, _DEFAULTS.false_values)
    )
    known = pc.if_else(true, 1.0, pc.if_else(false, 0.0, None))
    wrong = pc.and_(known.is_null(), cells.is_valid()).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(wrong):
        cell, kind = cells[int(row)].as_py()[:_SHOWN], f"{name} is not true or false"
        bad.setdefault(int(row), Wrong(f"{name} is {cell!r}, not true or false", kind))
    return known


def _broken_row(
    layout: Layout, schema: pa.Schema, numbers: Mapping[str, pa.DataType], row: int, what: str
) -> Block:
    if layout.selection.bad_cells == "error":
        raise _refused(layout, row, what)
    kinds = [pa.float64() if name in numbers else pa.string() for name in schema.names]
    cells = [pa.nulls(1, kind) for kind in kinds]
    return to_block(pa.record_batch(cells, names=schema.names), layout, row, {0: what})


def open_csv(
    path: Path,
    selection: Selection,
    expected: Schema | None,
    constants: Mapping[str, pa.Scalar] = NO_CONSTANTS,
) -> Part:
    """A file of text with cells, plain or packed; quotes are doubled inside quotes."""
    tolerant = selection.bad_cells == "null"
    try:
        file = csv_file(path, selection)
        # One bad cell doesn't make text of a column of numbers.
        types = file.types(least_share=1e-9 if tolerant else 1.0)
        layout = choose_columns(path, file.names, types, selection, expected, constants)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, "CSV", error) from error
    # One type for the whole file: left to itself, Arrow fixes each column's type by its first
    # block, and an integer column then fails at its first fraction.
    logical = {
        name for name, kind in zip(file.names, types, strict=True) if pyarrow.types.is_boolean(kind)
    }
    if layout.schema.columns is not None:
        logical = {c.source for c in layout.schema.columns if c.kind == "boolean"}
    numbers = [name for name in layout.numbers if name in layout.columns]
    wanted = {name: pa.bool_() if name in logical else pa.float64() for name in numbers}
    texts = set(layout.columns) - set(numbers)
    convert = file.convert({**wanted, **dict.fromkeys(texts, pa.string())}, layout.columns)

    categories = texts - {*selection.key_columns, selection.label_column}

    def batches() -> Iterator[pa.RecordBatch]:
        with file.open(convert) as reader:
            for batch in reader:
                yield tidied(batch, file, categories)

    def chunks(start: int, size: int, layout: Layout = layout) -> Iterator[Block]:
        first = 0
        try:
            # Arrow parses on one core: the batch before is turned to rows on another.
            with contextlib.closing(ahead(batches(), 1)) as parsed:
                for batch in parsed:
                    if block := _from(batch, layout, first, start):
                        yield block
                    first += batch.num_rows
        except InputError:
            raise
        except UNREADABLE:
            try:
                yield from blocks(file, layout, wanted, categories, max(first, start))
            except InputError:
                raise
            except UNREADABLE as again:
                raise unreadable(path, "CSV", again) from again
            return
        yield end_of(layout, first)

    return Part(
        path=path,
        schema=layout.schema,
        rows=None,
        chunks=chunks,
        wide=True,
        columns=read_in_columns(chunks, layout),
    )


def _from(batch: pa.RecordBatch, layout: Layout, first: int, start: int) -> Block | None:
    """The batch's rows from row `start` of the file."""
    skipped = min(max(start - first, 0), batch.num_rows)
    if skipped == batch.num_rows:
        return None
    return to_block(batch.slice(skipped), layout, first + skipped)

"""Rows of text files with cells (.csv, .tsv, .txt), read by pyarrow one batch at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.types

from aejax.config import InputError
from aejax.data import csv_bad_cells
from aejax.data.blocks import Block, Part
from aejax.data.csv_file import csv_file, tidied
from aejax.data.overlap import ahead
from aejax.data.rows import UNREADABLE, Selection, unreadable
from aejax.data.schema import Schema
from aejax.data.tables import NO_CONSTANTS, Layout, choose_columns, read_in_columns, to_block


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
                yield from csv_bad_cells.blocks(file, layout, wanted, categories, max(first, start))
            except InputError:
                raise
            except UNREADABLE as again:
                raise unreadable(path, "CSV", again) from again
            return
        yield csv_bad_cells.end_of(layout, first)

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

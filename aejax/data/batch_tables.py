"""Rows of files that Arrow reads as batches: Parquet, its own format, and JSON lines."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet
import pyarrow.types

from aejax.config import InputError
from aejax.data.blocks import Block, Part
from aejax.data.csv_tables import end_of
from aejax.data.overlap import ahead
from aejax.data.rows import UNREADABLE, NoRows, Selection, guarded, unreadable
from aejax.data.schema import Schema
from aejax.data.sources import format_of
from aejax.data.tables import (
    NO_CONSTANTS,
    Layout,
    choose_columns,
    fits_float32,
    read_in_columns,
    to_block,
)
from aejax.data.text_input import open_text

_SAID = {"arrow": "Arrow", "jsonl": "JSON lines"}
PIECE_BYTES = 1 << 22
# Of all the columns that are read together; each has a buffer of its own.
PARQUET_BUFFERS_BYTES = 1 << 25
LEAST_BUFFER_BYTES = 1 << 14
# Decoded at once, which costs time for each column; and handed on at once, to stay in a cache.
# Larger batches decode a little faster still, in memory that a process has to get first.
BATCH_ROWS = 1 << 16
BATCH_BYTES, PIECE_BYTES = 1 << 25, 1 << 24


def open_batches(
    path: Path,
    selection: Selection,
    expected: Schema | None,
    constants: Mapping[str, pa.Scalar] = NO_CONSTANTS,
) -> Part:
    """A file in Arrow's format, stream or file, or of a JSON object a line."""
    kind = format_of(path)
    try:
        there, batches = batches_of(path, kind)
        layout = choose_columns(path, there.names, there.types, selection, expected, constants)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, _SAID[kind], error) from error

    def chunks(start: int, size: int, layout: Layout = layout) -> Iterator[Block]:
        first = 0
        with contextlib.closing(ahead(batches(), 1)) as read:
            for batch in read:
                skipped = min(max(start - first, 0), batch.num_rows)
                if skipped < batch.num_rows:
                    kept = batch.slice(skipped).select(layout.columns)
                    yield to_block(kept, layout, first + skipped)
                first += batch.num_rows
        yield end_of(layout, first)

    def guarded_chunks(start: int, size: int, layout: Layout = layout) -> Iterator[Block]:
        return guarded(chunks(start, size, layout), path, _SAID[kind])

    types = {name: value.type for name, value in layout.constants.items()}
    types |= dict(zip(there.names, there.types, strict=True))
    return Part(
        path=path,
        schema=layout.schema,
        rows=None,
        chunks=guarded_chunks,
        columns=read_in_columns(guarded_chunks, layout),
        wide=not all(fits_float32(types[name]) for name in layout.features),
    )


def batches_of(path: Path, kind: str) -> tuple[pa.Schema, Callable[[], Generator[pa.RecordBatch]]]:
    """The columns of a file, and a function that reads its batches.

    Args:
        path: the file.
        kind: "arrow" or "jsonl".

    Raises:
        NoRows: if it has none.
        OSError, ValueError: if it can't be read.
    """
    read = _arrow if kind == "arrow" else _jsonl
    with contextlib.closing(read(path, None)) as batches:
        first = next((batch for batch in batches if batch.num_rows), None)
    if first is None:
        raise NoRows(f"{path} has 0 rows; allowed: at least 1")
    return first.schema, lambda: read(path, first.schema)


def _arrow(path: Path, schema: pa.Schema | None) -> Generator[pa.RecordBatch]:
    with pa.OSFile(str(path), "rb") as file:
        if file.read(6) == b"ARROW1":
            with pa.ipc.open_file(file) as reader:
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number)
            return
        file.seek(0)
        with pa.ipc.open_stream(file) as reader:
            yield from reader


def _jsonl(path: Path, schema: pa.Schema | None) -> Generator[pa.RecordBatch]:
    """Batches of a piece of lines each; fields that the first lines lack are left out."""
    with open_text(path) as file:
        left = b""
        while piece := file.read(PIECE_BYTES):
            lines, _, rest = (left + piece).rpartition(b"\n")
            left = rest
            if lines.strip():
                yield from _parsed(lines, schema)
        if left.strip():
            yield from _parsed(left, schema)


def _parsed(lines: bytes, schema: pa.Schema | None) -> list[pa.RecordBatch]:
    read = pyarrow.json.ReadOptions(block_size=len(lines) + 1, use_threads=False)
    last: pa.ArrowInvalid | None = None
    for one in (schema, schema and _widened(schema)):
        parse = pyarrow.json.ParseOptions(
            explicit_schema=one,
            unexpected_field_behavior="infer" if schema is None else "ignore",
        )
        try:
            table = pyarrow.json.read_json(io.BytesIO(lines), read, parse)
            return list(table.combine_chunks().to_batches())
        except pa.ArrowInvalid as error:
            last = error
    assert last is not None
    raise last


def _widened(schema: pa.Schema) -> pa.Schema:
    """Types that hold what later lines may bring: fractions after whole numbers."""
    return pa.schema(
        [
            field.with_type(pa.float64())
            if pyarrow.types.is_integer(field.type) or pyarrow.types.is_null(field.type)
            else field
            for field in schema
        ]
    )


def open_parquet(
    path: Path,
    selection: Selection,
    expected: Schema | None,
    constants: Mapping[str, pa.Scalar] = NO_CONSTANTS,
) -> Part:
    """One Parquet file; nested columns must be dropped."""
    try:
        with _parquet(path) as file:
            columns, rows = file.schema_arrow, file.metadata.num_rows
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        layout = choose_columns(path, columns.names, columns.types, selection, expected, constants)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, "Parquet", error) from error
    if rows < 0 or sum(groups) != rows:
        raise InputError(f"{path} has {rows} rows; allowed: as many as its groups promise")
    if not rows:
        raise NoRows(f"{path} has 0 rows; allowed: at least 1")

    row_bytes = 4 * max(1, len(layout.columns))

    def rows_of(most_bytes: int, size: int) -> int:
        # Whole blocks save putting blocks together.
        rows = max(1, min(BATCH_ROWS, most_bytes // row_bytes))
        return rows // size * size if size <= rows else rows

    def chunks(start: int, size: int, layout: Layout = layout) -> Iterator[Block]:
        starts = np.cumsum([0, *groups]).tolist()
        kept = [group for group in range(len(groups)) if starts[group + 1] > start]
        batch, piece = rows_of(BATCH_BYTES, size), rows_of(PIECE_BYTES, size)
        try:
            file = _parquet(path, len(layout.columns))
        except UNREADABLE as error:
            raise unreadable(path, "Parquet", error) from error
        with file:
            for group in kept:
                first, end = starts[group], starts[group + 1]
                try:
                    # One group at a time, so that a damaged one can be named.
                    batches = file.iter_batches(batch, [group], layout.columns)
                    # Decoding takes all cores, turning columns to rows one: so both at a time.
                    with contextlib.closing(ahead(batches, 1)) as decoded:
                        for read in decoded:
                            skipped = min(max(start - first, 0), read.num_rows)
                            for at in range(skipped, read.num_rows, piece):
                                yield to_block(read.slice(at, piece), layout, first + at)
                            first += read.num_rows
                except InputError:
                    raise
                except UNREADABLE as error:
                    where = f"row group {group} (rows {starts[group]} to {end - 1})"
                    raise unreadable(path, "Parquet", error, where) from error
                if first != end:
                    raise InputError(
                        f"{path}: row group {group} ends after {first - starts[group]} rows; "
                        f"allowed: the {groups[group]} that it promises"
                    )

    types = {name: value.type for name, value in layout.constants.items()}
    types |= dict(zip(columns.names, columns.types, strict=True))
    wide = not all(fits_float32(types[name]) for name in layout.features)
    return Part(
        path=path,
        schema=layout.schema,
        rows=rows,
        chunks=chunks,
        wide=wide,
        columns=read_in_columns(chunks, layout),
    )


def _parquet(path: Path, columns: int = 1) -> pyarrow.parquet.ParquetFile:
    # Buffered, and not ahead, a row group's columns are read piece by piece instead of whole.
    buffer_bytes = max(LEAST_BUFFER_BYTES, PARQUET_BUFFERS_BYTES // max(1, columns))
    return pyarrow.parquet.ParquetFile(
        path,
        buffer_size=min(buffer_bytes, 1 << 20),
        page_checksum_verification=True,
        pre_buffer=False,
    )

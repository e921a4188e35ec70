"""Rows of Parquet files, read by pyarrow one batch at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from aejax.config import InputError
from aejax.data.blocks import Block, Part
from aejax.data.overlap import ahead
from aejax.data.rows import UNREADABLE, NoRows, Selection, unreadable
from aejax.data.schema import Schema
from aejax.data.tables import (
    NO_CONSTANTS,
    Layout,
    choose_columns,
    fits_float32,
    read_in_columns,
    to_block,
)

# Of all the columns that are read together; each has a buffer of its own.
PARQUET_BUFFERS_BYTES = 1 << 25
LEAST_BUFFER_BYTES = 1 << 14
# Decoded at once, which costs time for each column; and handed on at once, to stay in a cache.
# Larger batches decode a little faster still, in memory that a process has to get first.
BATCH_ROWS = 1 << 16
BATCH_BYTES, PIECE_BYTES = 1 << 25, 1 << 24


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
                        for found in decoded:
                            skipped = min(max(start - first, 0), found.num_rows)
                            for at in range(skipped, found.num_rows, piece):
                                yield to_block(found.slice(at, piece), layout, first + at)
                            first += found.num_rows
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

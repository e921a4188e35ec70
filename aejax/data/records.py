"""Rows of ArrayRecord files: a record is a row's values, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aejax.config import InputError
from aejax.config.checks import extra
from aejax.data.arrays import array_block, refuse_columns
from aejax.data.blocks import Block, Part
from aejax.data.rows import UNREADABLE, Selection, guarded, unreadable
from aejax.data.schema import Schema

READ_BYTES = 1 << 24


def open_array_record(path: Path, selection: Selection, expected: Schema | None) -> Part:
    """An ArrayRecord file whose records are rows of the expected type, else of float32.

    The values are little-endian and in C order. Records in another layout (TensorFlow
    Examples, say) don't have a row's number of bytes, and are refused.
    """
    with extra("recipes"):
        from array_record.python.array_record_module import ArrayRecordReader

    refuse_columns(path, selection, label_allowed=False)
    try:
        reader = ArrayRecordReader(str(path), options="readahead_buffer_size:0")
        rows = reader.num_records()
        first = reader.read([0])[0] if rows else b""
        reader.close()
    except UNREADABLE as error:
        raise unreadable(path, "ArrayRecord", error) from error
    if not rows:
        raise InputError(f"{path} has 0 rows; allowed: at least 1")
    if expected is None and (not first or len(first) % 4):
        raise InputError(
            f"{path}: record 0 has {len(first)} bytes; allowed: float32 values, 4 bytes each"
        )
    schema = expected or Schema(shape=(len(first) // 4,))
    dtype = np.dtype(schema.dtype).newbyteorder("<")
    row_bytes = schema.features * dtype.itemsize

    def chunks(start: int, size: int) -> Iterator[Block]:
        reader = ArrayRecordReader(str(path), options="readahead_buffer_size:0")
        size = max(1, min(size, READ_BYTES // row_bytes))
        try:
            for first in range(start, rows, size):
                records = reader.read(list(range(first, min(first + size, rows))))
                for position, record in enumerate(records):
                    if len(record) != row_bytes:
                        raise InputError(
                            f"{path}: row {first + position} has {len(record)} bytes; "
                            f"allowed: {row_bytes}, {schema.features} values of {schema.dtype}"
                        )
                x = np.frombuffer(b"".join(records), dtype).reshape(-1, schema.features)
                yield array_block(x, schema, path, first, selection)
        finally:
            reader.close()

    return Part(
        path=path,
        schema=schema,
        rows=rows,
        chunks=lambda start, size: guarded(chunks(start, size), path, "ArrayRecord"),
    )

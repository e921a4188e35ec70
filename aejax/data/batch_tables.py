"""Rows of files that Arrow reads as batches from first to last: its own format, and JSON lines."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.json
import pyarrow.types

from aejax.config import InputError
from aejax.data.blocks import Block, Part
from aejax.data.csv_bad_cells import end_of
from aejax.data.formats import format_of
from aejax.data.overlap import ahead
from aejax.data.rows import UNREADABLE, NoRows, Selection, guarded, unreadable
from aejax.data.schema import Schema
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

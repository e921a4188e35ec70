"""The features of a training table's normal rows, batch by batch, as its files hold them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pyarrow.types as types

from aejax.config import Columns, InputError
from aejax.data import cells, csv_bad_cells
from aejax.data.csv_tables import csv_columns, csv_error
from aejax.data.files import Input
from aejax.data.rows import UNREADABLE, Selection, unreadable
from aejax.data.schema import Schema
from aejax.data.sources import find_sources, partition_values
from aejax.data.tables import Layout, feature_names, labels_of_batch

BATCH_ROWS, BATCH_VALUES = 1 << 16, 1 << 22
# What stands for a cell of a column of numbers that holds something else.
NO_NUMBER = np.inf
_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NULLS = pa.array(pyarrow.csv.ConvertOptions().null_values)


def row_labels(path: Input) -> frozenset[str]:
    """Columns that pandas wrote as the index of a frame, by its own notes in a Parquet file."""
    first = find_sources(path)[0][0].path
    if first.suffix.lower() != ".parquet":
        return frozenset()
    try:
        notes = pyarrow.parquet.read_schema(first).pandas_metadata or {}
    except UNREADABLE as error:
        raise unreadable(first, "Parquet", error) from error
    return frozenset(name for name in notes.get("index_columns", ()) if isinstance(name, str))


def normal_rows(
    path: Input, selection: Selection, settings: Columns, names: Sequence[str] | None = None
) -> Generator[pa.RecordBatch]:
    """Batches of the features of an input's normal rows.

    Of a table of numbers, what is no number in a CSV file's column of numbers is `NO_NUMBER`, and
    rows with too few or too many cells are passed over: whoever reads the rows says what becomes
    of them.

    Args:
        path: as in `files.open_rows`, of tables.
        selection: which columns are labels and features.
        settings: how columns are read.
        names: features that are wanted; None wants all.

    Raises:
        InputError: if a file can't be read, or a column is not there.
    """
    sources, _ = find_sources(path)
    for source, constants in zip(sources, partition_values(sources), strict=True):
        if not source.path.is_file():
            raise InputError(f"{source.path} does not exist or is no file")
        if source.path.stat().st_size == 0:
            raise InputError(f"{source.path} is empty; allowed: at least 1 row")
        reader = _csv if source.path.name.lower().endswith((".csv", ".csv.gz")) else _parquet
        first = 0
        for batch in reader(source.path, selection, settings, constants, names):
            # The file's own columns come first; a folder's are those that it doesn't have.
            for name, value in constants.items():
                if name not in batch.schema.names and (names is None or name in names):
                    batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
            rows = batch.num_rows
            others = {selection.label_column, *selection.drop_columns, *selection.key_columns}
            features = [
                name
                for name in batch.schema.names
                if name not in others and (names is None or name in names)
            ]
            yield _normal(batch, selection, source.path, first).select(features)
            first += rows


def _normal(batch: pa.RecordBatch, selection: Selection, path: Path, first: int) -> pa.RecordBatch:
    """A batch's normal rows."""
    if selection.label_column is not None:
        schema = Schema(shape=(1,))
        layout = Layout(path=path, features=(), schema=schema, selection=selection)
        is_anomaly = labels_of_batch(batch, layout, first)
        assert is_anomaly is not None
        batch = batch.filter(pa.array(is_anomaly == 0))
    return batch


def _chosen(
    path: Path,
    there: list[str],
    selection: Selection,
    constants: Collection[str],
    names: Sequence[str] | None,
) -> list[str]:
    """The columns to read of those that a file has: wanted features, and the label."""
    added = [name for name in constants if name not in there]
    chosen = set(feature_names(path, [*there, *added], selection))
    if names is not None:
        chosen &= set(names)
    # A reader of no column would tell no rows.
    return [name for name in there if name in chosen or name == selection.label_column] or there[:1]


def _parquet(
    path: Path,
    selection: Selection,
    settings: Columns,
    constants: Collection[str],
    names: Sequence[str] | None,
) -> Generator[pa.RecordBatch]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = _chosen(path, file.schema_arrow.names, selection, constants, names)
            rows = max(1, min(BATCH_ROWS, BATCH_VALUES // max(1, len(columns))))
            yield from file.iter_batches(rows, columns=columns)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, "Parquet", error) from error


def _csv(
    path: Path,
    selection: Selection,
    settings: Columns,
    constants: Collection[str],
    names: Sequence[str] | None,
) -> Generator[pa.RecordBatch]:
    there: list[str] = []
    numbers = settings.kinds == "numbers"
    if numbers:
        selection = dataclasses.replace(selection, bad_cells="null")
    try:
        there, found, block_bytes = csv_columns(path, selection)
        columns = _chosen(path, there, selection, constants, names)
        wanted = {
            name: pa.string()
            if name == selection.label_column
            else _csv_type(dtype, name, settings)
            for name, dtype in zip(there, found, strict=True)
            if name in columns
        }
        parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
        if numbers:
            parse = csv_bad_cells.parse_options(lambda row: "skip")
        with pyarrow.csv.open_csv(
            path,
            pyarrow.csv.ReadOptions(
                block_size=block_bytes, column_names=None if selection.header else there
            ),
            parse,
            pyarrow.csv.ConvertOptions(column_types=wanted, include_columns=columns),
        ) as reader:
            for batch in reader:
                yield _cells(batch, dict(zip(there, found, strict=True))) if numbers else batch
    except InputError:
        raise
    except UNREADABLE as error:
        raise csv_error(path, there, error) from error


def _csv_type(dtype: pa.DataType, name: str, settings: Columns) -> pa.DataType:
    """A type that holds whatever later rows of a column bring."""
    if settings.kinds == "numbers":
        # As it is written: no digit is lost, and no cell is of a wrong type.
        return pa.binary()
    if name in settings.categories or types.is_null(dtype) or cells.is_text(dtype):
        return pa.string()
    return pa.float64() if cells.is_number(dtype) else dtype


def _cells(batch: pa.RecordBatch, found: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Columns that were read as they are written, as what the file's first rows show them to be."""
    read = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.type != pa.binary():  # The label's.
            read[name] = column
            continue
        try:
            text = column.cast(pa.string())
        except pa.ArrowInvalid:  # Not UTF-8.
            text = pa.array([str(cell, "utf-8", "replace") for cell in column.to_pylist()])
        dtype = found[name]
        if types.is_null(dtype) or types.is_boolean(dtype) or cells.is_number(dtype):
            read[name] = _as_numbers(text)
        elif cells.is_text(dtype) or types.is_binary(dtype):
            read[name] = text
        else:
            read[name] = pa.nulls(len(text), dtype)
    return pa.RecordBatch.from_arrays(list(read.values()), list(read))


def _as_numbers(text: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.is_in(text, _NULLS), None, text)
    for dtype in (pa.int64(), pa.float64(), pa.bool_()):
        with contextlib.suppress(pa.ArrowInvalid):
            return text.cast(dtype)
    is_number = pc.match_substring_regex(text, _NUMBER)
    numbers = pc.if_else(is_number, text, None).cast(pa.float64())
    return pc.if_else(pc.or_(is_number, pc.is_null(text)), numbers, NO_NUMBER)

"""The features of a training table's normal rows, batch by batch, as its files hold them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pyarrow.types as types

from aejax.config import Columns, InputError
from aejax.data import arrow_types as cells
from aejax.data import files
from aejax.data.batch_tables import batches_of
from aejax.data.csv_file import CsvFile, csv_file, text_of_bytes
from aejax.data.number_text import is_missing, numbers_of_text
from aejax.data.rows import UNREADABLE, NoRows, Selection, unreadable
from aejax.data.schema import Schema
from aejax.data.sniffing import LEAST_SHARE
from aejax.data.sources import Input, find_sources, format_of, partition_values
from aejax.data.tables import Layout, feature_names, labels_of_batch

BATCH_ROWS, BATCH_VALUES = 1 << 16, 1 << 22
# What stands for a cell of a column of numbers that holds something else.
NO_NUMBER = np.inf
# Of a table of numbers a column is one where that share of cells are numbers.
LEAST_NUMBERS = 0.5
# From the columns that a file has to those that are read.
_Chosen = Callable[[list[str]], list[str]]


def row_labels(path: Input) -> frozenset[str]:
    """Columns that pandas wrote as the index of a frame, by its own notes in a Parquet file."""
    first = find_sources(path)[0][0].path
    if format_of(first) != "parquet":
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
    sources, many = find_sources(path)
    empty: NoRows | None = None
    filled = False
    for source, constants in zip(sources, partition_values(sources), strict=True):
        if not source.path.is_file():
            raise InputError(f"{source.path} does not exist or is no file")
        first = 0
        chosen = functools.partial(_chosen, source.path, selection, constants, names)
        batches = _batches(source.path, selection, settings, chosen)
        while True:
            try:
                batch = next(batches, None)
            except NoRows as error:
                if not many:
                    raise
                empty = empty or error
                break
            if batch is None:
                break
            filled = True
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
    if empty is not None and not filled:
        raise empty


def _batches(
    path: Path, selection: Selection, settings: Columns, chosen: _Chosen
) -> Generator[pa.RecordBatch]:
    if path.stat().st_size == 0:
        raise NoRows(f"{path} is empty; allowed: at least 1 row")
    match format_of(path):
        case "csv":
            yield from _csv(path, selection, settings, chosen)
        case "parquet":
            yield from _parquet(path, chosen)
        case kind:
            there, read = batches_of(path, kind)
            columns = chosen(list(there.names))
            for batch in read():
                yield batch.select(columns)


def settled(path: Input, selection: Selection) -> Selection:
    """A selection that says how the numbers of an input's text are written."""
    return files.settled([source.path for source in find_sources(path)[0]], selection, None)


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
    selection: Selection,
    constants: Collection[str],
    names: Sequence[str] | None,
    there: list[str],
) -> list[str]:
    """The columns to read of those that a file has: wanted features, and the label."""
    added = [name for name in constants if name not in there]
    chosen = set(feature_names(path, [*there, *added], selection))
    if names is not None:
        chosen &= set(names)
    # A reader of no column would tell no rows.
    return [name for name in there if name in chosen or name == selection.label_column] or there[:1]


def _parquet(path: Path, chosen: _Chosen) -> Generator[pa.RecordBatch]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = chosen(file.schema_arrow.names)
            rows = max(1, min(BATCH_ROWS, BATCH_VALUES // max(1, len(columns))))
            yield from file.iter_batches(rows, columns=columns)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, "Parquet", error) from error


def _csv(
    path: Path, selection: Selection, settings: Columns, chosen: _Chosen
) -> Generator[pa.RecordBatch]:
    mixed = settings.kinds == "mixed"
    try:
        file = csv_file(path, selection)
        types = file.types(LEAST_SHARE if mixed else LEAST_NUMBERS, codes=mixed)
        there = list(file.names)
        types_of = dict(zip(there, types, strict=True))
        columns = chosen(there)
        # As it is written: no digit is lost, and no cell is of a wrong type.
        wanted = {
            name: pa.string() if name == selection.label_column else pa.binary() for name in columns
        }
        with file.open(file.convert(wanted, columns), on_broken_row=lambda row: "skip") as reader:
            for batch in reader:
                yield _cells(batch, file, types_of, settings)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, "CSV", error) from error


def _cells(
    batch: pa.RecordBatch, file: CsvFile, types_of: Mapping[str, pa.DataType], settings: Columns
) -> pa.RecordBatch:
    """Columns that were read as they are written, as what the file's first rows show them to be."""
    read = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.type != pa.binary():  # The label's.
            read[name] = column
            continue
        text, dtype = text_of_bytes(column), types_of[name]
        if name in settings.categories:
            read[name] = file.tidy(text)
        elif cells.is_date(dtype) and settings.kinds == "mixed":
            # What zone they have is seen there, where frames' dates that are text come by, too.
            read[name] = file.tidy(text)
        elif cells.is_number(dtype) or types.is_boolean(dtype):
            read[name] = _as_numbers(text, file, types.is_boolean(dtype))
        elif types.is_null(dtype):
            # Nothing in the first rows; the later ones show what it is.
            numbers = _as_numbers(text, file, False)
            none = cells.is_number(numbers.type) and pc.any(pc.is_inf(numbers.cast(pa.float64())))
            read[name] = file.tidy(text) if none and none.as_py() else numbers
        elif cells.is_text(dtype) or types.is_binary(dtype):
            read[name] = file.tidy(text)
        else:
            read[name] = pa.nulls(len(text), dtype)
    return pa.RecordBatch.from_arrays(list(read.values()), list(read))


def _as_numbers(text: pa.Array, file: CsvFile, logical: bool) -> pa.Array:
    """Numbers or booleans, `NO_NUMBER` for a cell that is neither; null where none has a value."""
    trimmed = pc.utf8_trim_whitespace(text)
    trimmed = pc.if_else(is_missing(trimmed, file.missing), None, trimmed)
    if trimmed.null_count == len(trimmed):
        return pa.nulls(len(trimmed))
    if logical:
        with contextlib.suppress(pa.ArrowInvalid):
            return trimmed.cast(pa.bool_())
    numbers, wrong = numbers_of_text(trimmed, file.decimal)
    return pc.if_else(wrong, NO_NUMBER, numbers) if pc.any(wrong).as_py() else numbers

"""Labels by themselves: from a column at hand, or from one column of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aejax.config import InputError, suggest
from aejax.data.rows import NoRows, Selection, check_normal, labels_to_flags, unreadable
from aejax.data.sources import TABLES, Input, find_sources, format_of, partition_values

if TYPE_CHECKING:
    import pyarrow

# Among the columns that a file of labels is read to; no file has one of that name.
_LABEL = "\x1flabel"
# Columns of a table of intervals: the first and last moment of each.
INTERVAL = ("start", "end")


def are_intervals(names: Sequence[str], label: str) -> bool:
    """Whether a table's columns are those of intervals, and not of labels."""
    return label not in names and all(name in names for name in INTERVAL)


def labels_of(column: pyarrow.ChunkedArray, selection: Selection, path: Path) -> np.ndarray:
    """A column's labels as 1 (anomaly) and 0 (normal), int8 [n].

    Args:
        column: of any type.
        selection: its label column and normal label.
        path: where the column is from, for messages.

    Raises:
        InputError: naming the first row whose label is empty or not allowed.
    """
    encoded = column.combine_chunks().dictionary_encode()
    positions = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    name = selection.label_column or "label"
    return labels_to_flags(encoded.dictionary.to_pylist(), positions, selection, path, name, 0)


def labels_in(column: pyarrow.ChunkedArray) -> list[str]:
    """The distinct labels of a column, as text."""
    return [str(value) for value in column.unique().to_pylist()]


def read_labels(
    inputs: Input, selection: Selection, keys: Sequence[str] = ()
) -> tuple[np.ndarray | None, pyarrow.Table]:
    """Labels of CSV, Parquet or one-dimensional npy files, with the keys that go with them.

    Files without the label column that have the columns "start" and "end" hold intervals.

    Args:
        inputs: a file, a folder, a pattern, or several of these.
        selection: the label column, and which label is normal.
        keys: columns that may identify a row.

    Returns:
        int8 [n] with 1 for an anomaly, and a table of n rows: those of the keys that all files
        have, or folders named "day=3" give their rows.

    Raises:
        InputError: if a file can't be read or has no such column, a label is not allowed, or none
            is the normal one.
    """
    import pyarrow as pa

    sources, many = find_sources(inputs)
    constants = partition_values(sources)
    flags, tables = [], []
    for source, values in zip(sources, constants, strict=True):
        try:
            if many and source.path.is_file() and source.path.stat().st_size == 0:
                continue
            table = _read(source.path, selection, keys)
            for name in values:
                if name in keys and name not in table.column_names:
                    table = table.append_column(name, pa.repeat(values[name], len(table)))
            if _LABEL in table.column_names:
                flags.append(labels_of(table[_LABEL], selection, source.path))
        except NoRows:
            if not many:
                raise
            continue
        except (pa.ArrowException, OSError, ValueError, EOFError) as error:
            if isinstance(error, InputError):
                raise
            kind = source.path.suffix[1:] or "a table"
            raise unreadable(source.path, kind, error) from error
        tables.append(table)
    if not tables:
        raise InputError(f"{sources[0].path} and all other files have 0 labels; allowed: 1 a row")
    if not flags:
        return None, one_table(tables)
    if len(flags) < len(tables):
        raise InputError(f"{sources[0].path} and others: some hold labels, some intervals")
    shared = [name for name in keys if all(name in table.column_names for table in tables)]
    every = np.concatenate(flags)
    label = sources[0].path if len(sources) == 1 else f"{len(sources)} files of labels"
    distinct = {text for table in tables for text in labels_in(table[_LABEL])}
    check_normal(every, selection, label, sorted(distinct))
    return every, one_table([table.select(shared) for table in tables])


def one_table(tables: Sequence[pyarrow.Table]) -> pyarrow.Table:
    """Tables with the same columns, one below the other; as text where types differ."""
    import pyarrow as pa

    for name in tables[0].column_names:
        if len({table.schema.field(name).type for table in tables}) > 1:
            tables = [
                table.set_column(
                    table.column_names.index(name), name, table[name].cast(pa.large_string())
                )
                for table in tables
            ]
    return pa.concat_tables(tables)


def _read(path: Path, selection: Selection, keys: Sequence[str]) -> pyarrow.Table:
    """The labels of a file, as column `_LABEL`, and those of the keys that it has."""
    import pyarrow as pa
    import pyarrow.parquet

    from aejax.data.batch_tables import batches_of
    from aejax.data.csv_file import csv_file

    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file")
    name = selection.label_column or "label"
    kind = format_of(path)
    if kind == "npy":
        values = np.load(path, allow_pickle=False)
        if values.ndim != 1:
            raise InputError(
                f"{path} has shape {list(values.shape)}; allowed: one label a row, [n]"
            )
        return pa.table({_LABEL: values})
    if kind == "parquet":
        # Not `read_table`, to which folders named "day=3" are columns, too.
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = _wanted(name, keys, file.schema_arrow.names, path)
            table = file.read(wanted)
    elif kind == "csv":
        text = csv_file(path, selection)
        if not text.text.rows:
            raise NoRows(f"{path} has 0 rows; allowed: at least 1")
        wanted = _wanted(name, keys, text.names, path)
        # As text: what a label looks like in the file is what --normal-label names, and a key's
        # leading zeros are part of it.
        with text.open(text.convert(dict.fromkeys(wanted, pa.string()), wanted)) as reader:
            table = reader.read_all()
    elif kind in TABLES:
        there, batches = batches_of(path, kind)
        wanted = _wanted(name, keys, there.names, path)
        table = pa.Table.from_batches(batches()).select(wanted)
    else:
        raise InputError(f"{path} is of format {kind}; allowed: a table, or .npy")
    kept = {key: table[key] for key in wanted if key != name}
    return pa.table({**kept, _LABEL: table[name]} if name in wanted else kept)


def _wanted(name: str, keys: Sequence[str], names: Sequence[str], path: Path) -> list[str]:
    if name not in names:
        if not are_intervals(names, name):
            raise InputError(f"{path} has no column {name!r}; {suggest(name, names)}")
        return list(dict.fromkeys([*INTERVAL, *(key for key in keys if key in names)]))
    return list(dict.fromkeys([name, *(key for key in keys if key in names)]))

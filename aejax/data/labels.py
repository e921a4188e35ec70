"""Labels by themselves: from a column at hand, or from one column of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aejax.config import InputError, suggest
from aejax.data.rows import Selection, labels_to_flags, unreadable

if TYPE_CHECKING:
    import pyarrow


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


def read_labels(path: Path, selection: Selection) -> np.ndarray:
    """One column of a CSV or Parquet file, or a one-dimensional npy file, as labels: int8 [n].

    Raises:
        InputError: if the file can't be read, or has no such column.
    """
    import pyarrow as pa

    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file")
    name = selection.label_column or "label"
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
            if values.ndim != 1:
                raise InputError(
                    f"{path} has shape {list(values.shape)}; allowed: one label a row, [n]"
                )
            return labels_of(pa.chunked_array([pa.array(values)]), selection, path)
        column = _column(path, name, selection)
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(path, path.suffix[1:] or "a table", error) from error
    return labels_of(column, selection, path)


def _column(path: Path, name: str, selection: Selection) -> pyarrow.ChunkedArray:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if path.suffix == ".parquet":
        found = pyarrow.parquet.read_schema(path).names
        _require(name, found, path)
        return pyarrow.parquet.read_table(path, columns=[name])[name]
    if path.name.endswith((".csv", ".csv.gz")):
        options = pyarrow.csv.ReadOptions(autogenerate_column_names=not selection.header)
        # As text: what a label looks like in the file is what --normal-label names.
        streamed = pyarrow.csv.open_csv(path, read_options=options)
        names = streamed.schema.names
        streamed.close()
        if not selection.header:
            options = pyarrow.csv.ReadOptions(
                column_names=[f"column_{i}" for i in range(len(names))]
            )
            names = list(options.column_names)
        _require(name, names, path)
        table = pyarrow.csv.read_csv(
            path,
            read_options=options,
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=[name], column_types={name: pa.string()}
            ),
        )
        return table[name]
    raise InputError(f"{path} has suffix {path.suffix!r}; allowed: .csv, .csv.gz, .parquet, .npy")


def _require(name: str, found: list[str], path: Path) -> None:
    if name not in found:
        raise InputError(f"{path} has no column {name!r}; {suggest(name, found)}")

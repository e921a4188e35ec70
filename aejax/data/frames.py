"""Data frames as tables of Arrow: of pandas, Polars and PyArrow, without importing any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa

from aejax.config import Columns, InputError
from aejax.data.cells import read_cells
from aejax.data.inference import infer_schema
from aejax.data.schema import Schema, check_once


def as_table(frame: Any, needed: Collection[str] | None = None) -> pa.Table | None:
    """A data frame as an Arrow table; None for what is no data frame.

    Args:
        frame: anything.
        needed: the columns that matter; of others that share a name none is kept. None for all.

    Raises:
        InputError: if a column that matters is there twice, or holds cells of several types.
    """
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    if not hasattr(frame, "columns"):
        return None
    is_arrow = isinstance(frame, pa.Table)
    names = list(map(str, frame.column_names if is_arrow else frame.columns))
    check_once(names, "rows have", needed)
    if len(count := Counter(names)) < len(names):
        once = [at for at, name in enumerate(names) if count[name] == 1]
        frame = frame.select(once) if is_arrow else frame.iloc[:, once]
    if is_arrow:
        return frame
    try:
        if hasattr(frame, "to_arrow"):
            table: pa.Table = frame.to_arrow()
            return table
        if hasattr(frame, "to_numpy"):
            return pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException as error:
        raise InputError(f"rows: {' '.join(str(error).split())[:200]}") from None
    return None


def schema_of_frame(frame: Any, settings: Columns) -> Schema:
    """The schema of a data frame as a mixed table; raises InputError for what is none."""
    table = as_table(frame)
    if table is None:
        raise InputError(
            f"rows are {type(frame).__name__}; "
            "allowed with mixed columns: a data frame of pandas or Polars, or a pyarrow.Table"
        )
    return infer_schema(table.to_batches(), settings, "rows")


def rows_of_frame(frame: Any, schema: Schema) -> np.ndarray:
    """Rows of a mixed table as the device takes them.

    Args:
        frame: a data frame with the schema's columns, or such rows already, float [n, columns].
        schema: of a mixed table.

    Returns:
        float32 [n, columns]; NaN is a missing cell.

    Raises:
        InputError: if a column is missing, or a cell is not of its column's kind.
    """
    assert schema.columns is not None
    assert schema.sources is not None
    table = as_table(frame, schema.sources)
    if table is None:
        return _codes(np.asarray(frame), schema)
    if missing := [name for name in schema.sources if name not in table.column_names]:
        raise InputError(
            f"rows have no column {missing[0]!r}; found: {', '.join(table.column_names)}"
        )
    table = table.select(list(schema.sources)).combine_chunks()
    parts, first = [], 0
    for batch in table.to_batches():

        def place(row: int, first: int = first) -> str:
            return f"row {first + row}"

        parts.append(read_cells(batch, schema.columns, place, None))
        first += batch.num_rows
    return np.concatenate(parts) if parts else np.empty((0, *schema.shape), np.float32)


def _codes(rows: np.ndarray, schema: Schema) -> np.ndarray:
    if rows.dtype.kind not in "biuf" or rows.shape[1:] != schema.shape:
        raise InputError(
            f"rows are {rows.dtype} of shape {list(rows.shape)}; allowed: a data frame, or "
            f"cells as numbers, [rows, {schema.features}]"
        )
    assert schema.columns is not None
    for index, column in enumerate(schema.columns):
        if column.kind not in ("category", "boolean"):
            continue
        most = len(column.categories) or 1
        codes = rows[:, index]
        codes = codes[~np.isnan(codes)] if codes.dtype.kind == "f" else codes
        wrong = codes[~((codes >= 0) & (codes <= most) & (codes == np.floor(codes)))]
        if len(wrong):
            raise InputError(
                f"rows: column {column.name!r} has the code {wrong[0]}; "
                f"allowed: whole numbers from 0 to {most}, or NaN"
            )
    with np.errstate(over="ignore"):
        return rows.astype(np.float32)

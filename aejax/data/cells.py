"""Cells of a mixed table as numbers for the device, float32 [rows, columns]; missing is NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from aejax.config import InputError
from aejax.data.arrow_types import array_of_text, is_number, is_text, note, text_of
from aejax.data.columns import Column
from aejax.data.dates import dates_of, part_of
from aejax.data.number_text import numbers_of_text
from aejax.data.schema import Schema
from aejax.data.sources import Input

_TRUE, _FALSE = array_of_text(["true", "1"]), array_of_text(["false", "0"])
READ_ROWS = 1 << 16


def read_cells(
    batch: pa.RecordBatch,
    columns: Sequence[Column],
    place: Callable[[int], str],
    bad: dict[int, str] | None,
    dtype: str = "float32",
) -> np.ndarray:
    """A batch's cells as numbers.

    Args:
        batch: has all the columns' sources.
        columns: what each is.
        place: says where a row of the batch is from, for messages.
        bad: takes what is wrong, by row, instead of it being refused; the cell is NaN then.
        dtype: of the numbers: "float32" or "float64".

    Returns:
        [n, columns] of that type.

    Raises:
        InputError: at the first cell that is not of its column's kind, where `bad` is None.
    """
    wrong: dict[int, str] = {}
    x = np.empty((batch.num_rows, len(columns)), dtype)
    dates: dict[str, pa.Array] = {}
    for index, column in enumerate(columns):
        cells = batch.column(column.source)
        if isinstance(cells, pa.ChunkedArray):
            cells = cells.combine_chunks()
        with np.errstate(over="ignore"):
            if column.part is not None:
                if column.source not in dates:
                    dates[column.source] = dates_of(cells, column, wrong)
                x[:, index] = part_of(dates[column.source], column.part)
            elif column.kind == "category":
                x[:, index] = _codes(cells, column)
            elif column.kind == "boolean":
                x[:, index] = _booleans(cells, column.source, wrong)
            else:
                x[:, index] = _numbers(cells, column.source, wrong)
    if wrong and bad is None:
        row = min(wrong)
        raise InputError(f"{place(row)}: {wrong[row]}")
    if bad is not None:
        for row, what in wrong.items():
            bad.setdefault(row, what)
    return x


def _floats(cells: pa.Array) -> np.ndarray:
    values: np.ndarray = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _codes(cells: pa.Array, column: Column) -> np.ndarray:
    text = text_of(cells)
    codes = pc.index_in(text, value_set=pa.array(column.categories, pa.string()))
    known = _floats(codes.fill_null(len(column.categories)))
    return np.where(text.is_null().to_numpy(zero_copy_only=False), np.nan, known)


def _booleans(cells: pa.Array, name: str, wrong: dict[int, str]) -> np.ndarray:
    if types.is_boolean(cells.type):
        return _floats(cells)
    text = text_of(cells) if not types.is_null(cells.type) else cells.cast(pa.string())
    lower = pc.utf8_lower(text)
    true, false = pc.is_in(lower, _TRUE), pc.is_in(lower, _FALSE)
    note(text, pc.invert(pc.or_(true, false)), name, "not true or false", wrong)
    return _floats(pc.if_else(true, 1.0, pc.if_else(false, 0.0, None)))


def _numbers(cells: pa.Array, name: str, wrong: dict[int, str]) -> np.ndarray:
    if not is_text(cells.type):
        if not (is_number(cells.type) or types.is_boolean(cells.type) or types.is_null(cells.type)):
            raise InputError(f"column {name!r} is of type {cells.type}; allowed: numbers")
        return _floats(cells)
    text = text_of(cells)
    numbers, none = numbers_of_text(text)
    note(text, none, name, "not a number", wrong)
    return _floats(numbers)


def check_cells(x: np.ndarray, schema: Schema, path: Input) -> None:
    """Refuse rows of a mixed table with an infinite number or without any cell.

    Args:
        x: rows, float32 [n, columns]; NaN is a missing cell.
        schema: of a mixed table.
        path: what the rows are from, for the message.
    """
    for start in range(0, len(x), READ_ROWS):
        rows = x[start : start + READ_ROWS]
        if (infinite := np.isinf(rows)).any():
            row, feature = np.unravel_index(int(np.argmax(infinite)), rows.shape)
            raise InputError(
                f"{path}: row {start + int(row)}, {schema.feature_name(int(feature))!r} is "
                f"{rows[row, feature]}; allowed: numbers within float32's range, or none"
            )
        if (empty := np.isnan(rows).all(axis=1)).any():
            raise InputError(
                f"{path}: row {start + int(np.argmax(empty))} has no value in any column; "
                "allowed: at least 1"
            )


def with_values(x: np.ndarray, schema: Schema) -> np.ndarray:
    """The rows that have a value in some column: the others say nothing to learn from.

    Args:
        x: rows, [n, ...].
        schema: of the rows; those that are not of a mixed table are all kept.
    """
    if schema.columns is None:
        return x
    kept = ~np.isnan(x).all(axis=1)
    return x if kept.all() else x[kept]

"""Cells of a mixed table as numbers for the device, float32 [rows, columns]; missing is NaN."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from aejax.config import InputError
from aejax.config.columns import DatePart
from aejax.data.blocks import Wrong
from aejax.data.columns import Column

_SHOWN = 40
_TRUE, _FALSE = pa.array(["true", "1"]), pa.array(["false", "0"])


def is_text(dtype: pa.DataType) -> bool:
    """Whether cells are text, written out or looked up in a dictionary."""
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_dictionary)
    return any(test(dtype) for test in tests)


def is_number(dtype: pa.DataType) -> bool:
    """Whether cells are numbers."""
    return bool(types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype))


def is_date(dtype: pa.DataType) -> bool:
    """Whether cells are dates, with or without a time of day."""
    return bool(types.is_date(dtype) or types.is_timestamp(dtype))


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
                    dates[column.source] = _dates(cells, column, wrong)
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


def text_of(cells: pa.Array) -> pa.Array:
    """Cells as text, null where missing; whole numbers without a point, whatever their type."""
    dtype = cells.type
    if types.is_dictionary(dtype):
        cells = cells.cast(dtype.value_type)
    if types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), None, cells)
        with contextlib.suppress(pa.ArrowInvalid):
            cells = cells.cast(pa.int64())
    cells = cells.cast(pa.string())
    # A CSV file has no other way to say that a cell of text is missing.
    return pc.if_else(pc.equal(cells, ""), None, cells)


def part_of(dates: pa.Array, part: DatePart) -> np.ndarray:
    """One part of every date, float64 [n]: hours with their fraction, Monday 0, January 1."""
    match part:
        case "hour":
            minutes = pc.add(pc.multiply(pc.hour(dates), 60), pc.minute(dates))
            value = pc.divide(pc.cast(minutes, pa.float64()), 60.0)
        case "weekday":
            value = pc.day_of_week(dates)
        case "month":
            value = pc.month(dates)
    return _floats(value)


def days_of(cells: pa.Array, column: Column) -> np.ndarray:
    """The different days of dates, int64 [n] counted from 1970, in the column's time zone."""
    dates = _dates(cells.drop_null(), column, {})
    days = pc.floor_temporal(dates, unit="day").cast(pa.date32()).cast(pa.int32())
    return days.unique().drop_null().cast(pa.int64()).to_numpy(zero_copy_only=False)


def _floats(cells: pa.Array) -> np.ndarray:
    found: np.ndarray = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found


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
    _note(text, pc.invert(pc.or_(true, false)), name, "not true or false", wrong)
    return _floats(pc.if_else(true, 1.0, pc.if_else(false, 0.0, None)))


def _numbers(cells: pa.Array, name: str, wrong: dict[int, str]) -> np.ndarray:
    if not is_text(cells.type):
        if not (is_number(cells.type) or types.is_boolean(cells.type) or types.is_null(cells.type)):
            raise InputError(f"column {name!r} is of type {cells.type}; allowed: numbers")
        return _floats(cells)
    text = text_of(cells)
    try:
        return _floats(text.cast(pa.float64()))
    except pa.ArrowInvalid:
        values = [_number(cell) for cell in text.to_pylist()]
    _note(text, pa.array([value is None for value in values]), name, "not a number", wrong)
    return np.array([np.nan if value is None else value for value in values])


def _number(cell: str | None) -> float | None:
    """A cell's number, NaN where it is missing; None where it is none."""
    if cell is None:
        return np.nan
    try:
        # Python takes 1_000 for a number; nobody else does.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def zone_of(dtype: pa.DataType) -> str:
    """The time zone of a column of dates; "" where it has none."""
    return (types.is_timestamp(dtype) and dtype.tz) or ""


def _dates(cells: pa.Array, column: Column, wrong: dict[int, str]) -> pa.Array:
    """Cells as timestamps without a zone: the time of day in the column's.

    An instant is one whatever zone it is written in; a time of day without one isn't an instant,
    and so neither is taken for the other.
    """
    name, zone = column.source, column.zone
    if types.is_null(cells.type):
        return cells.cast(pa.timestamp("us"))
    if is_text(cells.type):
        cells = _dates_of_text(text_of(cells), name, zone, wrong)
    elif not is_date(cells.type):
        raise InputError(f"column {name!r} is of type {cells.type}; allowed: dates")
    elif bool(own := zone_of(cells.type)) != bool(zone):
        raise InputError(
            f"column {name!r} has {f'the time zone {own}' if own else 'no time zone'}; "
            f"allowed: {f'one (of training: {zone})' if zone else 'none'}, as in training"
        )
    if not zone:
        return cells.cast(pa.timestamp("s")) if types.is_date(cells.type) else cells
    try:
        return pc.local_timestamp(cells.cast(pa.timestamp(cells.type.unit, zone)))
    except pa.ArrowInvalid as error:  # A machine may lack a database of zones.
        raise InputError(f"column {name!r}: {' '.join(str(error).split())[:200]}") from None


def _dates_of_text(text: pa.Array, name: str, zone: str, wrong: dict[int, str]) -> pa.Array:
    """Timestamps, with a zone if the column has one."""
    dtype = pa.timestamp("us", zone or None)
    try:
        return text.cast(dtype)
    except pa.ArrowInvalid:
        values = [_date(cell) for cell in text.to_pylist()]
    none = pa.array([value is False for value in values])
    _note(text, none, name, "not a date", wrong)
    other = [value and (value.tzinfo is None) == bool(zone) for value in values]
    said = f"{'without' if zone else 'with'} a time zone, unlike training"
    _note(text, pa.array(map(bool, other)), name, said, wrong)
    kept = [None if odd else value or None for value, odd in zip(values, other, strict=True)]
    return pa.array(kept, dtype)


def _date(cell: str | None) -> datetime.datetime | Literal[False] | None:
    """A cell's date and time, None where it is missing, False where it is none."""
    if cell is None:
        return None
    try:
        return datetime.datetime.fromisoformat(cell)
    except ValueError:
        return False


def _note(text: pa.Array, is_wrong: pa.Array, name: str, what: str, wrong: dict[int, str]) -> None:
    chosen = pc.and_(is_wrong, text.is_valid()).fill_null(False).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(chosen).tolist():
        cell = text[row].as_py()[:_SHOWN]
        wrong.setdefault(row, Wrong(f"{name} is {cell!r}, {what}", f"{name} is {what}"))

"""What a column's type says of its cells, and cells as text."""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from aejax.data.blocks import Wrong

_SHOWN = 40


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


def zone_of(dtype: pa.DataType) -> str:
    """The time zone of a column of dates; "" where it has none."""
    return (types.is_timestamp(dtype) and dtype.tz) or ""


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


def note(text: pa.Array, is_wrong: pa.Array, name: str, what: str, wrong: dict[int, str]) -> None:
    """Put down what is wrong with rows that have no remark yet.

    Args:
        text: cells.
        is_wrong: which of them are.
        name: of the column.
        what: it is.
        wrong: takes the remarks, by row.
    """
    marked = pc.and_(is_wrong, text.is_valid()).fill_null(False).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(marked):
        cell = text[int(row)].as_py()[:_SHOWN]
        wrong.setdefault(int(row), Wrong(f"{name} is {cell!r}, {what}", f"{name} is {what}"))

"""What a column's type says of its cells, and cells as text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from aejax.data.blocks import Wrong

_SHOWN = 40


def array_of(x: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """NumPy's numbers as an Arrow array of their type, null where they are missing.

    `pa.array` asks pandas whether what it is given is of pandas, and imports it where it is
    installed: a good part of what a process takes to start that has no use for it.

    Args:
        x: numbers or bool, [n].
        missing: bool [n]; None says that none is.
    """
    kind = pa.from_numpy_dtype(x.dtype)
    values = np.packbits(x, bitorder="little") if x.dtype == bool else np.ascontiguousarray(x)
    valid = None
    if missing is not None and missing.any():
        valid = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(kind, len(x), [valid, pa.py_buffer(values)])


def floats_of(array: pa.Array, dtype: Any) -> np.ndarray:
    """An Arrow array of that floating type as NumPy's, NaN for nulls: [n]; not to be written to.

    Its own memory where none is null; without `to_numpy`, see `array_of`.
    """
    valid, values = array.buffers()
    if not len(array):
        return np.empty(0, dtype)
    size = np.dtype(dtype).itemsize
    numbers = np.frombuffer(values, dtype, len(array), array.offset * size)
    if not array.null_count:
        return numbers
    end = array.offset + len(array)
    bits = np.frombuffer(valid, np.uint8, -(-end // 8))
    there = np.unpackbits(bits, count=end, bitorder="little")[array.offset :]
    return np.where(there.view(bool), numbers, np.array(np.nan, dtype))


def array_of_text(cells: Iterable[str]) -> pa.Array:
    """Text as an Arrow array; without `pa.array`, see `array_of`."""
    written = [cell.encode("utf-8", "surrogatepass") for cell in cells]
    ends = np.cumsum([0, *map(len, written)]).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(written), pa.py_buffer(ends), pa.py_buffer(b"".join(written))
    )


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

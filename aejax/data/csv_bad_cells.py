"""Rows of a CSV file that has bad cells: all cells are read as text, then made numbers if they are.

Arrow gives up on a whole block for one cell that is no number, and on the file for one row
with too few cells. Here such a row keeps its place, with NaN and what is wrong with it.
"""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.types

from aejax.data.blocks import Block, Wrong
from aejax.data.tables import Layout, to_block

_SHOWN = 40
_DEFAULTS = pyarrow.csv.ConvertOptions()
# A thread of Arrow's may let go of a handler after its reader is closed, and aborts the process
# where Python has ended by then. So the last ones stay here, and this stays for ever.
_KEPT: deque[pyarrow.csv.ParseOptions] = deque(maxlen=64)
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_KEPT))


def parse_options(invalid_row_handler: Callable[[Any], str]) -> pyarrow.csv.ParseOptions:
    """How to parse a file, with a function for rows that have too few or too many cells."""
    options = pyarrow.csv.ParseOptions(
        newlines_in_values=True, invalid_row_handler=invalid_row_handler
    )
    _KEPT.append(options)
    return options


def blocks(
    layout: Layout,
    names: Sequence[str],
    numbers: Mapping[str, pa.DataType],
    texts: Set[str],
    block_bytes: int,
    start: int,
) -> Iterator[Block]:
    """The file's rows from `start`, and an empty block that tells how many there are.

    Args:
        layout: what is read of the file.
        names: its columns in order.
        numbers: the type of each column that holds features.
        texts: the other columns.
        block_bytes: bytes to parse at a time.
        start: the first row wanted.
    """
    header = layout.selection.header
    broken: deque[tuple[int, str]] = deque()

    def note(row: Any) -> str:
        what = f"it has {row.actual_columns} cells, allowed: {row.expected_columns}"
        kind = f"the row does not have {row.expected_columns} cells"
        broken.append((row.number - 1 - header, Wrong(what, kind)))
        return "skip"

    reader = pyarrow.csv.open_csv(
        layout.path,
        # Rows are numbered on one thread only.
        pyarrow.csv.ReadOptions(
            use_threads=False, block_size=block_bytes, column_names=None if header else names
        ),
        parse_options(note),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys([*numbers, *texts], pa.string()),
            include_columns=layout.columns,
        ),
    )
    row = 0

    def passed(count: int) -> tuple[int, int]:
        """How many of the next `count` rows lie before `start`, and the row of the first kept."""
        skipped = min(max(start - row, 0), count)
        return skipped, row + skipped

    with reader:
        for batch in reader:
            while batch.num_rows or (broken and broken[0][0] == row):
                if broken and broken[0][0] == row:
                    what = broken.popleft()[1]
                    if row >= start:
                        yield _broken_row(layout, batch.schema, numbers, row, what)
                    row += 1
                    continue
                until = broken[0][0] - row if broken else batch.num_rows
                piece = batch.slice(0, until)
                batch = batch.slice(piece.num_rows)
                skipped, first = passed(piece.num_rows)
                if skipped < piece.num_rows:
                    yield _numbers(piece.slice(skipped), layout, numbers, first)
                row += piece.num_rows
        while broken:
            what = broken.popleft()[1]
            if row >= start:
                yield _broken_row(layout, reader.schema, numbers, row, what)
            row += 1
    yield end_of(layout, row)


def end_of(layout: Layout, rows: int) -> Block:
    """The empty block that says how many rows a file had."""
    return Block(
        first_row=rows,
        x=np.empty((0, *layout.schema.shape), layout.schema.dtype),
        y=None,
        keys=None,
    )


def holds_numbers(column: pa.Array) -> bool:
    """Whether a column of text is one of numbers with a bad cell: at least one is a number."""
    if not pyarrow.types.is_string(column.type):
        return False
    return any(not math.isnan(_number(cell)) for cell in column.to_pylist() if cell)


def _numbers(
    batch: pa.RecordBatch, layout: Layout, numbers: Mapping[str, pa.DataType], first_row: int
) -> Block:
    bad: dict[int, str] = {}
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in numbers:
            column = _as_numbers(name, column, pyarrow.types.is_boolean(numbers[name]), bad)
        columns.append(column)
    return to_block(
        pa.record_batch(columns, names=batch.schema.names), layout, first_row, dict(bad)
    )


def _as_numbers(name: str, column: pa.Array, logical: bool, bad: dict[int, str]) -> pa.Array:
    cells = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(cells, pa.array(_DEFAULTS.null_values))
    cells = pc.if_else(missing, None, cells)
    if logical:
        true, false = (
            pc.is_in(cells, pa.array(words))
            for words in (_DEFAULTS.true_values, _DEFAULTS.false_values)
        )
        known = pc.if_else(true, 1.0, pc.if_else(false, 0.0, None))
        wrong = np.flatnonzero(pc.and_(known.is_null(), cells.is_valid()).to_numpy(False))
    else:
        try:
            return cells.cast(pa.float64())
        except pa.ArrowInvalid:
            values = [_number(cell) if cell is not None else None for cell in cells.to_pylist()]
            known = pa.array(values, pa.float64())
            spelled = pc.is_in(pc.utf8_lower(cells), pa.array(["nan", "-nan", "+nan"]))
            wrong = np.flatnonzero(
                pc.and_(pc.is_nan(known), pc.invert(spelled)).fill_null(False).to_numpy(False)
            )
    what = "not true or false" if logical else "not a number"
    for row in wrong:
        cell = cells[int(row)].as_py()[:_SHOWN]
        bad.setdefault(int(row), Wrong(f"{name} is {cell!r}, {what}", f"{name} is {what}"))
    return known


def _number(cell: str) -> float:
    # Python takes 1_000 for a number; nobody else does.
    try:
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


def _broken_row(
    layout: Layout, schema: pa.Schema, numbers: Mapping[str, pa.DataType], row: int, what: str
) -> Block:
    cells = [pa.nulls(1, pa.float64() if field.name in numbers else field.type) for field in schema]
    return to_block(pa.record_batch(cells, names=schema.names), layout, row, {0: what})

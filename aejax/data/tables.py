"""What the readers of CSV and Parquet share: columns are chosen by name, batches become blocks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types

from aejax.config import InputError, suggest
from aejax.data.blocks import Block
from aejax.data.cells import read_cells
from aejax.data.rows import Selection, cast_rows, labels_to_flags
from aejax.data.schema import Schema, check_once

NAMED_AT_MOST = 10
# Rows and columns of a square of values that is turned from columns to rows in the cache.
TURNED_ROWS, TURNED_COLUMNS = 128, 256
BUFFER_VALUES = 1 << 19
NO_CONSTANTS: Mapping[str, pa.Scalar] = MappingProxyType({})
# The row labels that pandas writes beside a table's own columns.
PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Which columns of a table are read, and as what."""

    path: Path
    features: tuple[str, ...]
    schema: Schema
    selection: Selection
    constants: Mapping[str, pa.Scalar] = dataclasses.field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Every column that is read from the file, once."""
        label = self.selection.label_column
        others = [*self.selection.key_columns, *([] if label is None else [label])]
        wanted = dict.fromkeys([*self.features, *others])
        return [name for name in wanted if name not in self.constants]

    @property
    def numbers(self) -> tuple[str, ...]:
        """The features that hold numbers or booleans; of a mixed table others are read as text."""
        if self.schema.columns is None:
            return self.features
        kept = {c.source for c in self.schema.columns if c.part is None and c.kind != "category"}
        return tuple(name for name in self.features if name in kept)


def choose_columns(
    path: Path,
    names: Sequence[str],
    found_types: Sequence[pa.DataType],
    selection: Selection,
    expected: Schema | None,
    constants: Mapping[str, pa.Scalar] = NO_CONSTANTS,
) -> Layout:
    """Choose the columns of a table.

    Args:
        path: the file, for messages.
        names: its columns in order.
        found_types: the type of each column.
        selection: which columns are labels, keys and features.
        expected: the rows that a detector was trained on, or None.
        constants: columns that the file's folder gives every row; the file's own come first.

    Raises:
        InputError: if a column is missing, there twice or not numeric, or no feature is left.
    """
    check_once(names, f"{path} has")
    constants = {name: value for name, value in constants.items() if name not in names}
    types = dict(zip(names, found_types, strict=True))
    types |= {name: value.type for name, value in constants.items()}
    names = list(types)
    label = selection.label_column
    chosen = {
        "label_column": () if label is None else (label,),
        "drop_columns": selection.drop_columns,
    }
    for field, columns in {**chosen, "key_columns": selection.key_columns}.items():
        for column in columns:
            if column not in types:
                raise InputError(
                    f"{path} has no column {column!r} ({field}); {suggest(column, names)}"
                )
    if expected is not None and expected.sources is not None:
        if missing := [name for name in expected.sources if name not in types]:
            more = (
                f" and {len(missing) - NAMED_AT_MOST} more" if len(missing) > NAMED_AT_MOST else ""
            )
            listed = ", ".join(map(repr, missing[:NAMED_AT_MOST]))
            raise InputError(
                f"{path} lacks the column(s) {listed}{more}; "
                "allowed: every column of the training rows"
            )
        features = expected.sources
    else:
        others = {label, *selection.drop_columns, *selection.key_columns}
        features = tuple(
            name for name in names if name not in others and not PANDAS_INDEX.fullmatch(name)
        )
    if not features:
        raise InputError(
            f"{path} has 0 feature columns of {len(names)} columns; allowed: at least 1"
        )
    mixed = expected is not None and expected.columns is not None
    if expected is not None and not mixed and len(features) != expected.features:
        raise InputError(
            f"{path} has {len(features)} feature columns; allowed: {expected.features}"
        )
    for name in () if mixed else features:
        if not _is_numeric(types[name]):
            raise InputError(
                f"{path}: column {name!r} is of type {types[name]}; "
                f"allowed: numbers, or --drop-columns {name}"
                + ("" if expected is not None else ", or aejax train --columns.kinds mixed")
            )
    schema = expected or Schema(shape=(len(features),), names=features, kind="table")
    return Layout(
        path=path, features=features, schema=schema, selection=selection, constants=constants
    )


def _is_numeric(dtype: pa.DataType) -> bool:
    kinds = pyarrow.types
    tests = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal, kinds.is_null)
    return any(test(dtype) for test in tests)


def to_block(
    batch: pa.RecordBatch, layout: Layout, first_row: int, bad: dict[int, str] | None = None
) -> Block:
    """The rows of a record batch that has all of the layout's columns.

    Args:
        batch: from the file.
        layout: what is wanted of it.
        first_row: the file's row of the batch's first.
        bad: what is already known to be wrong with rows, by position.
    """
    bad = {} if bad is None else bad
    for name, value in layout.constants.items():
        batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
    noted = bad if layout.selection.bad_cells == "null" else None
    if layout.schema.columns is None:
        x = cast_rows(
            _numbers(batch, layout.features), layout.schema, layout.path, first_row, noted
        )
    else:

        def place(row: int) -> str:
            return f"{layout.path}: row {first_row + row}"

        x = read_cells(batch, layout.schema.columns, place, noted)
    return Block(
        first_row=first_row,
        x=x,
        y=labels_of_batch(batch, layout, first_row),
        keys=_keys(batch, layout.selection.key_columns),
        bad=bad,
    )


def _numbers(batch: pa.RecordBatch, features: Sequence[str]) -> np.ndarray:
    """The features as float32 [n, features], NaN for nulls."""
    rows = batch.num_rows
    columns = []
    for name in features:
        column = batch.column(name)
        if column.type != pa.float32():
            column = column.cast(pa.float32(), safe=False)
        columns.append(column.to_numpy(zero_copy_only=False))
    # Through a buffer that stays in the cache, and turned square by square there: otherwise
    # every value would be fetched from memory by itself.
    x = np.empty((rows, len(features)), np.float32)
    step = min(rows, max(TURNED_ROWS, BUFFER_VALUES // len(features)))
    buffer = np.empty((len(features), step), np.float32)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        for index, column in enumerate(columns):
            buffer[index, :count] = column[start : start + count]
        for row in range(0, count, TURNED_ROWS):
            stop = min(row + TURNED_ROWS, count)
            for first in range(0, len(features), TURNED_COLUMNS):
                square = buffer[first : first + TURNED_COLUMNS, row:stop]
                x[start + row : start + stop, first : first + TURNED_COLUMNS] = square.T
    return x


def _keys(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.Table | None:
    return pa.Table.from_batches([batch.select(list(columns))]) if columns else None


def labels_of_batch(batch: pa.RecordBatch, layout: Layout, first_row: int) -> np.ndarray | None:
    """Labels of a batch's rows, int8 [n] with 1 for an anomaly; None where there are none."""
    column = layout.selection.label_column
    if column is None:
        return None
    values: Any = batch.column(column)
    encoded = values if pyarrow.types.is_dictionary(values.type) else values.dictionary_encode()
    positions = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used, positions = np.unique(positions, return_inverse=True)
    distinct = encoded.dictionary.to_pylist()
    present = [distinct[index] for index in used if index >= 0]
    # np.unique sorts, so an empty cell's -1 is at the front and stays -1 after this shift.
    return labels_to_flags(
        present, positions - int(used[0] < 0), layout.selection, layout.path, column, first_row
    )

"""What the readers of CSV and Parquet share: columns are chosen by name, batches become blocks."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.types

from aejax.config import InputError, suggest
from aejax.data.arrow_types import floats_of, is_date, is_number, is_text
from aejax.data.blocks import Block
from aejax.data.cells import read_cells
from aejax.data.offsets import is_wide
from aejax.data.rows import Selection, cast_rows, labels_to_flags
from aejax.data.schema import Schema, check_once

NAMED_AT_MOST = 10
# Rows and columns of a square of values that is turned from columns to rows in the cache.
TURNED_ROWS, TURNED_COLUMNS = 128, 256
BUFFER_VALUES = 1 << 19
NO_CONSTANTS: Mapping[str, pa.Scalar] = MappingProxyType({})
# The row labels that pandas writes beside a table's own columns.
PANDAS_INDEX = re.compile(r"__index_level_\d+__")


Advice = Literal["none", "drop", "mixed", "frame"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Which columns of a table are read, and as what."""

    path: Path
    features: tuple[str, ...]
    schema: Schema
    selection: Selection
    constants: Mapping[str, pa.Scalar] = dataclasses.field(default_factory=dict)
    by_column: bool = False

    def in_columns(self) -> Layout | None:
        """The same for blocks that lie in memory column by column; None of other than numbers."""
        numbers = self.schema.columns is None and len(self.schema.shape) == 1
        if not numbers or self.schema.dtype != "float32":
            return None
        return dataclasses.replace(self, by_column=True)

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
    constants = {name: value for name, value in constants.items() if name not in names}
    features = feature_names(path, [*names, *constants], selection)
    types = dict(zip(names, found_types, strict=True))
    types |= {name: value.type for name, value in constants.items()}
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
    if not features:
        raise InputError(
            f"{path} has 0 feature columns of {len(types)} columns; allowed: at least 1"
        )
    mixed = expected is not None and expected.columns is not None
    if expected is not None and not mixed and len(features) != expected.features:
        raise InputError(
            f"{path} has {len(features)} feature columns; allowed: {expected.features}"
        )
    if not mixed and (wrong := {n: types[n] for n in features if not is_numeric(types[n])}):
        advice: Advice = "none" if expected is not None else "mixed"
        raise no_numbers(path, wrong, advice)
    schema = expected or Schema(
        shape=(len(features),),
        names=features,
        kind="table",
        decimal=selection.dialect.decimal or ".",
    )
    return Layout(
        path=path, features=features, schema=schema, selection=selection, constants=constants
    )


def feature_names(path: Path, names: Sequence[str], selection: Selection) -> tuple[str, ...]:
    """The columns of a table that a selection leaves as features.

    Raises:
        InputError: if a name is there twice, or a selected column is not there.
    """
    check_once(names, f"{path} has")
    label = selection.label_column
    chosen = {
        "label_column": () if label is None else (label,),
        "drop_columns": selection.drop_columns,
        "key_columns": selection.key_columns,
    }
    for field, columns in chosen.items():
        for column in columns:
            if column not in names:
                raise InputError(
                    f"{path} has no column {column!r} ({field}); {suggest(column, names)}"
                )
    others = {column for columns in chosen.values() for column in columns}
    return tuple(name for name in names if name not in others and not PANDAS_INDEX.fullmatch(name))


def no_numbers(where: object, wrong: Mapping[str, pa.DataType], advice: Advice) -> InputError:
    """The error for all columns of a table that hold something else than numbers.

    Args:
        where: they are.
        wrong: their names and types.
        advice: what a person can do about it: nothing ("none"), leave columns out ("drop"), or
            that and read the table as a mixed one, where it takes them, at the shell ("mixed") or
            in Python ("frame").
    """
    few = list(wrong.items())[:NAMED_AT_MOST]
    if len(wrong) == 1:
        said = f"{where}: column {few[0][0]!r} is of type {few[0][1]}; allowed: numbers"
    else:
        shown = ", ".join(f"{name!r} ({dtype})" for name, dtype in few)
        more = f" and {len(wrong) - len(few)} more" if len(wrong) > len(few) else ""
        said = f"{where}: columns {shown}{more} are no numbers; allowed: numbers"
    others = [name for name, dtype in wrong.items() if not is_mixed(dtype)]
    mixed = advice in ("mixed", "frame") and len(others) < len(wrong)
    if advice == "frame":
        said += f", or a frame without {', '.join(map(repr, wrong))}"
        said += ", or Config.columns = Columns(kinds='mixed')" if mixed else ""
        said += f" without {', '.join(map(repr, others))}" if mixed and others else ""
    elif advice != "none":
        said += f", or --drop-columns {shlex.join(wrong)}"
        said += ", or aejax train --columns.kinds mixed" if mixed else ""
        said += f" --drop-columns {shlex.join(others)}" if mixed and others else ""
    dates = [name for name, dtype in wrong.items() if is_date(dtype)]
    if len(dates) == 1 and len(wrong) == 1 and advice != "none":
        flag = "Config.window = Window(time=" if advice == "frame" else "--time-column "
        end = f"{dates[0]!r})" if advice == "frame" else shlex.quote(dates[0])
        said += f", or {flag}{end} of a series"
    return InputError(said)


def is_mixed(dtype: pa.DataType) -> bool:
    """Whether a mixed table may have such cells."""
    tests = (is_text, is_date, is_number, pyarrow.types.is_boolean, pyarrow.types.is_null)
    return any(test(dtype) for test in tests)


def is_numeric(dtype: pa.DataType) -> bool:
    """Whether a column can be taken for one of numbers: booleans and nothing at all can, too."""
    kinds = pyarrow.types
    tests = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal, kinds.is_null)
    return any(test(dtype) for test in tests)


def fits_float32(dtype: pa.DataType) -> bool:
    """Whether float32 holds every number of a type."""
    if pyarrow.types.is_integer(dtype) or pyarrow.types.is_floating(dtype):
        return not is_wide(np.dtype(dtype.to_pandas_dtype()))
    return not pyarrow.types.is_decimal(dtype)


def read_in_columns(
    chunks: Callable[[int, int, Layout], Iterator[Block]], layout: Layout
) -> Callable[[int, int], Iterator[Block]] | None:
    """A reader of blocks that lie in memory column by column, see `Part.columns`."""
    columns = layout.in_columns()
    return None if columns is None else lambda start, size: chunks(start, size, columns)


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
        dtype = np.float64 if layout.schema.dtype == "float64" else np.float32
        x = numbers_of(batch, layout.features, dtype, by_column=layout.by_column)
        x = cast_rows(x, layout.schema, layout.path, first_row, noted)
    else:

        def place(row: int) -> str:
            return f"{layout.path}: row {first_row + row}"

        x = read_cells(batch, layout.schema.columns, place, noted, layout.schema.dtype)
        x = cast_rows(x, layout.schema, layout.path, first_row)
    return Block(
        first_row=first_row,
        x=x,
        y=labels_of_batch(batch, layout, first_row),
        keys=_keys(batch, layout.selection.key_columns),
        bad=bad,
        by_column=layout.by_column,
    )


def numbers_of(
    batch: pa.RecordBatch, features: Sequence[str], dtype: Any, *, by_column: bool = False
) -> np.ndarray:
    """Columns of numbers as rows [n, features] of float32 or float64, NaN for nulls.

    Args:
        batch: that has them.
        features: their names.
        dtype: float32 or float64.
        by_column: whether to leave them in memory one after the other, in Arrow's memory, which
            is aligned and used again: fresh memory can take longer than what is written there.
    """
    rows, wanted = batch.num_rows, pa.from_numpy_dtype(dtype)
    cells = []
    for name in features:
        column = batch.column(name)
        cells.append(column if column.type == wanted else column.cast(wanted, safe=False))
    if by_column:
        numbers = pa.RecordBatch.from_arrays(cells, list(features))
        turned: np.ndarray = numbers.to_tensor(null_to_nan=True, row_major=False).to_numpy()
        return turned
    columns = [floats_of(column, dtype) for column in cells]
    # Through a buffer that stays in the cache, and turned square by square there: otherwise
    # every value would be fetched from memory by itself.
    x = np.empty((rows, len(features)), dtype)
    step = min(rows, max(TURNED_ROWS, BUFFER_VALUES // len(features)))
    buffer = np.empty((len(features), step), dtype)
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

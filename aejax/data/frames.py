"""Whatever has named columns: data frames, Arrow tables and streams, dicts, structured arrays.

The one place where these become rows: columns are taken by name, and converted one by one as
those of files are. pandas, Polars and others are known by what they offer; none is imported.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Columns, InputError
from aejax.data.column_checks import check_array
from aejax.data.schema import Schema, check_once

if TYPE_CHECKING:
    import pyarrow as pa

# What Arrow raises for cells of different types: of its own, and of Python's.
_NO_ONE_TYPE = (TypeError, ValueError, OverflowError, NotImplementedError)
_TABLES = "a data frame of pandas or Polars, or a pyarrow.Table"


def as_table(
    x: Any, needed: Collection[str] | None = None, bad: dict[int, str] | None = None
) -> pa.Table | None:
    """A table with named columns as an Arrow table; None for what has no names.

    A stream is read to its end.

    Args:
        x: anything.
        needed: the columns that matter, of which none may be there twice; None for all.
        bad: takes which rows hold something else among a column's numbers; without it such a
            column is one of text.

    Raises:
        InputError: if a column that matters is there twice, one can't be converted, or columns
            have to be computed first.
    """
    table = _as_arrow(x, needed, bad)
    if table is not None:
        check_once(table.column_names, "rows have", needed)
    return table


def _as_arrow(
    x: Any, needed: Collection[str] | None, bad: dict[int, str] | None
) -> pa.Table | None:
    # Asked of the type: an attribute of a lazy frame may begin to compute it.
    kind = type(x)
    streams, single = hasattr(kind, "__arrow_c_stream__"), hasattr(kind, "__arrow_c_array__")
    named = isinstance(x, np.ndarray) and x.dtype.names is not None
    # A sparse matrix may be a dict, of its cells.
    columns = isinstance(x, Mapping) and not hasattr(kind, "shape")
    if not (named or columns or hasattr(kind, "columns") or streams or single):
        return None
    import pyarrow as pa

    if isinstance(x, pa.Table):
        return x
    if isinstance(x, pa.RecordBatch):
        return pa.Table.from_batches([x])
    if named or columns:
        pairs = [(name, x[name]) for name in x.dtype.names] if named else list(x.items())
        for name, cells in pairs[1:]:
            check_order(pairs[0][1], cells, f"rows: columns {pairs[0][0]!r} and {name!r}")
        return _of_columns([(str(name), cells) for name, cells in pairs], bad)
    if hasattr(kind, "columns") and hasattr(kind, "to_arrow"):
        return _converted(x.to_arrow)
    if hasattr(kind, "columns") and hasattr(kind, "to_numpy"):
        labels = list(map(str, x.columns))
        check_once(labels, "rows have", needed)
        # Others of one name don't matter, and Arrow would refuse them.
        count = Counter(labels)
        once = [place for place, name in enumerate(labels) if count[name] == 1]
        x = x if len(once) == len(labels) else x.iloc[:, once]
        try:
            return pa.Table.from_pandas(x, preserve_index=False)
        except _NO_ONE_TYPE:
            pairs = [(labels[at], x.iloc[:, place]) for place, at in enumerate(once)]
            return _of_columns(pairs, bad)
    if streams or single:
        return _of_structs(_converted(lambda: pa.chunked_array(x if streams else [pa.array(x)])))
    call = "collect" if hasattr(kind, "collect") else "compute"
    if not hasattr(kind, call):
        raise InputError(f"rows are a {kind.__name__}; allowed: {_TABLES}")
    raise InputError(f"rows are a {kind.__name__}; allowed: {_TABLES}, as its .{call}() gives")


def check_container(x: Any) -> None:
    """Refuse, in words that say what to call, what holds rows and is no array or table.

    Raises:
        InputError: if the rows are a sparse matrix, objects that are records, or an iterator.
    """
    kind = type(x)
    if isinstance(x, str | bytes | os.PathLike):
        raise InputError(
            f"rows are {x!r}; allowed: rows in memory (aejax.score_files scores those of files)"
        )
    if hasattr(kind, "toarray") and hasattr(kind, "nnz"):
        raise InputError(f"rows are a {kind.__name__}; allowed: an array, as .toarray() gives")
    if isinstance(x, list | tuple) and x and hasattr(type(x[0]), "columns"):
        raise InputError(
            f"rows are a {kind.__name__} of tables; allowed: one, as concatenating them gives"
        )
    if isinstance(x, list | tuple) and x and isinstance(x[0], Mapping):
        raise InputError(
            "rows are a list of dicts; allowed: a table, as pyarrow.Table.from_pylist(rows) gives"
        )
    if hasattr(kind, "__array__") or isinstance(x, list | tuple):
        return
    if hasattr(kind, "__iter__") or hasattr(kind, "__next__"):
        raise InputError(
            f"rows are a {kind.__name__}, which gives them one by one or in batches; allowed: an "
            "array of all, as numpy.concatenate([batch for batch in rows]) gives, or files"
        )


def check_order(one: Any, other: Any, what: str) -> None:
    """Refuse two things of pandas that have the same index in different orders.

    Raises:
        InputError: if each has an index, and positions pair other rows than labels do.
    """
    first, second = getattr(one, "index", None), getattr(other, "index", None)
    if first is None or second is None or not hasattr(first, "equals") or callable(second):
        return
    if not first.equals(second) and len(first) == len(second) and set(first) == set(second):
        raise InputError(
            f"{what} have the same index in different orders; allowed: one order, as "
            ".loc[other.index] gives, or arrays, which are taken by position"
        )


def unmasked(x: Any) -> np.ndarray:
    """An array of what has no names of columns; masked cells are NaN.

    Raises:
        InputError: if it can't be one: lists of different lengths, tensors of torch's bfloat16.
    """
    if not isinstance(x, np.ma.MaskedArray) or not np.ma.is_masked(x):
        try:
            return np.asarray(x)
        except (TypeError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise InputError(
                f"a {type(x).__name__} can't be made an array: {said}; allowed: numbers [n, ...]"
            ) from None
    return np.ma.filled(x.astype(np.result_type(x, np.float32)), np.nan)


def _converted(make: Callable[[], Any]) -> Any:
    """What a conversion to Arrow gives; what it raises in one line."""
    try:
        return make()
    except _NO_ONE_TYPE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"rows: {' '.join(str(error).split())[:200]}") from None


def _of_columns(columns: Sequence[tuple[str, Any]], bad: dict[int, str] | None) -> pa.Table:
    import pyarrow as pa

    arrays = [_column(name, cells, bad) for name, cells in columns]
    return _converted(lambda: pa.table(arrays, [name for name, _ in columns]))


def _column(name: str, cells: Any, bad: dict[int, str] | None) -> Any:
    """One column of a dict, a structured array or a data frame, for Arrow."""
    import pyarrow as pa

    if isinstance(cells, pa.Array | pa.ChunkedArray):
        return cells
    try:
        if isinstance(cells, list | tuple) or hasattr(type(cells), "iloc"):
            return pa.array(cells, from_pandas=True)
    except _NO_ONE_TYPE:
        cells = np.fromiter(cells, object, len(cells))
    array = np.asarray(cells)
    if array.ndim != 1:
        raise InputError(f"rows: column {name!r} has shape {list(array.shape)}; allowed: [rows]")
    hidden = np.ma.getmaskarray(cells) if isinstance(cells, np.ma.MaskedArray) else None
    # Arrow takes numbers in this machine's order of bytes only.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        return pa.array(array, mask=hidden, from_pandas=True)
    except _NO_ONE_TYPE:
        return _cell_by_cell(name, array.astype(object), bad)


def _cell_by_cell(name: str, cells: np.ndarray, bad: dict[int, str] | None) -> pa.Array:
    """Objects of different types: numbers, or text where some are text and `bad` is None."""
    import pyarrow as pa

    numbers, wrong = floats_of_objects(cells)
    if bad is not None:
        for row in wrong:
            bad.setdefault(row, f"{name} is {str(cells[row])[:40]!r}")
    if bad is not None or not wrong:
        return pa.array(numbers)
    for row in wrong:
        if isinstance(cells[row], str | datetime.date):
            continue
        raise InputError(
            f"rows: column {name!r} holds {str(cells[row])[:40]!r} of type "
            f"{type(cells[row]).__name__} in row {row}; allowed: numbers, text, dates"
        )
    return pa.array([None if is_missing(cell) else _text(cell) for cell in cells])


def _text(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def is_missing(cell: Any) -> bool:
    """Whether an object stands for nothing: None, pandas.NA or NaT, NaN, or NumPy's masked."""
    if cell is None or cell is np.ma.masked or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float) and cell != cell


def floats_of_objects(cells: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Objects [n] as float64, NaN for what is missing or no number; where the latter are."""
    numbers, wrong = np.full(len(cells), np.nan), []
    for row, cell in enumerate(cells):
        if is_missing(cell):
            continue
        try:
            if isinstance(cell, str | bytes):
                raise TypeError
            numbers[row] = float(cell)
        except (TypeError, ValueError, OverflowError):
            wrong.append(row)
    return numbers, wrong


def _of_structs(cells: pa.ChunkedArray) -> pa.Table | None:
    """Rows that came as structs; None for a single column, which has no names."""
    import pyarrow as pa

    kind = cells.type
    if not pa.types.is_struct(kind):
        return None
    schema = pa.schema([kind.field(number) for number in range(kind.num_fields)])
    batches = [pa.RecordBatch.from_struct_array(chunk) for chunk in cells.chunks]
    return pa.Table.from_batches(batches, schema)


def rows_by_name(
    x: Any, names: Sequence[str] | None, bad: dict[int, str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Columns of numbers as rows, and their names; None for what has no named columns.

    Args:
        x: the table.
        names: of the columns wanted, in order; None takes all.
        bad: takes which rows hold something else among a column's numbers, instead of it being
            refused.

    Returns:
        Numbers [n, columns], NaN where one is missing, of a type that holds those of all columns
        or float64.

    Raises:
        InputError: naming the column that isn't there, is there twice, or holds no numbers.
    """
    kind = type(x)
    if hasattr(kind, "columns") and hasattr(kind, "to_numpy"):
        labels = list(x.columns)
        wanted, places = _places(tuple(map(str, labels)), names)
        x = x[[labels[place] for place in places]]
        rows: np.ndarray = x.to_numpy()
        if rows.dtype.kind in "biuf":
            return rows, wanted
    wrong: dict[int, str] = {} if bad is None else bad
    table = as_table(x, names, wrong)
    if table is None:
        return None
    import pyarrow as pa

    from aejax.data.tables import fits_float32, is_numeric, no_numbers, numbers_of

    wanted, places = _places(tuple(table.column_names), names)
    columns = []
    for name, place in zip(wanted, places, strict=True):
        cells = table.column(place)
        dtype = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
        if not is_numeric(dtype):
            raise no_numbers("rows", {name: dtype}, "none")
        columns.append(cells.cast(dtype))
    if bad is None and wrong:
        row = min(wrong)
        raise InputError(f"row {row}, {wrong[row]}; allowed: finite numbers")
    fits = all(fits_float32(cells.type) for cells in columns)
    number = np.float32 if fits else np.float64
    batches = pa.table(columns, list(wanted)).combine_chunks().to_batches()
    parts = [numbers_of(batch, wanted, number) for batch in batches]
    return np.concatenate([np.empty((0, len(wanted)), number), *parts]), wanted


def _places(
    there: tuple[str, ...], names: Sequence[str] | None
) -> tuple[tuple[str, ...], list[int]]:
    """The names of the columns wanted, and where these are."""
    wanted = tuple(there if names is None else names)
    check_once(there, "rows have", wanted)
    for name in wanted:
        if name not in there:
            raise InputError(f"rows have no column {name!r}; found: {', '.join(there)}")
    return wanted, [there.index(name) for name in wanted]


def schema_of_frame(frame: Any, settings: Columns) -> Schema | None:
    """The schema of a table's features; None for numbers without names.

    Raises:
        InputError: as `infer_schema`, or if mixed columns are to be read from something else.
    """
    table = as_table(frame)
    if table is None and settings.kinds == "numbers":
        return None
    if table is None:
        raise InputError(f"rows are {type(frame).__name__}; allowed with mixed columns: {_TABLES}")
    import pyarrow as pa

    from aejax.data.inference import infer_schema
    from aejax.data.training_tables import BATCH_ROWS

    def read(names: Sequence[str] | None) -> Generator[pa.RecordBatch]:
        yield from (table if names is None else table.select(list(names))).to_batches(BATCH_ROWS)

    schema = infer_schema(read, settings, "rows", advice="frame")
    if schema is not None and schema.columns is None and set(table.schema.types) == {pa.uint8()}:
        return dataclasses.replace(schema, dtype="uint8")
    return schema


def schema_of_arrays(x: np.ndarray, names: Sequence[str], settings: Columns) -> Schema | None:
    """The schema of numbers [n, columns] whose columns have names; see `schema_of_frame`."""
    return schema_of_frame(dict(zip(names, np.ascontiguousarray(x.T), strict=True)), settings)


def named_features(x: Any, columns: Columns) -> tuple[Any, Schema | None]:
    """Rows to train on and the schema of their features, None where they have no names.

    Columns of a table are left out that never change or identify rows, see
    `aejax.data.column_checks`. An array's features have no names to leave any out by: its shape
    is its schema, and a feature that never changes is shifted by the scaler and not stretched.

    Args:
        x: as in `aejax.detection.rows.as_rows`; a stream is read, and its table returned.
        columns: how they are read.

    Raises:
        InputError: if mixed rows have no names, no column of a table is a feature, or all rows of
            an array are the same.
    """
    try:
        table = as_table(x)
    except InputError:
        # Of columns that Arrow doesn't take, who makes numbers of them says which.
        if columns.kinds == "mixed":
            raise
        return x, None
    if table is not None:
        return (x if hasattr(type(x), "to_numpy") else table), schema_of_frame(table, columns)
    check_container(x)
    schema = schema_of_frame(x, columns)
    array = unmasked(x)
    if array.dtype.kind in "biuf":
        check_array(array)
    return x, schema


def rows_of_frame(frame: Any, schema: Schema, bad: dict[int, str] | None = None) -> np.ndarray:
    """Rows of a mixed table as they are kept, [n, columns] of the schema's type.

    Args:
        frame: a table with the schema's columns, or such rows already, float [n, columns].
        schema: of a mixed table.
        bad: takes what is wrong with rows instead of it being refused; the cell is NaN then.

    Returns:
        Cells as numbers; NaN is a missing one.

    Raises:
        InputError: if a column is missing, or a cell is not of its column's kind.
    """
    assert schema.columns is not None
    assert schema.sources is not None
    table = as_table(frame, schema.sources)
    if table is None:
        return _codes(unmasked(frame), schema)
    from aejax.data.cells import read_cells

    wanted, places = _places(tuple(table.column_names), schema.sources)
    table = table.select(places).rename_columns(list(wanted)).combine_chunks()
    parts, first = [np.empty((0, *schema.shape), schema.dtype)], 0
    for batch in table.to_batches():

        def place(row: int, first: int = first) -> str:
            return f"row {first + row}"

        noted: dict[int, str] | None = None if bad is None else {}
        parts.append(read_cells(batch, schema.columns, place, noted, schema.dtype))
        if bad is not None and noted:
            bad.update({first + row: what for row, what in noted.items()})
        first += batch.num_rows
    return np.concatenate(parts)


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
        return rows.astype(schema.dtype)

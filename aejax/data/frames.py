"""Whatever has named columns: data frames, Arrow tables and streams, dicts, structured arrays.

The one place where these become rows: columns are taken by name, and converted one by one as
those of files are. pandas, Polars and others are known by what they offer; none is imported.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Columns, InputError
from aejax.data.column_checks import check_array
from aejax.data.schema import Schema, check_once

if TYPE_CHECKING:
    import pyarrow as pa

_TABLES = "a data frame of pandas or Polars, or a pyarrow.Table"


def as_table(x: Any, needed: Collection[str] | None = None) -> pa.Table | None:
    """A table with named columns as an Arrow table; None for what has no names.

    A stream is read to its end.

    Args:
        x: anything.
        needed: the columns that matter, of which none may be there twice; None for all.

    Raises:
        InputError: if a column that matters is there twice, one can't be converted, or columns
            have to be computed first.
    """
    table = _as_arrow(x, needed)
    if table is not None:
        check_once(table.column_names, "rows have", needed)
    return table


def _as_arrow(x: Any, needed: Collection[str] | None) -> pa.Table | None:
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
        found = [(name, x[name]) for name in x.dtype.names] if named else list(x.items())
        arrays = [_column(str(name), cells) for name, cells in found]
        return _converted(lambda: pa.table(arrays, [str(name) for name, _ in found]))
    if hasattr(kind, "columns") and hasattr(kind, "to_arrow"):
        return _converted(x.to_arrow)
    if hasattr(kind, "columns") and hasattr(kind, "to_numpy"):
        labels = list(map(str, x.columns))
        check_once(labels, "rows have", needed)
        # Others of one name don't matter, and Arrow would refuse them.
        count = Counter(labels)
        once = [place for place, name in enumerate(labels) if count[name] == 1]
        x = x if len(once) == len(labels) else x.iloc[:, once]
        return _converted(lambda: pa.Table.from_pandas(x, preserve_index=False))
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
    if hasattr(kind, "toarray") and hasattr(kind, "nnz"):
        raise InputError(f"rows are a {kind.__name__}; allowed: an array, as .toarray() gives")
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


def _converted(make: Callable[[], Any], column: str = "") -> Any:
    """What a conversion to Arrow gives; what it raises in one line."""
    import pyarrow as pa

    try:
        return make()
    except (pa.ArrowException, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        where = f"rows: column {column!r}" if column else "rows"
        raise InputError(f"{where}: {' '.join(str(error).split())[:200]}") from None


def _column(name: str, cells: Any) -> Any:
    """One column of a dict or a structured array, for Arrow."""
    import pyarrow as pa

    if isinstance(cells, pa.Array | pa.ChunkedArray):
        return cells
    if isinstance(cells, list | tuple):
        return _converted(lambda: pa.array(cells, from_pandas=True), name)
    array = np.asarray(cells)
    if array.ndim != 1:
        raise InputError(f"rows: column {name!r} has shape {list(array.shape)}; allowed: [rows]")
    hidden = np.ma.getmaskarray(cells) if isinstance(cells, np.ma.MaskedArray) else None
    # Arrow takes numbers in this machine's order of bytes only.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return _converted(lambda: pa.array(array, mask=hidden, from_pandas=True), name)


def _of_structs(cells: pa.ChunkedArray) -> pa.Table | None:
    """Rows that came as structs; None for a single column, which has no names."""
    import pyarrow as pa

    kind = cells.type
    if not pa.types.is_struct(kind):
        return None
    schema = pa.schema([kind.field(number) for number in range(kind.num_fields)])
    batches = [pa.RecordBatch.from_struct_array(chunk) for chunk in cells.chunks]
    return pa.Table.from_batches(batches, schema)


def rows_by_name(x: Any, names: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Columns of numbers as rows, and their names; None for what has no named columns.

    Args:
        x: the table.
        names: of the columns wanted, in order; None takes all.

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
    table = as_table(x, names)
    if table is None:
        return None
    import pyarrow as pa

    from aejax.data.tables import fits_float32, is_numeric, numbers_of

    wanted, places = _places(tuple(table.column_names), names)
    columns = []
    for name, place in zip(wanted, places, strict=True):
        cells = table.column(place)
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        if not is_numeric(cells.type):
            raise InputError(
                f"rows: column {name!r} is of type {cells.type}; "
                "allowed: numbers, or Config.columns of kinds 'mixed'"
            )
        columns.append(cells)
    fits = all(fits_float32(cells.type) for cells in columns)
    dtype = np.float32 if fits else np.float64
    batches = pa.table(columns, list(wanted)).combine_chunks().to_batches()
    parts = [numbers_of(batch, wanted, dtype) for batch in batches]
    return np.concatenate([np.empty((0, len(wanted)), dtype), *parts]), wanted


def _places(
    found: tuple[str, ...], names: Sequence[str] | None
) -> tuple[tuple[str, ...], list[int]]:
    """The names of the columns wanted, and where these are."""
    wanted = tuple(found if names is None else names)
    check_once(found, "rows have", wanted)
    for name in wanted:
        if name not in found:
            raise InputError(f"rows have no column {name!r}; found: {', '.join(found)}")
    return wanted, [found.index(name) for name in wanted]


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
    given = np.asarray(x)
    if given.dtype.kind in "biuf":
        check_array(given)
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
        return _codes(np.asarray(frame), schema)
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

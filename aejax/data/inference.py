"""What the columns of a mixed table are, found in one pass over its rows."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pyarrow.types as types

from aejax.config import Columns, InputError, suggest
from aejax.data import cells
from aejax.data.columns import PERIODS, Column, ColumnKind, DatePart
from aejax.data.csv_tables import csv_columns, csv_error
from aejax.data.files import Input
from aejax.data.rows import UNREADABLE, Selection, unreadable
from aejax.data.schema import Schema, check_once
from aejax.data.sources import find_sources, partition_values
from aejax.data.tables import PANDAS_INDEX, Layout, labels_of_batch

# Different values of a column that are counted; later ones are only known to be more.
MOST_COUNTED = 1 << 16
# A column of text with more different values than this share of its rows names rows.
MOST_DIFFERENT = 0.5
BATCH_ROWS = 1 << 16


@dataclasses.dataclass
class Tally:
    """What is known so far of a column, or of a part of a column of dates."""

    rows: int = 0
    missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    values: Counter[str] = dataclasses.field(default_factory=Counter)
    more: int = 0

    def add_numbers(self, found: np.ndarray) -> None:
        """Count numbers, NaN where missing."""
        there = found[~np.isnan(found)]
        self.rows, self.missing = self.rows + len(found), self.missing + len(found) - len(there)
        if len(there):
            self.low, self.high = min(self.low, there.min()), max(self.high, there.max())

    def add_text(self, found: pa.Array) -> None:
        """Count values, null where missing."""
        self.rows, self.missing = self.rows + len(found), self.missing + found.null_count
        counted = found.drop_null().value_counts()
        for value, count in zip(*counted.flatten(), strict=True):
            word = value.as_py()
            if word in self.values or len(self.values) < MOST_COUNTED:
                self.values[word] += count.as_py()
            else:
                self.more += count.as_py()


def infer_schema(
    batches: Iterable[pa.RecordBatch],
    settings: Columns,
    where: object,
    normal_label: str | None = None,
) -> Schema:
    """The schema of a mixed table.

    A column of numbers or booleans is what it is, one of text is one of categories, one of
    dates becomes its parts. Left out are columns without a value, those that never change,
    and those of text that name rows: their values differ in more than half of the rows.

    Args:
        batches: all training rows, features only; every batch has the same columns.
        settings: how columns are read.
        where: the rows are from, for messages.
        normal_label: that the rows were chosen by, for messages.

    Raises:
        InputError: if there are no rows, a column is of another type, or none is left.
    """
    tallies: dict[tuple[str, DatePart | None], Tally] = {}
    kinds: dict[str, str] = {}
    zones: dict[str, str] = {}
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            kind = _kind(name, column.type, settings, where)
            if kinds.setdefault(name, kind) in ("missing", kind):
                kinds[name] = kind
            elif kind != "missing":
                raise InputError(
                    f"{where}: column {name!r} is of type {column.type} in some files; "
                    f"allowed: {kinds[name]} in all"
                )
            parts: tuple[DatePart | None, ...] = (None,)
            if kind == "date":
                parts = tuple(PERIODS)
                zones.setdefault(name, cells.zone_of(column.type))
            for part in parts:
                read = Column(
                    name=name,
                    kind="boolean" if kind == "boolean" else "number",
                    source=name,
                    part=part,
                    zone=zones.get(name, ""),
                )
                _count(tallies.setdefault((name, part), Tally()), column, kind, read)
    if not rows and normal_label is not None:
        raise InputError(
            f"{where}: no row has the normal label {normal_label!r}; allowed: at least 1"
        )
    if not rows:
        raise InputError(f"{where} has 0 normal rows; allowed: at least 1")
    for name in settings.categories:
        if name not in kinds:
            raise InputError(f"Columns.categories names {name!r}; {suggest(name, kinds)}")
    columns: list[Column] = []
    dropped: dict[str, str] = {}
    for (name, part), tally in tallies.items():
        feature = name if part is None else f"{name}.{part}"
        if kinds[name] == "date" and settings.dates == "none":
            dropped[name] = "dates are left out"
        elif reason := _useless(tally, kinds[name]):
            dropped[feature] = reason
        else:
            column = _column(feature, name, part, kinds[name], tally, settings)
            columns.append(dataclasses.replace(column, zone=zones.get(name, "")))
    if not columns:
        reasons = ", ".join(f"{name}: {why}" for name, why in dropped.items())
        raise InputError(f"{where} has 0 columns that vary ({reasons}); allowed: at least 1")
    return Schema(
        shape=(len(columns),),
        names=tuple(column.name for column in columns),
        columns=tuple(columns),
        dropped=tuple(dropped.items()),
    )


def infer_schema_of_files(path: Input, selection: Selection, settings: Columns) -> Schema:
    """The schema of the normal rows of .csv, .csv.gz and .parquet files.

    Args:
        path: as in `files.open_rows`.
        selection: which columns are labels and features.
        settings: how columns are read.

    Raises:
        InputError: as `infer_schema`, or if a file can't be read.
    """
    batches = _batches(path, selection, settings)
    return infer_schema(batches, settings, path, selection.normal_label)


def _kind(name: str, dtype: pa.DataType, settings: Columns, where: object) -> str:
    if types.is_null(dtype):
        return "missing"
    if name in settings.categories and not cells.is_date(dtype):
        return "category"
    for kind, test in (
        ("boolean", types.is_boolean),
        ("number", cells.is_number),
        ("category", cells.is_text),
        ("date", cells.is_date),
    ):
        if test(dtype):
            return kind
    raise InputError(
        f"{where}: column {name!r} is of type {dtype}; "
        f"allowed: numbers, text, booleans, dates, or --drop-columns {name}"
    )


def _count(tally: Tally, column: pa.Array, kind: str, read: Column) -> None:
    if kind == "category":
        tally.add_text(cells.text_of(column))
        return
    batch = pa.record_batch([column], names=[read.source])
    tally.add_numbers(cells.read_cells(batch, [read], str, None)[:, 0])


def _useless(tally: Tally, kind: str) -> str | None:
    """Why nothing can be learnt from a column, or None."""
    there = tally.rows - tally.missing
    if not there:
        return "no cell has a value"
    if kind == "category":
        if len(tally.values) == 1 and not tally.more:
            return f"always {next(iter(tally.values))!r}"
        different = len(tally.values) + tally.more
        if there > 2 and different > MOST_DIFFERENT * there:
            return f"text that names rows: {different} values in {there} rows"
    elif tally.low == tally.high:
        return f"always {tally.low:g}"
    return None


def _column(
    feature: str, name: str, part: DatePart | None, kind: str, tally: Tally, settings: Columns
) -> Column:
    indicator = settings.indicator and tally.missing > 0
    if kind == "category":
        # By count, then by name: the same for any order of the rows.
        ordered = sorted(tally.values.items(), key=lambda entry: (-entry[1], entry[0]))
        kept = tuple(value for value, _ in ordered[: settings.most_categories])
        return Column(
            name=feature,
            kind="category",
            source=name,
            categories=kept,
            rare=len(ordered) - len(kept) + tally.more,
            embedding=settings.embedding,
            indicator=indicator,
        )
    read: ColumnKind = "boolean" if kind == "boolean" else "number"
    if part is not None and settings.dates == "cycle":
        read = "cycle"
    return Column(name=feature, kind=read, source=name, part=part, indicator=indicator)


def _batches(path: Input, selection: Selection, settings: Columns) -> Iterator[pa.RecordBatch]:
    """The features of the normal rows of files."""
    sources, _ = find_sources(path)
    for source, constants in zip(sources, partition_values(sources), strict=True):
        if not source.path.is_file():
            raise InputError(f"{source.path} does not exist or is no file")
        first = 0
        for batch in _read(source.path, selection, settings):
            for name, value in constants.items():
                if name not in batch.schema.names:
                    batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
            kept = _features(batch, selection, source.path, first)
            first += batch.num_rows
            yield kept


def _features(
    batch: pa.RecordBatch, selection: Selection, path: Path, first_row: int
) -> pa.RecordBatch:
    names = batch.schema.names
    check_once(names, f"{path} has")
    label = selection.label_column
    for name in ({label} if label else set()) | set(selection.drop_columns):
        if name not in names:
            raise InputError(f"{path} has no column {name!r}; {suggest(name, names)}")
    others = {label, *selection.drop_columns, *selection.key_columns}
    features = tuple(
        name for name in names if name not in others and not PANDAS_INDEX.fullmatch(name)
    )
    if not features:
        raise InputError(f"{path} has 0 feature columns of {len(names)}; allowed: at least 1")
    if label is not None:
        schema = Schema(shape=(len(features),), names=features)
        layout = Layout(path=path, features=features, schema=schema, selection=selection)
        is_anomaly = labels_of_batch(batch, layout, first_row)
        assert is_anomaly is not None
        batch = batch.filter(pa.array(is_anomaly == 0))
    return batch.select(list(features))


def _read(path: Path, selection: Selection, settings: Columns) -> Iterator[pa.RecordBatch]:
    names: list[str] = []
    is_csv = path.name.lower().endswith((".csv", ".csv.gz"))
    if not is_csv and path.suffix.lower() != ".parquet":
        raise InputError(f"{path} is no table; allowed with mixed columns: .csv, .csv.gz, .parquet")
    try:
        if not is_csv:
            with pyarrow.parquet.ParquetFile(path) as file:
                yield from file.iter_batches(BATCH_ROWS)
            return
        names, found, block_bytes = csv_columns(path, selection)
        wanted = {
            name: _csv_type(dtype, name == selection.label_column or name in settings.categories)
            for name, dtype in zip(names, found, strict=True)
        }
        read = pyarrow.csv.ReadOptions(
            block_size=block_bytes, column_names=None if selection.header else names
        )
        with pyarrow.csv.open_csv(
            path,
            read,
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=wanted),
        ) as reader:
            yield from reader
    except InputError:
        raise
    except UNREADABLE as error:
        raise (
            csv_error(path, names, error) if is_csv else unreadable(path, "Parquet", error)
        ) from error


def _csv_type(dtype: pa.DataType, as_text: bool) -> pa.DataType:
    """A type that holds whatever later rows of a column bring."""
    if as_text or types.is_null(dtype) or cells.is_text(dtype):
        return pa.string()
    return pa.float64() if cells.is_number(dtype) else dtype

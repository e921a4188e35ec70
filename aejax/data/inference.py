"""What the columns of a training table are, and which of them are features; see `column_checks`."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence

import pyarrow as pa

from aejax.config import Columns, InputError, suggest
from aejax.config.columns import DATE_PARTS, DatePart
from aejax.data import dates, training_tables
from aejax.data.arrow_types import zone_of
from aejax.data.column_checks import NAMED_AT_MOST, uncovered
from aejax.data.columns import Column, ColumnKind
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.data.seen_columns import ALWAYS, Seen, kind_of
from aejax.data.sniffing import LEAST_SHARE
from aejax.data.sources import Input, is_table
from aejax.data.tables import Advice, no_numbers

# Batches of the columns that are named, or of all.
Read = Callable[[Sequence[str] | None], Generator[pa.RecordBatch]]
NEVER = "the same in all rows"

logger = logging.getLogger("aejax")


def infer_schema(
    read: Read,
    settings: Columns,
    where: object,
    *,
    labels: Collection[str] = (),
    advice: Advice = "mixed",
    normal_label: str | None = None,
    day_first: bool | None = None,
) -> Schema | None:
    """The schema of a table's features, and a line in the log on columns that are none.

    Of a mixed table a column of numbers or booleans is what it is, one of text is one of
    categories, one of dates becomes its parts. Left out are columns without a value, those that
    never change, those that identify rows, and parts of dates that the rows don't cover.

    Args:
        read: gives the batches of all training rows, features only, of the columns that it is
            given or of all. Of a table of numbers columns are read to the end only where the
            first rows leave a doubt.
        settings: how columns are read.
        where: the rows are from, for messages.
        labels: columns that are known to be row labels.
        advice: what a person can do about a column that is no number.
        normal_label: that the rows were chosen by, for messages.
        day_first: whether the day comes before the month in dates that are text; None finds out.

    Returns:
        The schema; of a table of numbers without a row, None.

    Raises:
        InputError: if a mixed table has no rows, a column is of another type, or none is left.
    """
    mixed = settings.kinds == "mixed"
    seen = _look(read, settings, where, day_first)
    rows = max((one.rows for one in seen.values()), default=0)
    if not rows and not mixed:
        return None
    if not rows and normal_label is not None:
        raise InputError(
            f"{where}: no row has the normal label {normal_label!r}; allowed: at least 1"
        )
    if not rows:
        raise InputError(f"{where} has 0 normal rows; allowed: at least 1")
    dates = [name for name, one in seen.items() if one.kind == "date"]
    parts = [f"{name}.{part}" for name in dates for part in settings.date_parts]
    for field, wanted, known in (
        ("categories", settings.categories if mixed else (), list(seen)),
        ("keep", settings.keep, [*seen, *parts]),
    ):
        for name in wanted:
            if name not in known:
                raise InputError(f"Columns.{field} names {name!r}; {suggest(name, known)}")
    columns: list[Column] = []
    dropped: dict[str, str] = {}
    wrong: dict[str, pa.DataType] = {}
    for name, one in seen.items():
        if reason := one.left_out(settings, labels):
            dropped[name] = reason
        elif mixed and one.wrong > (1 - LEAST_SHARE) * (one.rows - one.missing):
            raise InputError(
                f"{where}: column {name!r} holds other cells than a {one.kind} in {one.wrong:,} of "
                f"{one.rows:,} rows, few of them among the first; allowed: --columns.categories "
                f"{name} (Columns.categories), or --drop-columns {name}"
            )
        elif one.kind == "other" or (one.kind == "category" and not mixed):
            wrong[name] = one.dtype
        elif one.kind == "date":
            inferred, out = _parts_of(one, settings)
            columns, dropped = [*columns, *inferred], {**dropped, **out}
        else:
            columns.append(_column(one, settings))
    if wrong:
        raise no_numbers(where, wrong, advice)
    if not columns:
        few = [f"{name}: {why}" for name, why in list(dropped.items())[:NAMED_AT_MOST]]
        more = f" and {len(dropped) - len(few)} more" if len(dropped) > len(few) else ""
        raise InputError(
            f"{where} has 0 columns that vary and tell more than which row it is "
            f"({', '.join(few)}{more}); allowed: at least 1 (--columns.keep takes one as it is)"
        )
    names = tuple(column.name for column in columns)
    # That of a table of numbers is found by who reads it, from rows that can be used.
    offset = tuple(0.0 if c.part else seen[c.source].offset for c in columns) if mixed else ()
    _say(dropped, {name: one.question(settings) for name, one in seen.items() if name in names})
    return Schema(
        shape=(len(columns),),
        names=names,
        columns=tuple(columns) if mixed else None,
        dropped=tuple(dropped.items()),
        dtype="float64" if any(offset) else "float32",
        offset=offset if any(offset) else None,
    )


def infer_schema_of_files(
    path: Input, selection: Selection, settings: Columns, *, advice: Advice = "mixed"
) -> Schema | None:
    """The schema of the normal rows of files.

    Args:
        path: as in `files.open_rows`.
        selection: which columns are labels and features.
        settings: how columns are read.
        advice: what a person can do about a column that is no number.

    Returns:
        The schema; of rows of numbers without names None, whose shape is all that there is.

    Raises:
        InputError: as `infer_schema`, or if a file can't be read.
    """
    if not is_table(path):
        if settings.kinds == "numbers":
            return None
        raise InputError(
            f"{path} is no table; allowed with mixed columns: CSV, JSON lines, Parquet, Arrow"
        )

    def read(names: Sequence[str] | None) -> Generator[pa.RecordBatch]:
        return training_tables.normal_rows(path, selection, settings, names)

    selection = training_tables.settled(path, selection)
    schema = infer_schema(
        read,
        settings,
        path,
        labels=training_tables.row_labels(path),
        advice=advice,
        normal_label=selection.normal_label,
        day_first=selection.dialect.day_first,
    )
    decimal = selection.dialect.decimal or "."
    return None if schema is None else dataclasses.replace(schema, decimal=decimal)


def _look(read: Read, settings: Columns, where: object, day_first: bool | None) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    with contextlib.closing(read(None)) as batches:
        for batch in batches:
            _add(seen, batch, settings, where, day_first)
            if settings.kinds == "numbers" and batch.num_rows:
                break
    if settings.kinds == "mixed":
        return seen
    # Most columns of numbers vary and repeat within a batch.
    left = [name for name, one in seen.items() if not one.settled]
    again: dict[str, Seen] = {}
    if left:
        with contextlib.closing(read(left)) as batches:
            for batch in batches:
                _add(again, batch, settings, where, day_first)
                if batch.num_rows and all(one.settled for one in again.values()):
                    break
    return seen | again


def _add(
    seen: dict[str, Seen],
    batch: pa.RecordBatch,
    settings: Columns,
    where: object,
    day_first: bool | None,
) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind, dtype = kind_of(name, column.type, settings), column.type
        one = seen.setdefault(name, Seen(name, "missing", dtype))
        if one.kind == "date" and kind == "category":
            kind = "date"
        if one.kind == "missing" and kind != "missing":
            one.kind, one.dtype, one.zone = kind, dtype, zone_of(dtype)
            may_be_dates = kind == "category" and settings.kinds == "mixed"
            written = may_be_dates and name not in settings.categories
            if written and (how := dates.written_as(column, name, day_first)):
                one.kind, (one.order, one.zone) = "date", how
        elif kind not in ("missing", one.kind):
            raise InputError(
                f"{where}: column {name!r} is of type {column.type} in some files; "
                f"allowed: {one.kind} in all"
            )
        one.add(column)


def _parts_of(one: Seen, settings: Columns) -> tuple[list[Column], dict[str, str]]:
    """The parts of a column of dates that are features, and why others aren't."""
    if settings.dates == "none":
        return [], {one.name: "dates are left out"}
    columns, dropped = [], {}
    for part in (part for part in DATE_PARTS if part in settings.date_parts):
        feature, numbers = f"{one.name}.{part}", one.parts[part]
        reason = f"{ALWAYS}{numbers.low:g}" if numbers.constant else uncovered(part, one.days)
        if reason and not {one.name, feature} & set(settings.keep):
            dropped[feature] = reason
        else:
            columns.append(_column(one, settings, part))
    return columns, dropped


def _column(one: Seen, settings: Columns, part: DatePart | None = None) -> Column:
    kind: ColumnKind = "boolean" if one.kind == "boolean" else "number"
    kept: tuple[str, ...] = ()
    rare = 0
    if one.kind == "category":
        kind = "category"
        # By count, then by name: the same for any order of the rows.
        ordered = sorted(one.texts.values.items(), key=lambda entry: (-entry[1], entry[0]))
        kept = tuple(value for value, _ in ordered[: settings.most_categories])
        rare = len(ordered) - len(kept) + one.texts.more
    elif part is not None and settings.dates == "cycle":
        kind = "cycle"
    return Column(
        name=one.name if part is None else f"{one.name}.{part}",
        kind=kind,
        source=one.name,
        part=part,
        zone=one.zone if part is not None else "",
        order=one.order if part is not None else "",
        categories=kept,
        rare=rare,
        embedding=settings.embedding if kind == "category" else 0,
        indicator=settings.indicator and one.missing > 0,
    )


def _say(dropped: Mapping[str, str], questions: Mapping[str, str | None]) -> None:
    """Tell in one line each which columns are left out, and which may have to be."""
    for what, reasons, advice in (
        ("left out of training", dropped, "--columns.keep (Columns.keep) takes them as features"),
        ("look at", questions, "--drop-columns leaves them out, --columns.keep keeps them"),
    ):
        alike: dict[str, list[str]] = {}
        for name, why in reasons.items():
            if why is not None:
                alike.setdefault(NEVER if why.startswith(ALWAYS) else why, []).append(name)
        if alike:
            listed = "; ".join(f"{_listed(names)} ({why})" for why, names in alike.items())
            logger.warning("aejax: %s: %s. %s", what, listed, advice)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMED_AT_MOST]))
    return shown + (f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else "")

"""Which label each row of scores has: by the keys that both carry, by position, or by intervals."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types

from aejax.config import InputError
from aejax.data.dates import clock_of, times_of
from aejax.data.labels import INTERVAL
from aejax.data.schema import Clock
from aejax.scoring.reading import ROW

MOST_NAMED = 10

logger = logging.getLogger("aejax")
# Beyond, float64 has no two neighbouring whole numbers.
MOST_WHOLE = float(1 << 53)
TEXT = pa.large_string()
_NOTHING, _POINT = pa.scalar("", TEXT), pa.scalar(".", TEXT)
# Between the parts of an instant, so that none equals a number.
_TIME_OF = pa.scalar("t", TEXT)
_WHOLE = r"^[+-]?[0-9]+(\.0*)?$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?$"
_ZONED = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.]{5,}(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"


def match_labels(
    table: pa.Table,
    keys: pa.Table,
    flags: np.ndarray,
    theirs: pa.Table,
    where: str,
    files: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Which label each row of scores has, int64 [n], -1 for none; and what is said of it.

    Args:
        table: scores, with or without the column that numbers rows.
        keys: of the scores.
        flags: labels, [m].
        theirs: the keys that go with them, m rows.
        where: labels are, for messages.
        files: how many they are from.

    Raises:
        InputError: if keys have no partner at all, rows of one key different labels, or there are
            no keys and not as many labels as scores.
    """
    shared = [name for name in theirs.column_names if name in keys.column_names]
    if not shared and not _are_rows(theirs, len(table)):
        if files > 1 or len(flags) != len(table):
            carried = ", ".join(keys.column_names) or "none; carry some with aejax score --key"
            raise InputError(
                f"{where} has {len(flags)} labels in {files} file(s) and no key of the scores; "
                f"allowed without one: {len(table)} in 1 file, one a score, in the same order "
                f"(keys of the scores: {carried})"
            )
        logger.info("aejax: labels and scores share no key column: they are joined by position")
        return np.arange(len(table)), {"joined_by": "position"}
    by = shared or [ROW]
    ours, theirs = (keys if shared else table).select(by), theirs.select(by)
    matched = match_keys(ours, theirs)
    if matched.same_order:
        # Repeated keys do no harm here: each stands beside its own.
        return np.arange(len(table)), {"joined_by": by}
    label_of = np.full(max(matched.left.max(), matched.right.max(), 0) + 1, -1)
    matching = np.flatnonzero(matched.right >= 0)
    label_of[matched.right[matching][::-1]] = matching[::-1]
    other = matching[flags[matching] != flags[label_of[matched.right[matching]]]]
    if len(other):
        first = int(label_of[matched.right[other[0]]])
        raise InputError(
            f"{where}: key {shown(theirs, first)} has both a normal and an anomalous label "
            f"(labels {first} and {int(other[0])}); allowed: one label a key, or keys that tell "
            "rows apart (aejax score --key)"
        )
    rows = np.where(matched.left >= 0, label_of[matched.left], -1)
    if not (rows >= 0).any():
        raise InputError(
            f"{where}: none of its keys is one of the scores' (such as {shown(theirs, 0)} there, "
            f"{shown(ours, 0)} in the scores); allowed: the same keys"
        )
    partner = matched.left[matched.left >= 0]
    facts: dict[str, Any] = {"joined_by": by}
    for name, which, these, said in (
        ("rows_without_label", rows < 0, ours, "rows have no label, and are left out"),
        ("labels_without_row", ~np.isin(matched.right, partner), theirs, "labels have no row"),
        ("rows_of_repeated_keys", _repeated(matched.left), ours, "rows share a key and its label"),
        ("labels_of_repeated_keys", _repeated(matched.right), theirs, "labels repeat a key"),
    ):
        count = int(which.sum())
        facts[name] = count
        if count:
            named = [shown(these, at) for at in np.flatnonzero(which)[:MOST_NAMED].tolist()]
            facts[f"first_{name}"] = named
            few = "; ".join(named[:3]) + (f" and {count - 3:,} more" if count > 3 else "")
            of_all = f"{count:,} of {len(which):,}"
            logger.warning("aejax: warning: %s %s: %s", of_all, said, few)
    return rows, facts


def match_intervals(
    keys: pa.Table, rows: int, intervals: pa.Table, time: str | None, series: str | None, where: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """Which rows of scores lie within an interval, int8 [n]; and what is said of it.

    Args:
        keys: of the scores.
        rows: n.
        intervals: their "start" and "end", which both belong to them, and if need be the column
            that names the series: times, or where `time` is None numbers of rows.
        time: the key that says when a row is, or None.
        series: the key that says which series it is of, or None.
        where: intervals are, for messages.

    Raises:
        InputError: if times can't be compared, an interval has no end, or none holds a row.
    """
    times, readable = np.arange(rows), np.ones(rows, bool)
    clock = Clock(kind="number")
    if time is not None:
        cells = keys[time].combine_chunks()
        clock = clock_of(cells, time)
        times, readable, _ = times_of(cells, clock, time)
    ends = []
    for name in INTERVAL:
        cells = intervals[name].combine_chunks()
        if time is not None and (own := clock_of(cells, name)).kind != clock.kind:
            raise InputError(
                f"{where}: {name} is of kind {own.kind!r}; allowed: {clock.kind!r}, as {time}"
            )
        moments, _, wrong = times_of(cells, own if time is not None else clock, name)
        if wrong:
            raise InputError(f"{where}: interval {min(wrong)}: {wrong[min(wrong)]}")
        ends.append(moments)
    by_series = series is not None and series in intervals.column_names
    flags, empty = np.zeros(rows, np.int8), 0
    names = _texts(keys[series]) if by_series else None
    theirs = _texts(intervals[series]) if by_series else None
    for at, (start, end) in enumerate(zip(*ends, strict=True)):
        if start > end:
            raise InputError(f"{where}: interval {at} ends before it starts; allowed: start <= end")
        inside = (times >= start) & (times <= end) & readable
        if names is not None and theirs is not None:
            inside &= names == theirs[at]
        empty += not inside.any()
        flags[inside] = 1
    if empty == len(intervals):
        raise InputError(f"{where}: none of {empty:,} intervals holds a row; allowed: at least 1")
    if empty:
        logger.warning("aejax: warning: %d of %d intervals hold no row", empty, len(intervals))
    return flags, {"joined_by": "intervals", "intervals_without_row": empty}


def _texts(cells: pa.ChunkedArray) -> np.ndarray:
    texts = cells.combine_chunks().cast(pa.string())
    return np.asarray(texts.to_numpy(zero_copy_only=False))


def _repeated(numbers: np.ndarray) -> np.ndarray:
    """Which keys are there more than once, bool [n]; empty ones are not."""
    repeated: np.ndarray = np.bincount(numbers + 1)[numbers + 1] > 1
    return repeated & (numbers >= 0)


def _are_rows(theirs: pa.Table, rows: int) -> bool:
    """Whether a table has a column of different numbers of rows, as scores have it."""
    if ROW not in theirs.column_names:
        return False
    try:
        numbers = theirs[ROW].drop_null().cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return False
    inside = bool(((numbers >= 0) & (numbers < rows)).all())
    return inside and len(np.unique(numbers)) == theirs.num_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of two tables as numbers that are equal where the keys are.

    Attributes:
        left: of each row of the one table, int64 [n]; -1 where a key is empty.
        right: of the other's, int64 [m].
        same_order: whether both have the same keys in the same order, row by row.
    """

    left: np.ndarray
    right: np.ndarray
    same_order: bool


def match_keys(left: pa.Table, right: pa.Table) -> Keys:
    """Compare the keys of two tables that have the same columns.

    Texts are compared as they are. Where only one of the two columns is text, or no texts are
    equal, by what they say: 7, 7.0, "7" and "7.0" are one key, and so is an instant in two time
    zones; a time without a zone equals none that has one.

    Args:
        left: key columns only.
        right: likewise.
    """
    pairs = [(_flat(left[name]), _flat(right[name])) for name in left.column_names]
    strict = _numbered([_comparable(*pair, strict=True) for pair in pairs])
    if np.isin(strict.left[strict.left >= 0], strict.right).any():
        return strict
    return _numbered([_comparable(*pair, strict=False) for pair in pairs])


def shown(table: pa.Table, row: int) -> str:
    """The key of a row, for messages."""
    return ", ".join(f"{name} {table[name][row].as_py()!r}" for name in table.column_names)


def _flat(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, text of any kind as one type."""
    kinds, dtype = pyarrow.types, column.type
    binary = kinds.is_binary(dtype) or kinds.is_large_binary(dtype)
    if binary or kinds.is_fixed_size_binary(dtype) or isinstance(dtype, pa.BaseExtensionType):
        return pa.array(_texts_of_bytes(column.to_pylist()), TEXT)
    if kinds.is_dictionary(dtype):
        dtype = dtype.value_type
    if kinds.is_string(dtype) or kinds.is_large_string(dtype):
        dtype = TEXT
    return column.cast(dtype).combine_chunks()


def _texts_of_bytes(cells: list[Any]) -> list[str | None]:
    """Bytes and UUIDs as text: in UTF-8 where all are, else their digits, as of digests."""
    try:
        plain = [cell.decode() if isinstance(cell, bytes) else cell for cell in cells]
    except UnicodeDecodeError:
        plain = [cell.hex() if isinstance(cell, bytes) else cell for cell in cells]
    return [None if cell is None else str(cell) for cell in plain]


def _filled(texts: pa.Array) -> pa.Array:
    """Texts, with null for those that are empty."""
    return pc.if_else(pc.equal(texts, _NOTHING), pa.scalar(None, TEXT), texts)


def _comparable(left: pa.Array, right: pa.Array, *, strict: bool) -> tuple[pa.Array, pa.Array]:
    if strict and left.type == right.type == TEXT:
        return _filled(left), _filled(right)
    return _by_meaning(left), _by_meaning(right)


def _numbered(columns: list[tuple[pa.Array, pa.Array]]) -> Keys:
    numbers = np.zeros(0, np.int64)
    for sides in columns:
        encoded = pa.chunked_array(sides, TEXT).combine_chunks().dictionary_encode()
        own = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if len(numbers):
            both = np.where(numbers < 0, -1, numbers * len(encoded.dictionary) + own)
            # Counted anew, so that columns of many keys stay within whole numbers.
            own = np.where(own < 0, -1, np.unique(both, return_inverse=True)[1])
            own[numbers < 0] = -1
        numbers = own
    left, right = np.split(numbers, [len(columns[0][0])])
    same = len(left) == len(right) and bool((left == right).all()) and bool((left >= 0).any())
    return Keys(left=left, right=right, same_order=same)


def _by_meaning(values: pa.Array) -> pa.Array:
    """Texts that are equal where values are the same number, instant or text; null where empty."""
    kinds = pyarrow.types
    if kinds.is_date(values.type):
        values = values.cast(pa.timestamp("us"))
    if kinds.is_timestamp(values.type):
        return _instants(values)
    if kinds.is_floating(values.type):
        return _numbers(values.cast(pa.float64()))
    texts = pc.utf8_trim_whitespace(values.cast(TEXT))
    if kinds.is_integer(values.type):
        return texts
    texts = _filled(texts)
    logical = pc.match_substring_regex(texts, "(?i)^(true|false)$")
    texts = _put(texts, logical, pc.utf8_lower(texts.filter(logical)))
    whole = pc.match_substring_regex(texts, _WHOLE)
    number = pc.and_not(pc.match_substring_regex(texts, _NUMBER), whole)
    digits = pc.replace_substring_regex(texts.filter(whole), r"\.0*$", "")
    digits = pc.replace_substring_regex(digits, r"^\+", "")
    texts = _put(texts, whole, pc.replace_substring_regex(digits, r"^(-?)0+([0-9])", r"\1\2"))
    texts = _put(texts, number, _numbers(texts.filter(number).cast(pa.float64())))
    for pattern, kind in ((_TIME, pa.timestamp("ns")), (_ZONED, pa.timestamp("ns", "UTC"))):
        times = pc.match_substring_regex(texts, pattern)
        try:
            texts = _put(texts, times, _instants(texts.filter(times).cast(kind)))
        except pa.ArrowInvalid:
            continue  # They only look like times.
    return texts


def _put(texts: pa.Array, where: pa.Array, values: pa.Array) -> pa.Array:
    return pc.replace_with_mask(texts, where.fill_null(False), values) if len(values) else texts


def _numbers(values: pa.Array) -> pa.Array:
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    small = pc.less(pc.abs(values), MOST_WHOLE)
    whole = pc.and_(pc.equal(pc.floor(values), values), small).fill_null(False)
    digits = values.filter(whole).cast(pa.int64()).cast(TEXT)
    return _put(values.cast(TEXT), whole, digits)


def _instants(values: pa.Array) -> pa.Array:
    """Microseconds since 1970 as text, with what is left of nanoseconds; "Z" where zoned."""
    zone = pa.scalar("Z" if values.type.tz else "", TEXT)
    rest: pa.Array | pa.Scalar = _NOTHING
    numbers = values.cast(pa.int64())
    if values.type.unit == "ns":
        # Floor division, so that times before 1970 have the same remainder in both units.
        nanoseconds = pc.subtract(numbers, pc.multiply(_floor(numbers), 1000))
        digits = pc.binary_join_element_wise(_POINT, nanoseconds.cast(TEXT), _NOTHING)
        rest = pc.if_else(pc.equal(nanoseconds, 0), _NOTHING, digits)
        numbers = _floor(numbers)
    else:
        numbers = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
    return pc.binary_join_element_wise(numbers.cast(TEXT), rest, zone, _TIME_OF)


def _floor(nanoseconds: pa.Array) -> pa.Array:
    quotient = pc.divide(nanoseconds, 1000)
    down = pc.less(nanoseconds, pc.multiply(quotient, 1000))
    return pc.subtract(quotient, down.cast(pa.int64()))

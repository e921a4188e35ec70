"""Which label each row of scores has: by the keys that both carry, by position, or by intervals."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa

from aejax.config import InputError
from aejax.data.join import match_keys, shown
from aejax.data.labels import INTERVAL
from aejax.data.schema import Clock
from aejax.data.times import clock_of, times_of
from aejax.scoring.reading import ROW

MOST_NAMED = 10

logger = logging.getLogger("aejax")


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
    given = np.flatnonzero(matched.right >= 0)
    label_of[matched.right[given][::-1]] = given[::-1]
    other = given[flags[given] != flags[label_of[matched.right[given]]]]
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

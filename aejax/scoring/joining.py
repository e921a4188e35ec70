"""Which label each row of scores has: by the keys that both carry, or by position."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa

from aejax.config import InputError
from aejax.data.join import match_keys, shown
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

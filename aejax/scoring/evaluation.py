"""Evaluate written scores by labels."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config import InputError
from aejax.data.join import match_keys, shown
from aejax.data.labels import labels_in, labels_of, one_table, read_labels
from aejax.data.rows import Selection, check_normal
from aejax.data.sources import Input, find_sources
from aejax.detection.metrics import evaluate
from aejax.scoring import manifest
from aejax.scoring.tabulation import key_names

# The column of scores that numbers rows.
ROW = "row"
MOST_NAMED = 10

logger = logging.getLogger("aejax")


def read_scores(folder: Path) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """All scores of a folder in input order, the keys that they carry, and its manifest.

    Args:
        folder: that `score_files` wrote.

    Returns:
        A table of "row", "score" and, where rows have their own, "threshold"; one of the keys,
        under the names that they have in the input; the manifest.

    Raises:
        InputError: if the folder holds no complete scores.
    """
    if not (folder / manifest.NAME).is_file():
        raise InputError(f"{folder} holds no scores ({manifest.NAME} is missing)")
    written = manifest.read_description(folder)
    if not (folder / manifest.SUCCESS).is_file():
        raise InputError(f"{folder} holds an unfinished job; run the same `aejax score` again")
    identity = written["identity"]
    names = key_names(identity["key_columns"], names_files=identity["names_files"])
    scores, keys = [], []
    try:
        for part in written["parts"]:
            with pq.ParquetFile(folder / part["name"]) as file:
                own = [
                    name for name in (ROW, "score", "threshold") if name in file.schema_arrow.names
                ]
                table = file.read([*own, *names.values()])
            scores.append(table.select(own))
            keys.append(table.select(list(names.values())).rename_columns(list(names)))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{folder}: {error}") from None
    if not scores:
        raise InputError(f"{folder} holds scores of 0 rows; allowed: at least 1")
    return pa.concat_tables(scores), one_table(keys), written


def evaluate_scores(
    folder: Path,
    labels: Input | None,
    *,
    selection: Selection,
    threshold: float | None = None,
) -> dict[str, Any]:
    """AUROC, average precision, F1 and confusion of written scores.

    Args:
        folder: that `score_files` wrote.
        labels: files with the label column; None takes the column from the keys that were
            carried through. Rows are matched by the carried keys that all the files have too, or
            else by a column `row` that holds numbers of rows, as scores have it; without either,
            one file has as many labels as there are scores, in their order.
        selection: the label column, and which label is normal.
        threshold: None takes the one that rows were flagged by.

    Scores of groups that have thresholds of their own are compared as shares of these.

    Returns:
        What `aejax.detection.metrics.evaluate` gives of the rows that have a score and a label;
        "joined_by", and how many rows and labels have no partner or share a key with others.

    Raises:
        InputError: if labels are missing, have other keys, or don't match the scores row for row
            where there is no key; or if rows of one key have different labels.
    """
    column = selection.label_column or "label"
    table, keys, written = read_scores(folder)
    joined: dict[str, Any] = {}
    if labels is not None:
        wanted = [name for name in dict.fromkeys([*keys.column_names, ROW]) if name != column]
        flags, theirs = read_labels(labels, selection, wanted)
        rows, joined = _matched(table, keys, flags, theirs, labels)
    elif column in keys.column_names:
        flags = labels_of(keys[column], selection, folder)
        check_normal(flags, selection, folder, labels_in(keys[column]))
        rows = np.arange(len(table))
    else:
        raise InputError(
            f"{folder} carries no column {column!r}; "
            f"allowed: --labels FILE, or --key {column} when scoring"
        )
    scored = pc.is_valid(table["score"]).to_numpy(zero_copy_only=False)
    scores = table["score"].to_numpy()
    if "threshold" in table.column_names:
        own = table["threshold"].to_numpy()
        if np.nanmin(own) <= 0:
            raise InputError(f"{folder}: a group's threshold is {np.nanmin(own)}; allowed: above 0")
        # In float64, so that a row is above 1 where its score is above its threshold.
        scores = scores.astype(np.float64) / own
        threshold = 1.0 if threshold is None else threshold
    if threshold is None:
        threshold = written["identity"]["threshold"]
    kept = scored & (rows >= 0)
    result = evaluate(scores[kept], flags[rows[kept]], threshold)
    return {**result, **joined, "rows_without_score": int(np.sum(~scored))}


def _matched(
    table: pa.Table, keys: pa.Table, flags: np.ndarray, theirs: pa.Table, labels: Input
) -> tuple[np.ndarray, dict[str, Any]]:
    """Which label each row of scores has, int64 [n], -1 for none; and what is said of it."""
    shared = [name for name in theirs.column_names if name in keys.column_names]
    where = labels if isinstance(labels, (str, os.PathLike)) else ", ".join(map(str, labels))
    if not shared and not _are_rows(theirs, len(table)):
        files = len(find_sources(labels)[0])
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
    told: dict[str, Any] = {"joined_by": by}
    for name, which, these, said in (
        ("rows_without_label", rows < 0, ours, "rows have no label, and are left out"),
        ("labels_without_row", ~np.isin(matched.right, partner), theirs, "labels have no row"),
        ("rows_of_repeated_keys", _repeated(matched.left), ours, "rows share a key and its label"),
        ("labels_of_repeated_keys", _repeated(matched.right), theirs, "labels repeat a key"),
    ):
        count = int(which.sum())
        told[name] = count
        if count:
            named = [shown(these, at) for at in np.flatnonzero(which)[:MOST_NAMED].tolist()]
            told[f"first_{name}"] = named
            few = "; ".join(named[:3]) + (f" and {count - 3:,} more" if count > 3 else "")
            of_all = f"{count:,} of {len(which):,}"
            logger.warning("aejax: warning: %s %s: %s", of_all, said, few)
    return rows, told


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

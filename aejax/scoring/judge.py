"""Judge written scores against labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config import InputError
from aejax.data.labels import labels_of, read_labels
from aejax.data.rows import Selection
from aejax.detection.metrics import evaluate
from aejax.scoring import manifest


def read_scores(
    folder: Path, columns: Sequence[str] | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """All scores of a folder as one table in input order, and what its books say.

    Args:
        folder: that `score_files` wrote.
        columns: those to read, where they are there; None reads all.

    Raises:
        InputError: if the folder holds no complete scores.
    """
    if not (folder / manifest.NAME).is_file():
        raise InputError(f"{folder} holds no scores ({manifest.NAME} is missing)")
    written = manifest.read_description(folder)
    if not (folder / manifest.SUCCESS).is_file():
        raise InputError(f"{folder} holds an unfinished job; run the same `aejax score` again")
    try:
        parts = []
        for part in written["parts"]:
            with pq.ParquetFile(folder / part["name"]) as file:
                found = file.schema_arrow.names
                wanted = None if columns is None else [name for name in columns if name in found]
                parts.append(file.read(wanted))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{folder}: {error}") from None
    if not parts:
        raise InputError(f"{folder} holds scores of 0 rows; allowed: at least 1")
    return pa.concat_tables(parts), written


def evaluate_scores(
    folder: Path, labels: Path | None, *, selection: Selection, threshold: float | None = None
) -> dict[str, Any]:
    """AUROC, average precision, F1 and confusion of written scores.

    Args:
        folder: that `score_files` wrote.
        labels: file with the label column, its rows in the scored file's order; None takes
            the column from the keys that were carried through.
        selection: the label column, and which label is normal.
        threshold: None takes the one that rows were flagged by.

    Scores of groups that have thresholds of their own are compared as shares of these.

    Raises:
        InputError: if labels are missing or don't match the scores row for row.
    """
    column = selection.label_column or "label"
    table, written = read_scores(folder, ("score", "threshold", column))
    if labels is not None:
        is_anomaly = read_labels(labels, selection)
    elif column in table.column_names:
        is_anomaly = labels_of(table[column], selection, folder)
    else:
        raise InputError(
            f"{folder} carries no column {column!r}; "
            f"allowed: --labels FILE, or --key {column} when scoring"
        )
    if len(is_anomaly) != len(table):
        raise InputError(
            f"{labels or folder} has {len(is_anomaly)} labels; allowed: {len(table)}, one a score"
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
    result = evaluate(scores[scored], np.asarray(is_anomaly)[scored], threshold)
    return {**result, "rows_without_score": int(np.sum(~scored))}

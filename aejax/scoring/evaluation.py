"""Scores judged by labels: of a folder, of tables and arrays, or of a detector's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aejax.config import InputError, suggest
from aejax.data.frames import as_table, check_order
from aejax.data.labels import are_intervals, labels_in, labels_of, read_labels
from aejax.data.rows import Selection, check_normal
from aejax.data.schema import Series
from aejax.data.series_columns import without_columns
from aejax.data.sources import find_sources
from aejax.detection import metrics
from aejax.detection.events import check_merging
from aejax.detection.groups import without_groups
from aejax.detection.loading import as_detector
from aejax.detection.series_metrics import evaluate_series
from aejax.scoring.joining import match_intervals, match_labels
from aejax.scoring.reading import OWN, ROW, read_scores, series_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """Rows that have a score and a label.

    Attributes:
        scores: float [n]; of groups, shares of their thresholds.
        is_anomaly: [n], 1 for an anomaly.
        rows: the number of each among all that were scored, int64 [n].
        threshold: on the scores, or None.
        facts: how labels were joined, and what has no partner; JSON-ready.
        of_series: of points of a series, how `evaluate_series` measures them; None of other rows.
    """

    scores: np.ndarray
    is_anomaly: np.ndarray
    rows: np.ndarray
    threshold: float | None
    facts: dict[str, Any]
    of_series: dict[str, Any] | None = None


def evaluate(
    scores: Any,
    labels: Any = None,
    *,
    x: Any = None,
    groups: Any = None,
    key: str | Sequence[str] | None = None,
    label_column: str = "label",
    normal_label: str | None = None,
    threshold: float | None = None,
    buffer: int | None = None,
    merge_gap: int = 0,
) -> dict[str, Any]:
    """AUROC, average precision, F1 and confusion of scores by labels, with confidence intervals.

    Args:
        scores: the folder that `score_files` wrote; scores [n]; a table with a column "score",
            as a frame that was read from such a folder; or a detector or a fitted estimator, which
            scores `x`.
        labels: files with the label column; a table that has it; or labels [n]. None takes the
            column from the keys that the scores carry. Rows are matched by the key columns that
            both sides have; without any, labels are as many as scores, in their order. Of a series
            also intervals: columns "start" and "end", which both belong to it, in times of the
            scores or in numbers of rows, and where there are several the column of the series.
        x: rows, where a detector is given.
        groups: of a detector of groups, as in `Detector.score`.
        key: the columns to match by; None takes all that both sides have. With intervals and a
            table of scores, the column of times.
        label_column: the column of labels.
        normal_label: the label of normal rows; None takes labels for 0 and 1.
        threshold: None takes the one that rows were flagged by, where it is known: not of an array.
        buffer: of a series, so many points on both sides of an anomaly count in part; None takes
            the period or else the window of the detector, where one is known.
        merge_gap: of a series, as in `aejax.events`.

    Returns:
        What `aejax.detection.metrics.evaluate` gives of the rows that have a score and a label;
        of a series "series", what `aejax.detection.series_metrics.evaluate_series` gives; of
        tables "joined_by" and how many rows and labels have no partner; "rows_without_score".

    Raises:
        InputError: if labels are missing, have other keys, or don't match the scores row for row
            where there is no key; or if rows of one key have different labels.

    Example:
        >>> import aejax
        >>> aejax.evaluate([0.1, 0.2, 0.9], [0, 0, 1], threshold=0.5)["auroc"]["value"]
        1.0
    """
    known = labelled(
        scores,
        labels,
        x=x,
        groups=groups,
        key=key,
        selection=Selection(label_column=label_column, normal_label=normal_label),
        threshold=threshold,
        buffer=buffer,
        merge_gap=merge_gap,
    )
    return judged(known)


def judged(known: Labelled) -> dict[str, Any]:
    """What `evaluate` returns of labelled scores."""
    result = {**metrics.evaluate(known.scores, known.is_anomaly, known.threshold), **known.facts}
    if known.of_series is not None:
        result["series"] = evaluate_series(
            known.scores, known.is_anomaly, known.threshold, **known.of_series
        )
    return result


def labelled(
    scores: Any,
    labels: Any,
    *,
    selection: Selection,
    x: Any = None,
    groups: Any = None,
    key: str | Sequence[str] | None = None,
    threshold: float | None = None,
    buffer: int | None = None,
    merge_gap: int = 0,
) -> Labelled:
    """Scores with their labels; takes what `evaluate` takes.

    Args:
        scores: as in `evaluate`, as `labels`, `x`, `groups`, `key` and `threshold`.
        labels: likewise.
        selection: the label column, and which label is normal.
        x: rows, where a detector is given.
        groups: of a detector of groups.
        key: the columns to match by.
        threshold: None takes the one that rows were flagged by.
        buffer: as in `evaluate`, like `merge_gap`.
        merge_gap: of a series.
    """
    check_merging(merge_gap, 1)
    series: Series | None = None
    is_folder = isinstance(scores, (str, os.PathLike))
    where = str(scores) if is_folder else "scores"
    beside = scores if x is None else x
    if is_folder and x is None:
        table, keys, written = read_scores(Path(scores))
        series = series_of(Path(scores))
        threshold = written["identity"]["threshold"] if threshold is None else threshold
    else:
        if x is not None:
            detector = as_detector(scores)
            series = detector.schema.series
            cells = {} if series is None else without_columns(x, series.columns)[1]
            scores = detector.score(x, groups=groups, on_bad_row="null")
            if detector.threshold is not None and detector.groups is not None:
                members = detector.groups.places(without_groups(x, groups)[1], len(scores))
                scores = {"score": scores, "threshold": detector.threshold.of(members)}
            elif threshold is None:
                threshold = detector.threshold_value
            scores = pa.table({"score": scores, **cells}) if cells else scores
        elif not hasattr(scores, "__len__") or hasattr(scores, "get_params"):
            raise InputError(
                f"scores is {type(scores).__name__} and x is None; allowed: scores, a table or "
                "folder of them, or a detector with rows x"
            )
        table = as_table(_with_index(scores))
        if table is None:
            values = np.asarray(scores)
            if values.ndim != 1 or values.dtype.kind not in "biuf" or not len(values):
                raise InputError(
                    f"scores has shape {values.shape} and dtype {values.dtype}; "
                    "allowed: numbers [n], n at least 1"
                )
            table = pa.table({"score": values})
        if "score" not in table.column_names:
            raise InputError(
                f"scores has no column 'score'; {suggest('score', table.column_names)}"
            )
        keys = table.select([name for name in table.column_names if name not in OWN])
    rows, flags, joined = _with_labels(table, keys, labels, selection, where, key, series)
    if joined.get("joined_by") == "position":
        check_order(beside, labels, "rows and labels")
    own = "threshold" in table.column_names
    values = pc.cast(table["score"], pa.float64() if own else table["score"].type).to_numpy()
    scored = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    if own:
        thresholds = table["threshold"].to_numpy()
        if np.nanmin(thresholds) <= 0:
            raise InputError(
                f"{where}: a group's threshold is {np.nanmin(thresholds)}; allowed: above 0"
            )
        # In float64, so that a row is above 1 where its score is above its threshold.
        values = values / thresholds
        threshold = 1.0 if threshold is None else threshold
    kept = scored & (rows >= 0)
    if not kept.any():
        raise InputError(f"{where}: no row has a score and a label; allowed: at least 1")
    return Labelled(
        scores=values[kept],
        is_anomaly=flags[rows[kept]],
        rows=np.flatnonzero(kept),
        threshold=threshold,
        facts={**joined, "rows_without_score": int(np.sum(~scored))},
        of_series=None
        if series is None and joined.get("joined_by") != "intervals"
        else {
            "buffer": buffer if buffer or series is None else series.period or series.length,
            "series": _which(keys, series, len(table))[kept],
            "merge_gap": merge_gap,
        },
    )


def _which(keys: pa.Table, series: Series | None, rows: int) -> np.ndarray:
    """Number of the series that each row is of, int64 [n]."""
    name = None if series is None else series.window.series
    if name is None or name not in keys.column_names:
        return np.zeros(rows, np.int64)
    cells = keys[name].combine_chunks().dictionary_encode()
    return np.asarray(cells.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _with_labels(
    table: pa.Table,
    keys: pa.Table,
    labels: Any,
    selection: Selection,
    where: str,
    key: str | Sequence[str] | None,
    series: Series | None,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Which label each row has, int64 [n], -1 for none; all labels; and how they were joined."""
    column = selection.label_column or "label"
    if key is not None:
        by = (key,) if isinstance(key, str) else tuple(key)
        for name in by:
            if name not in keys.column_names:
                raise InputError(
                    f"key is {name!r}, which {where} doesn't carry; "
                    f"{suggest(name, keys.column_names)}"
                )
        keys = keys.select(by)
    if labels is None:
        if column not in keys.column_names:
            raise InputError(
                f"{where} carries no column {column!r}; "
                f"allowed: --labels FILE, or --key {column} when scoring"
            )
        flags = labels_of(keys[column], selection, Path(where))
        check_normal(flags, selection, where, labels_in(keys[column]))
        return np.arange(len(table)), flags, {}
    wanted = [name for name in dict.fromkeys([*keys.column_names, ROW]) if name != column]
    if _are_files(labels):
        own, theirs = read_labels(labels, selection, wanted)
        said = labels if isinstance(labels, (str, os.PathLike)) else ", ".join(map(str, labels))
        files = len(find_sources(labels)[0])
    else:
        labelled_rows = as_table(_with_index(labels))
        if labelled_rows is None:
            labelled_rows = as_table({column: labels})
            assert labelled_rows is not None
        own = None
        if not (
            column in labelled_rows.column_names
            or are_intervals(labelled_rows.column_names, column)
        ):
            raise InputError(
                f"labels has no column {column!r}; {suggest(column, labelled_rows.column_names)}"
            )
        theirs, said, files = labelled_rows, "labels", 1
        if column in labelled_rows.column_names:
            own = labels_of(labelled_rows[column], selection, Path("labels"))
            check_normal(own, selection, "labels", labels_in(labelled_rows[column]))
            theirs = labelled_rows.select(
                [name for name in wanted if name in labelled_rows.column_names]
            )
    if own is None:
        window = None if series is None else series.window
        time = window.time if window is not None else keys.column_names[0] if key else None
        flags, joined = match_intervals(
            keys, len(table), theirs, time, None if window is None else window.series, str(said)
        )
        return np.arange(len(table)), flags, joined
    if key is not None and (
        missing := [n for n in keys.column_names if n not in theirs.column_names]
    ):
        raise InputError(
            f"key is {missing[0]!r}, which {said} doesn't have; allowed: a column of both"
        )
    if key is not None:
        theirs = theirs.select(keys.column_names)
    rows, joined = match_labels(table, keys, own, theirs, str(said), files)
    return rows, own, joined


def _with_index(x: Any) -> Any:
    """A data frame of pandas with the index that has a name as a column, which may be a key."""
    names = getattr(getattr(x, "index", None), "names", [None])
    named = hasattr(type(x), "columns") and None not in names and not {*names} & {*x.columns}
    return x.reset_index() if named else x


def _are_files(labels: Any) -> bool:
    if isinstance(labels, (str, os.PathLike)):
        return True
    several = isinstance(labels, (list, tuple)) and len(labels) > 0
    return several and all(
        isinstance(one, os.PathLike) or (isinstance(one, str) and Path(one).exists())
        for one in labels
    )

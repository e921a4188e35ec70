"""A folder of scores read back: all scores, or the most anomalous rows and an even sample."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aejax.config import InputError, read_json
from aejax.data.labels import one_table
from aejax.data.schema import Series
from aejax.scoring import manifest
from aejax.scoring.tabulation import key_names

# The column of scores that numbers rows.
ROW = "row"
SUMMARY_BYTES = 64 << 20
# Of scores that are held to be drawn; of more, evenly spread ones.
MOST_HELD = 1 << 22
# Columns of scores that are no keys of the rows.
OWN = frozenset(
    {"row", "score", "is_anomaly", "reason", "p_value", "threshold", "file", "file_row"}
    | {"top_features", "top_errors", "top_found", "top_expected", "state"}
)


def described(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of complete scores.

    Raises:
        InputError: if it holds none, or a job that isn't done.
    """
    if not (folder / manifest.NAME).is_file():
        raise InputError(f"{folder} holds no scores ({manifest.NAME} is missing)")
    written = manifest.read_description(folder)
    if not (folder / manifest.SUCCESS).is_file():
        raise InputError(f"{folder} holds an unfinished job; run the same `aejax score` again")
    return written


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
    written = described(folder)
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


def series_of(folder: Path) -> Series | None:
    """The series whose points were scored into a folder; None where rows are no points of any."""
    path = folder / manifest.MODEL
    described = read_json(path, SUMMARY_BYTES) if path.is_file() else {}
    return Series.from_dict(described["series"]) if "series" in described else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """What a report of scored rows shows of a folder.

    Attributes:
        written: its manifest.
        summary: what the job said of itself.
        model: what made the scores; None where that wasn't kept.
        values: finite scores, of all rows or evenly spread ones, float64 [n]; of groups, shares
            of their thresholds.
        rows: the number of each among all rows, int64 [n].
        step: one of so many rows is in `values`.
        worst: the most anomalous rows with everything that is written of them, the first one
            first.
        worst_values: their scores, as in `values`.
    """

    written: dict[str, Any]
    summary: dict[str, Any]
    model: dict[str, Any] | None
    values: np.ndarray
    rows: np.ndarray
    step: int
    worst: pa.Table
    worst_values: np.ndarray

    @property
    def threshold(self) -> float | None:
        """The threshold on `values`: 1 where each group has its own."""
        if "threshold" in self.worst.column_names:
            return 1.0
        threshold: float | None = self.written["identity"]["threshold"]
        return threshold


def read_worst(folder: Path, most: int, held: int = MOST_HELD) -> Scores:
    """The most anomalous rows of a folder of scores, and scores of all rows or of some.

    Args:
        folder: that `score_files` wrote.
        most: how many rows to give.
        held: how many scores to hold; of more, evenly spread ones.

    Raises:
        InputError: if the folder holds no complete scores.
    """
    written = described(folder)
    summary = read_json(folder / manifest.SUMMARY, SUMMARY_BYTES)
    path = folder / manifest.MODEL
    step = max(1, -(-summary["rows"] // held))
    values, rows = [np.zeros(0)], [np.zeros(0, np.int64)]
    best_values, best_at = np.zeros(0), np.zeros((0, 2), np.int64)
    try:
        for number, part in enumerate(written["parts"]):
            scores = _values(folder / part["name"])
            finite = np.flatnonzero(np.isfinite(scores))
            here = finite[(part["first_row"] + finite) % step == 0]
            values.append(scores[here])
            rows.append(part["first_row"] + here)
            top = finite[np.argsort(-scores[finite], kind="stable")[:most]]
            best_values = np.concatenate([best_values, scores[top]])
            at = np.stack([np.full(len(top), number), top], axis=1)
            best_at = np.concatenate([best_at, at])
            order = np.argsort(-best_values, kind="stable")[:most]
            best_values, best_at = best_values[order], best_at[order]
        worst = _rows_at(folder, written["parts"], best_at)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{folder}: {error}") from None
    return Scores(
        written=written,
        summary=summary,
        model=read_json(path, SUMMARY_BYTES) if path.is_file() else None,
        values=np.concatenate(values),
        rows=np.concatenate(rows),
        step=step,
        worst=worst,
        worst_values=best_values,
    )


def keys_at(folder: Path, written: dict[str, Any], key: str, rows: np.ndarray) -> pa.Array:
    """The cells of a key of some rows, by their numbers, ascending [n]."""
    identity = written["identity"]
    name = key_names(identity["key_columns"], names_files=identity["names_files"])[key]
    parts = []
    for part in written["parts"]:
        first, stop = np.searchsorted(rows, [part["first_row"], part["first_row"] + part["rows"]])
        with pq.ParquetFile(folder / part["name"]) as file:
            own = file.read([name]).take(rows[first:stop] - part["first_row"])
        parts.append(_without_categories(own).rename_columns([key]))
    return one_table(parts)[key].combine_chunks()


def _values(part: Path) -> np.ndarray:
    """A part's scores, float64; of groups as shares of their thresholds; NaN without one."""
    with pq.ParquetFile(part) as file:
        own = "threshold" in file.schema_arrow.names
        table = file.read(["score", "threshold"] if own else ["score"])
    scores: np.ndarray = table["score"].to_numpy().astype(np.float64)
    return scores / table["threshold"].to_numpy() if own else scores


def _rows_at(folder: Path, parts: list[dict[str, Any]], at: np.ndarray) -> pa.Table:
    """Rows by part and position in it, int64 [n, 2], in this order."""
    tables, places = [], []
    for number in np.unique(at[:, 0]).tolist():
        own = np.flatnonzero(at[:, 0] == number)
        with pq.ParquetFile(folder / parts[number]["name"]) as file:
            names = [name for name in file.schema_arrow.names if name != "state"]
            first = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                inside = own[(at[own, 1] >= first) & (at[own, 1] < first + count)]
                if len(inside):
                    tables.append(file.read_row_group(group, names).take(at[inside, 1] - first))
                    places.append(inside)
                first += count
    if not tables:
        return pa.table({})
    plain = [_without_categories(table) for table in tables]
    return one_table(plain).take(np.argsort(np.concatenate(places), kind="stable"))


def _without_categories(table: pa.Table) -> pa.Table:
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(at, field.name, table[at].cast(field.type.value_type))
    return table

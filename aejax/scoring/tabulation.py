"""From a block of rows to the rows of a part: scores, flags, and why a row has none."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from aejax.config import InputError
from aejax.data.arrow_types import array_of, array_of_text
from aejax.data.batches import evenly
from aejax.data.blocks import Block, Wrong
from aejax.data.files import Rows
from aejax.data.rows import finite_rows
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.drift import BINS, ROWS_OF_A_BLOCK, bin_counts, bins_of, known_deciles

# Kinds of bad rows, as a summary counts them.
MISSING, INFINITE, UNREADABLE, BEYOND = (
    "missing or NaN",
    "infinite",
    "not readable as numbers",
    "score beyond float32's range",
)
# Of points of a series.
NO_WINDOW = "in no whole window"

# What is counted of the rows of a file; behind these, the scores in each of the ten bins between
# the deciles of calibration scores, all 0 where those aren't known.
COUNTED = ("rows", "scored", "flagged")


class Refusal(NamedTuple):
    """Why a row has no score.

    Attributes:
        kind: one of a few, that a summary counts.
        reason: a category that scores have: kind and feature, but nothing that is the row's own.
        detail: in words, for who looks at this very row.
    """

    kind: str
    reason: str
    detail: str


class Scored(NamedTuple):
    """A block and what the device made of it.

    Attributes:
        block: rows.
        scores: float32 [n].
        features: int32 [n, top], or None.
        errors: float32 [n, top], or None.
        cells: what these features hold and were expected to, in their own units: numbers or texts
            [n, top] each, or None.
        states: float32 [n, neurons], or None.
        batch_limit: rows of the largest batch that the device held; None if as many as asked.
        members: positions of the rows' groups, int32 [n], -1 for none; None without groups.
        refused: rows that nothing can score, by position.
    """

    block: Block
    scores: np.ndarray
    features: np.ndarray | None = None
    errors: np.ndarray | None = None
    cells: tuple[np.ndarray, np.ndarray] | None = None
    states: np.ndarray | None = None
    batch_limit: int | None = None
    members: np.ndarray | None = None
    refused: Mapping[int, Refusal] = MappingProxyType({})


class PartRows(NamedTuple):
    """Rows of a part, and what is counted of them.

    Attributes:
        table: one row each.
        bad: how many of each kind have no score.
        end: file of the segment, and row in it, that follow the last row.
        unseen: of a mixed table, by column how many cells hold no known category.
        batch_limit: as `Scored` has it.
        files: of each file of the segment that rows are from its position, and counts of the rows,
            int64 [13].
        places: of some of the rows, how many of each feature's values lie in each of its
            usual bins, int64 [10, features]; None where features aren't watched.
    """

    table: pa.Table
    bad: Counter[str]
    end: tuple[int, int]
    unseen: Counter[str]
    files: list[tuple[int, np.ndarray]]
    batch_limit: int | None = None
    places: np.ndarray | None = None


class Tabulator:
    """Makes the rows of a part of a block's scores.

    Args:
        detector: with its threshold, if rows are to be flagged.
        rows: the input, for names of files.
        top_features: how many features are named for every row.
        on_bad_row: "null", or "error" to stop at one.
    """

    def __init__(self, detector: Detector, rows: Rows, top_features: int, on_bad_row: str) -> None:
        self.detector, self.rows, self.on_bad_row = detector, rows, on_bad_row
        self.p_values = gives_p_values(detector)
        self.usual = detector.usual_point_values
        self.deciles = known_deciles(detector.threshold)
        self.scores_tell = detector.scores_tell
        # Of a series, scores are of points.
        self.schema = detector.schema.table
        features = range(self.schema.features) if top_features else ()
        self.names = array_of_text(self.schema.feature_name(i) for i in features)
        self.files = array_of_text(part.name for part in rows.parts)

    def __call__(self, scored: Scored) -> PartRows:
        """The rows of a block.

        Raises:
            InputError: at the first bad row, where these are to stop the job.
        """
        block, scores = scored.block, scored.scores
        count, threshold = len(scores), self.detector.threshold
        wrong = ~np.isfinite(scores)
        if self.schema.columns is None:
            if not self.scores_tell:
                wrong |= ~finite_rows(block.x)
        else:
            # A missing cell is fine; a number beyond float32's range may have been clipped.
            wrong |= np.isinf(block.x).any(axis=1)
        wrong[[*block.bad, *scored.refused]] = True
        positions = np.flatnonzero(wrong)
        refusals = self._refusals(scored, positions)
        if self.on_bad_row == "error":
            for row, refusal in zip(positions.tolist(), refusals, strict=True):
                # A series begins somewhere.
                if refusal.kind != NO_WINDOW:
                    raise InputError(f"{self._place(block, row)} {refusal.detail}")
        columns: dict[str, Any] = {}
        if block.keys is not None:
            names = key_names(block.keys.column_names, names_files=self.rows.many)
            columns |= {names[name]: block.keys.column(name) for name in names}
        if self.rows.many:
            columns |= self._origin(block)
        columns["row"] = array_of(np.arange(block.first_row, block.first_row + count))
        columns["score"] = array_of(scores, wrong)
        members = scored.members
        own_thresholds = None if threshold is None else threshold.of(members)
        if own_thresholds is not None:
            columns["threshold"] = array_of(own_thresholds, wrong)
        if self.p_values and threshold is not None:
            values = np.full(count, np.nan)
            own = None if members is None else members[~wrong]
            values[~wrong] = threshold.p_values(scores[~wrong], own)
            columns["p_value"] = array_of(values, wrong)
        flags = None if threshold is None else threshold.flags(scores, members)
        columns["is_anomaly"] = (
            pa.nulls(count, pa.bool_()) if flags is None else array_of(flags, wrong)
        )
        columns["reason"] = _category(refusals, positions, count)
        if scored.features is not None and scored.errors is not None:
            names = self.names.take(array_of(scored.features.ravel()))
            errors = array_of(scored.errors.ravel())
            columns["top_features"] = _lists(names, scored.features.shape[1])
            columns["top_errors"] = _lists(errors, scored.errors.shape[1])
        for name, cells in zip(("top_found", "top_expected"), scored.cells or (), strict=False):
            flat = cells.ravel()
            values = pa.array(flat, pa.string()) if flat.dtype == object else array_of(flat)
            columns[name] = _lists(values, cells.shape[1])
        if scored.states is not None:
            # Older releases of pyarrow can't write nulls among lists of one size.
            ends = np.cumsum(np.where(wrong, 0, scored.states.shape[1]))
            columns["state"] = pa.ListArray.from_arrays(
                array_of(np.concatenate([[0], ends]).astype(np.int32)),
                array_of(scored.states[~wrong].ravel()),
                mask=array_of(wrong),
            )
        last = block.runs[-1]
        return PartRows(
            table=pa.Table.from_arrays(list(columns.values()), list(columns)),
            bad=Counter(refusal.kind for refusal in refusals),
            end=(last.file, last.first_row + last.rows),
            unseen=unseen_values(self.schema, block.x),
            files=self._files(scored, wrong, flags),
            batch_limit=scored.batch_limit,
            places=self._places(block.x, wrong),
        )

    def _files(
        self, scored: Scored, wrong: np.ndarray, flags: np.ndarray | None
    ) -> list[tuple[int, np.ndarray]]:
        """Counts of the rows by file."""
        counted, first = [], 0
        for run in scored.block.runs:
            rows = slice(first, first + run.rows)
            good, first = ~wrong[rows], rows.stop
            flagged = 0 if flags is None else int(np.sum(flags[rows] & good))
            counts = np.zeros(len(COUNTED) + BINS, np.int64)
            counts[: len(COUNTED)] = run.rows, good.sum(), flagged
            if self.deciles is not None:
                of_groups = None if scored.members is None else scored.members[rows][good]
                own = bins_of(scored.scores[rows][good], self.deciles, of_groups)
                counts[len(COUNTED) :] = np.bincount(own[own >= 0], minlength=BINS)
            counted.append((run.file, counts))
        return counted

    def _places(self, x: np.ndarray, wrong: np.ndarray) -> np.ndarray | None:
        if self.usual is None:
            return None
        some = evenly(len(x), ROWS_OF_A_BLOCK)
        # A copy in the order that the rows have in memory: a mask makes one that is turned.
        few, bad = x[some].copy(order="K"), wrong[some]
        return bin_counts(self.usual.edges, few[~bad] if bad.any() else few)

    def _refusals(self, scored: Scored, positions: np.ndarray) -> list[Refusal]:
        """Why the rows at these positions have no score."""
        block, schema = scored.block, self.schema
        refusals = dict(scored.refused)
        for row, what in block.bad.items():
            kind = what.kind if isinstance(what, Wrong) else UNREADABLE
            refusals.setdefault(row, Refusal(UNREADABLE, kind, what))
        others = positions[~np.isin(positions, list(refusals))]
        values = block.x[others].reshape(len(others), schema.features)
        missing, infinite = np.isnan(values), np.isinf(values)
        empty = np.zeros(len(others), bool)
        if schema.columns is not None:
            # A missing cell is fine where others have a value.
            empty = missing.all(axis=1)
            missing &= empty[:, None]
        wrong = missing | infinite
        first = wrong.argmax(axis=1)
        for at, row in enumerate(others.tolist()):
            feature = int(first[at])
            if empty[at]:
                kind, what = MISSING, "no column has a value"
            elif not wrong[at, feature]:
                kind, what = BEYOND, f"the {BEYOND.replace(' beyond', ' is beyond')}"
            else:
                kind = MISSING if missing[at, feature] else INFINITE
                what = f"{schema.feature_name(feature)} is {kind}"
            refusals[row] = Refusal(kind, what, what)
        return [refusals[row] for row in positions.tolist()]

    def _place(self, block: Block, row: int) -> str:
        """File and row of a row of a block."""
        file, in_file = block.place(row)
        of_all = f" ({block.first_row + row} of all)" if self.rows.many else ""
        return f"{self.rows.parts[file].path}: row {in_file}{of_all}:"

    def _origin(self, block: Block) -> dict[str, pa.Array]:
        files = np.repeat(
            np.array([run.file for run in block.runs], np.int32), [r.rows for r in block.runs]
        )
        rows = np.concatenate([np.arange(r.first_row, r.first_row + r.rows) for r in block.runs])
        return {
            "file": self.files.take(array_of(files)),
            "file_row": array_of(rows),
        }


def gives_p_values(detector: Detector) -> bool:
    """Whether a detector's threshold knows how rare a score is."""
    return getattr(detector.threshold, "calibration", None) is not None


def threshold_identity(detector: Detector) -> dict[str, Any]:
    """What of a detector's threshold decides what is written."""
    threshold = detector.threshold
    described: dict[str, Any] = {"threshold": detector.threshold_value}
    if threshold is not None and (threshold.value is None or gives_p_values(detector)):
        settled = json.dumps(threshold.to_dict(), sort_keys=True).encode()
        described["threshold_calibration"] = hashlib.sha256(settled).hexdigest()
    return described


def unseen_values(schema: Schema, x: np.ndarray) -> Counter[str]:
    """By column how many cells of mixed rows hold no known category; those with any."""
    return Counter(
        {
            column.name: count
            for index, column in enumerate(schema.columns or ())
            if column.kind == "category"
            and (count := int(np.sum(x[:, index] == len(column.categories))))
        }
    )


def _category(refusals: Sequence[Refusal], positions: np.ndarray, rows: int) -> pa.Array:
    """The reasons of the rows at these positions, null for all others."""
    names = {refusal.reason: 0 for refusal in refusals}
    names = {name: at for at, name in enumerate(names)}
    codes = np.full(rows, -1, np.int32)
    codes[positions] = [names[refusal.reason] for refusal in refusals]
    indices = array_of(codes, codes < 0)
    return pa.DictionaryArray.from_arrays(indices, array_of_text(names))


def _lists(values: pa.Array, size: int) -> pa.Array:
    offsets = np.arange(0, len(values) + 1, size, dtype=np.int32)
    return pa.ListArray.from_arrays(array_of(offsets), values)


def key_names(key_columns: Sequence[str], *, names_files: bool) -> dict[str, str]:
    """What each key column is called among scores.

    Args:
        key_columns: as the input calls them.
        names_files: whether scores have the columns `file` and `file_row`.

    Returns:
        The same names, but for those of columns of scores: "score" becomes "key_score".
    """
    taken = {"row", "score", "is_anomaly", "reason", "p_value"}
    taken |= {"top_features", "top_errors", "top_found", "top_expected", "state", "threshold"}
    if names_files:
        taken |= {"file", "file_row"}
    free = {name: name for name in key_columns if name not in taken}
    for name in key_columns:
        if name not in free:
            other = f"key_{name}"
            while other in free.values():
                other = f"key_{other}"
            free[name] = other
    return {name: free[name] for name in key_columns}

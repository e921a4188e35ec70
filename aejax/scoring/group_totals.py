"""Flags counted by group while files are scored, in memory that rows don't add to.

A part's counts are found from its file, and parts are folded in their order. So a job that was
stopped, one that ran through and one on Ray end with the same counts.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aejax.config.durable import written_aside
from aejax.data.groups import positions_of
from aejax.detection.alarms import Alarm, drift_alarms, in_sentences
from aejax.detection.drift import BINS, bins_of, least_drift, population_stability, tell_apart
from aejax.detection.threshold import GroupThresholds
from aejax.scoring.manifest import GROUPS

# Groups without a detector that are named: files may hold any number of them.
MOST_UNKNOWN = 1000
# Of each kind, in a summary.
MOST_SHOWN = 20
MOST_LETTERS = 200
# A quantile of the normal distribution: Wilson's interval holds 95 %.
WILSON = 1.959964
FIELDS = ("rows", "scored", "flagged")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    """Whose rows are counted.

    Attributes:
        column: of the parts, that names a row's group.
        names: that have a detector.
        deciles: of the scores that each threshold was set on, float64 [groups, 9]; NaN where
            they aren't known.
        calibrated: how many those scores were, [groups].
    """

    column: str
    names: tuple[str, ...]
    deciles: np.ndarray
    calibrated: np.ndarray

    @staticmethod
    def of(names: tuple[str, ...], thresholds: GroupThresholds, column: str) -> Groups:
        """Groups and their thresholds, with their names' column in the files."""
        return Groups(
            column=column, names=names, deciles=thresholds.deciles, calibrated=thresholds.rows
        )

    def of_part(self, file: pq.ParquetFile) -> dict[str, Any]:
        """A part's counts.

        Returns:
            "known": of each group that has rows its position, its rows, scored and flagged ones,
            and its scores in each of the ten bins; "unknown": name and rows, at most
            `MOST_UNKNOWN`; "unnamed": rows of further ones; "empty": rows without a group.
        """
        size = len(self.names)
        counts = np.zeros((size, len(FIELDS)), np.int64)
        bins = np.zeros(size * BINS, np.int64)
        unknown: Counter[str] = Counter()
        empty = 0
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number, columns=[self.column, "score", "is_anomaly"])
            texts, members = positions_of(rows, self.column, self.names)
            scores = rows["score"].to_numpy()
            scored = np.isfinite(scores) & (members >= 0)
            flagged = rows["is_anomaly"].fill_null(False).to_numpy() & scored
            for at, chosen in enumerate((members >= 0, scored, flagged)):
                counts[:, at] += np.bincount(members[chosen], minlength=size)
            own = members[scored]
            places = bins_of(scores[scored], self.deciles, own)
            places = (own * BINS + places)[places >= 0]
            bins += np.bincount(places, minlength=len(bins))
            others = texts.filter(pa.array(members < 0)).value_counts()
            for one in others.to_pylist():
                if one["values"]:
                    unknown[one["values"]] += one["counts"]
                else:
                    empty += one["counts"]
        listed, unnamed = _most(unknown.items())
        by_group = bins.reshape(size, BINS)
        return {
            "known": [
                [at, *counts[at].tolist(), *by_group[at].tolist()]
                for at in np.flatnonzero(counts[:, 0]).tolist()
            ],
            "unknown": listed,
            "unnamed": unnamed,
            "empty": empty,
        }


class GroupTotals:
    """Counts of all parts so far.

    Args:
        groups: whose rows are counted.
    """

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        # Rows, scored ones, flagged ones, and scores in each bin between the deciles.
        self.counts = np.zeros((len(groups.names), len(FIELDS) + BINS), np.int64)
        self.unknown: dict[str, int] = {}
        self.unnamed = self.empty = 0

    def fold(self, part: dict[str, Any]) -> None:
        """Add what `Groups.of_part` gave for the next part."""
        for at, *counted in part["known"]:
            self.counts[at] += counted
        for name, rows in part["unknown"]:
            if name in self.unknown or len(self.unknown) < MOST_UNKNOWN:
                self.unknown[name] = self.unknown.get(name, 0) + rows
            else:
                self.unnamed += rows
        self.unnamed += part["unnamed"]
        self.empty += part["empty"]

    def to_dict(self) -> dict[str, Any]:
        """As `from_dict` takes it; JSON-ready."""
        return {
            "counts": self.counts.tolist(),
            "unknown": list(self.unknown.items()),
            "unnamed": self.unnamed,
            "empty": self.empty,
        }

    @staticmethod
    def from_dict(written: dict[str, Any], groups: Groups) -> GroupTotals:
        """The counts that `to_dict` described.

        Raises:
            ValueError: if they are of other groups.
        """
        totals = GroupTotals(groups)
        counts = np.array(written["counts"], np.int64)
        if counts.shape != totals.counts.shape:
            raise ValueError(f"counts have shape {counts.shape}, not {totals.counts.shape}")
        totals.counts = counts
        totals.unknown = dict(written["unknown"])
        totals.unnamed, totals.empty = written["unnamed"], written["empty"]
        return totals

    def summary(self) -> dict[str, Any]:
        """The groups that have most of their rows flagged, and those without a detector.

        Groups are ranked by the lower end of the 95 % interval of Wilson (1927) for the share
        that is flagged, so that one row of one doesn't come before ninety of a hundred.
        """
        order = np.argsort(-self._least_shares(), kind="stable")[:MOST_SHOWN].tolist()
        drifted = self._drifted()
        told: dict[str, Any] = {
            "groups": {
                "with_rows": int((self.counts[:, 0] > 0).sum()),
                "without_rows": int((self.counts[:, 0] == 0).sum()),
                "with_flags": int((self.counts[:, 2] > 0).sum()),
                "drifted": len(drifted),
            },
            "most_flagged_groups": [self._line(at) for at in order if self.counts[at, 2] > 0],
        }
        if drifted:
            told["alarms"] = in_sentences(drifted, len(self.counts))
        if self.unknown or self.empty:
            listed, rest = _most(self.unknown.items(), MOST_SHOWN)
            told["unknown_groups"] = {
                "groups": len(self.unknown),
                # Beyond so many, names aren't kept, only their rows.
                "at_least": self.unnamed > 0,
                "rows": sum(self.unknown.values()) + self.unnamed,
                "rows_without_group": self.empty,
                "most": [{"group": _short(name), "rows": rows} for name, rows in listed],
                "rows_of_others": rest + self.unnamed,
            }
        return told

    def write(self, folder: Path, added: GroupTotals) -> None:
        """Write a line for every group, those without a detector last.

        Args:
            folder: of the scores.
            added: counts of the newest run alone; they are in the last columns.
        """
        text = io.StringIO(newline="")
        table = csv.writer(text)
        more = ("share_flagged", "population_stability")
        newest = [f"added_{name}" for name in (*FIELDS, *more)]
        table.writerow([self.groups.column, *FIELDS, *more, "detector", *newest])
        both = zip(self._cells(), added._cells(), strict=True)
        for name, (of_all, of_run) in zip(self.groups.names, both, strict=True):
            table.writerow([name, *of_all, "yes", *of_run])
        for name, rows in _most(self.unknown.items())[0]:
            row = [rows, 0, 0, None, None]
            of_run = [added.unknown.get(name, 0), *row[1:]]
            table.writerow([name, *row, "no", *of_run])
        with written_aside(folder / GROUPS) as file:
            file.write(text.getvalue().encode())

    def _cells(self) -> Iterator[list[Any]]:
        """Of each group its counts, the share that is flagged, and its stability index."""
        for at, index in enumerate(self._indices().tolist()):
            counts = self.counts[at, : len(FIELDS)].tolist()
            yield [*counts, self._line(at)["share"], None if math.isnan(index) else index]

    def _line(self, at: int) -> dict[str, Any]:
        rows, scored, flagged = self.counts[at, : len(FIELDS)].tolist()
        return {
            "group": _short(self.groups.names[at]),
            "flagged": flagged,
            "rows": rows,
            "share": flagged / scored if scored else None,
        }

    def _indices(self) -> np.ndarray:
        """Each group's population stability index, float64 [groups]; NaN where none is known."""
        told = tell_apart(self.groups.deciles)
        return np.where(told, population_stability(self.counts[:, len(FIELDS) :]), np.nan)

    def _drifted(self) -> dict[str, list[Alarm]]:
        """The groups whose scores have drifted, by name."""
        indices, least = self._indices(), least_drift(self.counts[:, 1], self.groups.calibrated)
        found = np.flatnonzero(indices > least).tolist()
        return {
            self.groups.names[at]: drift_alarms(
                self.counts[at, len(FIELDS) :], int(self.groups.calibrated[at])
            )
            for at in found
        }

    def _least_shares(self) -> np.ndarray:
        """Lower ends of the intervals of the shares that are flagged, float64 [groups]."""
        scored, flagged = self.counts[:, 1].astype(np.float64), self.counts[:, 2]
        share = np.divide(flagged, scored, out=np.zeros_like(scored), where=scored > 0)
        squared = WILSON**2 / np.maximum(scored, 1)
        within = WILSON * np.sqrt(
            share * (1 - share) / np.maximum(scored, 1) + squared / (4 * np.maximum(scored, 1))
        )
        ends: np.ndarray = (share + squared / 2 - within) / (1 + squared)
        return np.where(scored > 0, ends, -math.inf)


def _most(
    counted: Iterable[tuple[str, int]], most: int = MOST_UNKNOWN
) -> tuple[Sequence[tuple[str, int]], int]:
    """The names with most rows, and the rows of all others."""
    ordered = sorted(counted, key=lambda pair: (-pair[1], pair[0]))
    return ordered[:most], sum(rows for _, rows in ordered[most:])


def _short(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else f"{name[:MOST_LETTERS]}..."

"""Flags counted by group while files are scored, in memory that rows don't add to."""

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

from aejax.config.durable import written_aside
from aejax.data.groups import positions_of
from aejax.detection.alarms import Alarm, drift_alarms, in_sentences
from aejax.detection.drift import (
    BINS,
    bins_of,
    least_drift,
    population_stability,
    tell_apart,
)
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


class GroupTotals:
    """Counts of rows by group: of a part, a run or a job.

    Args:
        groups: whose rows are counted.
    """

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        # Rows, scored ones, flagged ones, and scores in each bin between the deciles.
        self.counts = np.zeros((len(groups.names), len(FIELDS) + BINS), np.int64)
        self.unknown: Counter[str] = Counter()
        # Rows of further groups without a detector, and of none.
        self.unnamed = self.empty = 0

    def add(self, rows: pa.Table) -> None:
        """Count some rows of a part, which remembers all groups without a detector that it has."""
        names, deciles = self.groups.names, self.groups.deciles
        texts, members = positions_of(rows, self.groups.column, names)
        scores = rows["score"].to_numpy()
        scored = np.isfinite(scores) & (members >= 0)
        flagged = rows["is_anomaly"].fill_null(False).to_numpy() & scored
        for at, chosen in enumerate((members >= 0, scored, flagged)):
            self.counts[:, at] += np.bincount(members[chosen], minlength=len(names))
        own = members[scored]
        places = bins_of(scores[scored], deciles, own)
        places = (own * BINS + places)[places >= 0]
        bins = np.bincount(places, minlength=len(names) * BINS)
        self.counts[:, len(FIELDS) :] += bins.reshape(-1, BINS)
        for one in texts.filter(pa.array(members < 0)).value_counts().to_pylist():
            if one["values"]:
                self.unknown[one["values"]] += one["counts"]
            else:
                self.empty += one["counts"]

    def fold(self, part: GroupTotals) -> None:
        """Add the counts of the next part, of whose unknown groups those with most rows."""
        self.counts += part.counts
        listed, unnamed = _most(part.unknown.items())
        for name, rows in listed:
            if name in self.unknown or len(self.unknown) < MOST_UNKNOWN:
                self.unknown[name] += rows
            else:
                self.unnamed += rows
        self.unnamed += unnamed + part.unnamed
        self.empty += part.empty

    def to_dict(self) -> dict[str, Any]:
        """As `from_dict` takes it; JSON-ready: counts of groups that have rows."""
        listed, unnamed = _most(self.unknown.items())
        return {
            "groups": len(self.counts),
            "counts": [
                [at, *self.counts[at].tolist()] for at in np.flatnonzero(self.counts[:, 0]).tolist()
            ],
            "unknown": listed,
            "unnamed": self.unnamed + unnamed,
            "empty": self.empty,
        }

    @staticmethod
    def from_dict(written: dict[str, Any], groups: Groups) -> GroupTotals:
        """The counts that `to_dict` described.

        Raises:
            ValueError: if they are of other groups.
        """
        totals = GroupTotals(groups)
        if written["groups"] != len(groups.names):
            raise ValueError(f"counts of {written['groups']} groups, not of {len(groups.names)}")
        for at, *counted in written["counts"]:
            totals.counts[at] = counted
        totals.unknown = Counter(dict(written["unknown"]))
        totals.unnamed, totals.empty = written["unnamed"], written["empty"]
        return totals

    def summary(self) -> dict[str, Any]:
        """The groups that have most of their rows flagged, and those without a detector.

        Groups are ranked by the lower end of the 95 % interval of Wilson (1927) for the share
        that is flagged, so that one row of one doesn't come before ninety of a hundred.
        """
        order = np.argsort(-self._least_shares(), kind="stable")[:MOST_SHOWN].tolist()
        drifted = self._drifted()
        described: dict[str, Any] = {
            "groups": {
                "with_rows": int((self.counts[:, 0] > 0).sum()),
                "without_rows": int((self.counts[:, 0] == 0).sum()),
                "with_flags": int((self.counts[:, 2] > 0).sum()),
                "drifted": len(drifted),
            },
            "most_flagged_groups": [self._line(at) for at in order if self.counts[at, 2] > 0],
        }
        if drifted:
            described["alarms"] = in_sentences(drifted, len(self.counts))
        if self.unknown or self.empty:
            listed, rest = _most(self.unknown.items(), MOST_SHOWN)
            described["unknown_groups"] = {
                "groups": len(self.unknown),
                # Beyond so many, names aren't kept, only their rows.
                "at_least": self.unnamed > 0,
                "rows": sum(self.unknown.values()) + self.unnamed,
                "rows_without_group": self.empty,
                "most": [{"group": _short(name), "rows": rows} for name, rows in listed],
                "rows_of_others": rest + self.unnamed,
            }
        return described

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
        """Each group's counts, the share that is flagged, and its stability index."""
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
        apart = tell_apart(self.groups.deciles)
        return np.where(apart, population_stability(self.counts[:, len(FIELDS) :]), np.nan)

    def _drifted(self) -> dict[str, list[Alarm]]:
        """The groups whose scores have drifted, by name."""
        indices, least = self._indices(), least_drift(self.counts[:, 1], self.groups.calibrated)
        return {
            self.groups.names[at]: drift_alarms(
                self.counts[at, len(FIELDS) :], int(self.groups.calibrated[at])
            )
            for at in np.flatnonzero(indices > least).tolist()
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

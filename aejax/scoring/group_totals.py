"""Flags counted by group while files are scored, in memory that rows don't add to.

A part's counts are found from its file, and parts are folded in their order. So a job that was
stopped, one that ran through and one on Ray end with the same counts.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aejax.config.durable import written_aside
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
    """

    column: str
    names: tuple[str, ...]

    def of_part(self, file: pq.ParquetFile) -> dict[str, Any]:
        """A part's counts.

        Returns:
            "known": group's position, rows, scored and flagged ones, by position; "unknown":
            name and rows, at most `MOST_UNKNOWN`; "unnamed": rows of further ones; "empty":
            rows whose cell is empty.
        """
        place = {name: at for at, name in enumerate(self.names)}
        counts = np.zeros((len(self.names), len(FIELDS)), np.int64)
        unknown: dict[str, int] = {}
        empty = 0
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number, columns=[self.column, "is_anomaly"])
            texts = rows[self.column].cast(pa.string())
            found = pa.table({"group": texts, "flag": rows["is_anomaly"]}).group_by("group")
            counted = found.aggregate([([], "count_all"), ("flag", "count"), ("flag", "sum")])
            columns = ("group", "count_all", "flag_count", "flag_sum")
            for name, *three in zip(*(counted[key].to_pylist() for key in columns), strict=True):
                if not name:
                    empty += three[0]
                elif name in place:
                    counts[place[name]] += [count or 0 for count in three]
                else:
                    unknown[name] = unknown.get(name, 0) + three[0]
        listed, unnamed = _most(unknown.items())
        there = np.flatnonzero(counts[:, 0]).tolist()
        return {
            "known": [[at, *counts[at].tolist()] for at in there],
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
        self.counts = np.zeros((len(groups.names), len(FIELDS)), np.int64)
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
        told: dict[str, Any] = {
            "groups": {
                "with_rows": int((self.counts[:, 0] > 0).sum()),
                "without_rows": int((self.counts[:, 0] == 0).sum()),
                "with_flags": int((self.counts[:, 2] > 0).sum()),
            },
            "most_flagged_groups": [self._line(at) for at in order if self.counts[at, 2] > 0],
        }
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

    def write(self, folder: Path) -> None:
        """Write a line for every group, those without a detector last."""
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow([self.groups.column, *FIELDS, "share_flagged", "detector"])
        for at, name in enumerate(self.groups.names):
            line = self._line(at)
            table.writerow([name, *self.counts[at].tolist(), line["share"], "yes"])
        for name, rows in _most(self.unknown.items())[0]:
            table.writerow([name, rows, 0, 0, None, "no"])
        with written_aside(folder / GROUPS) as file:
            file.write(text.getvalue().encode())

    def _line(self, at: int) -> dict[str, Any]:
        rows, scored, flagged = self.counts[at].tolist()
        return {
            "group": _short(self.groups.names[at]),
            "flagged": flagged,
            "rows": rows,
            "share": flagged / scored if scored else None,
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

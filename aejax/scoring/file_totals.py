"""Rows, flags and drift of each input file, from what the journal says of the parts.

Files are added to a folder of scores for years; a day that has gone wrong shows in its own file
and run, and not in the sum of all.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config.durable import written_aside
from aejax.detection.alarms import drift_alarms
from aejax.detection.drift import BINS, least_drift, population_stability
from aejax.scoring.manifest import FILES, Manifest
from aejax.scoring.tabulation import COUNTED

# In a summary, the newest first.
MOST_SHOWN = 20
# Files that a sentence names.
MOST_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """What is counted of every input file.

    Attributes:
        names: in the order in which they are scored.
        runs: the number of the run that added each, int64 [files].
        counts: rows, scored and flagged ones, and scores in each of the ten bins between the
            deciles of calibration scores, int64 [files, 13].
        stretches: the same of the rows of a file that are in one part, int64 [stretches, 13].
        places: of each stretch its file's position, and its first row there, int64 [stretches, 2].
        calibrated: how many scores those deciles were found on; at least, where they are of
            many groups.
        alike: how many scores in a row say about the same, and count as one: those of points whose
            windows overlap.
    """

    names: tuple[str, ...]
    runs: np.ndarray
    counts: np.ndarray
    stretches: np.ndarray
    places: np.ndarray
    calibrated: int
    alike: int = 1

    @staticmethod
    def of(manifest: Manifest, calibrated: int, alike: int = 1) -> Files:
        """The files of a job, with the counts of its finished parts."""
        sizes = [len(segment["files"]) for segment in manifest.segments]
        first = np.cumsum([0, *sizes])
        counts = np.zeros((int(first[-1]), len(COUNTED) + BINS), np.int64)
        stretches, places = [], []
        for part in manifest.parts:
            for file, *counted in part["files"]:
                at = int(first[part["segment"]]) + file
                places.append((at, int(counts[at, 0])))
                stretches.append(counted)
                counts[at] += counted
        return Files(
            names=tuple(name for segment in manifest.segments for name, _ in segment["files"]),
            runs=np.repeat([segment["run"] for segment in manifest.segments], sizes),
            counts=counts,
            stretches=np.array(stretches, np.int64).reshape(-1, counts.shape[1]),
            places=np.array(places, np.int64).reshape(-1, 2),
            calibrated=calibrated // alike,
            alike=alike,
        )

    def added(self, run: int) -> Files:
        """The files that one run added."""
        own = np.flatnonzero(self.runs == run)
        kept = self.runs[self.places[:, 0]] == run
        places = self.places[kept]
        return dataclasses.replace(
            self,
            names=tuple(self.names[at] for at in own),
            runs=self.runs[own],
            counts=self.counts[own],
            stretches=self.stretches[kept],
            places=np.stack([np.searchsorted(own, places[:, 0]), places[:, 1]], axis=1),
        )

    def stability(self) -> tuple[float | None, list[str]]:
        """The population stability index of all scores together, and an alarm if it is large."""
        bins = self.counts[:, len(COUNTED) :].sum(axis=0) / self.alike
        if not bins.any():
            return None, []
        sentences = [alarm.sentence for alarm in drift_alarms(bins, self.calibrated)]
        return float(population_stability(bins)), sentences

    def alarms(self, of_all: list[str]) -> list[str]:
        """A sentence if some of several files, or parts of one, have scores that have drifted.

        Args:
            of_all: what `stability` says of them together; then not all are named, too.
        """
        if len(self.stretches) < 2:
            return []
        index, least = self._indices(self.stretches)
        order = np.argsort(-np.where(index > least, index, -np.inf), kind="stable")
        drifted = order[: int(np.sum(index > least))].tolist()
        if not drifted or (of_all and len(drifted) == len(index)):
            return []
        named = _named(
            [f"{self._name(at)} with {index[at]:.2f}, above {least[at]:.2g}" for at in drifted]
        )
        return [
            f"{len(drifted):,} of {len(self.stretches):,} files, or parts of them, have scores "
            "distributed unlike those of the calibration rows (population stability index of "
            f"{named})"
        ]

    def without_scores(self) -> list[str]:
        """A sentence if most rows of some files have no score: a column is written otherwise, say.

        Points of a series are passed over: those of short files have no whole window.
        """
        rows, scored = self.counts[:, 0], self.counts[:, 1]
        lost = np.flatnonzero(2 * scored < rows).tolist() if self.alike == 1 else []
        if not lost:
            return []
        named = _named(
            [f"{self.names[at]!r} ({rows[at] - scored[at]:,} of {rows[at]:,})" for at in lost]
        )
        return [f"most rows of {len(lost):,} of {len(self.names):,} files have no score: {named}"]

    def _name(self, stretch: int) -> str:
        """A file, and which of its rows where they are not all."""
        (file, first), rows = self.places[stretch].tolist(), int(self.stretches[stretch, 0])
        if rows == self.counts[file, 0]:
            return repr(self.names[file])
        return f"rows {first} to {first + rows - 1} of {self.names[file]!r}"

    def newest(self) -> list[dict[str, Any]]:
        """What a summary says of the files that were scored last, the last one first."""
        count = len(self.names)
        last = np.arange(count - 1, max(count - 1 - MOST_SHOWN, -1), -1)
        return list(self._lines(last))

    def write(self, folder: Path) -> None:
        """Write a line for every file, in the order in which they were scored."""
        text = io.StringIO(newline="")
        table: Any = None
        for line in self._lines(np.arange(len(self.names))):
            if table is None:
                table = csv.DictWriter(text, list(line))
                table.writeheader()
            table.writerow(line)
        with written_aside(folder / FILES) as file:
            file.write(text.getvalue().encode())

    def _lines(self, chosen: np.ndarray) -> Iterator[dict[str, Any]]:
        indices, least = self._indices(self.counts[chosen])
        for at, index, limit in zip(chosen.tolist(), indices.tolist(), least.tolist(), strict=True):
            rows, scored, flagged = self.counts[at, : len(COUNTED)].tolist()
            yield {
                "file": self.names[at],
                "run": int(self.runs[at]),
                "rows": rows,
                "scored": scored,
                "flagged": flagged,
                "flagged_rate": flagged / scored if scored else None,
                "population_stability": None if index != index else index,
                "drifted": index > limit,
            }

    def _indices(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Population stability indices [n], NaN where unknown, and above what they say so."""
        bins = counts[:, len(COUNTED) :] / self.alike
        return population_stability(bins), least_drift(bins.sum(axis=1), self.calibrated)


def _named(files: list[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(files) - MOST_NAMED:,} more" if len(files) > MOST_NAMED else ""
    return ", ".join(files[:MOST_NAMED]) + more

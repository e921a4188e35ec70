"""What is known of all scores of a job, and by themselves of those that its newest run added.

The tallies of all finished parts are kept beside them. After a kill the file may lag behind, or
be missing; what it lacks is counted again from the parts.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aejax.config.durable import refused_as_input, written_aside
from aejax.detection.detector import Detector
from aejax.scoring.file_totals import Files
from aejax.scoring.group_totals import Groups
from aejax.scoring.manifest import ADDED_TOP, CONTINUES, TOP, TOTALS, Manifest
from aejax.scoring.score_bins import histogram_of
from aejax.scoring.tally import Tally

CHECK_BYTES = 4
# What a summary says of earlier runs, and how many it has.
OF_A_RUN = (
    "run",
    "files",
    "rows",
    "flagged",
    "flagged_rate",
    "bad_rows",
    "lowest",
    "highest",
    "population_stability",
    "features_drifted",
    "alarms",
)
RUNS_SHOWN = 20


class Totals:
    """Folded parts: those of all runs of a job, and by themselves those of the newest.

    Args:
        top: how many of the most anomalous rows to keep.
        groups: whose rows are counted apart, or None.
        run: the number of the newest run.
    """

    def __init__(self, top: int, groups: Groups | None = None, run: int = 1) -> None:
        self.top, self.groups, self.run, self.parts = top, groups, run, 0
        self.all, self.added = self.tally(), self.tally()

    @staticmethod
    def of(manifest: Manifest, top: int, groups: Groups | None = None) -> Totals:
        """The totals of all finished parts of a job: as saved, with what is missing folded in."""
        run = manifest.newest_run
        try:
            totals = Totals._saved(manifest.folder, top, groups, run)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            totals = Totals(top, groups, run)
        if totals.parts > len(manifest.parts):
            totals = Totals(top, groups, run)
        for part in manifest.parts[totals.parts :]:
            again = Tally.of_part(manifest.folder / part["name"], groups, top)
            totals.fold(again, added=manifest.run_of(part) == run)
        return totals

    def tally(self) -> Tally:
        """An empty tally, for the rows of a part."""
        return Tally(self.groups, self.top)

    def fold(self, part: Tally, *, added: bool = True) -> None:
        """Add the next part.

        Args:
            part: its tally.
            added: whether the newest run added it.
        """
        self.all.fold(part)
        if added:
            self.added.fold(part)
        self.parts += 1

    def save(self, folder: Path) -> None:
        """Keep the totals beside the parts; they can be made again, so no disk is waited for."""
        tallies = [self.all.to_bytes(), self.added.to_bytes()]
        described = {
            "parts": self.parts,
            "top": self.top,
            "run": self.run,
            "sizes": [len(tally) for tally in tallies],
        }
        written = b"".join([json.dumps(described).encode(), b"\n", *tallies])
        # A damaged digest may still be one, of other scores.
        with written_aside(folder / TOTALS, durable=False) as file:
            file.write(written + zlib.crc32(written).to_bytes(CHECK_BYTES))

    @staticmethod
    def _saved(folder: Path, top: int, groups: Groups | None, run: int = 1) -> Totals:
        content = (folder / TOTALS).read_bytes()
        content, check = content[:-CHECK_BYTES], content[-CHECK_BYTES:]
        if zlib.crc32(content).to_bytes(CHECK_BYTES) != check:
            raise ValueError("damaged")
        described, _, tallies = content.partition(b"\n")
        written = json.loads(described)
        if written["top"] != top:
            raise ValueError("saved for another number of rows")
        totals = Totals(top, groups, run)
        totals.parts = written["parts"]
        size, _ = written["sizes"]
        totals.all = Tally.from_bytes(tallies[:size], groups, top)
        # Saved in an earlier run, they hold no part of this one.
        if written["run"] == run:
            totals.added = Tally.from_bytes(tallies[size:], groups, top)
        return totals

    def write(self, folder: Path, files: Files) -> None:
        """Write the table of a finished job's files, and those of groups and top rows if any."""
        with refused_as_input(folder, CONTINUES):
            files.write(folder)
            if self.all.groups is not None and self.added.groups is not None:
                self.all.groups.write(folder, self.added.groups)
            added = self.added.best if self.run > 1 else None
            for name, rows in ((TOP, self.all.best), (ADDED_TOP, added)):
                if rows is None:
                    continue
                (folder / name).parent.mkdir(exist_ok=True)
                with written_aside(folder / name) as file:
                    pq.write_table(rows, file, compression="zstd")

    def summary(self, manifest: Manifest, files: Files, detector: Detector) -> dict[str, Any]:
        """Everything about the scores that fits on a page; JSON-ready.

        Args:
            manifest: of the job.
            files: likewise.
            detector: what scored; drift is measured by what it knows of normal rows.

        Returns:
            What all runs add up to; "added", the same of the newest alone, whose alarms are
            those of the whole: among all others it would hardly show; and "runs" and "files",
            the newest first.
        """
        of_run = files.added(self.run)
        parts = [part for part in manifest.parts if manifest.run_of(part) == self.run]
        added = {
            "run": self.run,
            "files": len(of_run.names),
            **self.added.summary(parts, of_run, detector),
        }
        latest = {name: added[name] for name in OF_A_RUN if name in added}
        described = self.all.summary(manifest.parts, files, detector)
        described.pop("alarms", None)
        if "alarms" in added:
            described["alarms"] = added["alarms"]
        return {
            "added": added,
            **described,
            "runs": [latest, *manifest.runs[: self.run - 1][::-1]][:RUNS_SHOWN],
            "newest_files": files.newest(),
            "histogram": histogram_of(self.all.bins),
        }

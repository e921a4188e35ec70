"""What is known of all scores together: counts, quantiles, histogram, the most anomalous rows.

Every part is folded in once, in order, from its file. The folded state is kept beside the
parts; after a kill it may lag behind them, and then the missing parts are folded in.
Both ways do the same operations on the same numbers, so both end in the same summary.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config.durable import refused_as_input, written_aside
from aejax.data.blocks import as_schema
from aejax.scoring.file_totals import Files
from aejax.scoring.group_totals import Groups
from aejax.scoring.manifest import ADDED_TOP, CONTINUES, TOP, TOTALS, Manifest
from aejax.scoring.row_scorer import Described
from aejax.scoring.score_bins import histogram_of
from aejax.scoring.tally import PartTotals, Tally, part_totals, reading, scores_of

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
_METADATA = b"aejax"


class Totals:
    """Folded parts: those of all runs of a job, and by themselves those of the newest.

    Args:
        top: how many of the most anomalous rows to keep.
        groups: whose rows are counted apart, or None.
        run: the number of the newest run.
    """

    def __init__(self, top: int, groups: Groups | None = None, run: int = 1) -> None:
        self.top, self.groups, self.run, self.parts = top, groups, run, 0
        self.all, self.added = Tally(groups), Tally(groups)
        self.top_of_all: pa.Table | None = None
        self.top_of_added: pa.Table | None = None

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
            totals.fold(manifest.folder / part["name"], added=manifest.run_of(part) == run)
        return totals

    def fold(self, path: Path, part: PartTotals | None = None, *, added: bool = True) -> None:
        """Add the next part.

        Args:
            path: its file.
            part: what `part_totals` gives for it, where that is known already.
            added: whether the newest run added it.
        """
        part = part or part_totals(path, self.groups)
        self.all.fold(part)
        if added:
            self.added.fold(part)
        if self.top:
            with reading(path) as file:
                for group in range(file.num_row_groups):
                    self.top_of_all = self._with_best(self.top_of_all, file, group)
                    if added:
                        self.top_of_added = self._with_best(self.top_of_added, file, group)
        self.parts += 1

    def _with_best(
        self, rows: pa.Table | None, file: pq.ParquetFile, group: int
    ) -> pa.Table | None:
        """The most anomalous of these rows and of a row group's."""
        scores = scores_of(file, group)
        if not len(scores):
            return rows
        if rows is not None and len(rows) == self.top:
            least = rows["score"][-1].as_py()
            if not scores.max() > least:
                return rows
        kth = max(len(scores) - self.top, 0)
        table = file.read_row_group(group)
        kept = table.filter(pc.greater_equal(table["score"], np.partition(scores, kth)[kth]))
        # What a part says of itself is not said of these rows.
        kept = kept.replace_schema_metadata(None)
        both = kept if rows is None else pa.concat_tables([rows, as_schema(kept, rows.schema)])
        order = pc.sort_indices(both, [("score", "descending"), ("row", "ascending")])
        return both.take(order[: self.top]).combine_chunks()

    def save(self, folder: Path) -> None:
        """Keep the totals beside the parts; they can be made again, so no disk is waited for."""
        tops = [top for top in (self.top_of_all, self.top_of_added) if top is not None]
        described = {
            "parts": self.parts,
            "top": self.top,
            "run": self.run,
            "all": self.all.to_dict(),
            "added": self.added.to_dict(),
            "tops": [len(top) for top in tops],
        }
        rows = pa.concat_tables(tops) if tops else pa.table({})
        rows = rows.replace_schema_metadata({_METADATA: json.dumps(described)})
        content = pa.BufferOutputStream()
        pq.write_table(rows, content)
        written = content.getvalue().to_pybytes()
        # A damaged digest may still be one, of other scores.
        with written_aside(folder / TOTALS, durable=False) as file:
            file.write(written + zlib.crc32(written).to_bytes(CHECK_BYTES))

    @staticmethod
    def _saved(folder: Path, top: int, groups: Groups | None, run: int = 1) -> Totals:
        content = (folder / TOTALS).read_bytes()
        content, check = content[:-CHECK_BYTES], content[-CHECK_BYTES:]
        if zlib.crc32(content).to_bytes(CHECK_BYTES) != check:
            raise ValueError("damaged, or written before there were checksums")
        # Not `read_table`: a thread of its own lets go of the bytes, some time, and ends the
        # process where Python has ended by then.
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            table = file.read(use_threads=False)
        written = json.loads(table.schema.metadata[_METADATA])
        if written["top"] != top:
            raise ValueError("saved for another number of rows")
        totals = Totals(top, groups, run)
        totals.parts = written["parts"]
        totals.all = Tally.from_dict(written["all"], groups)
        table = table.replace_schema_metadata(None)
        if written["tops"]:
            totals.top_of_all = table[: written["tops"][0]].combine_chunks()
        # Saved in an earlier run, they hold no part of this one.
        if written["run"] == run:
            totals.added = Tally.from_dict(written["added"], groups)
            if written["tops"][1:]:
                totals.top_of_added = table[written["tops"][0] :].combine_chunks()
        return totals

    def write(self, folder: Path, files: Files) -> None:
        """Write the table of a finished job's files, and those of groups and top rows if any."""
        with refused_as_input(folder, CONTINUES):
            files.write(folder)
            if self.all.groups is not None and self.added.groups is not None:
                self.all.groups.write(folder, self.added.groups)
            added = self.top_of_added if self.run > 1 else None
            for name, rows in ((TOP, self.top_of_all), (ADDED_TOP, added)):
                if rows is None:
                    continue
                (folder / name).parent.mkdir(exist_ok=True)
                with written_aside(folder / name) as file:
                    pq.write_table(rows, file, compression="zstd")

    def summary(self, manifest: Manifest, files: Files, detector: Described) -> dict[str, Any]:
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

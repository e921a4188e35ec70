"""What Ray's actors do: each loads the detector once, and then scores part after part."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import InputError
from aejax.data import files
from aejax.data.files import Input, Rows
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.data.series_columns import with_columns
from aejax.detection.detector import Detector
from aejax.detection.loading import load
from aejax.scoring.grouped import counted_groups, with_groups
from aejax.scoring.job import Job, on_devices, write_parts
from aejax.scoring.parts import Parts
from aejax.scoring.tabulation import Tabulator, threshold_identity
from aejax.scoring.tally import Tally

COUNTED_ROWS = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where an actor finds the detector and the rows.

    Args:
        run_folder: of the detector or export, as every node sees it.
        inputs: what was opened, as every node sees it.
        selection: how it was opened.
    """

    run_folder: Path
    inputs: Input
    selection: Selection

    def open(self, names: list[str], schema: Schema, selection: Selection | None = None) -> Rows:
        """The files of a segment, opened as the driver opened them."""
        selection = dataclasses.replace(selection or self.selection, bad_cells="null")
        return files.open_rows(self.inputs, selection, expected=schema).only(names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where in the input the rows of a part are.

    Attributes:
        file: position of the first of their files.
        row: the first row, from 0 at the start of that file.
        first_row: the number of that row in the whole job.
    """

    file: int
    row: int
    first_row: int


class PartScorer:
    """What an actor does: it loads the detector once, and scores the parts that it is given.

    Args:
        source: of the job.
        names: the files of the segment.
        here: the driver's folder, which relative paths begin at.
        identity: what decides scores; a folder that holds another detector is refused.
        job: settings of the job.
        top: how many of the most anomalous rows to keep.
        out: the scores folder.
    """

    def __init__(
        self,
        source: Source,
        names: list[str],
        here: str,
        identity: dict[str, Any],
        job: dict[str, Any],
        top: int,
        out: str,
    ) -> None:
        os.chdir(here)
        detector = load(source.run_folder)
        held = identity_of(detector, job["group_column"])
        self.problem = None
        if held != identity:
            self.problem = (
                f"{source.run_folder} holds the detector {held['model'][:12]} where parts are "
                f"scored; allowed: that of the job, {identity['model'][:12]}"
            )
        selection = source.selection
        if (of_groups := detector.groups) is not None:
            selection = with_groups(of_groups, selection, job["group_column"])
        if (series := detector.schema.series) is not None:
            selection = with_columns(selection, series.columns)
        self.rows = source.open(names, detector.schema.table, selection)
        self.groups = counted_groups(detector, selection.key_columns, names_files=self.rows.many)
        detector, devices = on_devices(detector, None)
        self.job = Job(detector=detector, devices=devices, **job)
        self.top, self.out = top, Path(out)
        self.tabulate = Tabulator(detector, self.rows, self.job.top_features, self.job.on_bad_row)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score parts; what is wrong with them is a result, not a crash that Ray would retry."""
        return {"result": np.array([json.dumps(self._score(work)) for work in batch["work"]])}

    def _score(self, work: str) -> dict[str, Any]:
        if self.problem is not None:
            return {"error": self.problem}
        place = json.loads(work)
        number = place.pop("number")
        try:
            described, tally = self._write(number, Place(**place))
        except InputError as error:
            return {"error": str(error)}
        # Counted here, so that the driver reads no score that was written.
        return {
            "number": number,
            "part": described,
            "tally": base64.b64encode(tally.to_bytes()).decode(),
        }

    def _write(self, number: int, place: Place) -> tuple[dict[str, Any], Tally]:
        """Score the rows of one part: what the journal says of it, and what its rows add up to."""
        job, written = self.job, []
        parts = Parts(
            self.out,
            number,
            job.part_rows,
            lambda: Tally(self.groups, self.top),
            lambda path, described, tally: written.append((described, tally)),
        )
        blocks = job.blocks(self.rows, place.row, file=place.file, first_row=place.first_row)
        count = -(-job.part_rows // job.block_rows)
        with contextlib.closing(blocks):
            write_parts(job, self.tabulate, itertools.islice(blocks, count), parts)
        if not written:
            raise InputError(
                f"{self.rows.path} has no row {place.first_row}; allowed: unchanged files"
            )
        return written[0]


def identity_of(detector: Detector, column: str) -> dict[str, Any]:
    """What must be the same where parts are scored as where the job began."""
    grouped = {} if detector.groups is None else {"group_column": column}
    return {"model": detector.fingerprint, **threshold_identity(detector), **grouped}


class RowCounter:
    """Counts the rows of files that don't say how many they have, by reading them.

    Args:
        source: of the job.
        names: the files of the segment.
        here: the driver's folder, which relative paths begin at.
        schema: of their rows.
    """

    def __init__(self, source: Source, names: list[str], here: str, schema: Schema) -> None:
        os.chdir(here)
        self.rows = source.open(names, schema)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Count the rows of files."""
        return {"result": np.array([json.dumps(self._count(work)) for work in batch["work"]])}

    def _count(self, work: str) -> dict[str, Any]:
        file, rows = json.loads(work)["file"], 0
        try:
            for block in self.rows.parts[file].chunks(0, COUNTED_ROWS):
                rows = block.first_row + len(block.x)
        except InputError as error:
            return {"error": str(error)}
        return {"file": file, "rows": rows}

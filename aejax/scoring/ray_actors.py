"""What Ray's actors do: each loads the detector once, and then scores part after part."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import InputError
from aejax.config.durable import refused_as_input
from aejax.data import files
from aejax.data.files import Input, Rows
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.detection.loading import load
from aejax.scoring.grouped import counted_groups, with_groups
from aejax.scoring.job import Job, Place, on_devices, write_part
from aejax.scoring.judging import Judge, threshold_identity
from aejax.scoring.manifest import CONTINUES, part_name
from aejax.scoring.row_scorer import RowScorer, groups_of
from aejax.scoring.tally import PartTotals, part_totals

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


class PartScorer:
    """What an actor does: it loads the detector once, and scores the parts that it is given.

    Args:
        source: of the job.
        names: the files of the segment.
        here: the driver's folder, which relative paths begin at.
        identity: what decides scores; a folder that holds another detector is refused.
        job: settings of the job.
        out: the scores folder.
    """

    def __init__(
        self,
        source: Source,
        names: list[str],
        here: str,
        identity: dict[str, Any],
        job: dict[str, Any],
        out: str,
    ) -> None:
        os.chdir(here)
        detector = load(source.run_folder)
        found = identity_of(detector, job["group_column"])
        self.problem = None
        if found != identity:
            self.problem = (
                f"{source.run_folder} holds the detector {found['model'][:12]} where parts are "
                f"scored; allowed: that of the job, {identity['model'][:12]}"
            )
        selection = source.selection
        if (of_groups := groups_of(detector)) is not None:
            selection = with_groups(of_groups, selection, job["group_column"])
        self.rows = source.open(names, detector.schema, selection)
        self.groups = counted_groups(detector, selection.key_columns, names_files=self.rows.many)
        detector, devices = on_devices(detector, None)
        self.job, self.out = Job(detector=detector, devices=devices, **job), Path(out)
        self.judge = Judge(detector, self.rows, self.job.top_features, self.job.on_bad_row)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score parts; what is wrong with them is a result, not a crash that Ray would retry."""
        return {"result": np.array([json.dumps(self._score(work)) for work in batch["work"]])}

    def _score(self, work: str) -> dict[str, Any]:
        if self.problem is not None:
            return {"error": self.problem}
        given = json.loads(work)
        number = given.pop("number")
        try:
            path = self.out / part_name(number)
            with refused_as_input(self.out, CONTINUES):
                part = write_part(self.job, self.judge, self.rows, Place(**given), path)
                # Found out here, so that the driver needn't read every score that was written.
                adds = part_totals(path, self.groups)
        except InputError as error:
            return {"error": str(error)}
        return {
            "number": number,
            "part": part,
            "adds": {
                "digest": base64.b64encode(adds.digest).decode(),
                "bins": sorted(adds.bins.items()),
                "places": adds.places,
                "groups": adds.groups,
            },
        }


def identity_of(detector: RowScorer, column: str) -> dict[str, Any]:
    """What must be the same where parts are scored as where the job began."""
    grouped = {} if groups_of(detector) is None else {"group_column": column}
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


def read_totals(adds: dict[str, Any]) -> PartTotals:
    """What a part adds to the totals, from an actor's JSON."""
    digest, bins = base64.b64decode(adds["digest"]), dict(adds["bins"])
    return PartTotals(digest, bins, adds["places"], adds["groups"])

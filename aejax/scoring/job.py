"""What every engine does with a block of rows, and with the rows of one part."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aejax.config import InputError, suggest
from aejax.data.blocks import Block
from aejax.data.files import Rows
from aejax.detection.detector import Detector
from aejax.scoring.judging import Judge, Scored
from aejax.scoring.manifest import Manifest
from aejax.scoring.overlap import Behind, ahead
from aejax.scoring.parts import PartFile
from aejax.scoring.progress import Progress
from aejax.scoring.row_scorer import RowScorer
from aejax.scoring.totals import Totals

BLOCK_BYTES = 16 << 20
BLOCKS_AHEAD = BLOCKS_BEHIND = 2


@dataclasses.dataclass(frozen=True)
class Job:
    """What is the same for all rows."""

    detector: RowScorer
    top_features: int
    layer: str | None
    batch_size: int
    part_rows: int
    on_bad_row: str

    @property
    def block_rows(self) -> int:
        """Rows that are read, scored and written together: whole batches."""
        schema = self.detector.schema
        batch_bytes = self.batch_size * schema.features * np.dtype(schema.dtype).itemsize
        return max(1, BLOCK_BYTES // batch_bytes) * self.batch_size

    def score(self, block: Block) -> Scored:
        """Score a block, and explain its rows or write out their states where that was asked."""
        if not self.top_features:
            scored = Scored(block, self.detector.score_rows(block.x, batch_size=self.batch_size))
        else:
            top = self.top_features
            scored = Scored(
                block,
                *self.detector.explain_rows(block.x, top=top, batch_size=self.batch_size),
            )
        if self.layer is None:
            return scored
        assert isinstance(self.detector, Detector)
        states = self.detector.state_rows(block.x, self.layer, batch_size=self.batch_size)
        return scored._replace(states=states.reshape(len(states), -1))


class Engine(Protocol):
    """What scores the rows of a job; the parts and their books are the same for each."""

    def score_segment(
        self,
        job: Job,
        manifest: Manifest,
        segment: int,
        rows: Rows,
        totals: Totals,
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        """Score what is left of a group of input files, and record every part."""


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


def write_part(job: Job, judge: Judge, rows: Rows, place: Place, path: Path) -> dict[str, Any]:
    """Score the rows of one part by themselves, and write them aside, then under its name.

    Returns:
        What the journal says of a part, but for its name and number.
    """
    blocks = rows.blocks(
        job.block_rows, place.row, file=place.file, first_row=place.first_row, cut=job.part_rows
    )
    count = -(-job.part_rows // job.block_rows)
    part: PartFile | None = None

    def write(scored: Scored) -> None:
        nonlocal part
        judged = judge(scored)
        part = part or PartFile(path, judged.table.schema)
        part.add(judged)

    try:
        with (
            Behind(write, BLOCKS_BEHIND) as writer,
            contextlib.closing(ahead(itertools.islice(blocks, count), BLOCKS_AHEAD)) as read,
        ):
            for block in read:
                writer.put(job.score(block))
        if part is None:
            raise InputError(f"{rows.path} has no row {place.first_row}; allowed: unchanged files")
        described: dict[str, Any] = part.close()
        part = None
        return described
    finally:
        if part is not None:
            part.abandon()


def check_layer(detector: RowScorer, layer: str) -> None:
    """Refuse a layer that the detector doesn't have, and scorers that keep no states."""
    if not isinstance(detector, Detector):
        raise InputError(f"layer is {layer!r}; allowed with an export: none (score with the run)")
    if detector.combine is not None:
        raise InputError(f"layer is {layer!r}; allowed with an ensemble: none")
    known = {*detector.layers, "latent"}
    if layer not in known:
        raise InputError(f"layer is {layer!r}; {suggest(layer, known)}")

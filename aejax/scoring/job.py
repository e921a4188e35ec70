"""What every engine does with a block of rows, and with the rows of one part."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aejax.config import InputError, suggest
from aejax.core import mesh
from aejax.data.blocks import Block
from aejax.data.files import Rows
from aejax.data.offsets import centred
from aejax.data.overlap import Behind, ahead
from aejax.detection.detector import Detector
from aejax.scoring.grouped import members_of
from aejax.scoring.judging import Judge, Scored
from aejax.scoring.parts import PartFile
from aejax.scoring.row_scorer import RowScorer, groups_of
from aejax.scoring.segment import Segment

BLOCK_BYTES = 16 << 20
BLOCKS_AHEAD = BLOCKS_BEHIND = 2


@dataclasses.dataclass(frozen=True)
class Job:
    """What is the same for all rows."""

    detector: RowScorer
    top_features: int
    layer: str | None
    batch_size: int
    devices: int
    part_rows: int
    on_bad_row: str
    group_column: str = ""

    @property
    def block_rows(self) -> int:
        """Rows that are read, scored and written together: whole batches."""
        schema = self.detector.schema
        batch_bytes = self.batch_size * schema.features * np.dtype(schema.dtype).itemsize
        return max(1, BLOCK_BYTES // batch_bytes) * self.batch_size * self.devices

    def score(self, block: Block) -> Scored:
        """Score a block, and explain its rows or write out their states where that was asked."""
        of_groups, how = groups_of(self.detector), {}
        scored = Scored(block, np.empty(0, np.float32))
        x = centred(block.x, self.detector.schema)
        if of_groups is not None:
            members, refused = members_of(of_groups, block, self.group_column)
            x = of_groups.less_offset(x, members)
            how = {"members": members}
            scored = scored._replace(members=members, refused=refused)
        block = dataclasses.replace(block, x=x)
        features = errors = None
        if not self.top_features:
            scores = self.detector.score_rows(x, batch_size=self.batch_size, **how)
        else:
            scores, features, errors = self.detector.explain_rows(
                x, top=self.top_features, batch_size=self.batch_size, **how
            )
        scored = scored._replace(block=block, scores=scores, features=features, errors=errors)
        if self.layer is not None:
            assert isinstance(self.detector, Detector)
            states = self.detector.state_rows(x, self.layer, batch_size=self.batch_size, **how)
            scored = scored._replace(states=states.reshape(len(states), -1))
        return scored._replace(batch_limit=self.detector.batch_limit.rows)


class Engine(Protocol):
    """What scores the rows of a job; the parts and their books are the same for each."""

    def score_segment(self, job: Job, segment: Segment) -> None:
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
            contextlib.closing(blocks),
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


def on_devices(detector: RowScorer, devices: int | None) -> tuple[RowScorer, int]:
    """What scores on so many devices of this process, and how many they are."""
    if isinstance(detector, Detector):
        place = mesh.on_devices(detector.devices if devices is None else devices)
        # All blocks take one compiled program, the last one's few rows too.
        return dataclasses.replace(detector, devices=place.devices), place.devices
    if devices not in (None, 1):
        raise InputError(f"devices is {devices}; allowed with an export: 1 (a run takes more)")
    return detector, 1


def check_layer(detector: RowScorer, layer: str) -> None:
    """Refuse a layer that the detector doesn't have, and scorers that keep no states."""
    if not isinstance(detector, Detector):
        raise InputError(f"layer is {layer!r}; allowed with an export: none (score with the run)")
    if detector.combine is not None:
        raise InputError(f"layer is {layer!r}; allowed with an ensemble: none")
    known = {*detector.layers, "latent"}
    if layer not in known:
        raise InputError(f"layer is {layer!r}; {suggest(layer, known)}")

"""A scoring job: how its rows are scored and written into parts, by whichever engine."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aejax.config import InputError, suggest
from aejax.core import mesh
from aejax.data.blocks import Block
from aejax.data.files import Rows
from aejax.data.overlap import Behind, ahead
from aejax.data.series import with_context
from aejax.detection.detector import Detector
from aejax.detection.reasons import in_units
from aejax.scoring.events import score_block
from aejax.scoring.grouped import members_of
from aejax.scoring.manifest import Manifest
from aejax.scoring.parts import Parts
from aejax.scoring.progress import Progress
from aejax.scoring.tabulation import PartRows, Refusal, Scored, Tabulator
from aejax.scoring.tally import Tally
from aejax.scoring.totals import Totals
from aejax.training.loop import Interrupted

BLOCK_BYTES = 16 << 20
BLOCKS_AHEAD = BLOCKS_BEHIND = 2


@dataclasses.dataclass(frozen=True)
class Job:
    """What is the same for all rows."""

    detector: Detector
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

    @property
    def by_column(self) -> bool:
        """Whether a program takes the rows as files of columns have them.

        Where they are also explained, or states are asked for, other programs take them as rows.
        """
        only_scored = not self.top_features and self.layer is None
        takes = self.detector.groups is None and self.detector.scoring.takes_columns
        return only_scored and takes and self.detector.schema.offset is None

    def blocks(self, rows: Rows, start: int, *, file: int, first_row: int) -> Generator[Block]:
        """Blocks of rows to score, cut where parts end; of a series each with what is around it.

        Args:
            rows: of the input.
            start: the first row, from 0 at the start of `file`.
            file: position of the file to begin with.
            first_row: the number of that row in the whole job.
        """
        series = self.detector.schema.series
        if series is None:
            return rows.blocks(
                self.block_rows,
                start,
                file=file,
                first_row=first_row,
                cut=self.part_rows,
                by_column=self.by_column,
            )
        around = series.length - 1
        return with_context(
            rows,
            self.block_rows,
            start,
            file=file,
            first_row=first_row,
            cut=self.part_rows,
            before=around,
            after=0 if series.window.scores == "causal" else around,
        )

    def score(self, block: Block) -> Scored:
        """Score a block, and explain its rows or write out their states where that was asked."""
        detector, batch_size = self.detector, self.batch_size
        if detector.schema.series is not None:
            return score_block(
                detector, block, top_features=self.top_features, batch_size=batch_size
            )
        members: np.ndarray | None = None
        refused: dict[int, Refusal] = {}
        if detector.groups is not None:
            members, refused = members_of(detector.groups, block, self.group_column)
        x = detector.less_offset(block.x, members)
        features = errors = states = cells = None
        if not self.top_features:
            scores = detector.score_rows(
                x, members=members, batch_size=batch_size, by_column=block.by_column
            )
        else:
            scores, features, errors = detector.explain_rows(
                x, members=members, top=self.top_features, batch_size=batch_size
            )
            units = in_units(detector, x, members=members, batch_size=batch_size)
            cells = units.of_all(features)
        if self.layer is not None:
            states = detector.state_rows(x, self.layer, members=members, batch_size=batch_size)
            states = states.reshape(len(states), -1)
        return Scored(
            block=dataclasses.replace(block, x=x),
            scores=scores,
            features=features,
            errors=errors,
            cells=cells,
            states=states,
            batch_limit=detector.batch_limit.rows,
            members=members,
            refused=refused,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """Input files that are scored together, and where their parts are recorded.

    Attributes:
        number: of the segment; 0 is what the job began with, each `append` makes another.
        rows: of its files.
        manifest: lists every finished part of the job.
        totals: of these parts.
        progress: is updated with rows.
        should_stop: whether to stop, asked now and then.
    """

    number: int
    rows: Rows
    manifest: Manifest
    totals: Totals
    progress: Progress
    should_stop: Callable[[], bool]

    @property
    def names(self) -> list[str]:
        """Its files."""
        return [name for name, _ in self.manifest.segments[self.number]["files"]]

    def record(self, path: Path, described: dict[str, Any], tally: Tally) -> None:
        """Enter the next part, whose file is in place, in the journal and the totals.

        Args:
            path: its file.
            described: what `PartFile.close` said.
            tally: of its rows.
        """
        first_row = self.manifest.rows
        self.manifest.add(
            {"name": path.name, "segment": self.number, "first_row": first_row, **described}
        )
        self.totals.fold(tally)
        self.totals.save(self.manifest.folder)

    def stop_if_asked(self) -> None:
        """Raise `Interrupted` where the job should stop; the same call continues it."""
        if self.should_stop():
            raise Interrupted(f"stopped scoring into {self.manifest.folder}")


class Engine(Protocol):
    """What scores the rows of a job; the parts and their records are the same for each."""

    def score_segment(self, job: Job, segment: Segment) -> None:
        """Score what is left of a group of input files, and record every part."""


def write_parts(
    job: Job,
    tabulate: Tabulator,
    blocks: Iterator[Block],
    parts: Parts,
    *,
    after_write: Callable[[PartRows], None] = lambda rows: None,
    after_score: Callable[[], None] = lambda: None,
) -> None:
    """Score blocks and write them into parts: read, scored and written overlapped.

    Args:
        job: how they are scored.
        tabulate: makes the rows of parts.
        blocks: of rows, cut where parts end.
        parts: that take them; none is left unfinished.
        after_write: called with the rows of every block that is written, in a thread of its own.
        after_score: called after every block that is scored; what it raises stops the writing.
    """

    def write(scored: Scored) -> None:
        rows = tabulate(scored)
        parts.add(rows)
        after_write(rows)

    try:
        with (
            Behind(write, BLOCKS_BEHIND) as writer,
            contextlib.closing(ahead(blocks, BLOCKS_AHEAD)) as read,
        ):
            for block in read:
                writer.put(job.score(block))
                after_score()
        parts.close()
    finally:
        parts.abandon()


def on_devices(detector: Detector, devices: int | None) -> tuple[Detector, int]:
    """What scores on so many devices of this process, and how many they are."""
    place = mesh.on_devices(detector.devices if devices is None else devices)
    # All blocks take one compiled program, the last one's few rows too.
    return dataclasses.replace(detector, devices=place.devices), place.devices


def check_layer(detector: Detector, layer: str) -> None:
    """Refuse a layer that the detector doesn't have, and ensembles, which keep no states."""
    if detector.combine is not None:
        raise InputError(f"layer is {layer!r}; allowed with an ensemble: none")
    known = {*detector.layers, "latent"}
    if layer not in known:
        raise InputError(f"layer is {layer!r}; {suggest(layer, known)}")

"""A group of input files that are scored together, and how the books follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aejax.data.files import Rows
from aejax.scoring.manifest import Manifest
from aejax.scoring.progress import Progress
from aejax.scoring.tally import PartTotals
from aejax.scoring.totals import Totals
from aejax.training.loop import Interrupted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """What an engine is given to score: files, and the books that their parts are entered in.

    Attributes:
        number: of the segment; 0 is what the job began with, each `append` makes another.
        rows: of its files.
        manifest: lists every finished part of the job.
        totals: of these parts.
        progress: is told of rows.
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

    def record(self, path: Path, described: dict[str, Any], adds: PartTotals | None = None) -> None:
        """Enter the next part, whose file is in place, in the journal and the totals.

        Args:
            path: its file.
            described: what `PartFile.close` said.
            adds: what it adds to the totals, if that is known.
        """
        first_row = self.manifest.rows
        self.manifest.add(
            {"name": path.name, "segment": self.number, "first_row": first_row, **described}
        )
        self.totals.fold(path, adds)
        self.totals.save(self.manifest.folder)

    def stop_if_asked(self) -> None:
        """Raise `Interrupted` where the job should stop; the same call continues it."""
        if self.should_stop():
            raise Interrupted(f"stopped scoring into {self.manifest.folder}")

"""Parts of scores: Parquet files, each of a stated range of input rows, the same in every run."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config import InputError
from aejax.config.durable import refused_as_input
from aejax.data.blocks import as_schema
from aejax.scoring.durable import Aside
from aejax.scoring.judging import Judged
from aejax.scoring.manifest import CONTINUES, part_name
from aejax.scoring.segment import Segment
from aejax.scoring.tally import PLACES, reading

# Row groups end where the part says, not where a block ended: bytes don't depend on blocks.
GROUP_ROWS = 1 << 17
# Row numbers take next to nothing when their differences are stored.
COUNTED = ("row", "file_row")
# Hardly a score is there twice, so a dictionary of them takes time and more room than they do.
PLAIN = ("score",)


class Parts:
    """Writes judged rows into parts, one after the other.

    Args:
        segment: the files that the rows are from, and the books.
        part_rows: rows in a part.
    """

    def __init__(self, segment: Segment, part_rows: int) -> None:
        self.segment, self.part_rows = segment, part_rows
        self.part: PartFile | None = None

    def add(self, judged: Judged) -> None:
        """Write rows that end with or before the part."""
        with self._failing_as_input():
            if self.part is None:
                manifest = self.segment.manifest
                path = manifest.folder / part_name(len(manifest.parts))
                self.part = PartFile(path, judged.table.schema)
            self.part.add(judged)
            if self.part.rows == self.part_rows:
                self._close()

    def close(self) -> None:
        """End the part that is being written, if any."""
        with self._failing_as_input():
            self._close()

    def _close(self) -> None:
        part = self.part
        if part is None:
            return
        described = part.close()
        self.part = None
        self.segment.record(part.path, described)

    def abandon(self) -> None:
        """Leave out the part that is being written."""
        part, self.part = self.part, None
        if part is not None:
            part.abandon()

    @contextlib.contextmanager
    def _failing_as_input(self) -> Iterator[None]:
        try:
            with refused_as_input(self.segment.manifest.folder, CONTINUES):
                yield
        except InputError:
            self.abandon()
            raise


class PartFile:
    """One part: written aside, then renamed.

    Args:
        path: its name.
        schema: of its rows.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        first = path.with_name(part_name(0))
        if first.is_file():
            # All parts are one data set, whatever types the keys of files that come later have.
            with reading(first) as file:
                there = file.schema_arrow
            for at, field in enumerate(schema):
                if field.type != (wanted := there.field(field.name).type):
                    self.schema = self.schema.set(at, field.with_type(wanted))
        self.rows = self.flagged = 0
        self.bad: Counter[str] = Counter()
        self.unseen: Counter[str] = Counter()
        self.files: dict[int, np.ndarray] = {}
        self.places: np.ndarray | None = None
        self.end = (0, 0)
        self.low, self.high = float("inf"), float("-inf")
        self.batch_limit: int | None = None
        self.held: list[pa.Table] = []
        self.held_rows = 0
        self.aside = Aside(path)
        counted = [name for name in COUNTED if name in schema.names]
        self.writer = pq.ParquetWriter(
            self.aside.file,
            self.schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name not in (*counted, *PLAIN)],
            column_encoding=dict.fromkeys(counted, "DELTA_BINARY_PACKED"),
        )

    def add(self, judged: Judged) -> None:
        """Write rows behind those that are there."""
        table = as_schema(judged.table, self.schema)
        self.rows += len(table)
        self.end = judged.end
        self.bad.update(judged.bad)
        self.batch_limit = judged.batch_limit
        self.unseen.update(judged.unseen)
        for file, counts in judged.files:
            self.files[file] = counts + self.files.get(file, 0)
        if judged.places is not None:
            self.places = judged.places + (0 if self.places is None else self.places)
        self.flagged += pc.sum(table["is_anomaly"]).as_py() or 0
        extremes = pc.min_max(table["score"]).as_py()
        if extremes["min"] is not None:
            self.low, self.high = min(self.low, extremes["min"]), max(self.high, extremes["max"])
        self.held.append(table)
        self.held_rows += len(table)
        while self.held_rows >= GROUP_ROWS:
            self._write(GROUP_ROWS)

    def _write(self, rows: int) -> None:
        table = pa.concat_tables(self.held)
        self.writer.write_table(table[:rows].combine_chunks(), row_group_size=rows)
        self.held, self.held_rows = [table[rows:]], len(table) - rows

    def close(self) -> dict[str, Any]:
        """Give the part its name; what the journal says of its rows."""
        if self.held_rows:
            self._write(self.held_rows)
        if self.places is not None:
            self.writer.add_key_value_metadata({PLACES: json.dumps(self.places.tolist())})
        self.writer.close()
        self.aside.commit()
        scored = self.rows > self.bad.total()
        limited = {} if self.batch_limit is None else {"batch_limit": self.batch_limit}
        return {
            **limited,
            "rows": self.rows,
            "end": list(self.end),
            "flagged": self.flagged,
            "bad": dict(sorted(self.bad.items())),
            "lowest": self.low if scored else None,
            "highest": self.high if scored else None,
            "files": [[file, *counts.tolist()] for file, counts in self.files.items()],
            **({"unseen": dict(sorted(self.unseen.items()))} if self.unseen else {}),
        }

    def abandon(self) -> None:
        """Leave no file."""
        # Closing writes a last piece, for which there may be no room; the writer must not try
        # again when it is collected.
        with contextlib.suppress(OSError):
            self.writer.close()
        self.writer.is_open = False
        self.aside.discard()

"""Parts of scores: Parquet files, each of a stated range of input rows, the same in every run."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config import InputError
from aejax.config.durable import Aside, refused_as_input
from aejax.data.blocks import as_schema
from aejax.scoring.manifest import CONTINUES, part_name
from aejax.scoring.tabulation import PartRows
from aejax.scoring.tally import PLACES, Tally

# Row groups end where the part says, not where a block ended: bytes don't depend on blocks.
GROUP_ROWS = 1 << 17
# Row numbers take next to nothing when their differences are stored.
COUNTED = ("row", "file_row")
# Hardly a score is there twice, so a dictionary of them takes time and more room than they do.
PLAIN = ("score",)

# What a finished part's file is, what the journal says of its rows, and what they add up to.
Record = Callable[[Path, dict[str, Any], Tally], None]


class Parts:
    """Writes rows into parts, one after the other.

    Args:
        folder: of the scores.
        number: of the first part.
        part_rows: rows in a part.
        tally: makes an empty tally for a part.
        record: called with every finished part, whose file is in place.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        part_rows: int,
        tally: Callable[[], Tally],
        record: Record,
    ) -> None:
        self.folder, self.number, self.part_rows = folder, number, part_rows
        self.tally, self.record = tally, record
        self.part: PartFile | None = None

    def add(self, rows: PartRows) -> None:
        """Write rows that end with or before the part."""
        with self._failing_as_input():
            if self.part is None:
                path = self.folder / part_name(self.number)
                self.part = PartFile(path, rows.table.schema, self.tally())
            self.part.add(rows)
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
        self.number += 1
        self.record(part.path, described, part.tally)

    def abandon(self) -> None:
        """Leave out the part that is being written."""
        part, self.part = self.part, None
        if part is not None:
            part.abandon()

    @contextlib.contextmanager
    def _failing_as_input(self) -> Iterator[None]:
        try:
            with refused_as_input(self.folder, CONTINUES):
                yield
        except InputError:
            self.abandon()
            raise


class PartFile:
    """One part: written aside, then renamed; counted while it is written.

    Args:
        path: its name.
        schema: of its rows.
        tally: that its rows are counted in.
    """

    def __init__(self, path: Path, schema: pa.Schema, tally: Tally) -> None:
        self.path, self.tally = path, tally
        self.schema = _as_read(path.with_name(part_name(0)), schema)
        self.rows = self.flagged = 0
        self.bad: Counter[str] = Counter()
        self.unseen: Counter[str] = Counter()
        self.files: dict[int, np.ndarray] = {}
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

    def add(self, rows: PartRows) -> None:
        """Write rows behind those that are there."""
        table = as_schema(rows.table, self.schema)
        self.rows += len(table)
        self.end = rows.end
        self.bad.update(rows.bad)
        self.batch_limit = rows.batch_limit
        self.unseen.update(rows.unseen)
        for file, counts in rows.files:
            self.files[file] = counts + self.files.get(file, 0)
        self.tally.add_places(rows.places)
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
        group = table[:rows].combine_chunks()
        # Its dictionary holds what the row group does, whatever blocks its rows came in.
        at = group.schema.get_field_index("reason")
        group = group.set_column(at, "reason", group[at].cast(pa.string()).dictionary_encode())
        self.writer.write_table(group, row_group_size=rows)
        self.tally.add(group)
        self.held, self.held_rows = [table[rows:]], len(table) - rows

    def close(self) -> dict[str, Any]:
        """Give the part its name; what the journal says of its rows."""
        if self.held_rows:
            self._write(self.held_rows)
        if self.tally.places is not None:
            places = json.dumps(self.tally.places.tolist())
            self.writer.add_key_value_metadata({PLACES: places})
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


def _as_read(first: Path, schema: pa.Schema) -> pa.Schema:
    """The types that rows have when they are read again, so that they count alike before and after.

    Args:
        first: the job's first part. All parts are one data set, whatever types the keys of files
            that come later have.
        schema: of rows that are to be written.
    """
    source: Any = first
    if not first.is_file():
        source = pa.BufferOutputStream()
        nothing = [pa.nulls(0, field.type) for field in schema]
        pq.write_table(pa.Table.from_arrays(nothing, schema=schema), source)
        source = pa.BufferReader(source.getvalue())
    try:
        with pq.ParquetFile(source) as file:
            there = file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{first} cannot be read again: {error}") from None
    for at, field in enumerate(schema):
        # Types that differ in the names of what lists hold are equal, and stay.
        if field.type != (wanted := there.field(field.name).type):
            schema = schema.set(at, field.with_type(wanted))
    return schema

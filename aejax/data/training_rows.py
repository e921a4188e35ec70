"""Rows to train on: in memory where they fit, else picked from disk; and what is left out."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aejax.config import InputError
from aejax.data import files
from aejax.data.blocks import Block
from aejax.data.disk_rows import DiskRows, Stored
from aejax.data.files import Input, Rows
from aejax.data.rows import Selection, usable_rows
from aejax.data.schema import Schema
from aejax.data.spool import ANOMALOUS, NORMAL, SPOOL, SpoolWriter, check_room, open_spool

FORMAT_VERSION = 1
# Rows up to this many bytes are held in memory; training then takes some times as much.
MEMORY_LIMIT = 1 << 30
READ_BYTES = 1 << 23
OnBadRow = Literal["leave-out", "error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Rows that can't be trained on.

    Attributes:
        rows: how many.
        of: rows in all.
        first: the first of them, and what is wrong with it.
    """

    rows: int
    of: int
    first: str


class SeenRows:
    """What is remembered of the rows of an input that went by.

    Args:
        opened: the input.
        selection: which columns are labels and features, and what becomes of bad cells.
    """

    def __init__(self, opened: Rows, selection: Selection) -> None:
        self.opened, self.selection = opened, selection
        self.rows = self.bad = 0
        self.first = ""

    def look(self, block: Block) -> np.ndarray | None:
        """Which rows of a block can be used: bool [n], or None for all of them.

        Raises:
            InputError: naming the first bad row, where bad cells are errors.
        """
        good = usable_rows(block.x, self.opened.schema)
        good[list(block.bad)] = False
        self.rows += len(good)
        if good.all():
            return None
        row = int(np.argmin(good))
        what = self._what(block, row)
        if self.selection.bad_cells == "error":
            raise InputError(
                f"{self.opened.path}: row {what}; allowed: finite numbers within float32's "
                "range (no empty cell, NaN or infinity), or --on-bad-row leave-out"
            )
        self.first = self.first or what
        self.bad += len(good) - int(good.sum())
        return good

    def _what(self, block: Block, row: int) -> str:
        name = f"{block.first_row + row}"
        if self.opened.many:
            file, in_file = block.place(row)
            name = f"{in_file} of {self.opened.parts[file].name}"
        if row in block.bad:
            return f"{name}: {block.bad[row]}"
        values = block.x[row].ravel()
        if self.opened.schema.columns is not None:
            if np.isnan(values).all():
                return f"{name}, which has no value in any column"
            values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
        wrong = int(np.argmin(np.isfinite(values)))
        return f"{name}, {self.opened.schema.feature_name(wrong)!r} is {values[wrong]}"

    def check(self, normal: int) -> None:
        """Refuse an input of which nothing is left to train on.

        Args:
            normal: how many rows are left.

        Raises:
            InputError: if there are none.
        """
        path, label = self.opened.path, self.selection.normal_label
        if self.rows and self.bad == self.rows:
            raise InputError(
                f"{path}: none of {self.rows} rows is usable, the first being row {self.first}; "
                "allowed: rows of finite numbers"
            )
        if not normal and label is not None:
            raise InputError(f"{path}: no row has the normal label {label!r}; allowed: at least 1")

    def left_out(self) -> LeftOut | None:
        """The rows that can't be trained on, if any."""
        return LeftOut(rows=self.bad, of=self.rows, first=self.first) if self.bad else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """What a training input holds.

    Attributes:
        normal: rows to train on, in the input's order.
        anomalous: labelled anomalies; none where there are no labels.
        schema: of a row.
        left_out: rows with a missing, infinite or unreadable value, if any.
    """

    normal: Stored
    anomalous: Stored
    schema: Schema
    left_out: LeftOut | None = None


def read_training(
    path: Input,
    selection: Selection | None = None,
    *,
    folder: Path,
    memory_limit: int = MEMORY_LIMIT,
    on_bad_row: OnBadRow = "leave-out",
    expected: Schema | None = None,
    after_block: Callable[[], None] = lambda: None,
) -> TrainingRows:
    """Read an input once, a block at a time, into memory or into a file to pick rows from.

    Rows of more than `memory_limit` bytes are copied to `folder/rows` in their stored type
    (see `spool`), unless they already are an array of that type in one .npy file without bad
    rows: that is used where it is. A spool that an earlier run copied from the same files in
    the same way is used again.

    Args:
        path: what `files.open_rows` takes.
        selection: which columns are labels and features.
        folder: for rows that don't fit in memory.
        memory_limit: most bytes of rows to hold in memory.
        on_bad_row: "leave-out" counts rows with a missing, infinite or unreadable value and
            goes on without them; "error" stops at the first.
        expected: the schema that the rows must have, or None.
        after_block: called after every block; what it raises ends the reading.

    Raises:
        InputError: if the files can't be read or hold no usable row, a label is not allowed,
            or the disk has too little room; found out before anything is copied where the
            number of rows is known or can be estimated from the length of lines.
    """
    selection = dataclasses.replace(
        selection or Selection(), bad_cells="error" if on_bad_row == "error" else "null"
    )
    opened = files.open_rows(path, selection, expected)
    schema = opened.schema
    row_bytes = schema.features * np.dtype(schema.dtype).itemsize
    large = opened.rows is not None and opened.rows * row_bytes > memory_limit
    if opened.rows is not None and not large:
        memory_limit = max(memory_limit, opened.rows * row_bytes)

    @functools.cache
    def identity() -> dict[str, Any]:
        described: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "schema": schema.to_dict(),
            "selection": dataclasses.asdict(selection),
            "files": opened.fingerprints(),
        }
        copied: dict[str, Any] = json.loads(json.dumps(described))
        return copied

    fits = not large and opened.rows is not None
    if not fits and (folder / SPOOL).exists():
        kept = _reopened(folder, schema, identity())
        if kept is not None:
            return kept
    if large and (there := _in_place(opened, folder)) is not None:
        seen = SeenRows(opened, selection)
        if all(_all_good(seen, block, after_block) for block in _blocks(opened, row_bytes)):
            return TrainingRows(
                normal=there,
                anomalous=np.empty((0, *schema.shape), schema.dtype),
                schema=schema,
            )
    seen = SeenRows(opened, selection)
    with _Sink(folder, opened, -1 if large else memory_limit) as sink:
        for block in _blocks(opened, row_bytes):
            good = seen.look(block)
            x, y = (block.x, block.y) if good is None else (block.x[good], block.y)
            if y is not None and good is not None:
                y = y[good]
            sink.add(x if y is None else x[y == 0], x[:0] if y is None else x[y == 1])
            after_block()
        seen.check(sink.normal)
        return sink.finish(identity, seen)


def _all_good(seen: SeenRows, block: Block, after_block: Callable[[], None]) -> bool:
    after_block()
    return seen.look(block) is None


class _Sink:
    """Rows in memory until they are too many, then in a spool."""

    def __init__(self, folder: Path, opened: Rows, memory_limit: int) -> None:
        self.folder, self.opened, self.limit = folder, opened, memory_limit
        self.held: list[tuple[np.ndarray, np.ndarray]] = []
        self.bytes = self.normal = 0
        self.writer: SpoolWriter | None = None

    def __enter__(self) -> _Sink:
        if self.limit < 0:
            self._spill()
        return self

    def add(self, normal: np.ndarray, anomalous: np.ndarray) -> None:
        self.normal += len(normal)
        if self.writer is not None:
            self.writer.add(normal, anomalous)
            return
        self.held.append((normal, anomalous))
        self.bytes += normal.nbytes + anomalous.nbytes
        if self.bytes > self.limit:
            self._spill()

    def _spill(self) -> None:
        check_room(self.folder, self.opened)
        self.writer = SpoolWriter(self.folder, self.opened.schema)
        self.writer.__enter__()
        for normal, anomalous in self.held:
            self.writer.add(normal, anomalous)
        self.held = []

    def finish(self, identity: Callable[[], dict[str, Any]], seen: SeenRows) -> TrainingRows:
        schema, left_out = self.opened.schema, seen.left_out()
        if self.writer is None:
            none = np.empty((0, *schema.shape), schema.dtype)
            try:
                normal, anomalous = (
                    np.concatenate([none, *(pair[side] for pair in self.held)]) for side in (0, 1)
                )
            except MemoryError as error:
                raise InputError(
                    f"{self.opened.path} does not fit in memory: {error}; "
                    "allowed: a lower --memory-limit, which leaves rows on disk"
                ) from error
            return TrainingRows(
                normal=normal,
                anomalous=anomalous,
                schema=schema,
                left_out=left_out,
            )
        described = None if left_out is None else dataclasses.asdict(left_out)
        self.writer.commit({"identity": identity(), "left_out": described})
        kept = _reopened(self.folder, schema, identity())
        assert kept is not None
        return kept

    def __exit__(self, *how: Any) -> None:
        if self.writer is not None:
            self.writer.__exit__(*how)


def _blocks(opened: Rows, row_bytes: int) -> Any:
    return opened.blocks(max(1, READ_BYTES // row_bytes))


def _reopened(folder: Path, schema: Schema, identity: dict[str, Any]) -> TrainingRows | None:
    """The rows of a spool that was copied from the same input in the same way."""
    opened = open_spool(folder, schema)
    if opened is None or opened[0].get("identity") != identity:
        return None
    described, rows = opened
    left_out = described.get("left_out")
    return TrainingRows(
        normal=rows[NORMAL],
        anomalous=rows[ANOMALOUS],
        schema=schema,
        left_out=None if left_out is None else LeftOut(**left_out),
    )


def _in_place(opened: Rows, folder: Path) -> DiskRows | None:
    """The rows of one .npy file whose bytes are what training picks, where they are."""
    (part, *others) = opened.parts
    if others or not os.fspath(part.path).lower().endswith(".npy") or part.rows is None:
        return None
    from aejax.data.arrays import plain_offset

    offset = plain_offset(part.path, opened.schema)
    if offset is None:
        return None
    return DiskRows(
        path=part.path, schema=opened.schema, offset=offset, stored=part.rows, scratch=folder
    )

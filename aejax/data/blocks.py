"""Blocks of rows, the files that they come from, and their regrouping into other sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aejax.config import InputError
from aejax.data.schema import Schema

if TYPE_CHECKING:
    import pyarrow


class Run(NamedTuple):
    """Consecutive rows of one file.

    Attributes:
        file: position of the file among those that were opened.
        first_row: the first of the rows in that file, from 0.
        rows: how many.
    """

    file: int
    first_row: int
    rows: int


class Wrong(str):
    """What is wrong with a row, in words that quote it.

    Attributes:
        kind: the same without what is the row's own, as of all rows with this fault.
    """

    kind: str

    def __new__(cls, text: str, kind: str = "") -> Wrong:
        """A text, and its kind."""
        wrong = super().__new__(cls, text)
        wrong.kind = kind
        return wrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive rows of a file.

    Args:
        first_row: position in the file of the block's first row, from 0.
        x: rows, [n, *schema.shape] of schema.dtype; an empty cell is NaN.
        y: int8 [n], 1 is an anomaly and 0 is normal; None where the file has no labels.
        keys: the key columns, n rows; None where there are none.
        bad: what is wrong with rows whose cells could not be read, by position in the block; each
            a `Wrong`.
        runs: which rows of which files these are, where several files were opened.
        before: the rows before these, where windows reach into them; see `aejax.data.series`.
        after: likewise, behind these.
        by_column: whether `x` lies in memory as its transpose does, one column after the other.
    """

    first_row: int
    x: np.ndarray
    y: np.ndarray | None
    keys: pyarrow.Table | None
    bad: Mapping[int, str] = dataclasses.field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    before: Block | None = None
    after: Block | None = None
    by_column: bool = False

    def place(self, row: int) -> tuple[int, int]:
        """The file of a row of the block, by its position, and the row in that file, from 0."""
        for run in self.runs:
            if row < run.rows:
                return run.file, run.first_row + row
            row -= run.rows
        raise IndexError(row)

    def slice(self, start: int, stop: int) -> Block:
        """The block's rows from `start` up to `stop`, sharing its memory."""
        if start == 0 and stop == len(self.x):
            return self
        return Block(
            first_row=self.first_row + start,
            x=self.x[start:stop],
            y=None if self.y is None else self.y[start:stop],
            keys=None if self.keys is None else self.keys.slice(start, stop - start),
            bad={row - start: what for row, what in self.bad.items() if start <= row < stop},
            runs=_cut(self.runs, start, stop),
            by_column=self.by_column,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One file, opened: its schema, and a way to read it from any row.

    Args:
        path: the file.
        schema: what one row is.
        rows: number of rows, or None where only reading the whole file can tell.
        chunks: given a row to start from and a size hint, yields the rows in order in
            blocks of any size. Where `rows` is None an empty block ends them, whose
            `first_row` is the number of rows.
        name: what the file is called among those that were opened with it.
        digest: SHA-256 of the rows where there is no file to take it of.
        wide: whether features are of a type that holds numbers that float32 doesn't.
        columns: as `chunks`, of blocks that lie in memory column by column; None where the file
            has no columns of numbers.
    """

    path: Path
    schema: Schema
    rows: int | None
    chunks: Callable[[int, int], Iterator[Block]]
    name: str = ""
    digest: Callable[[], str] | None = None
    wide: bool = False
    columns: Callable[[int, int], Iterator[Block]] | None = None


def regrouped(chunks: Iterable[Block], size: int, cut: int | None = None) -> Generator[Block]:
    """The same rows in blocks of exactly `size`, and one smaller last block where rows are left.

    Args:
        chunks: blocks of any size.
        size: rows in a block.
        cut: also end a block after every `cut` rows, counted from the first.
    """
    held: list[Block] = []
    count, left = 0, cut
    for chunk in chunks:
        position = 0
        while position < len(chunk.x):
            room = size if left is None else min(size, left)
            stop = min(position + room - count, len(chunk.x))
            held.append(chunk.slice(position, stop))
            count += stop - position
            position = stop
            if count == room:
                yield joined(held)
                held, count = [], 0
                if left is not None:
                    left = (left - room) or cut
    if held:
        yield joined(held)


def joined(blocks: Sequence[Block]) -> Block:
    """Blocks that follow each other, as one."""
    if len(blocks) == 1:
        return blocks[0]
    labels = [block.y for block in blocks if block.y is not None]
    tables = [block.keys for block in blocks if block.keys is not None]
    keys = None
    if tables:
        import pyarrow

        # A part of scores has the types of its first row's file.
        keys = pyarrow.concat_tables([as_schema(table, tables[0].schema) for table in tables])
    first = blocks[0].first_row
    return Block(
        first_row=first,
        x=np.concatenate([block.x for block in blocks]),
        y=np.concatenate(labels) if labels else None,
        keys=keys,
        bad={
            block.first_row - first + row: what
            for block in blocks
            for row, what in block.bad.items()
        },
        runs=_merged(run for block in blocks for run in block.runs),
        by_column=all(block.by_column for block in blocks),
    )


def as_schema(table: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.Table:
    """The same rows with the types of a schema that has the same columns.

    Raises:
        InputError: naming the first column that holds what the other type can't.
    """
    if table.schema.equals(schema):
        return table
    import pyarrow

    for name in schema.names:
        kind, wanted = table.schema.field(name).type, schema.field(name).type
        try:
            # "007" is a number, too, but another text.
            same = table[name].cast(wanted).cast(kind).equals(table[name])
        except pyarrow.ArrowException:
            same = False
        if not same:
            raise InputError(
                f"column {name!r} is of type {kind} in one file and of type {wanted} in another; "
                "allowed: one type"
            )
    return table.cast(schema)


def _cut(runs: Sequence[Run], start: int, stop: int) -> tuple[Run, ...]:
    kept, before = [], 0
    for run in runs:
        low, high = max(start - before, 0), min(stop - before, run.rows)
        if low < high:
            kept.append(Run(run.file, run.first_row + low, high - low))
        before += run.rows
    return tuple(kept)


def _merged(runs: Iterable[Run]) -> tuple[Run, ...]:
    merged: list[Run] = []
    for run in runs:
        if merged and merged[-1].file == run.file:
            merged[-1] = merged[-1]._replace(rows=merged[-1].rows + run.rows)
        else:
            merged.append(run)
    return tuple(merged)

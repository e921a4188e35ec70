"""Blocks of rows with the rows before and after them, which windows reach into."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import Generator, Iterator

from aejax.data.blocks import Block, joined
from aejax.data.files import Rows

READ_ROWS = 1 << 16


def with_context(
    rows: Rows,
    size: int,
    start: int,
    *,
    file: int,
    first_row: int,
    cut: int,
    before: int,
    after: int,
) -> Generator[Block]:
    """The blocks that `Rows.blocks` gives, each with rows around it.

    What is around a block depends on where it is in the input alone, and not on where reading
    began or how files cut the rows.

    Args:
        rows: of the input.
        size: rows in a block.
        start: the first row of `file`, as in `Rows.blocks`.
        file: position of the file to begin with.
        first_row: the number that the first row gets.
        cut: also end a block after so many rows.
        before: rows before each block, fewer where the input begins.
        after: likewise, behind it.
    """
    blocks = rows.blocks(size, start, file=file, first_row=first_row, cut=cut)
    try:
        held = _until(rows, file, start, before)
        read: deque[Block] = deque()
        for block in _ahead(blocks, read, after):
            behind = _first(read, after)
            yield dataclasses.replace(block, before=held, after=behind)
            held = _tail([one for one in (held, block) if one is not None], before)
    finally:
        blocks.close()


def _ahead(blocks: Iterator[Block], read: deque[Block], after: int) -> Iterator[Block]:
    """Blocks in order; `read` then holds at least so many of the rows after each, if there are."""
    for block in blocks:
        read.append(block)
        while read and sum(len(one.x) for one in read) - len(read[0].x) >= after:
            yield read.popleft()
    while read:
        yield read.popleft()


def _first(blocks: deque[Block], rows: int) -> Block | None:
    some, count = [], 0
    for block in blocks:
        if count >= rows:
            break
        some.append(block.slice(0, min(len(block.x), rows - count)))
        count += len(some[-1].x)
    return joined(some) if count else None


def _tail(blocks: list[Block], rows: int) -> Block | None:
    """The last rows of blocks that follow each other."""
    some: list[Block] = []
    for block in reversed(blocks):
        if rows <= 0:
            break
        some.insert(0, block.slice(max(0, len(block.x) - rows), len(block.x)))
        rows -= len(some[0].x)
    some = [dataclasses.replace(block, before=None, after=None) for block in some if len(block.x)]
    return joined(some) if some else None


def _until(rows: Rows, file: int, row: int, count: int) -> Block | None:
    """So many rows before a row of the input: of its file, and of those before, from the last."""
    held: Block | None = None
    for index in range(file, -1, -1):
        missing = count - (0 if held is None else len(held.x))
        if missing <= 0:
            break
        stop = row if index == file else None
        held = _tail([one for one in (_end_of(rows, index, stop, missing), held) if one], count)
    return held


def _end_of(rows: Rows, file: int, stop: int | None, count: int) -> Block | None:
    """The last rows of a file, of those before `stop`."""
    part, held = rows.parts[file], None
    end = part.rows if stop is None else stop
    if end == 0:
        return None
    # Where nothing tells how many rows a file of text has, all of them go by.
    start = 0 if end is None else max(0, end - count)
    blocks = rows.only([part.name]).blocks(READ_ROWS, start)
    with contextlib.closing(blocks):
        for block in blocks:
            kept = len(block.x) if end is None else min(len(block.x), end - block.first_row)
            if kept <= 0:
                break
            runs = tuple(run._replace(file=file) for run in block.runs)
            own = dataclasses.replace(block, runs=runs).slice(0, kept)
            held = _tail([one for one in (held, own) if one], count)
    return held

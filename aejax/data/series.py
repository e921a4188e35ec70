"""Series: points that follow each other, the windows over them, and scores that go back to points.

A window is a view of its points; a batch is the only place where windows are copied.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from aejax.config import InputError
from aejax.data.batches import held_out
from aejax.data.blocks import Block, Wrong, joined
from aejax.data.files import Rows
from aejax.data.offsets import centred
from aejax.data.schema import Schema, Series

NO_WINDOW = Wrong("no whole window ends here", "no whole window ends here")
NO_WINDOW_HOLDS = Wrong("no whole window holds it", "no whole window holds it")
BESIDE_BAD = Wrong("a point in its window can't be used", "a point in its window can't be used")
TWICE = Wrong("its time is there twice", "its time is there twice")
READ_ROWS = 1 << 16


class Points(NamedTuple):
    """Points of one series after the other, as they are in memory.

    Attributes:
        x: numbers, [n, channels].
        broken: whether a point doesn't follow the one before: it is its series' first, or comes
            after a gap; bool [n].
        usable: whether a point's numbers and time can be used, bool [n].
        reasons: why those can't that have a reason of their own, by position.
    """

    x: np.ndarray
    broken: np.ndarray
    usable: np.ndarray
    reasons: Mapping[int, str] = MappingProxyType({})

    @property
    def ages(self) -> np.ndarray:
        """How many usable points in an unbroken row end with each, itself included, int64 [n]."""
        return _since(self.broken, ~self.usable)

    @property
    def whole_ages(self) -> np.ndarray:
        """The same whether or not points can be used, int64 [n]."""
        return _since(self.broken, np.zeros(len(self.broken), bool))


def _since(first: np.ndarray, none: np.ndarray) -> np.ndarray:
    """Positions counted from 1 at every `first`, and 0 at every `none`, int64 [n]."""
    places = np.arange(1, len(first) + 1)
    before = np.where(first, places - 1, 0)
    since: np.ndarray = places - np.maximum.accumulate(
        np.maximum(before, np.where(none, places, 0))
    )
    return since


def windows_of(x: np.ndarray, length: int) -> np.ndarray:
    """All windows of so many points, [n - length + 1, length, channels]: a view of points [n, ...].

    Example:
        >>> windows_of(np.arange(4)[:, None], 3)[:, :, 0].tolist()
        [[0, 1, 2], [1, 2, 3]]
    """
    if len(x) < length:
        return np.empty((0, length, *x.shape[1:]), x.dtype)
    view = np.lib.stride_tricks.sliding_window_view(x, length, axis=0)
    return np.moveaxis(view, -1, 1)


def breaks(
    times: np.ndarray | None, series: np.ndarray | None, longest_step: float | None, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which points don't follow the one before, and which of these because time doesn't rise.

    Args:
        times: that rise, [n]; None where there are none.
        series: number of each point's series, [n]; None where all are of one.
        longest_step: from one point to the next.
        rows: n.

    Returns:
        bool [n] each.
    """
    broken, back = np.zeros(rows, bool), np.zeros(rows, bool)
    broken[:1] = True
    if series is not None:
        broken[1:] = series[1:] != series[:-1]
    if times is not None:
        steps = np.diff(times)
        back[1:] = ~(steps > 0) & ~broken[1:]
        broken[1:] |= back[1:] | (steps > (longest_step or np.inf))
    return broken, back


class WindowRows:
    """Windows of points as rows to train on; a `batches.RowSource` that copies what is picked.

    Args:
        points: numbers, [n, channels].
        starts: the first point of each window, ascending whole numbers [m].
        schema: of the windows.
        less_offset: whether points are as compiled programs take them, less the schema's offset.
    """

    def __init__(
        self, points: np.ndarray, starts: np.ndarray, schema: Schema, *, less_offset: bool = False
    ) -> None:
        assert schema.series is not None
        self.points, self.starts, self.schema = points, starts, schema
        self.less_offset = less_offset
        self.dtype, self.shape = points.dtype, (len(starts), *schema.shape)
        self._view = windows_of(points, schema.series.length)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray:
        return self._view[self.starts[rows]]

    @property
    def nbytes(self) -> int:
        """Bytes of all windows, were they copied."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def fingerprint(self) -> str:
        """SHA-256 of the points and of which windows are meant, in hexadecimal."""
        total = hashlib.sha256(f"{self.dtype} {self.shape} {self.points.shape}".encode())
        total.update(np.ascontiguousarray(self.points).data)
        total.update(np.ascontiguousarray(self.starts, np.int64).data)
        return total.hexdigest()

    def split(self, fraction: float) -> tuple[WindowRows, WindowRows]:
        """Windows to train on, and the last ones, which share no point with those.

        Windows overlap: a random one that is held out would have been trained on in its
        neighbours. At least one is held out where `fraction` is above 0, and at least one left.
        """
        held = held_out(len(self), fraction)
        first = len(self) - held
        training = self.starts[:first]
        apart = (
            training[training + self.schema.shape[0] <= self.starts[first]] if held else training
        )
        if len(apart):
            training = apart
        return self._of(training).thinned(), self._of(self.starts[first:])

    def thinned(self) -> WindowRows:
        """Windows that lie the stride of training apart."""
        series = self.schema.series
        assert series is not None
        return self._of(self.starts[:: series.window.stride])

    def stored(self) -> WindowRows:
        """The same windows as compiled programs take them."""
        if self.less_offset:
            return self
        series = self.schema.series
        assert series is not None
        with np.errstate(over="ignore"):
            points = np.ascontiguousarray(
                centred(self.points, series.points), self.schema.device_dtype
            )
        return WindowRows(points, self.starts, self.schema, less_offset=True)

    def _of(self, starts: np.ndarray) -> WindowRows:
        return WindowRows(self.points, starts, self.schema, less_offset=self.less_offset)


def window_rows(points: Points, series: Series) -> WindowRows:
    """All windows of points that can be used.

    Raises:
        InputError: if there is none.
    """
    ages = points.ages
    ends = np.flatnonzero(ages >= series.length)
    if not len(ends):
        raise InputError(
            f"the series has {len(points.x):,} points, at most {int(ages.max(initial=0)):,} that "
            f"follow each other; allowed: at least {series.length:,}, the length of a window"
        )
    return WindowRows(points.x, ends - (series.length - 1), series.schema)


def point_scores(scores: np.ndarray, ages: np.ndarray, series: Series) -> np.ndarray:
    """Scores of points, of the scores of all windows; NaN where no window tells.

    Args:
        scores: of all windows in order, float32 [n - length + 1].
        ages: as `Points.ages`, [n].
        series: says how.

    Returns:
        float32 [n].
    """
    if not len(scores):
        return np.full(len(ages), np.nan, np.float32)
    return _to_points(scores, ages[series.length - 1 :] >= series.length, series)


def scores_of_picked(scores: np.ndarray, starts: np.ndarray, series: Series) -> np.ndarray:
    """Scores of the points that have any, float32, of the scores of some windows.

    Args:
        scores: of the windows, float32 [m].
        starts: their first points, ascending, [m].
        series: says how.
    """
    if series.window.scores == "causal" or not len(starts):
        return scores
    places = starts - starts[0]
    whole = np.zeros(places[-1] + 1, bool)
    whole[places] = True
    of_all = np.zeros(len(whole), np.float32)
    of_all[places] = scores
    points = _to_points(of_all, whole, series)
    return points[~np.isnan(points)]


def _to_points(scores: np.ndarray, whole: np.ndarray, series: Series) -> np.ndarray:
    length = series.length
    rows = len(scores) + length - 1
    out = np.full(rows, np.nan, np.float32)
    if series.window.scores == "causal":
        out[length - 1 :] = np.where(whole, scores, np.nan)
        return out
    # One place in the window after the other, so that a point's sum doesn't depend on where a
    # block begins.
    total, count = np.zeros(rows), np.zeros(rows, np.int64)
    values = np.where(whole, scores, 0).astype(np.float64)
    for place in range(length):
        total[place : place + len(values)] += values
        count[place : place + len(values)] += whole
    np.divide(total, count, out=out, where=count > 0, casting="unsafe")
    return out


def why_no_score(points: Points, scores: np.ndarray, series: Series) -> dict[int, str]:
    """Why points have no score, by position, but for those whose own numbers say it.

    Args:
        points: of the series.
        scores: as `point_scores` gives them.
        series: that they are of.
    """
    reasons: dict[int, str] = dict(points.reasons)
    lone = NO_WINDOW if series.window.scores == "causal" else NO_WINDOW_HOLDS
    whole = points.whole_ages >= series.length
    if series.window.scores == "centred":
        ends = np.flatnonzero(whole) + 1
        edges = np.zeros(len(whole) + 1, np.int64)
        np.add.at(edges, ends - series.length, 1)
        np.add.at(edges, ends, -1)
        whole = np.cumsum(edges)[:-1] > 0
    for at in np.flatnonzero(np.isnan(scores) & points.usable).tolist():
        reasons.setdefault(at, BESIDE_BAD if whole[at] else lone)
    return reasons


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

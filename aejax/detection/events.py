"""Flags of consecutive points as events: when something went wrong, for how long, and in what."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from aejax.config import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Flagged points that belong together.

    Attributes:
        first: row of the first flagged point.
        last: of the last one.
        peak: of the one with the highest score.
        score: the highest.
        flagged: how many points are flagged; others may lie between them.
        start: time of the first; None without times, like the next two.
        end: of the last.
        peak_time: of the highest.
        series: which it is of; None where there is one.
        channels: that err most at the peak, next to their usual errors, the worst first; where
            they are known.

    Example:
        >>> event = aejax.events([0, 5, 7, 0], 4)[0]
        >>> event.first, event.last, event.score
        (1, 2, 7.0)
    """

    first: int
    last: int
    peak: int
    score: float
    flagged: int
    start: Any = None
    end: Any = None
    peak_time: Any = None
    series: Any = None
    channels: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Points from the first to the last."""
        return self.last - self.first + 1


def events(
    scores: Any,
    threshold: Any,
    *,
    times: Any = None,
    series: Any = None,
    channels: Sequence[Sequence[str]] | None = None,
    merge_gap: int = 0,
    least_length: int = 1,
) -> list[Event]:
    """Events of the scores of points that follow each other.

    Args:
        scores: of the points in order, [n]; NaN where there is none.
        threshold: above which a point is flagged; or which points are, bool [n].
        times: of the points, [n].
        series: which each point is of, [n]; no event reaches from one to another.
        channels: of each point the channels that err most, [n].
        merge_gap: so many points that aren't flagged, at most, lie between two flags of an event.
        least_length: events of fewer points, from the first flag to the last, are none.

    Raises:
        InputError: if lengths differ, or a number is out of range.

    Example:
        >>> [(e.first, e.last, e.peak) for e in events([0, 5, 7, 0, 6, 0, 0, 9], 4, merge_gap=1)]
        [(1, 4, 2), (7, 7, 7)]
    """
    check_merging(merge_gap, least_length)
    scores = np.asarray(scores)
    flags = np.asarray(threshold)
    flags = np.ma.filled(threshold, False) if np.ma.isMaskedArray(threshold) else flags
    if flags.ndim == 0:
        flags = scores > flags
    for name, values in (("flags", flags), ("times", times), ("series", series)):
        if values is not None and len(values) != len(scores):
            raise InputError(
                f"{name} has length {len(values)}; allowed: {len(scores)}, one a score"
            )
    at = np.flatnonzero(flags)
    runs = runs_of(
        at,
        scores[at],
        times=None if times is None else np.asarray(times)[at],
        series=None if series is None else np.asarray(series)[at],
        channels=None if channels is None else [channels[row] for row in at.tolist()],
        merge_gap=merge_gap,
    )
    return [event for event in runs if event.length >= least_length]


def check_merging(merge_gap: int, least_length: int) -> None:
    """Refuse numbers that say nothing of events."""
    if merge_gap < 0:
        raise InputError(f"merge_gap is {merge_gap}; allowed: at least 0")
    if least_length < 1:
        raise InputError(f"least_length is {least_length}; allowed: at least 1")


def runs_of(
    rows: np.ndarray,
    scores: np.ndarray,
    *,
    times: Sequence[Any] | np.ndarray | None = None,
    series: Sequence[Any] | np.ndarray | None = None,
    channels: Sequence[Sequence[str]] | None = None,
    merge_gap: int = 0,
) -> Iterator[Event]:
    """Events of flagged points, of any length.

    Args:
        rows: of the points, ascending, [n].
        scores: of them, [n].
        times: likewise, as `series` and `channels`.
        series: which each is of.
        channels: that err most at each.
        merge_gap: as in `events`.
    """
    if not len(rows):
        return
    new = np.diff(rows) > merge_gap + 1
    if series is not None:
        new |= np.array([a != b for a, b in itertools.pairwise(series)], bool)
    bounds = [0, *(np.flatnonzero(new) + 1).tolist(), len(rows)]
    for first, stop in itertools.pairwise(bounds):
        peak = first + int(np.argmax(scores[first:stop]))
        yield Event(
            first=int(rows[first]),
            last=int(rows[stop - 1]),
            peak=int(rows[peak]),
            score=float(scores[peak]),
            flagged=stop - first,
            start=None if times is None else times[first],
            end=None if times is None else times[stop - 1],
            peak_time=None if times is None else times[peak],
            series=None if series is None else series[first],
            channels=() if channels is None else tuple(channels[peak] or ()),
        )


def joined(parts: Iterable[Event], *, merge_gap: int, least_length: int) -> Iterator[Event]:
    """Events of pieces that follow each other, those across a cut as one; short ones left out.

    Args:
        parts: as `runs_of` gives them for each piece.
        merge_gap: as in `events`.
        least_length: likewise.
    """
    open_one: Event | None = None
    for event in parts:
        if open_one is None:
            open_one = event
        elif event.series == open_one.series and event.first - open_one.last <= merge_gap + 1:
            open_one = _together(open_one, event)
        else:
            if open_one.length >= least_length:
                yield open_one
            open_one = event
    if open_one is not None and open_one.length >= least_length:
        yield open_one


def _together(before: Event, after: Event) -> Event:
    peak = functools.reduce(lambda a, b: b if b.score > a.score else a, (before, after))
    return dataclasses.replace(
        peak,
        first=before.first,
        start=before.start,
        last=after.last,
        end=after.end,
        flagged=before.flagged + after.flagged,
    )

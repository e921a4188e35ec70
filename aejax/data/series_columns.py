"""From columns of times and of series to which rows follow each other, and their period."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from aejax.config import InputError, Window, suggest
from aejax.data.blocks import Block, Wrong
from aejax.data.dates import clock_of, times_of, usual_step
from aejax.data.frames import as_table, unmasked
from aejax.data.rows import Selection, finite_rows
from aejax.data.schema import Clock, Schema, Series
from aejax.data.series import TWICE, Points, breaks

# Points of a series that decide: more tell no more, and a transform takes memory.
MOST_POINTS = 1 << 16
# A period is seen at least so often, and has so many points.
LEAST_PERIODS, LEAST_LENGTH = 3, 4
# Peaks of the spectrum that are tried, from the highest on.
PEAKS = 10
# Of the highest autocorrelation.
MUCH_THE_SAME = 0.9
# Of windows: where there is no period, at least, and at most.
USUAL_LENGTH, LEAST_WINDOW, MOST_LENGTH = 64, 32, 1024
# Of the autocorrelation at a period: below, what repeats is noise.
LEAST_CORRELATION = 0.2
# Rows whose times say how they are written.
CLOCK_ROWS = 1 << 12
# That a run of training rows has, one after the other, where nobody says how long they are.
LEAST_WINDOWS = 4


def period_of(points: np.ndarray) -> int | None:
    """How many points after which a series repeats, or None where it doesn't.

    The periodogram proposes and the autocorrelation decides, as it has a maximum at a true period
    and none beside it (Vlachos, Yu and Castelli, "On periodicity detection and structural
    periodic similarity", SDM 2005). Of several whose autocorrelations are much the same the
    shortest is taken: twice a period is another. Channels vote with their standardised values.

    Args:
        points: numbers [n, channels], in order and evenly spaced; the longest run of a series.
    """
    x = points[:MOST_POINTS].astype(np.float64)
    count = len(x)
    if count < LEAST_PERIODS * LEAST_LENGTH:
        return None
    # A trend would be the longest period of all.
    place = np.linspace(-1, 1, count)[:, None]
    x = x - x.mean(axis=0)
    x = x - place * (place * x).sum(axis=0) / (place**2).sum()
    spread = x.std(axis=0)
    x = x[:, spread > 1e-9 * np.maximum(np.abs(points[:count]).max(axis=0), 1e-30)]
    if not x.shape[1]:
        return None
    x /= x.std(axis=0)
    size = 1 << (2 * count - 1).bit_length()
    power = (np.abs(np.fft.rfft(x, size, axis=0)) ** 2).sum(axis=1)
    correlation = np.fft.irfft(power, size)[:count] / (x.shape[1] * (count - np.arange(count)))
    spectrum = (np.abs(np.fft.rfft(x, axis=0)) ** 2).sum(axis=1)
    longest = count // LEAST_PERIODS
    frequencies = np.arange(len(spectrum))
    allowed = (frequencies >= LEAST_PERIODS) & (frequencies <= count // LEAST_LENGTH)
    spectrum[~allowed] = 0
    periods: dict[int, float] = {}
    for frequency in np.argsort(-spectrum, kind="stable")[:PEAKS].tolist():
        if not spectrum[frequency]:
            break
        # The lags that this bin of the spectrum stands for.
        low = max(int(count / (frequency + 1)), 2)
        high = min(int(np.ceil(count / max(frequency - 1, 1))), longest)
        if high <= low:
            continue
        lag = low + int(np.argmax(correlation[low : high + 1]))
        inside = 1 < lag < count - 1
        peak = inside and correlation[lag] >= max(correlation[lag - 1], correlation[lag + 1])
        if peak and lag >= LEAST_LENGTH and correlation[lag] > LEAST_CORRELATION:
            periods[lag] = float(correlation[lag])
    if not periods:
        return None
    return min(lag for lag, one in periods.items() if one >= MUCH_THE_SAME * max(periods.values()))


def length_of(period: int | None) -> int:
    """Points in a window of a series: a period, or several short ones."""
    if period is None:
        return USUAL_LENGTH
    return min(period * -(-LEAST_WINDOW // period), MOST_LENGTH)


@dataclasses.dataclass(frozen=True)
class Followed:
    """When each row of a table is, and of which series; rows in the table's order.

    Attributes:
        times: that rise, [n]; None without a column of times.
        readable: whether a row's time and series can be read, bool [n].
        reasons: why others can't, by position.
        series: number of each row's series, from 0, int64 [n]; None where all are of one.
        first_of_file: which rows are their file's first, bool [n]; None where there are no files.
    """

    times: np.ndarray | None
    readable: np.ndarray
    reasons: Mapping[int, str]
    series: np.ndarray | None
    first_of_file: np.ndarray | None = None


def without_columns(x: Any, columns: tuple[str, ...]) -> tuple[Any, dict[str, pa.Array]]:
    """Rows without the columns that say when they are and of which series, and those columns.

    Args:
        x: a table with named columns; or an array, [n] of one channel or [n, channels].
        columns: names.

    Raises:
        InputError: if a column isn't there.
    """
    if not columns:
        rows = x if hasattr(type(x), "columns") or isinstance(x, Mapping) else unmasked(x)
        return (rows[:, None] if getattr(rows, "ndim", 2) == 1 else rows), {}
    table = as_table(x)
    if table is None:
        raise InputError(
            f"rows have no columns with names; allowed: a table with {', '.join(columns)}"
        )
    for name in columns:
        if name not in table.column_names:
            raise InputError(f"rows have no column {name!r}; {suggest(name, table.column_names)}")
    cells = {name: table.column(name).combine_chunks() for name in columns}
    return table.drop_columns(list(columns)), cells


def followed(
    cells: Mapping[str, pa.Array],
    window: Window,
    clock: Clock | None,
    rows: int,
    files: np.ndarray | None = None,
) -> Followed:
    """When each row is, and of which series.

    Args:
        cells: the columns that say so, by name.
        window: names them.
        clock: how times are written.
        rows: n.
        files: number of each row's file, [n]; without times, a file is a series.

    Raises:
        InputError: if a column is of another type than in training.
    """
    times: np.ndarray | None = None
    readable = np.ones(rows, bool)
    reasons: dict[int, str] = {}
    if window.time is not None:
        assert clock is not None
        times, readable, reasons = times_of(cells[window.time], clock, window.time)
    series: np.ndarray | None = None
    if window.series is not None:
        encoded = cells[window.series].dictionary_encode()
        series = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        missing = Wrong(f"{window.series} is missing", f"{window.series} is missing")
        for row in np.flatnonzero(series < 0).tolist():
            reasons.setdefault(row, missing)
        readable = readable & (series >= 0)
    first_of_file = None
    if files is not None:
        first_of_file = np.concatenate([[True], np.diff(files) != 0])[:rows]
        if times is None:
            series = files if series is None else series + (series.max(initial=0) + 1) * files
    return Followed(
        times=times,
        readable=readable,
        reasons=reasons,
        series=series,
        first_of_file=first_of_file,
    )


def in_order(when: Followed, window: Window) -> np.ndarray | None:
    """Positions of the rows in the order of series and time; None where they are in order.

    Of rows of one series and time the first is kept.

    Raises:
        InputError: naming the first row whose time doesn't rise, where rows aren't to be sorted.
    """
    if when.times is None:
        return None
    _, back = breaks(when.times, when.series, None, len(when.times))
    readable = when.readable.copy()
    readable[1:] &= when.readable[:-1]
    back &= readable
    if when.first_of_file is not None:
        back &= ~when.first_of_file
    if window.order == "refuse":
        if back.any():
            row = int(np.argmax(back))
            raise InputError(
                f"row {row}: {window.time} isn't after that of the row before; allowed: times that "
                "rise (of each series, one after the other), or Window(order='sort') "
                "(--window-order sort)"
            )
        return None
    series = np.zeros(len(back), np.int64) if when.series is None else when.series
    # Series in the order in which they begin.
    _, first, own = np.unique(series, return_index=True, return_inverse=True)
    order = np.lexsort((when.times, first[own.reshape(-1)]))
    twice = np.zeros(len(order), bool)
    twice[1:] = (np.diff(when.times[order]) == 0) & (np.diff(series[order]) == 0)
    order = order[~twice]
    return None if len(order) == len(back) and (np.diff(order) == 1).all() else order


def points_of(
    x: np.ndarray,
    when: Followed,
    longest_step: float | None,
    bad: Mapping[int, str] = MappingProxyType({}),
    *,
    at: np.ndarray | None = None,
) -> Points:
    """Points of rows, and which of them follow each other.

    Args:
        x: numbers, [n, channels], NaN for what can't be used.
        when: rows are.
        longest_step: from one point to the next.
        bad: why rows can't be used that hold no NaN, by position.
        at: positions of the rows to take, in order; None takes all.
    """
    usable = when.readable & finite_rows(x)
    usable[list(bad)] = False
    times, series, reasons = when.times, when.series, {**when.reasons, **bad}
    readable = when.readable
    if at is not None:
        place = {int(row): number for number, row in enumerate(at)} if reasons else {}
        reasons = {place[row]: why for row, why in reasons.items() if row in place}
        x, usable, readable = x[at], usable[at], readable[at]
        times = None if times is None else times[at]
        series = None if series is None else series[at]
    broken, _ = breaks(times, series, longest_step, len(x))
    # What is around a row whose time nobody knows may be far apart.
    broken |= ~readable
    broken[1:] |= ~readable[:-1]
    return Points(x, broken, usable, reasons)


def settled_series(
    x: np.ndarray,
    when: Followed,
    window: Window,
    clock: Clock | None,
    schema: Schema,
    bad: Mapping[int, str],
    at: np.ndarray | None,
) -> tuple[Points, Series]:
    """Points to train on, and all that is known of their series.

    Args:
        x: numbers, [n, channels].
        when: rows are.
        window: as asked for.
        clock: how times are written.
        schema: of a row.
        bad: rows that can't be trained on, by position.
        at: positions of the rows to take, in order.

    Raises:
        InputError: if no time rises.
    """
    step = None
    if when.times is not None:
        rows = np.flatnonzero(when.readable) if at is None else at[when.readable[at]]
        series = None if when.series is None else when.series[rows]
        first, _ = breaks(None, series, None, len(rows))
        step = usual_step(when.times[rows], first)
    longest = None if step is None else step * window.gap
    points = points_of(x, when, longest, bad, at=at)
    period = None
    if window.length is None:
        ages = points.ages
        end = int(np.argmax(ages)) + 1 if len(ages) else 0
        longest_run = int(ages.max(initial=0))
        period = period_of(points.x[end - longest_run : end])
        length = min(length_of(period), max(2, longest_run // LEAST_WINDOWS))
        window = dataclasses.replace(window, length=length)
    return points, Series(points=schema, window=window, clock=clock, step=step, period=period)


def training_clock(cells: Mapping[str, pa.Array], window: Window) -> Clock | None:
    """How times are written; None without a column of times."""
    if window.time is None:
        return None
    return clock_of(cells[window.time].slice(0, CLOCK_ROWS), window.time)


def with_dropped(points: Points, at: np.ndarray | None, rows: int) -> dict[int, str]:
    """Why rows of the input can't be used, by position, of points that were sorted."""
    if at is None:
        return dict(points.reasons)
    reasons: dict[int, str] = {int(at[place]): why for place, why in points.reasons.items()}
    left = np.ones(rows, bool)
    left[at] = False
    return reasons | dict.fromkeys(np.flatnonzero(left).tolist(), TWICE)


def columns_of(window: Window) -> tuple[str, ...]:
    """The columns that say when a row is and of which series."""
    return tuple(name for name in (window.time, window.series) if name is not None)


def with_columns(selection: Selection, columns: tuple[str, ...]) -> Selection:
    """A selection that carries the columns of times and of series, first."""
    return dataclasses.replace(selection, key_columns=(*columns, *selection.key_columns))


def cells_of(blocks: list[Block], columns: tuple[str, ...]) -> dict[str, pa.Array]:
    """Columns of times and of series of blocks that follow each other.

    Raises:
        InputError: if the rows have no named columns.
    """
    if not columns:
        return {}
    if any(block.keys is None for block in blocks):
        raise InputError(
            f"rows have no columns with names; allowed: a table with {', '.join(columns)}"
        )
    tables = [block.keys.select(list(columns)) for block in blocks if block.keys is not None]
    table = pa.concat_tables(tables, promote_options="permissive")
    return {name: table.column(name).combine_chunks() for name in columns}


def files_of(blocks: list[Block]) -> np.ndarray:
    """Number of each row's file, int64 [n]."""
    runs = [run for block in blocks for run in block.runs]
    return np.repeat([run.file for run in runs], [run.rows for run in runs])


def refuse_bad(
    rows: np.ndarray, when: Followed, schema: Schema, bad: Mapping[int, str] = MappingProxyType({})
) -> None:
    """Refuse points that can't be used.

    Args:
        rows: numbers, [n, channels].
        when: they are.
        schema: of a point.
        bad: why others can't be used.

    Raises:
        InputError: naming the first.
    """
    finite = np.isfinite(rows)
    reasons = {**when.reasons, **bad}
    for row, channel in np.argwhere(~finite)[:1].tolist():
        reasons.setdefault(row, f"{schema.feature_name(channel)} is {rows[row, channel]}")
    if reasons:
        row = min(reasons)
        raise InputError(
            f"row {row}: {reasons[row]}; allowed: finite numbers, and a time where there are times "
            "(or on_bad_row)"
        )

"""Dates as Arrow has them and people write them: parts, days, and the times of series."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from aejax.config import InputError
from aejax.config.columns import DatePart
from aejax.data.arrow_types import is_date, is_number, is_text, note, text_of, zone_of
from aejax.data.blocks import Wrong
from aejax.data.columns import Column, DateOrder
from aejax.data.number_text import is_missing, numbers_of_text
from aejax.data.schema import Clock
from aejax.data.sniffing import LEAST_SHARE

# Of a column of text, different cells that decide whether it has dates.
EXAMINED = 1000
_TIME = r"(?:[T,]?\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*(AM|PM)?)?"
_PARTS = re.compile(rf"(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}}|\d{{2}}){_TIME}", re.IGNORECASE)
_YEAR_FIRST = re.compile(rf"(\d{{4}})([./])(\d{{1,2}})\2(\d{{1,2}}){_TIME}", re.IGNORECASE)
_NAMED = re.compile(
    rf"(\d{{1,2}})([-\s]|\.\s?)([A-Z]{{3,9}})[-\s.,]+(\d{{4}}){_TIME}", re.IGNORECASE
)
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2}|\d{2}T)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Years of two digits, as POSIX has them.
_LAST_OF_2000 = 68
ALLOWED = "dates, text that is dates (2024-05-01 13:30:00, or with a zone), or numbers"
NANOSECONDS: Mapping[str, int] = {
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "min": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}


def part_of(dates: pa.Array, part: DatePart) -> np.ndarray:
    """One part of every date, float64 [n]: hours with their fraction, Monday 0, January 1."""
    match part:
        case "hour":
            minutes = pc.add(pc.multiply(pc.hour(dates), 60), pc.minute(dates))
            value = pc.divide(pc.cast(minutes, pa.float64()), 60.0)
        case "weekday":
            value = pc.day_of_week(dates)
        case "month":
            value = pc.month(dates)
    numbers: np.ndarray = value.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def days_of(dates: pa.Array) -> np.ndarray:
    """The different days of dates, int64 [n] counted from 1970."""
    days = pc.floor_temporal(dates.drop_null(), unit="day").cast(pa.date32()).cast(pa.int32())
    numbers: np.ndarray = days.unique().cast(pa.int64()).to_numpy(zero_copy_only=False)
    return numbers


def dates_of(cells: pa.Array, column: Column, wrong: dict[int, str]) -> pa.Array:
    """Cells as timestamps without a zone: the time of day in the column's.

    An instant is one whatever zone it is written in; a time of day without one isn't an instant,
    and so neither is taken for the other.

    Args:
        cells: dates, or text.
        column: of them; its zone and the order in which its dates are written count.
        wrong: takes what is wrong with cells, by position; the date is null then.
    """
    name, zone = column.source, column.zone
    if types.is_null(cells.type):
        return cells.cast(pa.timestamp("us"))
    if is_text(cells.type):
        cells = _dates_of_text(text_of(cells), column, wrong)
    elif not is_date(cells.type):
        raise InputError(f"column {name!r} is of type {cells.type}; allowed: dates")
    elif bool(own := zone_of(cells.type)) != bool(zone):
        raise InputError(
            f"column {name!r} has {f'the time zone {own}' if own else 'no time zone'}; "
            f"allowed: {f'one (of training: {zone})' if zone else 'none'}, as in training"
        )
    if not zone:
        return cells.cast(pa.timestamp("s")) if types.is_date(cells.type) else cells
    try:
        return pc.local_timestamp(cells.cast(pa.timestamp(cells.type.unit, zone)))
    except pa.ArrowInvalid as error:  # A machine may lack a database of zones.
        raise InputError(f"column {name!r}: {' '.join(str(error).split())[:200]}") from None


def _dates_of_text(text: pa.Array, column: Column, wrong: dict[int, str]) -> pa.Array:
    """Timestamps, with a zone if the column has one."""
    name, zone = column.source, column.zone
    dtype = pa.timestamp("us", zone or None)
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(is_missing(text), pa.scalar(None, text.type), text)
    try:
        return text.cast(dtype)
    except pa.ArrowInvalid:
        distinct = text.dictionary_encode()
    values = [_date(cell, column.order) for cell in distinct.dictionary.to_pylist()]
    other = [value is not False and (value.tzinfo is None) == bool(zone) for value in values]
    order = f", the {column.order} first" if column.order else ""

    def of_all(flags: list[bool]) -> pa.Array:
        return pa.array([*flags, False]).take(distinct.indices.fill_null(len(flags)))

    note(
        text,
        of_all([value is False for value in values]),
        name,
        f"not a date{order}",
        wrong,
    )
    said = "without a time zone" if zone else "with a time zone"
    note(text, of_all(other), name, f"{said}, unlike training", wrong)
    kept = [None if odd else value or None for value, odd in zip(values, other, strict=True)]
    return pa.array(kept, dtype).take(distinct.indices)


def _date(cell: str, order: DateOrder) -> datetime.datetime | Literal[False]:
    """A cell's date and time; False where it is none."""
    try:
        if match := _PARTS.fullmatch(cell):
            first, mark, second, year, *time = match.groups()
            if not order:
                return False
            day, month = (first, second) if order == "day" or mark == "." else (second, first)
        elif match := _YEAR_FIRST.fullmatch(cell):
            year, _, month, day, *time = match.groups()
        elif match := _NAMED.fullmatch(cell):
            day, _, word, year, *time = match.groups()
            month = str(_MONTHS.index(word[:3].lower()) + 1)
        else:
            return datetime.datetime.fromisoformat(cell)
        return _assembled(year, month, day, time)
    except ValueError:
        return False


def _assembled(year: str, month: str, day: str, time: list[str | None]) -> datetime.datetime:
    hour, minute, second, fraction, half = time
    whole = int(year)
    if len(year) == 2:
        whole += 2000 if whole <= _LAST_OF_2000 else 1900
    hours = int(hour or 0)
    if half:
        if not 1 <= hours <= 12:
            raise ValueError(hours)
        hours = hours % 12 + 12 * (half.upper() == "PM")
    micro = int((fraction or "0").ljust(6, "0")[:6])
    return datetime.datetime(
        whole, int(month), int(day), hours, int(minute or 0), int(second or 0), micro
    )


def written_as(cells: pa.Array, name: str, day_first: bool | None) -> tuple[DateOrder, str] | None:
    """How dates are written in a column of text: their order and zone; None if it has others.

    Args:
        cells: text.
        name: of the column, for messages.
        day_first: what is known of the order.

    Returns:
        "day" or "month" where one of them comes first, "" where the year does; and "UTC" where
        the dates have a zone, else "".

    Raises:
        InputError: if nothing tells whether the day or the month comes first.
    """
    text = pc.utf8_trim_whitespace(text_of(cells))
    there = text.filter(pc.invert(is_missing(text))).drop_null().unique().slice(0, EXAMINED)
    words = there.to_pylist()
    # Words of digits alone are codes.
    looks = [
        bool(_ISO.match(w) or any(p.fullmatch(w) for p in (_PARTS, _YEAR_FIRST, _NAMED)))
        for w in words
    ]
    if not words or sum(looks) < LEAST_SHARE * len(words):
        return None
    orders: tuple[DateOrder, ...] = ("day", "month")
    if day_first is not None:
        orders = ("day",) if day_first else ("month",)
    good = {order: [bool(_date(word, order)) for word in words] for order in ("", *orders)}
    if sum(good[""]) >= LEAST_SHARE * len(words):
        order: DateOrder = ""
    else:
        fitting = [one for one in orders if sum(good[one]) >= LEAST_SHARE * len(words)]
        unlike = [w for w in words if _date(w, "day") != _date(w, "month")]
        if len(fitting) > 1 and unlike and not all(map(_is_settled, words)):
            raise InputError(
                f"column {name!r} has dates such as {unlike[0]!r}, of which nothing tells whether "
                "the day or the month comes first; allowed: --day-first True or --day-first False "
                "(Dialect.day_first), or dates instead of text"
            )
        if not fitting:
            return None
        order = fitting[0]
    zoned = [date for word in words if (date := _date(word, order)) and date.tzinfo is not None]
    return order, "UTC" if zoned else ""


def _is_settled(word: str) -> bool:
    match = _PARTS.fullmatch(word)
    return match is None or match[2] == "."


def clock_of(cells: pa.Array, name: str) -> Clock:
    """How times are written, of the times of the first training rows.

    Args:
        cells: the column.
        name: of the column, for messages.

    Raises:
        InputError: if they are no times.
    """
    if is_date(cells.type):
        return Clock(kind="instant" if zone_of(cells.type) else "local")
    if is_number(cells.type):
        return Clock(kind="number")
    if is_text(cells.type):
        text = text_of(cells)
        numbers, wrong = numbers_of_text(text)
        if numbers.null_count < len(numbers) and not wrong.true_count:
            return Clock(kind="number")
        written = written_as(text, name, None)
        if written is not None:
            order, zone = written
            return Clock(kind="instant" if zone else "local", order=order)
        first = next((cell for cell in text.to_pylist() if cell), None)
        raise InputError(f"time column {name!r} holds {first!r}; allowed: {ALLOWED}")
    raise InputError(f"time column {name!r} is of type {cells.type}; allowed: {ALLOWED}")


def times_of(
    cells: pa.Array, clock: Clock, name: str
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Times as numbers that rise with time.

    Args:
        cells: the column.
        clock: as `clock_of` found it.
        name: of the column.

    Returns:
        int64 [n] of nanoseconds, or float64 [n] of numbers; whether each can be read, bool [n];
        and what is wrong with those that can't, by position.

    Raises:
        InputError: if the column's type is not that of training.
    """
    wrong: dict[int, str] = {}
    if clock.kind == "number":
        numbers = cells
        if is_text(cells.type):
            numbers, odd = numbers_of_text(text_of(cells))
            for row in np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist():
                wrong[row] = Wrong(f"{name} is {cells[row]}, no number", f"{name} is no number")
        elif not (is_number(cells.type) or types.is_null(cells.type)):
            raise InputError(f"time column {name!r} is of type {cells.type}; allowed: numbers")
        times = numbers.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        there = np.isfinite(times)
    else:
        zone = "UTC" if clock.kind == "instant" else ""
        column = Column(name=name, kind="number", source=name, zone=zone, order=clock.order)
        dates = dates_of(cells, column, wrong).cast(pa.timestamp("ns"), safe=False)
        there = dates.is_valid().to_numpy(zero_copy_only=False)
        times = dates.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(~there).tolist():
        wrong.setdefault(row, Wrong(f"{name} is missing", f"{name} is missing"))
    return times, there, wrong


def usual_step(times: np.ndarray, first_of_series: np.ndarray) -> float:
    """The usual step from a time to the next, the median of those that are longer than 0.

    Args:
        times: [n].
        first_of_series: whether a time is its series' first, bool [n].

    Raises:
        InputError: if no step is.
    """
    steps = np.diff(times)[~first_of_series[1:]]
    steps = steps[steps > 0]
    if not len(steps):
        raise InputError("time never rises from one row to the next; allowed: times that rise")
    return float(np.median(steps))


def in_words(step: float, clock: Clock) -> str:
    """A step in time, in the largest unit that suits: "5 min", "1.5 s"."""
    if clock.kind == "number":
        return f"{step:g}"
    unit = next(unit for unit, size in NANOSECONDS.items() if step >= size or unit == "ns")
    return f"{step / NANOSECONDS[unit]:.4g} {unit}"

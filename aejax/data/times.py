"""The column of times of a series: dates, text that is dates, or numbers that rise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.types as types

from aejax.config import InputError
from aejax.data.arrow_types import is_date, is_number, is_text, text_of, zone_of
from aejax.data.blocks import Wrong
from aejax.data.columns import Column
from aejax.data.dates import dates_of, written_as
from aejax.data.number_text import numbers_of_text
from aejax.data.schema import Clock

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


def clock_of(cells: pa.Array, name: str, day_first: bool | None = None) -> Clock:
    """How times are written, of the times of the first training rows.

    Args:
        cells: the column.
        name: of the column, for messages.
        day_first: whether the day comes before the month in text; None finds out.

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
        written = written_as(text, name, day_first)
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

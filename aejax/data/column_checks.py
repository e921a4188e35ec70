"""Which columns of a training table are no features: those that never change or identify rows.

A number that counts rows says nothing of them, and later rows lie beyond those of training: all
of them would be flagged. Whole numbers are taken for such a number if their order or their being
all different can't be chance:

- Drawn at random from as many whole numbers as lie between the smallest and the largest (in
  their common step), n of them would repeat about n^2 / (2 * range) times, and more often if some
  values are likelier than others. `EXPECTED` such repeats are expected, and hardly any is there.
- They rise (or fall) from row to row. Any n values come in this order by chance once in n! times.

Fractions are measurements, whatever their order: of those that rise from row to row, as of whole
numbers that do and repeat, a person is asked. Below `LEAST_ROWS` rows only names count: a
short table may be sorted, or list the steps of a trial.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from aejax.config import InputError
from aejax.config.columns import DatePart
from aejax.data.batches import in_blocks
from aejax.data.disk_rows import Stored

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("aejax")

LEAST_ROWS = 50
# Repeats that chance would give; with that many, none has a probability of e^-25.
EXPECTED = 25.0
# Of the steps from row to row: a table may be put together of a few that count up.
ORDERED = 0.99
# More rises than that aren't the few changes of a column that is nearly constant.
LEAST_RISES = 20
ONE_WAY = "changes in one direction, as times and counters do: later rows lie beyond it"
AS_DATES = "reads as dates, such as 20260105: later rows lie beyond them"
# Of an array, whose order shows whether a feature is worth a second look.
HEAD_ROWS, EXAMINED_ROWS = 1 << 10, 1 << 16
NAMED_AT_MOST = 3
# Values of a column that are remembered to find repeats among.
MOST_REMEMBERED = 1 << 20
# Different values of a column of text that are counted; later ones are only known to be more.
MOST_COUNTED = 1 << 16
# A column of text with more different values than this share of its rows names rows.
MOST_DIFFERENT = 0.5
# How often the day and the week must have come round before their parts are used.
LEAST_DAYS = LEAST_WEEKS = 3
# What is written beside a table's own columns: row labels by pandas and R.
UNNAMED = re.compile(r"|Unnamed: \d+(_level_\d+)?")
_KEYS = re.compile(r"(?:^|[^a-z])(?:id|uuid|guid)$|[^a-z]key$|^row_?(?:id|number|num|nr)$")


def named_as_key(name: str) -> bool:
    """Whether a column's name says that it identifies rows or things: id, pump_id, orderKey."""
    # A camel's humps are words of their own.
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()).lower()
    return _KEYS.search(words) is not None


@dataclasses.dataclass
class Numbers:
    """What is known so far of a column of numbers, in the order of its rows."""

    count: int = 0
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    rises: int = 0
    falls: int = 0
    repeats: int = 0
    remembered: int = 0
    step: int = 0
    first: float = np.nan
    last: float = np.nan
    values: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, numbers: np.ndarray) -> None:
        """Look at some more values, int64 or float64 [n]; NaN and infinite ones don't count."""
        if numbers.dtype.kind == "f":
            numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return
        if not self.whole:
            numbers = numbers.astype(np.float64)
        if not self.count:
            self.first = self.last = numbers[0]
        steps = np.diff(numbers, prepend=np.asarray(self.last, numbers.dtype))
        self.rises += int((steps > 0).sum())
        self.falls += int((steps < 0).sum())
        self.count, self.last = self.count + len(numbers), numbers[-1]
        self.low, self.high = min(self.low, numbers.min()), max(self.high, numbers.max())
        if self.whole:
            self.whole = numbers.dtype.kind == "i" or bool((numbers == np.floor(numbers)).all())
        if self.whole and max(abs(int(self.low)), abs(int(self.high))) < 1 << 62:
            self._remember(numbers.astype(np.int64))

    def _remember(self, numbers: np.ndarray) -> None:
        self.step = int(np.gcd.reduce(numbers - int(self.first), initial=self.step))
        if self.remembered >= MOST_REMEMBERED or self.often:
            return
        different = np.unique(numbers)
        again = np.isin(different, self.values, assume_unique=True)
        self.repeats += len(numbers) - len(different) + int(again.sum())
        self.remembered += len(numbers)
        self.values = np.concatenate([self.values, different[~again]])

    @property
    def constant(self) -> bool:
        """Whether there is one value only."""
        return self.count > 0 and self.low == self.high

    @property
    def often(self) -> bool:
        """Whether values repeat as those of no key do."""
        return self.remembered >= LEAST_ROWS and 20 * self.repeats > self.remembered

    @property
    def settled(self) -> bool:
        """Whether no row that may follow makes the column less of a feature."""
        both_ways = min(self.rises, self.falls) > (1 - ORDERED) * self.count
        return self.count >= LEAST_ROWS and both_ways and (self.often or not self.whole)

    def direction(self) -> str | None:
        """Which way the values go at nearly every step, "up" or "down"; None if neither."""
        steps = self.count - 1
        for name, towards in (("up", self.rises), ("down", self.falls)):
            if self.count >= LEAST_ROWS and towards >= ORDERED * steps:
                return name
        return None

    def identifies(self) -> str | None:
        """Why the values are those of a key or a counter, or None."""
        if not self.whole or self.count < LEAST_ROWS or self.often:
            return None
        if towards := self.direction():
            return f"whole numbers that count {towards} from row to row"
        values = (int(self.high) - int(self.low)) // max(self.step, 1) + 1
        expected = self.remembered * (self.remembered - 1) / 2 / values
        if expected >= EXPECTED and 10 * self.repeats <= expected:
            return "whole numbers that are all different, as keys are"
        return None

    def rising(self) -> bool:
        """Whether the values may be a time or a counter's although they aren't taken for one."""
        if self.count < 2 * LEAST_ROWS:
            return False
        one_way = not min(self.rises, self.falls) and max(self.rises, self.falls) >= LEAST_RISES
        return one_way or self.direction() is not None

    def dates(self) -> bool:
        """Whether the values, all whole, read as days: 20260105."""
        days = self.values
        if not self.whole or len(days) < LEAST_RISES or self.low < 19000101 or self.high > 21991231:
            return False
        months, of_month = days // 100 % 100, days % 100
        valid = (months >= 1) & (months <= 12) & (of_month >= 1) & (of_month <= 31)
        return bool(valid.all())


def counting(x: np.ndarray) -> dict[int, str]:
    """Features of rows without names that look like keys, counters or times, each with why.

    Args:
        x: rows in their order, [n, features].
    """
    head = x[:HEAD_ROWS].astype(np.float64)
    if len(head) < LEAST_ROWS:
        return {}
    steps = np.diff(head, axis=0)
    rises, falls = (steps > 0).sum(axis=0), (steps < 0).sum(axis=0)
    one_way = (np.minimum(rises, falls) < (1 - ORDERED) * len(head)) & (rises + falls > 0)
    whole = (head == np.floor(head)).all(axis=0) & (rises + falls > len(head) / 2)
    reasons = {}
    for feature in np.flatnonzero(one_way | whole):
        numbers = Numbers()
        numbers.add(x[:, feature].astype(np.float64))
        if why := numbers.identifies():
            reasons[int(feature)] = why
        elif numbers.rising():
            reasons[int(feature)] = ONE_WAY
    return reasons


def check_array(x: Stored) -> None:
    """Look at training rows that have no names to leave features out by: all stay.

    A warning names features that look like keys, counters or times.

    Args:
        x: rows in their order; those of more than one axis are no table, and pass.

    Raises:
        InputError: if all rows are the same: they teach nothing.
    """
    if len(x.shape) != 2 or len(x) < 2:
        return
    first = x[:1]
    if all((block == first).all() for block in in_blocks(x)):
        raise InputError(
            f"all {len(x)} training rows are the same, feature[0] is {first[0, 0]:g} in all of "
            "them; allowed: at least 1 feature that varies"
        )
    if reasons := counting(x[:EXAMINED_ROWS]):
        few = [f"feature[{at}] ({why})" for at, why in reasons.items()][:NAMED_AT_MOST]
        more = f" and {len(reasons) - len(few)} more" if len(reasons) > len(few) else ""
        said = "; ".join(few) + more
        logger.warning("aejax: look at: %s. All columns of an array are features", said)


@dataclasses.dataclass
class Texts:
    """What is known so far of a column of text."""

    count: int = 0
    values: Counter[str] = dataclasses.field(default_factory=Counter)
    more: int = 0

    def add(self, cells: pa.Array) -> None:
        """Count values, text, null where missing."""
        self.count += len(cells) - cells.null_count
        counted = cells.drop_null().value_counts()
        for value, count in zip(*counted.flatten(), strict=True):
            word = value.as_py()
            if word in self.values or len(self.values) < MOST_COUNTED:
                self.values[word] += count.as_py()
            else:
                self.more += count.as_py()

    @property
    def constant(self) -> bool:
        """Whether there is one value only."""
        return len(self.values) == 1 and not self.more

    def identifies(self) -> str | None:
        """Why the values name rows, or None."""
        different = len(self.values) + self.more
        if self.count > 2 and different > MOST_DIFFERENT * self.count:
            return f"text that names rows: {different} values in {self.count} rows"
        return None


def uncovered(part: DatePart, days: np.ndarray) -> str | None:
    """Why the rows of some days can't say what is usual for a part of a date, or None.

    An hour, weekday or month without training rows looks like a fault as soon as it comes. It is
    taken for one only where it has had the time to come: the hour in `LEAST_DAYS` days, the weekday
    in as many whole weeks as `LEAST_WEEKS`. A year is seldom there more than once: months are used
    once there are rows of all twelve.

    Args:
        part: of a date.
        days: those with rows, different ones, counted from 1970.
    """
    if part == "month":
        months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
        count = len(np.unique(months))
        return None if count == 12 else f"rows of {count} of the 12 months"
    if part == "weekday":
        passed = days - days.min()
        whole = (int(passed.max()) + 1) // 7
        weeks = passed // 7
        count = len(np.unique(weeks[weeks < whole]))
        return None if count >= LEAST_WEEKS else f"rows of {count} whole weeks, fewer than 3"
    return None if len(days) >= LEAST_DAYS else f"rows of {len(days)} days, fewer than 3"

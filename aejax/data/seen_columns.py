"""What is known of a training table's columns, as its rows go by, and why some are no features."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from aejax.config import Columns
from aejax.config.columns import DATE_PARTS
from aejax.data import arrow_types, dates
from aejax.data.column_checks import (
    AS_DATES,
    LEAST_ROWS,
    ONE_WAY,
    UNNAMED,
    Numbers,
    Texts,
    named_as_key,
)
from aejax.data.columns import Column, DateOrder
from aejax.data.number_text import is_missing, numbers_of_text
from aejax.data.offsets import HEAD_ROWS, centres
from aejax.data.sniffing import LEAST_SHARE

# How a reason begins that is the same for all columns of one value.
ALWAYS = "always "
AS_TEXT = "numbers that are text: make them numbers, as pandas.to_numeric(errors='coerce') does"


class Seen:
    """What is known so far of a column.

    Args:
        name: of it.
        kind: "number", "boolean", "category", "date", "missing", or "other" for what is none.
        dtype: of its cells.
    """

    def __init__(self, name: str, kind: str, dtype: pa.DataType) -> None:
        self.name, self.kind, self.dtype = name, kind, dtype
        self.order: DateOrder = ""
        # That of the first dates; "" where they have none.
        self.zone = arrow_types.zone_of(dtype)
        self.rows = self.missing = self.wrong = 0
        self.numbers, self.texts = Numbers(), Texts()
        self.parts = {part: Numbers() for part in DATE_PARTS}
        self.days = np.empty(0, np.int64)
        self.head: list[np.ndarray] = []

    def add(self, column: pa.Array) -> None:
        """Look at some more cells."""
        self.rows += len(column)
        self.missing += column.null_count
        if self.kind == "category":
            text = arrow_types.text_of(column)
            self.missing += text.null_count - column.null_count
            self.texts.add(text)
        elif self.kind == "date":
            bad: dict[int, str] = {}
            read = Column(
                name=self.name, kind="number", source=self.name, zone=self.zone, order=self.order
            )
            parsed = dates.dates_of(column, read, bad)
            for part, numbers in self.parts.items():
                numbers.add(dates.part_of(parsed, part))
            self.days = np.union1d(self.days, dates.days_of(parsed))
            self.missing += parsed.null_count - column.null_count - len(bad)
            self.wrong += len(bad)
        elif self.kind in ("number", "boolean"):
            values = _numbers(column.drop_null())
            there = values[~np.isnan(values)] if values.dtype.kind == "f" else values
            self.missing += len(values) - len(there)
            if there.dtype.kind == "f":
                # A cell that is no number is infinite here, see `training_tables`.
                self.wrong += int(np.isposinf(there).sum())
                there = there[np.isfinite(there)]
            if (left := HEAD_ROWS - sum(map(len, self.head))) > 0:
                self.head.append(there[:left].astype(np.float64))
            self.numbers.add(values)

    @property
    def offset(self) -> float:
        """What to subtract before numbers become float32; see `aejax.data.offsets`."""
        if self.kind != "number" or not self.head:
            return 0.0
        return float(centres(np.concatenate(self.head)[:, None])[0])

    @property
    def is_key(self) -> bool:
        """Whether the values may be a key's, by the column's name."""
        can = self.kind == "category" or (self.kind == "number" and self.numbers.whole)
        return can and named_as_key(self.name)

    @property
    def settled(self) -> bool:
        """Whether a column of a table of numbers stays what it is, whatever rows follow."""
        if self.kind == "category":
            often = self.texts.count >= LEAST_ROWS and self.texts.identifies() is None
            return often and not self.texts.constant and not self.is_key
        return self.kind == "other" or (self.numbers.settled and not self.is_key)

    def left_out(self, settings: Columns, labels: Collection[str]) -> str | None:
        """Why the column is no feature, or None; parts of dates have reasons of their own."""
        mixed, texts, numbers = settings.kinds == "mixed", self.texts, self.numbers
        if self.missing == self.rows and self.kind != "other":
            return "no cell has a value"
        if self.name in settings.keep:
            return None
        if self.kind == "category" and texts.constant:
            return f"{ALWAYS}{next(iter(texts.values))!r}"
        # A table of numbers with a single value in a column has a single usable row: not enough,
        # but for another reason.
        if self.kind in ("number", "boolean") and numbers.constant and (mixed or numbers.count > 1):
            return f"{ALWAYS}{numbers.low:g}"
        if UNNAMED.fullmatch(self.name) or self.name in labels:
            return "row labels, written beside the columns"
        if self.kind == "number":
            return numbers.identifies() or ("named as a key" if self.is_key else None)
        if self.kind == "category" and (mixed or texts.count >= LEAST_ROWS):
            if texts.identifies() and self._fractions:
                return AS_TEXT
            return texts.identifies() or ("named as a key" if self.is_key and not mixed else None)
        return None

    @property
    def _fractions(self) -> bool:
        """Whether the text says numbers, some with fractions: no codes, and none of a key."""
        words = arrow_types.array_of_text(self.texts.values)
        words = words.filter(pc.invert(is_missing(words)))
        _, wrong = numbers_of_text(words)
        none = pc.sum(wrong).as_py() or 0
        fractions = any("." in word for word in words.to_pylist())
        return fractions and none <= (1 - LEAST_SHARE) * len(words)

    def question(self, settings: Columns) -> str | None:
        """What a person is asked about a feature, or None."""
        if self.name in (*settings.keep, *settings.categories):
            return None
        if self.kind == "category" and self.is_key:
            return "named as a key: rows with a value that training didn't have will stand out"
        if self.kind != "number":
            return None
        return ONE_WAY if self.numbers.rising() else AS_DATES if self.numbers.dates() else None


def kind_of(name: str, dtype: pa.DataType, settings: Columns) -> str:
    """What a column of a type is read as."""
    mixed = settings.kinds == "mixed"
    if types.is_null(dtype):
        return "missing"
    if mixed and name in settings.categories and not arrow_types.is_date(dtype):
        return "category"
    if not mixed and types.is_dictionary(dtype) and arrow_types.is_number(dtype.value_type):
        return "number"
    if types.is_boolean(dtype):
        return "boolean" if mixed else "number"
    if arrow_types.is_number(dtype):
        return "number"
    if arrow_types.is_text(dtype):
        return "category"
    return "date" if mixed and arrow_types.is_date(dtype) else "other"


def _numbers(column: pa.Array) -> np.ndarray:
    """Numbers or booleans, none missing, as int64 or float64 [n]."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    whole = types.is_integer(column.type)
    numbers: np.ndarray = column.cast(pa.int64() if whole else pa.float64(), safe=False).to_numpy(
        zero_copy_only=False
    )
    return numbers

"""How the columns of a table are read."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from aejax.config.checks import check, check_choices, is_count

DatePart = Literal["hour", "weekday", "month"]
DATE_PARTS: tuple[DatePart, ...] = get_args(DatePart)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """How the columns of a table are read.

    Args:
        kinds: "numbers" takes tables of numbers without missing cells. "mixed" also takes
            text (categories), booleans, dates and missing cells; what each column is, is
            inferred from the training rows and kept in the schema.
        categories: columns whose numbers are names (a code, a number of a shop), and so categories.
        most_categories: how many values a column of categories keeps; the rarer ones are one
            value together.
        dates: what becomes of a date: "cycle" (hour, weekday and month as points on a circle,
            so that 23:00 is near 01:00), "number" (the same three as numbers) or "none".
        date_parts: which of the three are used, where the training rows cover them: the hour
            from rows of 3 days on, the weekday from 3 whole weeks on, the month once there are
            rows of all twelve.
        embedding: width of the learned vector that stands for a category in the model's input;
            0 gives every category an input of its own (one-hot).
        indicator: whether the model sees which cells are missing, of columns that miss any
            in training. Without it a missing cell looks like an average one.
        keep: columns, or parts of dates as "when.month", that are features although they would
            be left out: because they never change, identify rows (whole numbers that count up or
            are all different, names such as id), or aren't covered by the training rows.

    Example:
        >>> columns = aejax.Columns(kinds="mixed", categories=("shop",))
        >>> aejax.Config(model=aejax.Dense(), columns=columns).columns.kinds
        'mixed'
    """

    kinds: Literal["numbers", "mixed"] = "numbers"
    categories: tuple[str, ...] = ()
    most_categories: int = 64
    dates: Literal["cycle", "number", "none"] = "cycle"
    date_parts: tuple[DatePart, ...] = DATE_PARTS
    embedding: int = 0
    indicator: bool = False
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choices(self)
        for field in ("categories", "keep"):
            given = getattr(self, field)
            names = isinstance(given, tuple) and all(isinstance(name, str) for name in given)
            check(self, field, "a tuple of names of columns", names)
        parts = isinstance(self.date_parts, tuple) and len(self.date_parts) > 0
        parts = parts and all(part in DATE_PARTS for part in self.date_parts)
        check(self, "date_parts", f"a tuple of {', '.join(map(repr, DATE_PARTS))}", parts)
        many = is_count(self.most_categories) and 2 <= self.most_categories <= 4096
        check(self, "most_categories", "a whole number from 2 to 4096", many)
        none = type(self.embedding) is int and self.embedding == 0
        check(self, "embedding", "a whole number, at least 0", none or is_count(self.embedding))

"""How the columns of a table are read."""

from __future__ import annotations

import dataclasses
from typing import Literal

from aejax.config.checks import check, check_choices, is_count


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
        embedding: width of the learned vector that stands for a category in the model's input;
            0 gives every category an input of its own (one-hot).
        indicator: whether the model is told which cells are missing, of columns that miss any
            in training. Without it a missing cell looks like an average one.
    """

    kinds: Literal["numbers", "mixed"] = "numbers"
    categories: tuple[str, ...] = ()
    most_categories: int = 64
    dates: Literal["cycle", "number", "none"] = "cycle"
    embedding: int = 0
    indicator: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        names = isinstance(self.categories, tuple)
        names = names and all(isinstance(name, str) for name in self.categories)
        check(self, "categories", "a tuple of names of columns", names)
        many = is_count(self.most_categories) and 2 <= self.most_categories <= 4096
        check(self, "most_categories", "a whole number from 2 to 4096", many)
        none = type(self.embedding) is int and self.embedding == 0
        check(self, "embedding", "a whole number, at least 0", none or is_count(self.embedding))

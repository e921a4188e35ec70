"""How the rows of a series become windows, and how windows' scores become those of points."""

from __future__ import annotations

import dataclasses
from typing import Literal

from aejax.config.checks import check, check_choices, is_count, is_number

PointScores = Literal["causal", "centred"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """Windows of a series: rows of a table that follow each other in time, a channel a column.

    A network sees `length` consecutive points at once. No window reaches over a gap in time, over
    a point that can't be used, or from one series to another.

    Args:
        length: points in a window; None takes the period of the training rows, as
            `aejax.data.period` finds it.
        stride: points from one training window to the next. Scoring takes every window.
        time: the column of times, no feature: dates, text that is dates, or numbers that rise.
            Without it rows are taken to be evenly spaced and in order.
        series: the column that names the series a row belongs to, where a table holds several; no
            feature. All of them share one network.
        scores: from windows to points. "causal": a point has the score of the window that ends
            with it, so that only the past counts, as alarms need it. "centred": the mean over all
            windows that hold it, which tells better where something was, afterwards.
        gap: steps in time that are longer than so many usual ones end a window.
        order: what becomes of rows whose times don't rise: "refuse" names the first; "sort" sorts
            rows that are in memory, and leaves out those whose time another row has.

    Example:
        >>> window = aejax.Window(length=48, time="time")
        >>> aejax.Config(model=aejax.Dense(), window=window).window.scores
        'causal'
    """

    length: int | None = None
    stride: int = 1
    time: str | None = None
    series: str | None = None
    scores: PointScores = "causal"
    gap: float = 3.0
    order: Literal["refuse", "sort"] = "refuse"

    def __post_init__(self) -> None:
        check_choices(self)
        long = self.length is None or (is_count(self.length) and self.length >= 2)
        check(self, "length", "a whole number, at least 2, or None", long)
        check(self, "stride", "a whole number, at least 1", is_count(self.stride))
        check(self, "gap", "a number, at least 1", is_number(self.gap) and self.gap >= 1)
        for field in ("time", "series"):
            name = getattr(self, field)
            named = name is None or (isinstance(name, str) and name != "")
            check(self, field, "the name of a column, or None", named)
        if self.time is not None:
            check(self, "series", "another column than time", self.series != self.time)

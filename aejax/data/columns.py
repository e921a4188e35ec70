"""Columns of a mixed table: what each is, and its cells as numbers for the device and as text.

The host hands one float32 for every column to the device: a number as it is, a boolean as 0
or 1, a category as its position, a part of a date as a number, a missing cell as NaN.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from aejax.config import InputError
from aejax.config.columns import DatePart

ColumnKind = Literal["number", "boolean", "category", "cycle"]
# What comes first in dates that are text, where it isn't the year.
DateOrder = Literal["", "day", "month"]
# After how much a part of a date is where it was.
PERIODS: Mapping[DatePart, int] = {"hour": 24, "weekday": 7, "month": 12}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
NEVER_SEEN, RARE_OR_NEVER_SEEN = "a value never seen", "a value rarely or never seen"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a mixed table, or one part of a column of dates.

    Args:
        name: of the feature: the column's, with ".hour" and so on for a part of a date.
        kind: "number", "boolean", "category" or "cycle" (a number that comes round again).
        source: the column that it is read from.
        part: which part of a date it is; None for other columns.
        zone: the time zone that parts are those of, "Europe/Berlin" say: that of the training
            rows, into which dates of other zones are converted. "" where those had none.
        order: of dates that are text, "day" or "month": what comes first. "" where the year does.
        categories: the values kept, the most frequent first. A cell's code is its value's
            position here; their number stands for every other value.
        rare: how many further values training rows had, that were too many to keep.
        embedding: width of the vector that stands for a category; 0 for one-hot.
        indicator: whether the model sees that a cell is missing.
    """

    name: str
    kind: ColumnKind
    source: str
    part: DatePart | None = None
    zone: str = ""
    order: DateOrder = ""
    categories: tuple[str, ...] = ()
    rare: int = 0
    embedding: int = 0
    indicator: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("number", "boolean", "category", "cycle"):
            raise InputError(
                f"Column.kind is {self.kind!r}; allowed: 'number', 'boolean', 'category', 'cycle'"
            )
        if self.part is not None and self.part not in PERIODS:
            raise InputError(f"Column.part is {self.part!r}; allowed: {', '.join(PERIODS)}")
        if (self.kind == "category") != bool(self.categories):
            raise InputError(
                f"Column.categories has {len(self.categories)} values and kind is {self.kind!r}; "
                "allowed: at least 1 with 'category', none with others"
            )
        if self.kind == "cycle" and self.part is None:
            raise InputError("Column.part is None and kind is 'cycle'; allowed: a part of a date")

    @property
    def period(self) -> int:
        """After how much the value is where it was; 0 where it never is."""
        return PERIODS[self.part] if self.part is not None and self.kind == "cycle" else 0

    @property
    def unseen(self) -> str:
        """What to call a value that is not among the categories."""
        return RARE_OR_NEVER_SEEN if self.rare else NEVER_SEEN

    def text(self, value: float) -> str:
        """A cell as a person would write it.

        Args:
            value: in the column's own units, as the host hands it over; NaN where missing.

        Example:
            >>> Column(name="when.hour", kind="cycle", source="when", part="hour").text(3.5)
            '03:30'
        """
        if math.isnan(value):
            return "missing"
        if self.kind == "boolean":
            return "true" if value >= 0.5 else "false"
        if self.kind == "category":
            code = round(value)
            return self.categories[code] if 0 <= code < len(self.categories) else self.unseen
        if self.part == "hour":
            minutes = round(60 * value) % (24 * 60)
            return f"{minutes // 60:02}:{minutes % 60:02}"
        if self.part == "weekday":
            return _WEEKDAYS[round(value) % 7]
        if self.part == "month":
            return _MONTHS[(round(value) - 1) % 12]
        return f"{value:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """The column as a JSON-ready dict, without what it doesn't have."""
        written = dataclasses.asdict(self)
        written["categories"] = list(self.categories)
        return {
            name: value for name, value in written.items() if value or name in ("name", "source")
        }

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Column:
        """The column that `to_dict` wrote; raises InputError where it isn't one."""
        try:
            fields = dict(written)
            fields["categories"] = tuple(map(str, fields.get("categories", ())))
            column = Column(**fields)
        except (TypeError, ValueError) as error:
            raise InputError(f"column is {str(written)[:80]!r}; {error}") from None
        if not isinstance(column.zone, str) or (column.zone and column.part is None):
            raise InputError(f"Column.zone is {column.zone!r}; allowed: with a part of a date")
        if column.order not in ("", "day", "month") or (column.order and column.part is None):
            raise InputError(f"Column.order is {column.order!r}; allowed: with a part of a date")
        whole = all(type(n) is int and n >= 0 for n in (column.rare, column.embedding))
        if not whole or not isinstance(column.name, str) or not isinstance(column.source, str):
            raise InputError(f"column is {str(written)[:80]!r}; allowed: what `to_dict` writes")
        return column

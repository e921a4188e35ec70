"""How the columns of a table are read, and how the text of one is written."""

from __future__ import annotations

import codecs
import dataclasses
from typing import Any, Literal, get_args

from aejax.config.checks import check, check_choices, is_count

DatePart = Literal["hour", "weekday", "month"]
DATE_PARTS: tuple[DatePart, ...] = get_args(DatePart)
Decimal = Literal[".", ","]
# Words for a number that is missing, however they are written: small, LARGE or Capitalised.
_WORDS = (
    *(
        "NaN",
        "NaT",
        "-NaN",
        "+NaN",
        "na",
        "n/a",
        "n.a.",
        "nan",
        "nat",
        "nil",
        "none",
        "null",
        "unknown",
        "missing",
        "undefined",
    ),
    *("not available", "(null)", "<na>", "#n/a", "#n/a n/a", "#na", "\\n", "-nan", "+nan"),
    # Of spreadsheets, of C's printf on Windows, and of IBM's and other programs.
    *("#div/0!", "#name?", "#null!", "#num!", "#ref!", "#value!"),
    *("1.#ind", "1.#qnan", "-1.#ind", "-1.#qnan"),
    *("", "?", "??", "-", "--", "---", "\u2013", "\u2014", ".", "*", "_"),
)
MISSING: tuple[str, ...] = tuple(
    dict.fromkeys(form for word in _WORDS for form in (word, word.upper(), word.capitalize()))
)


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
            value = getattr(self, field)
            names = isinstance(value, tuple) and all(isinstance(name, str) for name in value)
            check(self, field, "a tuple of names of columns", names)
        parts = isinstance(self.date_parts, tuple) and len(self.date_parts) > 0
        parts = parts and all(part in DATE_PARTS for part in self.date_parts)
        check(self, "date_parts", f"a tuple of {', '.join(map(repr, DATE_PARTS))}", parts)
        many = is_count(self.most_categories) and 2 <= self.most_categories <= 4096
        check(self, "most_categories", "a whole number from 2 to 4096", many)
        none = type(self.embedding) is int and self.embedding == 0
        check(self, "embedding", "a whole number, at least 0", none or is_count(self.embedding))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialect:
    """How the text of a table is written, as far as it isn't to be found out from its first lines.

    Args:
        delimiter: the character between cells, "tab" for tabs and " " for any number of spaces;
            None finds it out: one of , ; tab | or space.
        decimal: "." or "," in numbers; None finds it out. Whatever it is, thousands may be set
            apart with the other one, an apostrophe or a space.
        encoding: of the bytes, as Python names it ("cp1252"); None takes a byte order mark's,
            UTF-8 where all of the first bytes are, else cp1252.
        missing: further words for a missing cell, also of columns of text. Columns of numbers
            know those that are common: empty, blank, ?, -, NA, null, unknown, #N/A and so on.
        day_first: whether 03/04/2026 is the third of April; None finds it out from dates that
            can be read in one way only.

    Example:
        >>> aejax.Selection(dialect=aejax.Dialect(delimiter=";", decimal=",")).dialect.decimal
        ','
    """

    delimiter: str | None = None
    decimal: Decimal | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ()
    day_first: bool | None = None

    def __post_init__(self) -> None:
        # A shell hands over "\t" as two characters.
        if self.delimiter in ("\\t", "tab"):
            object.__setattr__(self, "delimiter", "\t")
        check_choices(self)
        one = self.delimiter is None or (isinstance(self.delimiter, str) and self._is_one())
        check(self, "delimiter", "one character, no letter, digit, quote or line end", one)
        check(self, "decimal", "'.', ','", self.decimal in (None, ".", ","))
        check(self, "decimal", "another one than delimiter", self.decimal != (self.delimiter or ""))
        check(self, "encoding", "one that Python knows, as 'cp1252'", self._is_known())
        words = isinstance(self.missing, tuple) and all(isinstance(w, str) for w in self.missing)
        check(self, "missing", "a tuple of words", words)
        check(self, "day_first", "True, False, None", self.day_first in (None, True, False))

    def _is_one(self) -> bool:
        character = self.delimiter or ""
        plain = len(character) == 1 and ord(character) < 128 and character not in "\"'\r\n\\+-.\0"
        return plain and not character.isalnum()

    def _is_known(self) -> bool:
        if self.encoding is None:
            return True
        try:
            codecs.lookup(self.encoding)
        except (LookupError, TypeError, ValueError):
            return False
        return True

    def to_dict(self) -> dict[str, Any]:
        """What is set, JSON-ready; empty where everything is to be found out."""
        written = dataclasses.asdict(self) | {"missing": list(self.missing)}
        return {name: value for name, value in written.items() if value not in (None, [])}

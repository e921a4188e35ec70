"""What is wrong with an input's rows, as blocks go by."""

from __future__ import annotations

import dataclasses

import numpy as np

from aejax.config import InputError
from aejax.data.blocks import Block
from aejax.data.files import Rows
from aejax.data.rows import Selection, usable_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Rows that can't be trained on.

    Attributes:
        rows: how many.
        of: rows in all.
        first: the first of them, and what is wrong with it.
    """

    rows: int
    of: int
    first: str


class SeenRows:
    """What is remembered of the rows of an input that went by.

    Args:
        opened: the input.
        selection: which columns are labels and features, and what becomes of bad cells.
    """

    def __init__(self, opened: Rows, selection: Selection) -> None:
        self.opened, self.selection = opened, selection
        self.rows = self.bad = 0
        self.first = ""

    def look(self, block: Block) -> np.ndarray | None:
        """Which rows of a block can be used: bool [n], or None for all of them.

        Raises:
            InputError: naming the first bad row, where bad cells are errors.
        """
        good = usable_rows(block.x, self.opened.schema)
        good[list(block.bad)] = False
        self.rows += len(good)
        if good.all():
            return None
        row = int(np.argmin(good))
        what = self._what(block, row)
        if self.selection.bad_cells == "error":
            raise InputError(
                f"{self.opened.path}: row {what}; allowed: finite numbers within float32's "
                "range (no empty cell, NaN or infinity), or --on-bad-row leave-out"
            )
        self.first = self.first or what
        self.bad += len(good) - int(good.sum())
        return good

    def _what(self, block: Block, row: int) -> str:
        name = f"{block.first_row + row}"
        if self.opened.many:
            file, in_file = block.place(row)
            name = f"{in_file} of {self.opened.parts[file].name}"
        if row in block.bad:
            return f"{name}: {block.bad[row]}"
        values = block.x[row].ravel()
        if self.opened.schema.columns is not None:
            if np.isnan(values).all():
                return f"{name}, which has no value in any column"
            values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
        wrong = int(np.argmin(np.isfinite(values)))
        return f"{name}, {self.opened.schema.feature_name(wrong)!r} is {values[wrong]}"

    def check(self, normal: int) -> None:
        """Refuse an input of which nothing is left to train on.

        Args:
            normal: how many rows are left.

        Raises:
            InputError: if there are none.
        """
        path, label = self.opened.path, self.selection.normal_label
        if self.rows and self.bad == self.rows:
            raise InputError(
                f"{path}: none of {self.rows} rows is usable, the first being row {self.first}; "
                "allowed: rows of finite numbers"
            )
        if not normal and label is not None:
            raise InputError(f"{path}: no row has the normal label {label!r}; allowed: at least 1")

    def left_out(self) -> LeftOut | None:
        """The rows that can't be trained on, if any."""
        return LeftOut(rows=self.bad, of=self.rows, first=self.first) if self.bad else None

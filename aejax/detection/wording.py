"""Cells of a mixed table in words: what was found, and what the model expected in its place."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from aejax.core import scaling
from aejax.data.columns import Column

if TYPE_CHECKING:
    import pyarrow

    from aejax.detection.fitted import FittedModel

_SHOWN = 40


class Words(NamedTuple):
    """Cells in the columns' own units and values.

    Attributes:
        found: what the rows hold, for each of n rows a text for each column.
        expected: what the model expected there.
    """

    found: list[list[str]]
    expected: list[list[str]]


def in_words(
    detector: FittedModel,
    rows: np.ndarray,
    table: pyarrow.Table | None = None,
    members: np.ndarray | None = None,
) -> Words:
    """Rows of a mixed table in words.

    Args:
        detector: of a mixed table.
        rows: that were prepared, float32 [n, columns].
        table: the same rows as they were given, to quote values that training never saw.
        members: positions of their groups, where there are any.
    """
    columns = detector.schema.columns
    assert columns is not None
    offset = detector.schema.offset or (0.0,) * len(columns)
    _, expected = detector.reconstruct_rows(rows, members=members)
    restored = np.empty_like(expected)
    own = np.zeros(len(rows), np.int32) if members is None else members
    for at in np.unique(own).tolist():
        scaler = detector.scaler
        if detector.is_stacked:
            # An ensemble's expected categories are its first member's.
            scaler = jax.tree.map(operator.itemgetter(at), scaler)
        restored[own == at] = scaling.invert(scaler, expected[own == at])
    words = Words([], [])
    for row, (cells, wanted) in enumerate(zip(rows, restored, strict=True)):
        found = []
        for column, value, shift in zip(columns, cells, offset, strict=True):
            text = _text(column, float(value), shift)
            unknown = column.kind == "category" and value == len(column.categories)
            if unknown and table is not None:
                quoted = str(table.column(column.source)[row].as_py())[:_SHOWN]
                text = f"{quoted} ({column.unseen.removeprefix('a value ')})"
            found.append(text)
        words.found.append(found)
        words.expected.append(
            [
                _text(column, float(value), shift)
                for column, value, shift in zip(columns, wanted, offset, strict=True)
            ]
        )
    return words


def _text(column: Column, value: float, offset: float) -> str:
    """A cell as a person would write it, of a value that is less the column's offset."""
    if not offset or math.isnan(value):
        return column.text(value)
    # As many digits of the difference as other numbers get.
    digits = 5 - math.floor(math.log10(abs(value))) if value else 5
    return f"{round(offset + value, digits):.15g}"

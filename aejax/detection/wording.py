"""Cells of a mixed table in words: what was found, and what the model expected in its place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import jax
import numpy as np

from aejax.config import Combine
from aejax.core import scaling
from aejax.core.scaling import Scaler
from aejax.data.columns import Column
from aejax.data.schema import Schema

if TYPE_CHECKING:
    import pyarrow

_SHOWN = 40


class Words(NamedTuple):
    """Cells in the columns' own units and values.

    Attributes:
        found: what the rows hold, for each of n rows a text for each column.
        expected: what the model expected there.
    """

    found: list[list[str]]
    expected: list[list[str]]


class Reconstructs(Protocol):
    """What `in_words` needs of a detector."""

    @property
    def schema(self) -> Schema:
        """The rows it takes."""

    @property
    def scaler(self) -> Scaler:
        """Fitted on training rows; of an ensemble, with a leading axis of members."""

    @property
    def combine(self) -> Combine | None:
        """None for a single model."""

    def reconstruct_rows(self, rows: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Scaled rows and their reconstructions."""


def in_words(detector: Reconstructs, rows: np.ndarray, table: pyarrow.Table | None = None) -> Words:
    """Rows of a mixed table in words.

    Args:
        detector: of a mixed table.
        rows: that were prepared, float32 [n, columns].
        table: the same rows as they were given, to quote values that training never saw.
    """
    columns = detector.schema.columns
    assert columns is not None
    offset = detector.schema.offset or (0.0,) * len(columns)
    _, expected = detector.reconstruct_rows(rows)
    scaler = detector.scaler
    if detector.combine is not None:
        scaler = jax.tree.map(lambda leaf: leaf[0], scaler)
    restored = scaling.invert(scaler, expected)
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

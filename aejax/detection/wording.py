"""Cells of a mixed table in words: what was found, and what the model expected in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from aejax.core import scaling

if TYPE_CHECKING:
    import pyarrow

    from aejax.detection.detector import Detector

_SHOWN = 40


class Words(NamedTuple):
    """Cells in the columns' own units and values.

    Attributes:
        found: what the rows hold, for each of n rows a text for each column.
        expected: what the model expected there.
    """

    found: list[list[str]]
    expected: list[list[str]]


def in_words(detector: Detector, rows: np.ndarray, table: pyarrow.Table | None = None) -> Words:
    """Rows of a mixed table in words.

    Args:
        detector: of a mixed table.
        rows: float32 [n, columns].
        table: the same rows as they were given, to quote values that training never saw.
    """
    columns = detector.schema.columns
    assert columns is not None
    _, expected = detector.reconstruct(rows)
    scaler = detector.scaler
    if detector.combine is not None:
        scaler = jax.tree.map(lambda leaf: leaf[0], scaler)
    restored = scaling.invert(scaler, expected)
    words = Words([], [])
    for row, (cells, wanted) in enumerate(zip(rows, restored, strict=True)):
        found = []
        for column, value in zip(columns, cells, strict=True):
            text = column.text(float(value))
            unknown = column.kind == "category" and value == len(column.categories)
            if unknown and table is not None:
                quoted = str(table.column(column.source)[row].as_py())[:_SHOWN]
                text = f"{quoted} ({column.unseen.removeprefix('a value ')})"
            found.append(text)
        words.found.append(found)
        words.expected.append(
            [column.text(float(value)) for column, value in zip(columns, wanted, strict=True)]
        )
    return words

"""Missing cells: rows of a mixed table may have some, but need a value in some column."""

from __future__ import annotations

import numpy as np

from aejax.config import InputError
from aejax.data.schema import Schema
from aejax.data.sources import Input

READ_ROWS = 1 << 16


def check_cells(x: np.ndarray, schema: Schema, path: Input) -> None:
    """Refuse rows of a mixed table with an infinite number or without any cell.

    Args:
        x: rows, float32 [n, columns]; NaN is a missing cell.
        schema: of a mixed table.
        path: what the rows are from, for the message.
    """
    for start in range(0, len(x), READ_ROWS):
        rows = x[start : start + READ_ROWS]
        if (infinite := np.isinf(rows)).any():
            row, feature = np.unravel_index(int(np.argmax(infinite)), rows.shape)
            raise InputError(
                f"{path}: row {start + int(row)}, {schema.feature_name(int(feature))!r} is "
                f"{rows[row, feature]}; allowed: numbers within float32's range, or none"
            )
        if (empty := np.isnan(rows).all(axis=1)).any():
            raise InputError(
                f"{path}: row {start + int(np.argmax(empty))} has no value in any column; "
                "allowed: at least 1"
            )


def with_values(x: np.ndarray, schema: Schema) -> np.ndarray:
    """The rows that have a value in some column: the others say nothing to learn from.

    Args:
        x: rows, [n, ...].
        schema: of the rows; those that are not of a mixed table are all kept.
    """
    if schema.columns is None:
        return x
    kept = ~np.isnan(x).all(axis=1)
    return x if kept.all() else x[kept]

"""Why a row has its score: the features that err most, with names, in the rows' own units."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from aejax.data.schema import Schema
from aejax.detection.wording import Cell, Cells


class Reason(NamedTuple):
    """One of the features that make up a row's score.

    Attributes:
        feature: its name.
        error: its error, in scaled units.
        usual: its mean error in normal rows; NaN where it isn't known.
        found: what the row holds, in the feature's own units; of a mixed table a text.
        expected: what the model expected there, likewise.

    Example:
        >>> (reason,) = detector.explain(rows[:1], top=1)[0]
        >>> reason.feature in detector.schema.names
        True
    """

    feature: str
    error: float
    usual: float
    found: Cell
    expected: Cell

    @property
    def size(self) -> float:
        """What reasons are ordered by: the error over the square root of the usual one."""
        return self.error if math.isnan(self.usual) else self.error / math.sqrt(self.usual)


def named_reasons(
    schema: Schema,
    features: np.ndarray,
    errors: np.ndarray,
    usual: np.ndarray | None,
    cells: Cells,
) -> list[list[Reason]]:
    """Reasons of rows, by name.

    Args:
        schema: names the features.
        features: positions of each row's features, most first, int [n, top].
        errors: theirs, float [n, top].
        usual: every feature's mean error in normal rows, float [features], or of each row's own
            network [n, features], if it is known.
        cells: of the rows.
    """
    each_row = usual is not None and usual.ndim > 1
    return [
        [
            Reason(
                schema.feature_name(int(i)),
                float(e),
                math.nan if usual is None else float(usual[row][i] if each_row else usual[i]),
                *cells.of(row, int(i)),
            )
            for i, e in zip(*named, strict=True)
        ]
        for row, named in enumerate(zip(features, errors, strict=True))
    ]

"""Why a row has its score: the features that err most, with names, and words where there are."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from aejax.data.schema import Schema
from aejax.detection.wording import Words


class Reason(NamedTuple):
    """One of the features that make up a row's score.

    Attributes:
        feature: its name.
        error: its error, in scaled units.
        usual: its mean error in normal rows; NaN where it isn't known.
        found: of a mixed table, what the row holds, in the column's own units; else None.
        expected: of a mixed table, what the model expected there; else None.
    """

    feature: str
    error: float
    usual: float = math.nan
    found: str | None = None
    expected: str | None = None


def named_reasons(
    schema: Schema,
    features: np.ndarray,
    errors: np.ndarray,
    usual: np.ndarray | None,
    words: Words | None,
) -> list[list[Reason]]:
    """Reasons of rows, by name.

    Args:
        schema: names the features.
        features: positions of each row's features, most first, int [n, top].
        errors: theirs, float [n, top].
        usual: every feature's mean error in normal rows, float [features], or of each row's own
            network [n, features], if it is known.
        words: the cells of a mixed table in words; else None.
    """
    each_row = usual is not None and usual.ndim > 1
    return [
        [
            Reason(
                schema.feature_name(int(i)),
                float(e),
                math.nan if usual is None else float(usual[row][i] if each_row else usual[i]),
                *(() if words is None else (words.found[row][i], words.expected[row][i])),
            )
            for i, e in zip(*named, strict=True)
        ]
        for row, named in enumerate(zip(features, errors, strict=True))
    ]

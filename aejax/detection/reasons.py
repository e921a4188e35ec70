"""Why a row has its score: the features that err most, in a person's names, words and units."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from aejax.core import scaling
from aejax.data.columns import Column
from aejax.data.schema import Schema

if TYPE_CHECKING:
    import pyarrow

    from aejax.detection.explained import ExplainedModel


_SHOWN = 40

# A number; or of a mixed table, a cell as a person would write it.
Cell = float | str


class Cells(NamedTuple):
    """Cells of rows in the units and values that their columns have.

    Attributes:
        schema: of the rows.
        found: what the rows hold, less the schema's offset, [n, features].
        expected: what the model expected there, likewise.
        offset: what has to be added, float64 [features], or of each row [n, features].
        table: a mixed table's rows as they were given, to quote values that training never saw.
    """

    schema: Schema
    found: np.ndarray
    expected: np.ndarray
    offset: np.ndarray
    table: pyarrow.Table | None = None

    def of(self, row: int, feature: int) -> tuple[Cell, Cell]:
        """What a row holds and what was expected there: numbers, or texts of a mixed table."""
        offset = float((self.offset if self.offset.ndim == 1 else self.offset[row])[feature])
        value, expected = float(self.found[row, feature]), float(self.expected[row, feature])
        if self.schema.columns is None:
            return _number(value, offset), _number(expected, offset)
        column = self.schema.columns[feature]
        text = _text(column, value, offset)
        unknown = column.kind == "category" and value == len(column.categories)
        if unknown and self.table is not None:
            quoted = str(self.table.column(column.source)[row].as_py())[:_SHOWN]
            text = f"{quoted} ({column.unseen.removeprefix('a value ')})"
        return text, _text(column, expected, offset)

    def of_all(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `of`, of every row's features, int [n, top]: numbers or texts, [n, top].

        Numbers are float32 unless an offset needs float64.
        """
        if self.schema.columns is None:
            at = np.arange(len(features))[:, None]
            offset = self.offset[features] if self.offset.ndim == 1 else self.offset[at, features]
            dtype = np.float64 if self.offset.any() else np.float32
            value, expected = self.found[at, features], self.expected[at, features]
            return (value + offset).astype(dtype), (expected + offset).astype(dtype)
        both = [[self.of(row, at) for at in own] for row, own in enumerate(features.tolist())]
        cells = np.array(both, object).reshape(*features.shape, 2)
        return cells[..., 0], cells[..., 1]


def in_units(
    detector: ExplainedModel,
    rows: np.ndarray,
    table: pyarrow.Table | None = None,
    members: np.ndarray | None = None,
    batch_size: int | None = None,
) -> Cells:
    """Rows and their reconstructions as a person knows their cells.

    Args:
        detector: whose network gives reconstructions.
        rows: that were prepared, [n, ...].
        table: of a mixed table the same rows as they were given.
        members: positions of their groups, where there are any.
        batch_size: rows in a compiled batch.
    """
    _, expected = detector.reconstruct_rows(rows, members=members, batch_size=batch_size)
    restored = np.empty(expected.shape, np.float64)
    own = np.zeros(len(rows), np.int32) if members is None else members
    for at in np.unique(own).tolist():
        scaler = detector.scaler
        if detector.is_stacked:
            # An ensemble's members share their scaling, and expected categories are the first's.
            scaler = jax.tree.map(operator.itemgetter(at), scaler)
        restored[own == at] = scaling.invert(scaler, expected[own == at])
    schema = detector.schema
    offset = np.zeros(schema.features)
    if detector.groups is not None and detector.groups.offsets is not None:
        offset = detector.groups.offsets.reshape(len(detector.groups), -1)[own]
    elif schema.offset is not None:
        offset = np.array(schema.offset)
    flat = (len(rows), schema.features)
    return Cells(schema, rows.reshape(flat), restored.reshape(flat), offset, table)


def _number(value: float, offset: float) -> float:
    """A number with as many digits as it has: those of float32 beyond its own are noise."""
    if math.isnan(value) or math.isinf(value):
        return value
    if not offset:
        return float(str(np.float32(value)))
    digits = 6 - math.floor(math.log10(abs(value))) if value else 6
    return round(offset + value, digits)


def _text(column: Column, value: float, offset: float) -> str:
    """A cell as a person would write it, of a value that is less the column's offset."""
    if not offset or math.isnan(value):
        return column.text(value)
    # As many digits of the difference as other numbers get.
    digits = 5 - math.floor(math.log10(abs(value))) if value else 5
    return f"{round(offset + value, digits):.15g}"


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

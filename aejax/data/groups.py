"""Which group each row belongs to: names of any type as text, and files with a column of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import InputError
from aejax.data import files
from aejax.data.frames import is_missing, unmasked
from aejax.data.offsets import offsets_of_groups
from aejax.data.rows import Selection, check_normal
from aejax.data.schema import Schema

if TYPE_CHECKING:
    import pyarrow

READ_ROWS = 1 << 16


def group_positions(groups: Any, rows: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Every distinct group, and the position of each row's.

    Args:
        groups: [rows], of text, whole numbers or anything else that has a text; the text is as in
            files, where 7 and 7.0 are one group.
        rows: how many there must be.

    Returns:
        Names in ascending order, and int32 [rows], -1 for a row that has none.

    Raises:
        InputError: if there are too few or too many.
    """
    values = unmasked(groups)
    if values.shape != (rows,):
        raise InputError(f"groups have shape {values.shape}; allowed: ({rows},), one a row")
    # Distinct first: text is slow to compare, and there are few groups and many rows.
    try:
        distinct, positions = np.unique(values, return_inverse=True)
    except TypeError:
        known: dict[Any, int] = {}
        positions = np.array([known.setdefault(value, len(known)) for value in values], int)
        distinct = np.fromiter(known, object, len(known))
    texts = _texts(distinct)
    names = sorted({text for text in texts if text})
    place = {name: at for at, name in enumerate(names)}
    of_distinct = np.array([place.get(text or "", -1) for text in texts] or [-1], np.int32)
    return tuple(names), of_distinct[positions] if rows else np.zeros(0, np.int32)


def check_grouped(positions: np.ndarray) -> None:
    """Refuse rows of which one has no group; raises InputError naming the first."""
    if (positions < 0).any():
        raise InputError(
            f"row {int(np.argmin(positions))} has no group; allowed: a group in every row"
        )


def _texts(values: np.ndarray) -> list[str | None]:
    """Values as files have them in text, None for what is missing."""
    import pyarrow as pa

    try:
        texts: list[str | None] = pa.array(values, from_pandas=True).cast(pa.string()).to_pylist()
    except (TypeError, ValueError, NotImplementedError):
        texts = [None if is_missing(value) else str(value) for value in values]
    return texts


def rows_of_groups(positions: np.ndarray, groups: int) -> list[np.ndarray]:
    """Positions of each group's rows, in order.

    Args:
        positions: of each row's group, as `group_positions` gives them.
        groups: how many there are.
    """
    order = np.argsort(positions, kind="stable")
    return np.split(order, np.searchsorted(positions[order], np.arange(groups)))[1:]


def positions_of(keys: pyarrow.Table, column: str, known: Sequence[str]) -> tuple[Any, np.ndarray]:
    """The group of every row as text, and its position among those that are known.

    Args:
        keys: of a block of rows.
        column: that names groups.
        known: names.

    Returns:
        A pyarrow array of text, null where the cell is empty; int32 [rows], -1 for none of them.
    """
    import pyarrow as pa

    texts = keys.column(column).cast(pa.string()).combine_chunks()
    encoded = texts.dictionary_encode()
    place = {name: at for at, name in enumerate(known)}
    of_distinct = np.array([place.get(name, -1) for name in encoded.dictionary.to_pylist()] + [-1])
    # The last entry stands for empty cells.
    indices = encoded.indices.fill_null(len(of_distinct) - 1)
    return texts, of_distinct[indices.to_numpy(zero_copy_only=False)].astype(np.int32)


def read_groups(
    path: files.Input,
    selection: Selection,
    column: str,
    expected: Schema | None = None,
    features: Schema | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, Schema]:
    """All rows of a table, with their labels and groups.

    Args:
        path: as in `aejax.data.files.open_rows`.
        selection: which columns are labels and features.
        column: that names each row's group; no feature.
        expected: the rows that detectors were trained on, if there are any.
        features: what is known of rows to train on.

    Returns:
        Rows [n, features]; labels int8 [n] or None; groups, text [n]; the schema. Rows and
        schema are of float64 where float32 would lose digits of a group's first rows.

    Raises:
        InputError: if the file can't be read, has no such column, or a row has no group.
    """
    if column == selection.label_column or column in (
        *selection.drop_columns,
        *selection.key_columns,
    ):
        raise InputError(
            f"group column {column!r} is also a label, a key or dropped; allowed: one use"
        )
    chosen = Selection(
        label_column=selection.label_column,
        normal_label=selection.normal_label,
        drop_columns=(*selection.drop_columns, *selection.key_columns),
        key_columns=(column,),
        header=selection.header,
    )
    opened = files.open_rows(path, chosen, expected or features)
    if expected is None and any(part.wide for part in opened.parts):
        exact = files.open_rows(path, chosen, dataclasses.replace(opened.schema, dtype="float64"))
        opened = exact if _loses_digits(exact, column) else opened
    x, labels, names = [], [], []
    for block in opened.blocks(READ_ROWS):
        if block.keys is None:
            raise InputError(f"{path} has no columns with names; allowed with groups: CSV, Parquet")
        texts, _ = positions_of(block.keys, column, ())
        if texts.null_count or "" in texts.unique().to_pylist():
            empty = np.array([not text for text in texts.to_pylist()])
            row = block.first_row + int(np.flatnonzero(empty)[0])
            raise InputError(
                f"{path}: row {row}, {column!r} is empty; allowed: a group in every row"
            )
        x.append(block.x)
        labels.append(block.y)
        names.append(texts.to_numpy(zero_copy_only=False))
    parts = [flags for flags in labels if flags is not None]
    y = np.concatenate(parts) if parts else None
    if y is not None:
        check_normal(y, selection, path)
    return np.concatenate(x), y, np.concatenate(names), opened.schema


def _loses_digits(opened: files.Rows, column: str) -> bool:
    """Whether a group among the first rows needs an offset."""
    block = next(opened.blocks(READ_ROWS), None)
    if block is None or block.keys is None:
        return False
    texts, _ = positions_of(block.keys, column, ())
    written = texts.fill_null("").to_numpy(zero_copy_only=False)
    names, positions = group_positions(written, len(block.x))
    offsets, _ = offsets_of_groups(block.x, rows_of_groups(positions, len(names)))
    return bool(offsets.any())

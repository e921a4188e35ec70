"""Which group each row of a file is of, and whose flags are counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from aejax.config import InputError
from aejax.data.blocks import Block
from aejax.data.groups import positions_of
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.detection.groups import Groups
from aejax.scoring import group_totals
from aejax.scoring.tabulation import Refusal, key_names

# A kind of bad rows, as a summary counts them.
UNKNOWN = "group without a detector"


def with_groups(groups: Groups, selection: Selection, column: str | None) -> Selection:
    """The columns to carry through, the one that names groups first.

    Args:
        groups: of the detector.
        selection: as asked for.
        column: its name in the files, where that differs from the one that was trained with.
    """
    name = column or groups.column
    others = tuple(key for key in selection.key_columns if key != name)
    return dataclasses.replace(selection, key_columns=(name, *others))


def counted_groups(
    detector: Detector, key_columns: Sequence[str], *, names_files: bool
) -> group_totals.Groups | None:
    """Whose flags are counted in a job; None where there are no groups.

    Args:
        detector: that scores.
        key_columns: as `with_groups` puts them.
        names_files: whether scores say which file a row is from.
    """
    if detector.groups is None:
        return None
    groups, thresholds = detector.grouped
    column = key_names(key_columns, names_files=names_files)[key_columns[0]]
    return group_totals.Groups.of(groups.names, thresholds, column)


def members_of(groups: Groups, block: Block, column: str) -> tuple[np.ndarray, dict[int, Refusal]]:
    """Positions of the groups of a block's rows, and which rows have none that is known.

    Args:
        groups: of the detector.
        block: rows, with their keys.
        column: that names groups.

    Returns:
        int32 [n], -1 for none; and by a row's position in the block a kind, and why.

    Raises:
        InputError: if the file has no columns with names.
    """
    if block.keys is None:
        raise InputError("rows without named columns; allowed with groups: CSV, Parquet")
    texts, members = positions_of(block.keys, column, groups.names)
    refused: dict[int, Refusal] = {}
    for row in np.flatnonzero(members < 0).tolist():
        name = texts[row].as_py()
        why = f"{column} {groups.why_not(name)}" if name else f"{column} is empty"
        refused[row] = Refusal(UNKNOWN, f"no detector for this {column}" if name else why, why)
    return members, refused

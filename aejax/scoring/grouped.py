"""Rows of files scored each by its own group's detector, and why some rows have none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from aejax.config import InputError
from aejax.data.blocks import Block
from aejax.data.groups import positions_of
from aejax.data.rows import Selection
from aejax.detection.group_drift import bins_of_members
from aejax.detection.groups import GroupDetector
from aejax.scoring.group_totals import Groups
from aejax.scoring.tabulation import Refusal, Scored, key_names

# A kind of bad rows, as a summary counts them.
UNKNOWN = "group without a detector"


def with_groups(detector: GroupDetector, selection: Selection, column: str | None) -> Selection:
    """The columns to carry through, the one that names groups first.

    Args:
        detector: of the groups.
        selection: as asked for.
        column: its name in the files, where that differs from the one that was trained with.
    """
    name = column or detector.column
    others = tuple(key for key in selection.key_columns if key != name)
    return dataclasses.replace(selection, key_columns=(name, *others))


def groups_identity(detector: GroupDetector, column: str) -> dict[str, Any]:
    """What of the groups decides what is written, besides the model."""
    rules = json.dumps([group.threshold.to_dict() for group in detector.groups], sort_keys=True)
    return {
        "group_column": column,
        "group_thresholds": hashlib.sha256(rules.encode()).hexdigest(),
    }


def counted_groups(
    detector: object, key_columns: Sequence[str], *, names_files: bool
) -> Groups | None:
    """Whose flags are counted in a job; None with one detector for all rows.

    Args:
        detector: that scores.
        key_columns: as `with_groups` puts them.
        names_files: whether scores say which file a row is from.
    """
    if not isinstance(detector, GroupDetector):
        return None
    return Groups.of(detector, key_names(key_columns, names_files=names_files)[key_columns[0]])


def score_block(
    detector: GroupDetector, block: Block, column: str, *, top_features: int, batch_size: int
) -> Scored:
    """A block's scores, with each row's threshold, and which rows have no detector.

    Raises:
        InputError: if the file has no columns with names.
    """
    if block.keys is None:
        raise InputError("rows without named columns; allowed with groups: CSV, Parquet")
    texts, members = positions_of(block.keys, column, detector.names)
    block = dataclasses.replace(block, x=detector.prepare_members(block.x, members))
    thresholds = np.where(members >= 0, detector.thresholds[members], np.nan)
    refused: dict[int, Refusal] = {}
    for row in np.flatnonzero(members < 0).tolist():
        name = texts[row].as_py()
        why = f"{column} {detector.why_not(name)}" if name else f"{column} is empty"
        refused[row] = Refusal(UNKNOWN, f"no detector for this {column}" if name else why, why)
    features = errors = None
    if top_features:
        scores, features, errors = detector.explain_members(
            block.x, members, top=top_features, batch_size=batch_size
        )
    else:
        scores = detector.score_members(block.x, members, batch_size=batch_size)
    return Scored(
        block,
        scores,
        features,
        errors,
        thresholds=thresholds,
        refused=refused,
        p_values=_p_values(detector, scores, members),
        bins=bins_of_members(scores, members, detector.deciles),
    )


def _p_values(
    detector: GroupDetector, scores: np.ndarray, members: np.ndarray
) -> np.ndarray | None:
    """Each row's p-value by its own group, float64 [n], where thresholds give any."""
    if any(group.threshold.calibration is None for group in detector.groups):
        return None
    values = np.full(len(scores), np.nan)
    for at in np.unique(members[members >= 0]).tolist():
        own = members == at
        values[own] = detector.groups[at].threshold.p_values(scores[own])
    return values

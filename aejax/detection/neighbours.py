"""Rows that a detector keeps to look for neighbours among, where its score takes those."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError
from aejax.core import mesh, steps
from aejax.core.scaling import Scaler
from aejax.data.batches import evenly
from aejax.data.disk_rows import Stored

# Rows, and values in them: 16,384 of up to 512 features.
MOST_NEIGHBOURS, MOST_VALUES = 1 << 14, 1 << 23
# Of all groups together, each with as many places as the largest; and the fewest for one.
MOST_VALUES_OF_GROUPS, FEWEST_OF_A_GROUP = 1 << 26, 16


def needs_neighbours(config: Config) -> bool:
    """Whether a configuration's score looks for neighbours."""
    return config.score == "error-and-neighbours"


def check_enough(rows: int) -> None:
    """Refuse so few training rows that one has no neighbour.

    Raises:
        InputError: if there are fewer than two.
    """
    if rows < 2:
        raise InputError(
            f"training rows: found {rows}; allowed with neighbours in the score: at least 2"
        )


def neighbours_of(scaler: Scaler, rows: Stored, *, most: int = MOST_NEIGHBOURS) -> np.ndarray:
    """Rows that others are compared with, scaled, float32 [rows, values].

    Args:
        scaler: of the detector.
        rows: that it was trained on, [n, ...].
        most: how many to keep.

    Raises:
        InputError: if there are fewer than two.
    """
    check_enough(len(rows))
    values = int(np.prod(rows.shape[1:]))
    few = rows[evenly(len(rows), min(most, max(2, MOST_VALUES // values)))]
    scaled: np.ndarray = jax.device_get(
        steps.compiled_scale(*mesh.ONE_DEVICE.everywhere((scaler, few)))
    )
    return scaled.reshape(len(few), -1)


def neighbours_of_groups(
    scaler: Scaler, x: np.ndarray, trained_on: Sequence[np.ndarray]
) -> np.ndarray:
    """Rows that each group's are compared with, [groups, most rows, values].

    Args:
        scaler: of all groups, [groups, ...].
        x: rows of all groups, [n, ...].
        trained_on: positions of each group's training rows.
    """
    total = MOST_VALUES_OF_GROUPS // (len(trained_on) * int(np.prod(x.shape[1:])))
    most = min(MOST_NEIGHBOURS, max(FEWEST_OF_A_GROUP, total))
    return side_by_side(
        [
            neighbours_of(jax.tree.map(operator.itemgetter(at), scaler), x[rows], most=most)
            for at, rows in enumerate(trained_on)
        ]
    )


def side_by_side(neighbours: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of several detectors, [detectors, most rows, values]; infinity stands for none."""
    most = max(map(len, neighbours))
    filled = np.full((len(neighbours), most, neighbours[0].shape[1]), np.inf, np.float32)
    for own, rows in zip(filled, neighbours, strict=True):
        own[: len(rows)] = rows
    return filled


def dealt(neighbours: np.ndarray, members: int) -> np.ndarray:
    """One detector's rows, shared out among an ensemble's members: [members, rows, values]."""
    return side_by_side([neighbours[first::members] for first in range(members)])


def describe_normal(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What a detector's description says of what it knows of normal rows; JSON-ready."""
    normal = variables.get("normal", {})
    said: dict[str, Any] = {"normal": sorted(normal)}
    if "neighbours" in normal:
        said["neighbours"] = int(np.shape(normal["neighbours"])[-2])
    return said

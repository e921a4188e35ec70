"""Whether each feature of scored rows is distributed as it was in normal rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from aejax.data.batches import evenly
from aejax.data.disk_rows import Stored
from aejax.data.schema import Schema
from aejax.detection.drift import BINS, LEAST_ROWS_FOR_DRIFT, least_drift, population_stability

# Wider rows have no single feature that a person would look at.
MOST_FEATURES = 1024
# Rows of a block that are counted: all of them would take longer than scoring them.
ROWS_OF_A_BLOCK = 1 << 9
SHOWN = 10
# Normal rows that are counted.
MOST_ROWS = 1 << 12


class UsualValues(NamedTuple):
    """How the values of each feature are spread over ten bins in normal rows.

    Attributes:
        edges: between the bins, the deciles; float32 [9, features].
        shares: of the rows in each bin; float32 [10, features]. A tenth, but for features that
            have few values.
    """

    edges: np.ndarray
    shares: np.ndarray


def usual_values(rows: Stored, schema: Schema) -> UsualValues | None:
    """What drift is measured by, or None where it isn't: images, wide rows, mixed columns.

    Args:
        rows: normal rows as stored, [n, ...], of which some are counted; fewer than 100 say too
            little.
        schema: of the rows.
    """
    measured = schema.kind != "image" and schema.columns is None
    if not measured or schema.features > MOST_FEATURES or len(rows) < LEAST_ROWS_FOR_DRIFT:
        return None
    few = rows[evenly(len(rows), MOST_ROWS)]
    # Sorted whole: NumPy's quantiles, which sort in part, take three times as long.
    ordered = np.sort(few.reshape(len(few), -1), axis=0)
    places = -(-np.arange(1, BINS) * len(few) // BINS) - 1
    edges = ordered[places].astype(np.float32)
    return UsualValues(edges, (bin_counts(edges, few) / len(few)).astype(np.float32))


def bin_counts(edges: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How many rows' values lie in each bin: int64 [10, features].

    Args:
        edges: as `UsualValues` has them; a value that equals one lies below it.
        rows: [n, ...].
    """
    flat = rows.reshape(len(rows), edges.shape[1])
    # As bytes: NumPy adds up booleans one by one.
    above = np.stack(
        [np.sum((flat > edge).view(np.uint8), axis=0, dtype=np.uint32) for edge in edges]
    ).astype(np.int64)
    ends = np.concatenate([np.full((1, flat.shape[1]), len(flat)), above, np.zeros_like(above[:1])])
    counts: np.ndarray = ends[:-1] - ends[1:]
    return counts


def feature_stability(
    usual: UsualValues, counts: np.ndarray, schema: Schema, calibrated: int
) -> dict[str, Any]:
    """What a summary says of the features.

    Args:
        usual: of normal rows.
        counts: of the rows that were counted, int64 [10, features].
        schema: names the features.
        calibrated: how many normal rows there were, about.

    Returns:
        "feature_stability": the population stability index of the ten features that moved most,
        by name; "features_drifted": how many of all are above what chance does, at least 0.25;
        "feature_alarms": a sentence where there are any.
    """
    rows = int(counts[:, 0].sum())
    if rows < LEAST_ROWS_FOR_DRIFT:
        return {}
    found = population_stability(counts.T, usual.shares.T)
    order = np.argsort(-found, kind="stable")
    least = float(least_drift(rows, min(calibrated, MOST_ROWS)))
    drifted = int(np.sum(found > least))
    return {
        "feature_stability": {schema.feature_name(int(i)): float(found[i]) for i in order[:SHOWN]},
        "features_drifted": drifted,
        "feature_alarms": _alarms(
            drifted, schema.feature_name(int(order[0])), found[order[0]], least
        ),
    }


def _alarms(drifted: int, worst: str, stability: float, least: float) -> Sequence[str]:
    if not drifted:
        return []
    others = f", and {drifted - 1} more features are" if drifted > 1 else " is"
    return [
        f"{worst}{others} distributed unlike in the normal rows (population stability index "
        f"{'up to ' if drifted > 1 else ''}{stability:.2f}, above {least:.2g})"
    ]

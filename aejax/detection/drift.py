"""Whether scores, and each feature of scored rows, are distributed as in normal rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aejax.data.batches import evenly
from aejax.data.disk_rows import Stored
from aejax.data.schema import Schema

if TYPE_CHECKING:
    from aejax.detection.threshold import GroupThresholds, Threshold


# Drift of scores: the population stability index, and above which size it says something.
#
# The population stability index of two samples of one distribution is about chi-square distributed,
# with bins - 1 degrees of freedom, times 1 / rows of the one + 1 / rows of the other (Yurdakul,
# "Statistical properties of population stability index", 2018). A detector may have been calibrated
# on ten scores: then an index of 1 says nothing, and among thousands of groups it is common.
BINS = 10
# Above this, two distributions are usually called different (Siddiqi, "Credit Risk
# Scorecards", 2006); below 0.1, the same.
DRIFTED = 0.25
LEAST_ROWS_FOR_DRIFT = 100
# The 0.9999 quantile with 9 degrees of freedom: thousands of groups may be asked about.
CHI_SQUARE = 33.72
LEAST_SHARE = 1e-4

Floats = npt.NDArray[np.float64]
# Wider rows have no single feature that a person would look at.
MOST_FEATURES = 1024
# Rows of a block that are counted: all of them would take longer than scoring them.
ROWS_OF_A_BLOCK = 1 << 9
SHOWN = 10
# Normal rows that are counted.
MOST_ROWS = 1 << 12


def population_stability(counts: npt.ArrayLike, expected: npt.ArrayLike = 1 / BINS) -> Floats:
    """Population stability indices of rows over the same bins, float64 [...].

    Args:
        counts: rows in each bin now, [..., bins].
        expected: shares of the bins before, [..., bins].

    Returns:
        Sum of (share - expected) * log(share / expected); 0 where they are equal, NaN without
        rows. An empty bin counts as half a row, an expected share of 0 as a ten-thousandth.
    """
    seen = np.asarray(counts, np.float64)
    rows = seen.sum(axis=-1, keepdims=True)
    shares = np.maximum(seen, 0.5) / np.where(rows > 0, rows, np.nan)
    before = np.maximum(np.asarray(expected, np.float64), LEAST_SHARE)
    indices: Floats = ((shares - before) * np.log(shares / before)).sum(axis=-1)
    return indices


def least_drift(rows: npt.ArrayLike, calibrated: npt.ArrayLike) -> Floats:
    """The index above which scores have drifted, infinite where there are too few to tell.

    Args:
        rows: scores, [...].
        calibrated: scores that the deciles were found on, [...].
    """
    count = np.asarray(rows, np.float64)
    noise = 1 / np.maximum(count, 1) + 1 / np.maximum(np.asarray(calibrated, np.float64), 1)
    least = np.maximum(DRIFTED, CHI_SQUARE * noise)
    return np.where(count >= LEAST_ROWS_FOR_DRIFT, least, np.inf)


def tell_apart(deciles: Floats) -> npt.NDArray[np.bool_]:
    """Whether deciles [..., 9] are known and all different, so that each bin expects a tenth."""
    return np.asarray((np.diff(deciles, axis=-1) > 0).all(axis=-1))


def known_deciles(threshold: Threshold | GroupThresholds | None) -> Floats | None:
    """Deciles of calibration scores where drift can be measured by them; else None.

    Returns:
        float64 [9], or of groups [groups, 9], NaN in those without.
    """
    deciles = None if threshold is None else threshold.deciles
    if deciles is None:
        return None
    edges = np.array(deciles, np.float64)
    return edges if edges.ndim > 1 or tell_apart(edges) else None


def bins_of(
    scores: np.ndarray, deciles: Floats, members: np.ndarray | None = None
) -> npt.NDArray[np.int8]:
    """Which of the ten bins each score is in, int8 [n]; -1 where that isn't known.

    Args:
        scores: float [n].
        deciles: float64 [9]; or those of each group, [groups, 9].
        members: the position of each score's group, [n], -1 for none, with deciles of groups.
    """
    if members is None:
        known = np.full(len(scores), bool(tell_apart(deciles)))
    else:
        known = tell_apart(deciles)[members] & (members >= 0)
    bins = np.where(known, 0, -1).astype(np.int8)
    # One by one: the deciles of all rows at once would take many times the room of the scores.
    for decile in deciles.T:
        bins += known & (scores > (decile if members is None else decile[members]))
    return bins


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
    stability = population_stability(counts.T, usual.shares.T)
    order = np.argsort(-stability, kind="stable")
    least = float(least_drift(rows, min(calibrated, MOST_ROWS)))
    drifted = int(np.sum(stability > least))
    return {
        "feature_stability": {
            schema.feature_name(int(i)): float(stability[i]) for i in order[:SHOWN]
        },
        "features_drifted": drifted,
        "feature_alarms": _alarms(
            drifted, schema.feature_name(int(order[0])), stability[order[0]], least
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

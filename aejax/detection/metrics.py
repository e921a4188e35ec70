"""How well scores tell anomalies from normal rows, with intervals that say how sure that is.

Label 1 (True) is an anomaly, a larger score is more anomalous, and a row is flagged when its
score is above the threshold. scikit-learn computes the values; the intervals are computed here,
because resampling a sorted table of counts costs milliseconds where resampling rows costs seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aejax.config import InputError
from aejax.data import batches

INTERVAL_LEVEL = 0.95
MAX_CURVE_POINTS = 512
MAX_CELLS = 8192
REPLICAS_AT_ONCE = 64

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def evaluate(
    scores: npt.ArrayLike,
    is_anomaly: npt.ArrayLike,
    threshold: float | None,
    *,
    bootstrap: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Detection quality of scores against labels, as a JSON-ready dict.

    The intervals are percentile bootstrap intervals at the 95 % level, stratified: anomalies and
    normal rows are resampled separately, so every replica has both classes in their true numbers.
    Up to `MAX_CELLS` distinct positions of anomalies the bootstrap is exact; beyond, neighbouring
    scores share a cell and the interval is moved by the (tiny) difference that makes to the value.

    Args:
        scores: [n] finite numbers, larger is more anomalous.
        is_anomaly: [n] booleans, or the numbers 0 (normal) and 1 (anomaly).
        threshold: rows with a score above it are flagged; None leaves out what depends on it.
        bootstrap: number of replicas; 0 leaves `low` and `high` at None.
        seed: of the bootstrap; the same seed gives the same interval.

    Returns:
        `rows`, `anomalies`; `auroc` and `average_precision`, each None (then `note` says why) or
        {"value", "low", "high"}. With a threshold also `threshold`, `flagged`, `accuracy`, and the
        same decisions counted twice: `anomaly_positive` and `normal_positive`, each with
        `true_positives`, `false_positives`, `false_negatives`, `true_negatives`, `accuracy`,
        `precision`, `recall` and `f1`. A ratio without a denominator is None.

    Raises:
        InputError: if lengths differ, a score is not finite or a label is neither 0 nor 1.

    References:
        Stratified percentile intervals: Robin et al., "pROC", BMC Bioinformatics 12:77 (2011).

    Example:
        >>> evaluate([0.1, 0.2, 0.9], [0, 0, 1], 0.5)["anomaly_positive"]["recall"]
        1.0
    """
    values, labels = _checked(scores, is_anomaly)
    if isinstance(bootstrap, bool) or not isinstance(bootstrap, int) or bootstrap < 0:
        raise InputError(f"bootstrap is {bootstrap!r}; allowed: a whole number, at least 0")
    anomalies = int(labels.sum())
    result: dict[str, Any] = {
        "rows": len(values),
        "anomalies": anomalies,
        "auroc": None,
        "average_precision": None,
    }
    if 0 < anomalies < len(values):
        result |= _ranking(values, labels, bootstrap, seed)
        result["intervals"] = {"level": INTERVAL_LEVEL, "replicas": bootstrap, "seed": seed}
    else:
        only = "anomalies" if anomalies else "normal rows"
        result["note"] = f"AUROC and average precision need both classes; the rows are all {only}"
    if threshold is not None:
        result |= _decisions(values, labels, threshold)
    return result


def roc_curve(scores: npt.ArrayLike, is_anomaly: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The receiver operating characteristic, thinned for drawing.

    Args:
        scores: [n] finite numbers, larger is more anomalous.
        is_anomaly: [n] labels; both classes must occur.

    Returns:
        False alarm rate [m] and recall [m], both rising from 0 to 1.
    """
    from sklearn import metrics

    values, labels = _both_classes(scores, is_anomaly)
    false_alarms, recall, _ = metrics.roc_curve(labels, values)
    kept = _evenly_along(false_alarms, recall)
    return false_alarms[kept], recall[kept]


def precision_recall_curve(
    scores: npt.ArrayLike, is_anomaly: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Precision against recall with anomalies as positives, thinned for drawing.

    Args and Raises are those of `roc_curve`.

    Returns:
        Recall [m], rising from 0 to 1, and precision [m].
    """
    from sklearn import metrics

    values, labels = _both_classes(scores, is_anomaly)
    precision, recall, _ = metrics.precision_recall_curve(labels, values, drop_intermediate=True)
    precision, recall = precision[::-1], recall[::-1]
    kept = _evenly_along(recall, precision)
    return recall[kept], precision[kept]


def _checked(
    scores: npt.ArrayLike, is_anomaly: npt.ArrayLike
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    values, labels = np.asarray(scores), np.asarray(is_anomaly)
    for name, array in (("scores", values), ("is_anomaly", labels)):
        if array.ndim != 1 or not len(array):
            raise InputError(f"{name} has shape {array.shape}; allowed: (rows,), at least one row")
        if array.dtype.kind not in "biuf":
            raise InputError(f"{name} has dtype {array.dtype}; allowed: numbers")
    if len(values) != len(labels):
        raise InputError(
            f"scores has {len(values)} rows and is_anomaly {len(labels)}; allowed: equal numbers"
        )
    values = values.astype(np.float64)
    if not (finite := np.isfinite(values)).all():
        row = int(np.argmin(finite))
        raise InputError(f"scores[{row}] is {values[row]}; allowed: finite numbers")
    if not (valid := (labels == 0) | (labels == 1)).all():
        row = int(np.argmin(valid))
        raise InputError(f"is_anomaly[{row}] is {labels[row]}; allowed: 0 (normal), 1 (anomaly)")
    return values, labels.astype(bool)


def _both_classes(
    scores: npt.ArrayLike, is_anomaly: npt.ArrayLike
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    values, labels = _checked(scores, is_anomaly)
    if labels.all() or not labels.any():
        raise InputError(
            f"is_anomaly holds {int(labels[0])} only; allowed: both classes, for a curve"
        )
    return values, labels


def _ranking(
    values: Floats, labels: npt.NDArray[np.bool_], bootstrap: int, seed: int
) -> dict[str, dict[str, float | None]]:
    from sklearn import metrics

    exact = {
        "auroc": float(metrics.roc_auc_score(labels, values)),
        "average_precision": float(metrics.average_precision_score(labels, values)),
    }
    if not bootstrap:
        return {name: {"value": value, "low": None, "high": None} for name, value in exact.items()}
    positives, negatives = _cells(values, labels)
    in_cells = _areas(positives[None], negatives[None])
    random = np.random.default_rng(seed)
    blocks = []
    for start in range(0, bootstrap, REPLICAS_AT_ONCE):
        size = min(REPLICAS_AT_ONCE, bootstrap - start)
        blocks.append(
            _areas(_resample(random, positives, size), _resample(random, negatives, size))
        )
    tail = (1 - INTERVAL_LEVEL) / 2
    result: dict[str, dict[str, float | None]] = {}
    for index, (name, value) in enumerate(exact.items()):
        replicas = np.concatenate([block[index] for block in blocks])
        bounds = np.quantile(replicas, (tail, 1 - tail)) + (value - in_cells[index][0])
        low, high = np.clip(bounds, 0.0, 1.0)
        result[name] = {"value": value, "low": float(low), "high": float(high)}
    return result


def _cells(values: Floats, labels: npt.NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """Anomalies and normal rows [cells] in each cell of neighbouring scores, highest scores first.

    Rows of one score share a cell, and so do the normal rows between two anomalies: neither AUROC
    nor average precision can tell them apart, in the sample or in any resample of it.
    """
    order = np.argsort(-values, kind="stable")
    values, labels = values[order], labels[order]
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    positives = np.add.reduceat(labels.astype(np.int64), starts)
    sizes = np.diff(np.r_[starts, len(values)])
    negatives = sizes - positives
    has_anomaly = positives > 0
    starts = np.flatnonzero(np.r_[True, has_anomaly[1:] | has_anomaly[:-1]])
    if len(starts) > MAX_CELLS:
        share = np.cumsum(positives) * (MAX_CELLS - 1) // positives.sum()
        starts = np.flatnonzero(np.r_[True, share[1:] != share[:-1]])
    return np.add.reduceat(positives, starts), np.add.reduceat(negatives, starts)


def _resample(random: np.random.Generator, counts: Counts, replicas: int) -> Counts:
    """How often each cell is drawn [replicas, cells] when its class is resampled."""
    total = int(counts.sum())
    drawn = np.zeros((replicas, len(counts)), np.int64)
    filled = counts > 0
    drawn[:, filled] = random.multinomial(total, counts[filled] / total, size=replicas)
    return drawn


def _areas(positives: Counts, negatives: Counts) -> tuple[Floats, Floats]:
    """AUROC and average precision [replicas] of counts [replicas, cells], highest scores first."""
    hits, alarms = np.cumsum(positives, axis=1), np.cumsum(negatives, axis=1)
    all_positives, all_negatives = hits[:, -1:], alarms[:, -1:]
    below = all_negatives - alarms + negatives / 2
    share = positives / all_positives
    auroc = (share * below).sum(axis=1) / all_negatives[:, 0]
    precision = hits / np.maximum(hits + alarms, 1)
    return auroc, (share * precision).sum(axis=1)


def _decisions(values: Floats, labels: npt.NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    if not math.isfinite(threshold):
        raise InputError(f"threshold is {threshold}; allowed: a finite number, or None")
    flagged = values > threshold
    anomalies_flagged = int((flagged & labels).sum())
    normals_flagged = int((flagged & ~labels).sum())
    anomalies_passed = int(labels.sum()) - anomalies_flagged
    normals_passed = len(labels) - anomalies_flagged - normals_flagged - anomalies_passed
    anomaly_view = _view(anomalies_flagged, normals_flagged, anomalies_passed, normals_passed)
    return {
        "threshold": float(threshold),
        "flagged": anomalies_flagged + normals_flagged,
        "accuracy": anomaly_view["accuracy"],
        "anomaly_positive": anomaly_view,
        "normal_positive": _view(
            normals_passed, anomalies_passed, normals_flagged, anomalies_flagged
        ),
    }


def _view(
    true_positives: int, false_positives: int, false_negatives: int, true_negatives: int
) -> dict[str, float | int | None]:
    right = true_positives + true_negatives
    return {
        "true_positives": true_positives,
        "false_positives": false_positives,
        "false_negatives": false_negatives,
        "true_negatives": true_negatives,
        "accuracy": right / (right + false_positives + false_negatives),
        "precision": _ratio(true_positives, true_positives + false_positives),
        "recall": _ratio(true_positives, true_positives + false_negatives),
        "f1": _ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _evenly_along(x: Floats, y: Floats) -> npt.NDArray[np.intp]:
    """Positions of at most `MAX_CURVE_POINTS`, evenly along the curve, with both ends."""
    if len(x) <= MAX_CURVE_POINTS:
        return np.arange(len(x))
    length = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
    wanted = np.linspace(0.0, length[-1], MAX_CURVE_POINTS)
    kept = np.searchsorted(length, wanted).clip(0, len(x) - 1)
    kept[0], kept[-1] = 0, len(x) - 1
    return np.unique(kept)


# How sure a mean over repeats is: Student's t interval over independent repeats.
#
# A repeat is a whole experiment with another seed. Bootstrap intervals over the rows of one
# experiment are `aejax.detection.metrics.evaluate`'s; they don't see how trainings differ.
class Interval(NamedTuple):
    """A mean and where the true one is likely to be.

    Attributes:
        mean: of the repeats.
        low: lower end of the 95 % interval; None where one repeat says nothing about it.
        high: its upper end, or None.
        repeats: how many.
    """

    mean: float
    low: float | None
    high: float | None
    repeats: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; never known from one repeat."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def text(self, digits: int = 3, scale: float = 1.0) -> str:
        """The mean with its interval, as in "0.912 [0.905, 0.919]"; `scale` 100 gives per cent."""
        mean = f"{self.mean * scale:.{digits}f}"
        if self.low is None or self.high is None:
            return mean
        return f"{mean} [{self.low * scale:.{digits}f}, {self.high * scale:.{digits}f}]"


def mean_interval(
    values: Sequence[float] | npt.ArrayLike, *, within: tuple[float, float] | None = None
) -> Interval:
    """The mean of independent repeats with Student's t interval at the 95 % level.

    Args:
        values: one number a repeat, [n].
        within: range that the quantity can't leave, as (0, 1) of a rate; the interval is cut
            to it.

    Returns:
        The mean and its interval; without the interval where there is one repeat.

    Raises:
        InputError: if there is no value, or one is not finite.

    Example:
        >>> mean_interval([0.90, 0.92, 0.94]).text()
        '0.920 [0.870, 0.970]'
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise InputError(f"values are {numbers}; allowed: at least one finite number, [n]")
    mean, repeats = float(numbers.mean()), len(numbers)
    if repeats == 1:
        return Interval(mean, None, None, repeats)
    from scipy.stats import t

    half = float(t.ppf((1 + INTERVAL_LEVEL) / 2, repeats - 1) * numbers.std(ddof=1))
    low, high = mean - half / math.sqrt(repeats), mean + half / math.sqrt(repeats)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    return Interval(mean, low, high, repeats)


def repeat_seeds(seed: int, repeats: int) -> list[int]:
    """The seeds of an experiment's repeats: whole numbers below 2**32, different for every seed.

    A larger number of repeats begins with the seeds of a smaller one.
    """
    random = batches.host_random(seed, "repeats")
    return [int(drawn) for drawn in random.integers(1 << 32, size=repeats)]

"""How well scores of a series find labelled stretches: volumes under surfaces, without adjustment.

A detector of windows says where something was to within a window or so, which a measure of points
punishes as if it had missed it. Range-based curves give the points beside a stretch a part of the
credit, and ask whether each stretch is found at all; the volume is the mean over how far beside.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aejax.config import InputError
from aejax.detection.events import runs_of

# Thresholds, evenly spread over the scores in order.
THRESHOLDS = 250
Floats = npt.NDArray[np.float64]


class Volumes(NamedTuple):
    """Volumes under the surface.

    Attributes:
        roc: of true and false positive rate, VUS-ROC.
        pr: of precision and recall, VUS-PR.
    """

    roc: float
    pr: float


def stretches(is_anomaly: Any) -> tuple[np.ndarray, np.ndarray]:
    """The first and last positions of the stretches of labelled points, int64 [stretches] each."""
    flags = np.concatenate([[0], np.asarray(is_anomaly, np.int8), [0]])
    steps = np.diff(flags)
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1


def volumes(scores: Any, is_anomaly: Any, buffer: int) -> Volumes:
    """The volumes under the surface of scores of a series.

    Args:
        scores: of all points in order, finite, [n]; larger is more anomalous.
        is_anomaly: which points are, [n].
        buffer: the widest margin, in points on both sides of a stretch together: the period of the
            series, as a rule. All widths from 0 on have the same weight.

    Raises:
        InputError: if lengths differ, a score is not finite, or points are all of one kind.

    References:
        Paparrizos, Boniol, Palpanas, Tsay, Elmore and Franklin, "Volume under the surface: a new
        accuracy evaluation measure for time-series anomaly detection", PVLDB 15(11), 2022. The
        constants are those of its authors' code: 250 thresholds, and precision at the right end
        of each step of recall.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(is_anomaly).astype(bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise InputError(f"scores are {scores.shape} and labels {labels.shape}; allowed: [n] both")
    if not np.isfinite(scores).all():
        raise InputError("a score is not finite; allowed: a score for every point")
    if labels.all() or not labels.any():
        raise InputError("labels are all of one kind; allowed: normal points and anomalies")
    if buffer < 0:
        raise InputError(f"buffer is {buffer}; allowed: at least 0")
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    thresholds = ordered[np.linspace(0, len(scores) - 1, THRESHOLDS).astype(int)]
    # Points of a threshold's own score are flagged, too.
    flagged = np.searchsorted(-ordered, -thresholds, side="right")
    hits = np.cumsum(labels[order])[flagged - 1]
    areas = [
        _areas(scores, labels, margin, order, thresholds, flagged, hits)
        for margin in range(buffer + 1)
    ]
    roc, pr = np.mean(areas, axis=0).tolist()
    return Volumes(roc, pr)


def evaluate_series(
    scores: Any,
    is_anomaly: Any,
    threshold: float | None,
    *,
    buffer: int | None = None,
    series: Any = None,
    merge_gap: int = 0,
) -> dict[str, Any]:
    """How well scores of points find labelled stretches, as a JSON-ready dict; nothing is adjusted.

    Args:
        scores: of the points in order, finite, [n].
        is_anomaly: which points are, [n].
        threshold: above which a point is flagged; None leaves out what depends on it.
        buffer: as in `volumes`; None leaves them out.
        series: which each point is of, [n]; no stretch or event reaches from one to another.
        merge_gap: as in `aejax.events`.

    Returns:
        `stretches`. With a buffer `vus_roc`, `vus_pr` (means over the series that hold both normal
        points and anomalies) and `buffer`. With a threshold `stretches_found`, those that hold a
        flagged point, and their share, `event_recall`; `events`, flags that follow each other,
        `events_in_stretches`, those that share a point with one, and their share,
        `event_precision`; and `median_delay`, points from a stretch's first to its first flagged
        one. A share of nothing is None.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(is_anomaly).astype(bool)
    of_series = (
        np.zeros(len(scores), int) if series is None else np.unique(series, return_inverse=True)[1]
    )
    cuts = [0, *(np.flatnonzero(np.diff(of_series)) + 1).tolist(), len(scores)]
    areas: list[Volumes] = []
    stretched = hit = events = held = 0
    delays: list[int] = []
    for begin, end in itertools.pairwise(cuts):
        own, values = labels[begin:end], scores[begin:end]
        first, last = stretches(own)
        stretched += len(first)
        if buffer is not None and own.any() and not own.all():
            areas.append(volumes(values, own, buffer))
        if threshold is None:
            continue
        flags = values > threshold
        at = np.flatnonzero(flags)
        for a, b in zip(first.tolist(), last.tolist(), strict=True):
            inside = at[(at >= a) & (at <= b)]
            hit += len(inside) > 0
            delays += (inside[:1] - a).tolist()
        for event in runs_of(at, values[at], merge_gap=merge_gap):
            events += 1
            held += bool(own[event.first : event.last + 1].any())
    result: dict[str, Any] = {"stretches": stretched}
    if areas:
        roc, pr = np.mean(areas, axis=0).tolist()
        result |= {"vus_roc": roc, "vus_pr": pr, "buffer": buffer}
    if threshold is not None:
        result |= {
            "stretches_found": hit,
            "event_recall": hit / stretched if stretched else None,
            "events": events,
            "events_in_stretches": held,
            "event_precision": held / events if events else None,
            "median_delay": float(np.median(delays)) if delays else None,
        }
    return result


def _areas(
    scores: Floats,
    labels: np.ndarray,
    margin: int,
    order: np.ndarray,
    thresholds: Floats,
    flagged: np.ndarray,
    hits: np.ndarray,
) -> tuple[float, float]:
    """The areas under both curves with a margin of one width around each stretch."""
    first, last = stretches(labels)
    beside = _beside(labels, first, last, margin)
    near = np.cumsum(beside[order])[flagged - 1]
    true = hits + near
    positives = labels.sum() + near / 2
    recall = np.minimum(true / positives, 1)
    peaks = np.array(
        [
            scores[start : stop + 1].max()
            for start, stop in _widened(first, last, margin, len(labels))
        ]
    )
    true_rate = recall * (peaks >= thresholds[:, None]).mean(axis=1)
    false_rate = (flagged - true) / (len(labels) - positives)
    up = np.concatenate([[0], true_rate, [1]])
    right = np.concatenate([[0], false_rate, [1]])
    roc = float(np.sum(np.diff(right) * (up[1:] + up[:-1]) / 2))
    return roc, float(np.sum(np.diff(up[:-1]) * true / flagged))


def _beside(labels: np.ndarray, first: np.ndarray, last: np.ndarray, margin: int) -> Floats:
    """What a flag beside a stretch counts, float64 [n]: less the farther off; 0 within one."""
    beside = np.zeros(len(labels))
    for distance in range(1, margin // 2 + 1):
        credit = np.sqrt(1 - distance / margin)
        for at in (first - distance, last + distance):
            np.add.at(beside, at[(at >= 0) & (at < len(labels))], credit)
    beside[labels] = 0
    return np.minimum(beside, 1)


def _widened(first: np.ndarray, last: np.ndarray, margin: int, rows: int) -> list[tuple[int, int]]:
    """Stretches with their margins, those that touch as one."""
    half = margin // 2
    widened: list[tuple[int, int]] = []
    for start, stop in zip((first - half).tolist(), (last + half).tolist(), strict=True):
        if widened and widened[-1][1] >= start:
            widened[-1] = (widened[-1][0], stop)
        else:
            widened.append((start, stop))
    return [(max(start, 0), min(stop, rows - 1)) for start, stop in widened]

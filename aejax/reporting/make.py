"""A report of whatever can be reported on: a run, scores, a detector with rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.config import InputError
from aejax.data.frames import as_table
from aejax.data.places import Place
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.detection import metrics
from aejax.detection.detector import Detector
from aejax.detection.events import Event
from aejax.detection.groups import without_groups
from aejax.detection.loading import as_detector, load
from aejax.detection.rows import as_rows
from aejax.detection.series import in_units, is_windows
from aejax.detection.series_metrics import stretches
from aejax.reporting.examples import report_on
from aejax.reporting.judged_groups import judge_groups, renew_groups
from aejax.reporting.judged_groups import write_report as write_groups
from aejax.reporting.kept import renew_report
from aejax.reporting.report import Report, write_report
from aejax.reporting.scores_page import write_scores_report
from aejax.reporting.series import course_of
from aejax.scoring import manifest
from aejax.scoring.evaluation import judged, labelled


def report(
    source: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    x: Any = None,
    labels: Any = None,
    groups: Any = None,
    key: Any = None,
    label_column: str = "label",
    normal_label: str | None = None,
    threshold: float | None = None,
    title: str | None = None,
) -> Path:
    """Write a report: one page, `report.html`, with its plots beside it; returns its path.

    Args:
        source: a detector or a fitted estimator, with rows `x`; the folder of a run, whose page is
            written anew with the threshold that its detector has now; the folder that
            `score_files` wrote; or scores [n].
        folder: where; None is the run's own folder, or `_report` in the folder of scores.
        x: rows to judge a detector by, as `Detector.score` takes them.
        labels: of the rows: [n], or of scores as in `aejax.evaluate`. Curves and the decisions of
            the threshold are shown with them.
        groups: of a detector of groups, as in `Detector.score`.
        key: as in `aejax.evaluate`.
        label_column: likewise.
        normal_label: likewise.
        threshold: rows with a score above it are flagged; None takes the detector's, or the one
            that rows were flagged by.
        title: of the page of a detector or of scores [n].

    Raises:
        InputError: if there is nothing to report on, or the disk doesn't take the page.

    Example:
        >>> aejax.report(detector, "reports/holdout", x=holdout)  # doctest: +SKIP
        PosixPath('reports/holdout/report.html')
    """
    out = None if folder is None else Path(folder)
    selection = Selection(label_column=label_column, normal_label=normal_label)
    if isinstance(source, (str, os.PathLike)) and x is None:
        home = Path(source)
        if (home / manifest.NAME).is_file():
            carried = None
            if labels is not None:
                carried = labelled(home, labels, selection=selection, key=key, threshold=threshold)
            return write_scores_report(home, out, labels=carried)
        if labels is not None:
            raise InputError("labels are given; allowed with a folder: one of scores")
        detector = load(home)
        renew = renew_report if detector.groups is None else renew_groups
        return renew(detector, home, out)
    if out is None:
        raise InputError("folder is None; allowed: a folder for the report")
    asked = _Asked(x, labels, selection, threshold, out, title)
    if x is None and isinstance(source, (np.ndarray, list, tuple)):
        return _of_scores(source, asked)
    detector = as_detector(source)
    if x is None:
        raise InputError("x is None; allowed with a detector: rows to judge it by")
    if detector.groups is not None:
        return _of_groups(detector, groups, asked)
    if detector.schema.series is not None and not is_windows(x, detector.schema):
        return _of_series(detector, asked)
    return _of_detector(detector, asked)


class _Asked(NamedTuple):
    """What `report` was asked for, besides what it reports on."""

    x: Any
    labels: Any
    selection: Selection
    threshold: float | None
    out: Path
    title: str | None


def _of_scores(scores: Any, asked: _Asked) -> Path:
    labels, threshold = asked.labels, asked.threshold
    flags, numbers = None, {}
    values = np.asarray(scores, np.float64)
    if labels is not None:
        known = labelled(values, labels, selection=asked.selection, threshold=threshold)
        values, flags = known.scores, known.is_anomaly.astype(bool)
        numbers = metrics.evaluate(values, flags, threshold)
    made = Report(
        title=asked.title or f"{len(values):,} scores",
        subtitle="Scores that were given, and what is above the threshold.",
        config={},
        history=[],
        scores=values,
        is_anomaly=flags,
        threshold=threshold,
        metrics=numbers,
        schema=Schema(shape=(1,)),
    )
    return write_report(made, asked.out)


def _of_detector(detector: Detector, asked: _Asked) -> Path:
    _refuse_threshold(asked)
    labels = asked.labels
    table = as_table(asked.x, detector.schema.sources)
    rows = asked.x if table is None else table
    scores = detector.score(rows)
    threshold = detector.threshold_value
    flags, numbers = None, {}
    if labels is not None:
        known = labelled(scores, labels, selection=asked.selection, threshold=threshold)
        flags = known.is_anomaly.astype(bool)
        numbers = metrics.evaluate(scores, flags, threshold)
    made = report_on(
        detector,
        rows,
        flags,
        scores,
        title=asked.title or f"A detector on {len(scores):,} rows",
        subtitle="Scores, threshold and the rows that stand out most, of the rows that were given.",
        metrics=numbers,
    )
    return write_report(made, asked.out)


def _refuse_threshold(asked: _Asked) -> None:
    if asked.threshold is not None:
        raise InputError("threshold is given; allowed with a detector: its own (with_threshold)")


def _of_series(detector: Detector, asked: _Asked) -> Path:
    """Scores over time, and the worst windows beside their reconstructions."""
    _refuse_threshold(asked)
    x, labels = asked.x, asked.labels
    series = detector.schema.series
    assert series is not None
    points, scores = in_units(detector, x), detector.score(x, on_bad_row="null")
    flags, numbers = None, {}
    spans: list[tuple[int, int]] = []
    if labels is not None:
        known = labelled(detector, labels, x=x, selection=asked.selection)
        numbers = judged(known)
        flags = np.zeros(len(scores), bool)
        flags[known.rows] = known.is_anomaly == 1
    times = points.when.times
    if points.order is not None:
        times = None if times is None else times[points.order]
        scores, flags = scores[points.order], None if flags is None else flags[points.order]
    if flags is not None:
        spans = list(zip(*(ends.tolist() for ends in stretches(flags)), strict=True))
    rows = np.flatnonzero(np.isfinite(scores))
    if not len(rows):
        raise InputError("no point has a score; allowed: a series with a whole window")
    events: list[Event] = []
    channels = [series.points.feature_name(at) for at in range(series.points.features)]
    reconstructs = detector.scoring.reconstructs
    if detector.threshold is not None:
        events = detector.events(x, top=min(2, len(channels)) if reconstructs else 0)
    course = course_of(
        series,
        scores=scores[rows].astype(np.float64),
        rows=rows,
        times=times,
        threshold=detector.threshold_value,
        events=sorted(events, key=lambda event: -event.score),
        found=len(events),
        stretches=spans,
        values=points.points.x[rows],
        channels=channels,
    )
    # Of windows one for each point: that which ends with it, or which it is in the middle of.
    around = 0 if series.window.scores == "causal" else series.length // 2
    at = np.searchsorted(points.ends, rows + around).clip(0, len(points.ends) - 1)
    made = report_on(
        detector,
        lambda some: points.windows(points.ends[at[some]], series.length),
        None if flags is None else flags[rows],
        scores[rows],
        places=lambda some: [Place("the series", int(rows[one])) for one in some],
        title=asked.title or f"A detector on {len(scores):,} points",
        subtitle="Scores over time, and the windows that stand out most, of the series that was "
        "given.",
        metrics=numbers,
        course=course,
    )
    return write_report(made, asked.out)


def _of_groups(detector: Detector, groups: Any, asked: _Asked) -> Path:
    if groups is None:
        raise InputError("groups is None; allowed with a detector of groups: as in Detector.score")
    x, names = without_groups(asked.x, groups)
    labels = asked.labels
    rows, _ = as_rows(x, detector.schema)
    flags = None
    if labels is not None:
        known = labelled(np.zeros(len(rows)), labels, selection=asked.selection)
        flags = known.is_anomaly
    judged = judge_groups(detector, rows, np.asarray(names), flags)
    name = asked.title or f"{len(rows):,} rows"
    return write_groups(detector, judged, asked.out, name=name, seconds={}, environment={})

"""What the report of scored rows shows: plain data, read from the folder; no drawing."""

from __future__ import annotations

import csv
import dataclasses
import heapq
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aejax.config import InputError
from aejax.data.dates import times_of
from aejax.data.places import MOST_KEYS, MOST_SHOWN, Place
from aejax.data.schema import Schema, Series
from aejax.detection.events import Event
from aejax.detection.promise import Promise, promise_of
from aejax.detection.series_metrics import stretches
from aejax.detection.threshold import read_threshold
from aejax.reporting.markup import number
from aejax.reporting.report import Report
from aejax.reporting.series import Course, course_of
from aejax.scoring import manifest
from aejax.scoring.evaluation import Labelled, judged
from aejax.scoring.reading import OWN, Scores, keys_at, read_worst, series_of

MOST_WORST, MOST_EVENTS, MOST_MARKED = 50, 20, 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoresReport:
    """Everything that the report of scored rows shows.

    Attributes:
        title: of the page.
        subtitle: one sentence on what was scored.
        scores: what the folder holds.
        report: scores, labels and threshold as the sections of every report take them; None where
            no row has a score.
        files: a dict a file, in the order in which they were scored, as `_files.csv` has them.
        promise: what the threshold promises of normal rows, or None.
        places: of the most anomalous rows.
        reasons: of these, in words; "" where none were written.
        events: of a series, how many there are.
        worst_events: those with the highest scores, as `_events.csv` has them.
        course: of a series; None of other rows, and where no row has a score.
    """

    title: str
    subtitle: str
    scores: Scores
    report: Report | None
    files: list[dict[str, Any]]
    promise: Promise | None
    places: list[Place]
    reasons: list[str]
    events: int = 0
    worst_events: tuple[dict[str, str], ...] = ()
    course: Course | None = None


def scores_report(folder: Path, labels: Labelled | None = None) -> ScoresReport:
    """What the report of a folder of scores shows; see `write_scores_report`."""
    scores = read_worst(folder, MOST_WORST)
    files = _files(folder)
    single = files[0]["file"] if len(files) == 1 else ""
    places = _places(scores.worst, single)
    reasons = _reasons(scores.worst)
    promise = None
    if scores.model is not None and (written := scores.model.get("threshold")) is not None:
        groups = len(written) if isinstance(written, list) else None
        promise = promise_of(read_threshold(written, groups))
    count = len(files)
    what = single or f"{count:,} files"
    runs = len(scores.written["runs"])
    subtitle = f"{scores.summary['rows']:,} rows of {what}"
    subtitle += f", scored in {runs:,} runs." if runs > 1 else "."
    if scores.threshold == 1 and "threshold" in scores.worst.column_names:
        subtitle += " Scores are shares of their groups' thresholds."
    values, rows, threshold = scores.values, scores.rows, scores.threshold
    flags, metrics = None, {}
    if labels is not None:
        values, rows, flags = labels.scores, labels.rows, labels.is_anomaly.astype(bool)
        threshold, metrics = labels.threshold, judged(labels)
    report = None
    if len(values):
        number_of = {int(row): at for at, row in enumerate(rows)}
        worst = scores.worst["row"].to_pylist() if len(scores.worst) else []
        known = [(number_of[row], at) for at, row in enumerate(worst) if row in number_of]
        report = Report(
            title="",
            subtitle="",
            config={},
            history=[],
            scores=np.asarray(values, np.float64),
            is_anomaly=flags,
            threshold=threshold,
            metrics=metrics,
            schema=Schema(shape=(1,)),
            places={own: places[at] for own, at in known},
            reasons={own: reasons[at] for own, at in known},
        )
    events, worst_events = _events(folder)
    course = None
    if report is not None and (series := series_of(folder)) is not None:
        course = _course(folder, scores, series, events, worst_events, labels)
    return ScoresReport(
        events=events,
        worst_events=worst_events[:MOST_EVENTS],
        course=course,
        title=f"Scores of {what}",
        subtitle=subtitle,
        scores=scores,
        report=report,
        files=files,
        promise=promise,
        places=places,
        reasons=reasons,
    )


def _files(folder: Path) -> list[dict[str, Any]]:
    """Lines of `_files.csv`, numbers as numbers."""
    path = folder / manifest.FILES
    try:
        with path.open(newline="", encoding="utf-8") as text:
            lines = list(csv.DictReader(text))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    files = []
    for line in lines:
        of_file: dict[str, Any] = {"file": line["file"], "drifted": line["drifted"] == "True"}
        for name in ("run", "rows", "scored", "flagged"):
            of_file[name] = int(line[name])
        for name in ("flagged_rate", "population_stability"):
            of_file[name] = float(line[name]) if line[name] else None
        files.append(of_file)
    return files


def _events(folder: Path) -> tuple[int, tuple[dict[str, str], ...]]:
    """How many events a series has, and those with the highest scores; none of other rows."""
    path = folder / manifest.EVENTS
    if not path.is_file():
        return 0, ()
    count = itertools.count()
    with path.open(newline="", encoding="utf-8") as text:
        lines = (line for line, _ in zip(csv.DictReader(text), count, strict=False))
        worst = heapq.nlargest(MOST_MARKED, lines, key=lambda one: float(one["score"]))
    return next(count), tuple(worst)


def _course(
    folder: Path,
    scores: Scores,
    series: Series,
    count: int,
    worst: Sequence[dict[str, str]],
    labels: Labelled | None,
) -> Course:
    """The series as it went, and what is labelled."""
    window, times = series.window, None
    if window.time is not None and window.series is None and series.clock is not None:
        cells = keys_at(folder, scores.written, window.time, scores.rows)
        times, _, _ = times_of(cells, series.clock, window.time)
    spans: list[tuple[int, int]] = []
    if labels is not None:
        first, last = stretches(labels.is_anomaly)
        spans = list(zip(labels.rows[first].tolist(), labels.rows[last].tolist(), strict=True))
    return course_of(
        series,
        times,
        scores=scores.values,
        rows=scores.rows,
        threshold=scores.threshold,
        events=[
            Event(
                first=int(one["first_row"]),
                last=int(one["last_row"]),
                peak=int(one["peak_row"]),
                score=float(one["score"]),
                flagged=int(one["flagged"]),
                start=one.get("start"),
                series=one.get("series"),
                channels=tuple(one["channels"].split()),
            )
            for one in worst
        ],
        found=count,
        stretches=spans,
    )


def _places(worst: pa.Table, single: str) -> list[Place]:
    """Where rows are, by what was written of them."""
    names = [name for name in worst.column_names if name not in OWN][:MOST_KEYS]
    places = []
    for row in worst.to_pylist():
        keys = tuple((name, str(row[name])[:MOST_SHOWN]) for name in names if row[name] is not None)
        places.append(Place(row.get("file", single), row.get("file_row", row["row"]), keys))
    return places


def _reasons(worst: pa.Table) -> list[str]:
    """The features that make up rows' scores, in words."""
    if "top_features" not in worst.column_names:
        return [""] * len(worst)
    if "top_found" not in worst.column_names:
        # Of a series: channels over a window, which have no single value.
        return [", ".join(names or ()) for names in worst["top_features"].to_pylist()]
    columns = [worst[name].to_pylist() for name in ("top_features", "top_found", "top_expected")]
    return [
        ", ".join(
            f"{name} {_shown(value)} (expected {_shown(expected)})"
            for name, value, expected in zip(*row, strict=True)
        )
        for row in zip(*columns, strict=True)
    ]


def _shown(cell: Any) -> str:
    return cell if isinstance(cell, str) else number(float(cell))

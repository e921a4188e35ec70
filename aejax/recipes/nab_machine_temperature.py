"""A machine's temperature before it failed: series of the Numenta Anomaly Benchmark.

    aejax run nab_machine_temperature --out runs/machine

A sensor of an industrial machine, every five minutes for 79 days, in which its engineers marked
four windows: a planned shutdown, a hard to find anomaly that led to a failure, and the failure.
The detector learns the first week, before any of them; nothing repeats in it, so that windows have
the package's default of 64 points.

Nothing was published in these measures: the benchmark's own score rewards early detection within
its windows. VUS-PR and VUS-ROC need no threshold; nothing is adjusted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aejax.config import Config, Window
from aejax.data.datasets import load_nab
from aejax.data.places import Place
from aejax.data.schema import Clock
from aejax.data.series import WindowRows
from aejax.detection.events import events
from aejax.detection.series_metrics import evaluate_series, stretches
from aejax.recipes.recipe import Experiment, Figures, Recipe

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

FILE = "realKnownCause/machine_temperature_system_failure.csv"
WEEK = 7 * 288
LENGTH = 64
# An hour without a flag ends an event.
MERGE_GAP = 12


def prepare(quick: bool) -> Experiment:
    """Windows of the first week to train on, all that end later to judge."""
    from aejax.detection.file_rows import training_series

    nab = load_nab(FILE, 3 * WEEK if quick else None)
    windows, alarms = training_series(RECIPE.config, pa.table({"temperature": nab.values[:WEEK]}))
    training, held = windows.split(RECIPE.config.train.validation_fraction)
    every = WindowRows(
        nab.values[:, None].astype(np.float32),
        np.arange(WEEK - LENGTH + 1, len(nab.values) - LENGTH + 1),
        windows.schema,
    )
    ends = every.starts + LENGTH - 1
    return Experiment(
        x_train=training,
        x_test=every[slice(None)],
        is_anomaly=nab.is_anomaly[ends],
        x_validation=held,
        x_calibrate=held,
        schema=windows.schema,
        judged="windows that end after the first week",
        alarms=tuple(alarms),
        places=lambda at: [
            Place("the series", int(row), (("until", str(nab.times[row])),)) for row in ends[at]
        ],
    )


def measure(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """Volumes, stretches, events and delay."""
    scores, threshold = detector.score(experiment.x_test), detector.threshold_value
    measures = evaluate_series(
        scores, experiment.is_anomaly, threshold, buffer=LENGTH, merge_gap=MERGE_GAP
    )
    del measures["buffer"]
    return {**measures, "auroc": metrics["auroc"]["value"]}


def draw(detector: Detector, experiment: Experiment) -> Figures:
    """The scores over time, and the worst events."""
    from aejax.reporting.series import course_of, overview, worst_events

    assert detector.schema.series is not None
    assert experiment.is_anomaly is not None
    scores = detector.score(experiment.x_test)
    rows = np.arange(WEEK, WEEK + len(scores))
    times = load_nab(FILE).times[rows]
    written = np.char.replace(times.astype(str), "T", " ")
    alarms = events(scores, detector.threshold_value, times=written, merge_gap=MERGE_GAP)
    course = course_of(
        dataclasses.replace(
            detector.schema.series,
            window=dataclasses.replace(detector.schema.series.window, time="timestamp"),
            clock=Clock(kind="local"),
        ),
        times,
        scores=scores.astype(np.float64),
        rows=rows,
        threshold=detector.threshold_value,
        events=[
            dataclasses.replace(one, first=one.first + WEEK, last=one.last + WEEK)
            for one in sorted(alarms, key=lambda event: -event.score)
        ],
        found=len(alarms),
        stretches=[
            (int(first) + WEEK, int(last) + WEEK)
            for first, last in zip(*stretches(experiment.is_anomaly), strict=True)
        ],
        values=experiment.x_test[:, -1],
        channels=["temperature"],
    )
    plots = {"Scores over time": overview(course)}
    if alarms:
        plots["The worst events"] = worst_events(course)
    return tuple((title, plot.caption, plot.figure) for title, plot in plots.items())


RECIPE = Recipe(
    name="nab_machine_temperature",
    title="A machine's temperature before it failed",
    summary="Trained on the first week of a sensor, with windows of 64 rows; each row is scored by "
    "the window that ends with it.",
    source="Numenta Anomaly Benchmark (Lavin and Ahmad 2015)",
    time="2 minutes",
    published={},
    config=Config.of_effort("standard", window=Window(length=LENGTH)),
    prepare=prepare,
    measure=measure,
    draw=draw,
)

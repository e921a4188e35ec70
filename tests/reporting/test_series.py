"""Pictures of series: what is drawn is what there is, however much of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax import Window
from aejax.detection.events import Event
from aejax.reporting.examples import apart
from aejax.reporting.series import Course, overview, worst_events
from tests.plain import plain_config
from tests.reporting.test_report import Page

ROWS = 5_000


def course(**changed: object) -> Course:
    scores = np.random.default_rng(0).random(ROWS)
    scores[1234], scores[2000:2100] = 40, np.nan
    event = Event(first=1230, last=1240, peak=1234, score=40.0, flagged=5, channels=("heat",))
    late = dataclasses.replace(event, first=ROWS - 3, last=ROWS - 1, score=0.9)
    made = Course(
        scores=scores,
        rows=np.arange(10, ROWS + 10),
        times=None,
        threshold=0.8,
        events=[event, late],
        found=2,
        stretches=[(1200, 1250)],
        length=20,
        values=np.stack([scores, -scores], axis=1),
        channels=("flow", "heat"),
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


def test_the_overview_loses_no_peak() -> None:
    (axes,) = overview(course()).figure.axes
    drawn = axes.lines[0].get_ydata()
    assert len(drawn) < ROWS / 5
    assert np.nanmax(drawn) == 40
    assert np.isnan(drawn).any()
    assert axes.get_yscale() == "log"
    assert {text.get_text() for text in axes.get_legend().texts} == {
        "score",
        "threshold",
        "event",
        "labelled",
    }
    few = course(scores=np.ones(3), rows=np.arange(3), events=[], stretches=[], threshold=None)
    assert len(overview(few).figure.axes[0].lines[0].get_ydata()) == 3


def test_events_are_drawn_with_what_is_around_them_and_their_channel() -> None:
    times = np.datetime64("2026-01-01") + np.arange(ROWS) * np.timedelta64(300, "s")
    plot = worst_events(course(times=times))
    top, score, late, _ = plot.figure.axes
    assert top.get_ylabel() == "heat"
    made = course()
    first, last = made.at(1230 - 20), made.at(1240 + 20)
    np.testing.assert_array_equal(score.lines[0].get_ydata(), made.scores[first : last + 1])
    np.testing.assert_array_equal(top.lines[0].get_ydata(), -made.scores[first : last + 1])
    assert len(late.lines[0].get_ydata()) == made.length + 13
    alone = worst_events(course(values=None)).figure
    assert len(alone.axes) == 2


def test_rows_that_are_drawn_lie_apart() -> None:
    order = np.array([5, 6, 4, 9, 0, 1])
    assert apart(order, 3, 4).tolist() == [5, 9, 0]
    assert apart(order, 3, 1).tolist() == [5, 6, 4]


def test_a_detector_is_reported_on_a_series(tmp_path: Path) -> None:
    def waves(seed: int) -> pd.DataFrame:
        noise = np.random.default_rng(seed).normal(size=(300, 2))
        x = np.sin(2 * np.pi * np.arange(300) / 16)[:, None] + 0.1 * noise
        table = pd.DataFrame(x, columns=["flow", "heat"])
        table.insert(0, "time", pd.date_range("2026-01-01", periods=300, freq="h"))
        return table

    window = Window(length=16, time="time", scores="centred")
    config = plain_config(
        model=aejax.Dense(hidden=(4,)), train=aejax.Train(steps=60), window=window
    )
    detector = aejax.fit(config, waves(0))
    week = waves(1)
    week.loc[100:109, "heat"] += 4
    week.loc[200, "flow"] = np.nan
    labels = pd.DataFrame({"start": [week["time"][100]], "end": [week["time"][109]]})
    path = aejax.report(detector, tmp_path / "report", x=week, labels=labels)
    page = Page(path.read_text())
    measures = dict(page.tables["Labelled stretches, without point adjustment"])
    assert measures["Labelled stretches"] == measures["of them with a flagged point"] == "1"
    expected = aejax.evaluate(detector, labels, x=week)["series"]["vus_pr"]
    assert float(measures["VUS-PR"]) == pytest.approx(expected, abs=1e-4)
    assert (tmp_path / "report/plots/worst_events.png").is_file()
    # A window of the fault's channel, beside its reconstruction.
    cards = page.text["most_anomalous"]
    assert "heat" in cards
    peak = int(np.nanargmax(detector.score(week, on_bad_row="null")))
    assert f"Row {peak} of the series" in cards

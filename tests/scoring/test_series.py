"""Series from file to file: each row has a score or a reason, and bytes don't depend on cuts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import aejax
from aejax import Config, Window, score_files
from aejax.detection.detector import Detector
from aejax.detection.series_metrics import volumes
from aejax.scoring.evaluation import judged, labelled
from aejax.training.loop import Interrupted

LENGTH = 12
ROWS = 700
CAUSAL = Config(
    model=aejax.Dense(hidden=(6, 3)),
    train=aejax.Train(epochs=2),
    window=Window(length=LENGTH, time="when"),
)
PARTS: dict[str, Any] = {"part_rows": 64, "batch_size": 16}


def readings(rows: int, seed: int) -> pd.DataFrame:
    """Rows with a gap, a missing value and a time that nobody can read."""
    phase = 2 * np.pi * np.arange(rows) / 20
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    x = np.stack([np.sin(phase), np.cos(phase)], 1) + 0.05 * noise
    frame = pd.DataFrame(x.astype(np.float32), columns=["left", "right"])
    when = pd.date_range("2024-01-01", periods=rows, freq="5min").to_series(index=frame.index)
    if rows == ROWS:
        when[300:] += pd.Timedelta("2h")
        frame.loc[100, "left"] = np.nan
        frame.loc[500:520, "right"] += 3
    frame.insert(0, "when", when.astype(str))
    if rows == ROWS:
        frame.loc[400, "when"] = "soon"
    return frame


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return readings(ROWS, 1)


@pytest.fixture(scope="module", params=["causal", "centred"])
def detector(request: pytest.FixtureRequest) -> Detector:
    window = dataclasses.replace(CAUSAL.window, scores=request.param)  # type: ignore[type-var]
    return aejax.fit(dataclasses.replace(CAUSAL, window=window), readings(400, 0))


def scores_in(folder: Path) -> pd.DataFrame:
    return pq.read_table(folder).to_pandas()


def test_every_row_has_a_score_or_a_reason(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.to_csv(tmp_path / "rows.csv", index=False)
    result = score_files(detector, tmp_path / "rows.csv", tmp_path / "out", **PARTS)
    found = scores_in(tmp_path / "out")
    assert found["row"].tolist() == list(range(ROWS))
    assert found["when"].tolist() == table["when"].tolist()
    expected = detector.score(table, on_bad_row="null")
    np.testing.assert_allclose(found["score"], expected, rtol=1e-5)
    flags = detector.predict(table, on_bad_row="null")
    assert found["is_anomaly"][500:520].any()
    np.testing.assert_array_equal(found["is_anomaly"][~flags.mask], flags.compressed())
    # The same reasons as in Python, without what is the row's own.
    reasons = detector.bad_rows(table)
    assert set(np.flatnonzero(found["reason"].notna())) == set(reasons)
    assert found["reason"][100] == "left is missing or NaN"
    assert found["reason"][400] == "when is not a date"
    assert reasons[400] == "when is 'soon', not a date"
    assert result["bad_rows"] == len(reasons)


def test_scores_do_not_depend_on_files_formats_or_parts(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.to_csv(tmp_path / "rows.csv", index=False)
    folder = tmp_path / "many"
    folder.mkdir()
    # The second file is shorter than a window.
    for number, (first, stop) in enumerate([(0, 90), (90, 95), (95, 330), (330, ROWS)]):
        table[first:stop].to_parquet(folder / f"{number}.parquet", index=False, row_group_size=50)
    score_files(detector, tmp_path / "rows.csv", tmp_path / "one", **PARTS)
    score_files(detector, folder, tmp_path / "of_many", **PARTS)
    score_files(detector, folder, tmp_path / "large", part_rows=300, batch_size=16)
    one, many, large = (scores_in(tmp_path / name) for name in ("one", "of_many", "large"))
    np.testing.assert_array_equal(one["score"], many["score"])
    assert one["reason"].astype(object).equals(many["reason"].astype(object))
    np.testing.assert_allclose(one["score"], large["score"], rtol=1e-5)


def parts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def stops_after(blocks: int) -> Callable[[], bool]:
    left = [blocks]

    def ask() -> bool:
        left[0] -= 1
        return left[0] < 0

    return ask


@pytest.mark.parametrize("kind", ["csv", "many"])
def test_a_job_that_was_stopped_anywhere_has_the_same_bytes(
    detector: Detector, table: pd.DataFrame, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "rows"
    path.mkdir()
    cuts = [0, ROWS] if kind == "csv" else [0, 90, 95, 330, ROWS]
    for number, (first, stop) in enumerate(itertools.pairwise(cuts)):
        table[first:stop].to_csv(path / f"{number}.csv", index=False)
    score_files(detector, path, tmp_path / "whole", top_features=1, **PARTS)
    stops = 0
    while True:
        try:
            stop = stops_after(2)
            score_files(
                detector, path, tmp_path / "stopped", top_features=1, should_stop=stop, **PARTS
            )
            break
        except Interrupted:
            stops += 1
    assert stops >= 3
    assert parts_of(tmp_path / "stopped") == parts_of(tmp_path / "whole")


@pytest.mark.slow
def test_kills_lose_and_double_nothing(tmp_path: Path, table: pd.DataFrame) -> None:
    causal = aejax.fit(CAUSAL, readings(400, 0))
    causal.save(tmp_path / "run")
    rows = tmp_path / "rows.parquet"
    table.assign(id="x").to_parquet(rows, index=False, row_group_size=100)
    server = Path(__file__).with_name("kill_server.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", server, tmp_path / "run", rows, tmp_path, "0", "20"],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["kills"]) == 20
    whole = parts_of(tmp_path / "whole")
    for job in range(result["jobs"]):
        assert parts_of(tmp_path / f"killed-{job}") == whole


def test_the_channels_that_make_up_a_score_are_named(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.to_csv(tmp_path / "rows.csv", index=False)
    score_files(detector, tmp_path / "rows.csv", tmp_path / "out", top_features=1, **PARTS)
    found = scores_in(tmp_path / "out")
    assert {names[0] for names in found["top_features"][505:515]} == {"right"}


def test_flags_are_events_in_a_table_beside_the_scores(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.to_csv(tmp_path / "rows.csv", index=False)
    how = {"merge_gap": 3, "least_length": 2}
    result = score_files(
        detector, tmp_path / "rows.csv", tmp_path / "out", top_features=1, **PARTS, **how
    )
    written = pd.read_csv(tmp_path / "out/_events.csv")
    own = detector.events(table, **how)
    assert written["first_row"].tolist() == [event.first for event in own]
    assert written["last_row"].tolist() == [event.last for event in own]
    assert written["start"].tolist() == [event.start for event in own]
    assert written["peak"].tolist() == [event.peak_time for event in own]
    assert written["channels"].tolist() == [" ".join(event.channels) for event in own]
    assert result["events"] == len(own)
    worst = max(own, key=lambda event: event.score)
    assert result["worst_events"][0]["first_row"] == worst.first
    assert worst.first <= 520
    assert worst.last >= 500
    # The same job, done already, gives the events that are asked for now.
    again = score_files(detector, tmp_path / "rows.csv", tmp_path / "out", top_features=1, **PARTS)
    assert again["events"] == len(detector.events(table)) > len(own)


def test_labels_are_a_column_or_intervals(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.to_csv(tmp_path / "rows.csv", index=False)
    score_files(detector, tmp_path / "rows.csv", tmp_path / "out", **PARTS)
    labels = np.zeros(ROWS, int)
    labels[250:260] = labels[500:521] = 1
    table.assign(label=labels)[["when", "label"]].to_csv(tmp_path / "points.csv", index=False)
    when = table["when"].to_numpy()
    spans = pd.DataFrame({"start": when[[250, 500]], "end": when[[259, 520]]})
    spans.to_csv(tmp_path / "spans.csv", index=False)
    selection = aejax.data.rows.Selection(label_column="label")
    points, found = (
        judged(labelled(tmp_path / "out", tmp_path / name, selection=selection))
        for name in ("points.csv", "spans.csv")
    )
    assert found["joined_by"] == "intervals"
    own = detector.score(table, on_bad_row="null")
    scored = np.isfinite(own)
    expected = volumes(own[scored], labels[scored], LENGTH)
    assert found["series"]["vus_pr"] == pytest.approx(expected.pr, rel=1e-6)
    assert found["series"]["vus_roc"] == pytest.approx(expected.roc, rel=1e-6)
    assert (found["series"]["stretches"], found["series"]["buffer"]) == (2, LENGTH)
    # A time that nobody can read lies in no interval, and has no score.
    assert points["series"] == found["series"]
    assert points["auroc"] == found["auroc"]
    in_memory = aejax.evaluate(detector, spans, x=table)
    assert in_memory["series"]["vus_pr"] == pytest.approx(expected.pr, rel=1e-6)
    rows = pd.DataFrame({"start": [250, 500], "end": [259, 520]})
    of_array = aejax.evaluate(own[LENGTH:300], rows - LENGTH, threshold=1.0, buffer=LENGTH)
    assert of_array["series"]["stretches"] == 1


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2024-01-01 10:00:00", "2024-01-01 09:00:00", "interval 0 ends before it starts"),
        ("2034-01-01 10:00:00", "2034-01-01 11:00:00", "none of 1 intervals holds a row"),
        ("2024-01-01 10:00:00", None, "'end' is of type null; allowed: dates"),
        ("2024-01-01 10:00:00+01:00", "2024-01-01 11:00:00+01:00", "start is of kind 'instant'"),
        ("7", "9", "start is of kind 'number'; allowed: 'local', as when"),
    ],
)
def test_each_bad_interval_is_refused_in_a_line(
    table: pd.DataFrame, start: str, end: str, message: str
) -> None:
    scores = table[["when"]].drop(index=400).assign(score=np.arange(ROWS - 1.0))
    with pytest.raises(aejax.InputError, match=message) as refused:
        aejax.evaluate(scores, pd.DataFrame({"start": [start], "end": [end]}), key="when")
    assert "\n" not in str(refused.value)


def test_points_that_share_their_windows_are_no_drift(
    detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred points of windows of twelve say as much as eight rows would."""
    readings(400, 7).to_csv(tmp_path / "rows.csv", index=False)
    how = {"part_rows": 100, "batch_size": 16}
    result = score_files(detector, tmp_path / "rows.csv", tmp_path / "out", **how)
    assert result["parts"] == 4
    assert not [alarm for alarm in result["alarms"] if "parts of them" in alarm]


def test_a_file_of_another_day_follows_where_its_time_does(
    detector: Detector, tmp_path: Path
) -> None:
    whole = readings(100, 3)
    (tmp_path / "days").mkdir()
    whole[:60].to_csv(tmp_path / "days/1.csv", index=False)
    whole[60:].to_csv(tmp_path / "days/2.csv", index=False)
    # A file that begins before the one before ended is another series.
    whole[:40].to_csv(tmp_path / "days/3.csv", index=False)
    score_files(detector, tmp_path / "days", tmp_path / "out", **PARTS)
    expected = np.concatenate([detector.score(whole), detector.score(whole[:40])])
    np.testing.assert_allclose(scores_in(tmp_path / "out")["score"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"layer": "latent"}, "layer is 'latent'; allowed with windows of a series: none"),
        ({"top_features": 3}, "top_features is 3; allowed: 0 to 2"),
        ({"on_bad_row": "error"}, r"rows.csv: row 100: left is missing or NaN"),
    ],
)
def test_each_bad_request_is_refused_in_a_line(
    detector: Detector, table: pd.DataFrame, tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    table.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(aejax.InputError, match=message):
        score_files(detector, tmp_path / "rows.csv", tmp_path / "out", **PARTS, **how)


def test_a_file_without_times_is_refused(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.drop(columns="when").to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(aejax.InputError, match="has no column 'when'"):
        score_files(detector, tmp_path / "rows.csv", tmp_path / "out")

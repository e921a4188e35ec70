"""Which points follow each other, the windows over them, and scores that go back to points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aejax.config import InputError, Window
from aejax.data.dates import clock_of, times_of
from aejax.data.schema import Clock, Schema, Series
from aejax.data.series import Points, WindowRows, point_scores, scores_of_picked, window_rows
from aejax.data.series import windows_of as view_of
from aejax.data.series_columns import length_of, period_of


def series_of(length: int, scores: str = "causal", stride: int = 1, channels: int = 2) -> Series:
    window = Window(length=length, scores=scores, stride=stride)  # type: ignore[arg-type]
    return Series(points=Schema(shape=(channels,)), window=window)


@pytest.mark.parametrize("how", ["causal", "centred"])
@pytest.mark.parametrize("seed", range(60))
def test_points_have_the_scores_of_whole_windows_only(seed: int, how: str) -> None:
    random = np.random.default_rng(seed)
    length = int(random.integers(2, 7))
    broken = random.random(random.integers(1, 31)) < 0.1
    broken[0] = True
    usable = random.random(len(broken)) < 0.9
    rows, series = len(broken), series_of(length, how)
    points = Points(np.zeros((rows, 2), np.float32), broken, usable)
    whole = [
        start
        for start in range(rows - length + 1)
        if usable[start : start + length].all() and not broken[start + 1 : start + length].any()
    ]
    scores = np.random.default_rng(0).random(max(0, rows - length + 1)).astype(np.float32)
    expected = np.full(rows, np.nan)
    for point in range(rows):
        if how == "causal":
            own = [start for start in whole if start + length - 1 == point]
        else:
            own = [start for start in whole if start <= point < start + length]
        if own:
            expected[point] = scores[own].astype(np.float64).mean()
    found = point_scores(scores, points.ages, series)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    if not whole:
        with pytest.raises(InputError, match="length of a window"):
            window_rows(points, series)
        return
    windows = window_rows(points, series)
    assert windows.starts.tolist() == whole
    picked = scores_of_picked(scores[windows.starts], windows.starts, series)
    np.testing.assert_allclose(picked, expected[~np.isnan(expected)], rtol=1e-6)


def test_windows_are_views_until_a_batch_is_picked() -> None:
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    view = view_of(x, 5)
    assert np.shares_memory(view, x)
    assert view.shape == (16, 5, 2)
    np.testing.assert_array_equal(view[3], x[3:8])
    rows = WindowRows(x, np.array([0, 3, 9]), series_of(5).schema, less_offset=True)
    assert np.shares_memory(rows.stored()._view, x)
    np.testing.assert_array_equal(rows[np.array([2, 0])], [x[9:14], x[0:5]])


def test_windows_that_are_held_out_share_no_point_with_those_that_train() -> None:
    schema = series_of(5, stride=3).schema
    rows = WindowRows(np.zeros((100, 2), np.float32), np.arange(96), schema)
    training, held = rows.split(0.1)
    assert held.starts.tolist() == list(range(86, 96))
    assert training.starts[-1] + 5 <= held.starts[0]
    assert set(np.diff(training.starts)) == {3}


@pytest.mark.parametrize("period", [7, 24, 50, 288])
@pytest.mark.parametrize("trend", [0.0, 3.0])
def test_a_period_is_that_of_a_square_wave_in_noise(period: int, trend: float) -> None:
    time = np.arange(2000)
    noise = np.random.default_rng(period).normal(size=2000)
    wave = np.where(time % period < period / 3, 1.0, 0.0) + 0.1 * noise + trend * time / 2000
    assert period_of(wave[:, None]) == period


def test_noise_and_constants_have_no_period() -> None:
    assert period_of(np.random.default_rng(0).normal(size=(2000, 3))) is None
    assert period_of(np.ones((500, 1))) is None
    assert period_of(np.ones((5, 1))) is None
    assert length_of(None) == 64
    assert length_of(12) == 36
    assert length_of(288) == 288


@pytest.mark.parametrize(
    ("name", "day"),
    [("artificialNoAnomaly/art_daily_small_noise", 288), ("realKnownCause/nyc_taxi", 48)],
)
def test_published_series_repeat_after_a_day_or_a_week(data_dir: Path, name: str, day: int) -> None:
    values = np.genfromtxt(data_dir / f"nab/{name}.csv", delimiter=",", skip_header=1, usecols=1)
    assert period_of(values[:, None]) in (day, 7 * day)


HOUR = 3_600_000_000_000


@pytest.mark.parametrize(
    ("cells", "kind", "steps"),
    [
        (pa.array(["2024-05-01 00:00:00", "2024-05-01 01:00:00"]), "local", [HOUR]),
        (pa.array(["2024-05-01T00:00:00Z", "2024-05-01T03:00:00+02:00"]), "instant", [HOUR]),
        (pa.array(["31.12.2023 23:00", "01.01.2024 00:00"]), "local", [HOUR]),
        (pa.array([0, 3600], pa.timestamp("s")), "local", [HOUR]),
        (pa.array([1.5, 2.5, None]), "number", [1.0]),
        (pa.array(["10", "12"]), "number", [2.0]),
        (pa.array([19000, 19001], pa.date32()), "local", [24 * HOUR]),
    ],
)
def test_times_are_read_however_they_are_written(
    cells: pa.Array, kind: str, steps: list[float]
) -> None:
    clock = clock_of(cells, "when")
    assert clock.kind == kind
    times, there, wrong = times_of(cells, clock, "when")
    assert np.diff(times)[: len(steps)].tolist() == steps
    assert there.tolist() == [cell.is_valid for cell in cells]
    assert set(wrong) == set(np.flatnonzero(~there))


def test_an_hour_that_a_clock_shows_twice_is_none_of_an_instant() -> None:
    instants = pa.array([0, 3600, 7200], pa.timestamp("s", "Europe/Berlin"))
    shift = 1_729_983_600  # 2024-10-27 01:00 there; at 3 the clock is put back.
    moved = pa.array([shift, shift + 3600, shift + 7200, shift + 10800], instants.type)
    times, _, _ = times_of(moved, clock_of(moved, "when"), "when")
    assert set(np.diff(times)) == {HOUR}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pa.array(["yes", "no"]), "time column 'when' holds 'yes'; allowed: dates"),
        (pa.array([True, False]), "time column 'when' is of type bool; allowed: dates"),
    ],
)
def test_what_is_no_time_is_refused(cells: pa.Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        clock_of(cells, "when")


def test_what_is_no_time_among_times_is_named() -> None:
    cells = pa.array(["2024-05-01", "soon", None])
    _, there, wrong = times_of(cells, Clock(kind="local"), "when")
    assert there.tolist() == [True, False, False]
    assert wrong[1] == "when is 'soon', not a date"
    assert wrong[2] == "when is missing"
    with pytest.raises(InputError, match="is of type timestamp"):
        times_of(pa.array([0], pa.timestamp("s")), Clock(kind="number"), "when")


def test_a_schema_of_windows_is_what_it_was_written_as() -> None:
    points = Schema(shape=(2,), names=("a", "b")).with_offset((1e9, 0.0))
    window = Window(length=3, time="when", gap=2.0)
    series = Series(points=points, window=window, clock=Clock(kind="number"), step=5.0, period=7)
    schema = series.schema
    assert Schema.from_dict(schema.to_dict()) == schema
    assert schema.table is points
    assert schema.offset == (1e9, 0.0) * 3
    assert [schema.feature_name(at) for at in (0, 3, 5)] == ["a[-2]", "b[-1]", "b[0]"]

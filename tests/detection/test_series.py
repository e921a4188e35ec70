"""Series through a detector: a score for each point, however it is asked for."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax import Config, InputError, Window
from aejax.detection.detector import Detector

LENGTH = 8
TRAIN = aejax.Train(epochs=2, batch_size=64)
BASE = Config(model=aejax.Dense(hidden=(6, 3)), train=TRAIN, window=Window(length=LENGTH))


def waves(rows: int, seed: int = 0) -> np.ndarray:
    """Two channels that repeat after 16 points, float32."""
    phase = 2 * np.pi * np.arange(rows) / 16
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    return (np.stack([np.sin(phase), np.cos(phase)], 1) + 0.05 * noise).astype(np.float32)


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    frame = pd.DataFrame(waves(rows, seed), columns=["left", "right"])
    frame.insert(0, "when", pd.date_range("2024-01-01", periods=rows, freq="5min", tz="UTC"))
    return frame


def timed(**settings: object) -> Config:
    window = Window(length=LENGTH, time="when", **settings)  # type: ignore[arg-type]
    return dataclasses.replace(BASE, window=window)


@pytest.fixture(scope="module")
def plain() -> Detector:
    return aejax.fit(BASE, waves(300))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return aejax.fit(timed(), table(300))


@pytest.fixture(scope="module")
def centred() -> Detector:
    return aejax.fit(timed(scores="centred"), table(300))


def by_hand(detector: Detector, x: np.ndarray) -> np.ndarray:
    """Scores of points of one unbroken run, one window after the other."""
    windows = np.stack([x[end - LENGTH : end] for end in range(LENGTH, len(x) + 1)])
    own = detector.score(windows)
    assert detector.schema.series is not None
    if detector.schema.series.window.scores == "causal":
        return np.concatenate([np.full(LENGTH - 1, np.nan), own])
    held = [own[max(0, at - LENGTH + 1) : at + 1].astype(np.float64).mean() for at in range(len(x))]
    return np.array(held)


def test_each_point_has_the_score_of_the_window_that_ends_with_it(plain: Detector) -> None:
    x = waves(60, 1)
    scores = plain.score(x)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, by_hand(plain, x), rtol=1e-5)
    assert plain.bad_rows(x) == dict.fromkeys(range(LENGTH - 1), "no whole window ends here")
    np.testing.assert_array_equal(plain.predict(x), scores > plain.threshold_value)
    masked = plain.predict(x, on_bad_row="null")
    assert masked.mask.sum() == LENGTH - 1


def test_a_centred_score_is_the_mean_over_the_windows_that_hold_the_point(
    centred: Detector,
) -> None:
    frame = table(60, 1)
    x = frame[["left", "right"]].to_numpy()
    scores = centred.score(frame)
    np.testing.assert_allclose(scores, by_hand(centred, x), rtol=1e-5)
    assert centred.bad_rows(frame) == {}


@pytest.mark.parametrize("route", ["detector", "centred"])
def test_a_gap_in_time_parts_a_series(route: str, request: pytest.FixtureRequest) -> None:
    own: Detector = request.getfixturevalue(route)
    frame = table(60, 1)
    late = frame.copy()
    late.loc[25:, "when"] += pd.Timedelta("1h")
    expected = np.concatenate([own.score(frame[:25]), own.score(frame[25:])])
    np.testing.assert_allclose(own.score(late), expected, rtol=1e-5)
    # Two points that are missing are no gap.
    kept = frame.drop(index=[30, 31])
    assert np.isnan(own.score(kept)).sum() == np.isnan(own.score(frame)).sum()


def test_no_window_reaches_from_one_series_to_the_next() -> None:
    both = pd.concat([table(150, 0).assign(pump="a"), table(150, 1).assign(pump="b")])
    own = aejax.fit(timed(series="pump"), both)
    test = pd.concat([table(40, 2).assign(pump="x"), table(40, 3).assign(pump="y")])
    alone = [own.score(one) for _, one in test.groupby("pump")]
    np.testing.assert_allclose(own.score(test), np.concatenate(alone), rtol=1e-5)
    test.iloc[5, test.columns.get_loc("pump")] = None
    assert own.bad_rows(test)[5] == "pump is missing"


def test_a_point_that_cannot_be_used_spares_the_windows_without_it(detector: Detector) -> None:
    frame = table(60, 1)
    whole = detector.score(frame)
    frame.loc[20, "left"] = np.nan
    scores = detector.score(frame, on_bad_row="null")
    touched = np.arange(60)[20 : 20 + LENGTH]
    assert np.isnan(scores[touched]).all()
    others = np.delete(np.arange(60), touched)
    np.testing.assert_allclose(scores[others], whole[others], rtol=1e-5)
    reasons = detector.bad_rows(frame)
    assert reasons[20] == "left is nan"
    assert reasons[21] == "a point in its window can't be used"
    with pytest.raises(InputError, match="row 20: left is nan"):
        detector.score(frame)


def test_points_are_scored_as_they_arrive(detector: Detector) -> None:
    frame = table(60, 1)
    frame.loc[40:, "when"] += pd.Timedelta("1h")
    state, parts = None, []
    for first, stop in ((0, 1), (1, 4), (4, 30), (30, 31), (31, 45), (45, 60)):
        state, scores = detector.score_next(state, frame[first:stop])
        assert len(state.x) < LENGTH
        parts.append(scores)
    np.testing.assert_allclose(np.concatenate(parts), detector.score(frame), rtol=1e-5)


def test_points_in_any_order_are_sorted_where_it_is_asked(detector: Detector) -> None:
    frame = table(60, 1)
    mixed = frame.sample(frac=1, random_state=0)
    window = dataclasses.replace(detector.schema.series.window, order="sort")  # type: ignore[union-attr]
    series = dataclasses.replace(detector.schema.series, window=window)  # type: ignore[type-var]
    sorting = dataclasses.replace(detector, schema=series.schema)  # type: ignore[union-attr]
    np.testing.assert_allclose(sorting.score(mixed), detector.score(frame)[mixed.index], rtol=1e-5)
    twice = pd.concat([frame, frame[30:31]])
    scores = sorting.score(twice)
    np.testing.assert_allclose(scores[:60], detector.score(frame), rtol=1e-5)
    assert sorting.bad_rows(twice)[60] == "its time is there twice"
    with pytest.raises(InputError, match="row 60: when isn't after that of the row before"):
        detector.score(twice)


def test_what_is_saved_scores_the_same(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "saved")
    loaded = aejax.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.score(table(60, 1)), detector.score(table(60, 1)))
    assert loaded.fingerprint == detector.fingerprint
    assert loaded.schema == detector.schema


def test_windows_are_explained_and_reconstructed(detector: Detector) -> None:
    frame = table(30, 1)
    frame.loc[20, "right"] = 9
    windows = detector.windows(frame)
    assert windows.shape == (30 - LENGTH + 1, LENGTH, 2)
    (reasons,) = detector.explain(windows[[20 - LENGTH + 1]], top=1)
    assert reasons[0].feature == "right[0]"
    assert detector.encode(windows).shape == (len(windows), 3)
    with pytest.raises(InputError, match=r"allowed here: windows, \[n, 8, 2\]"):
        detector.explain(frame)


def test_numbers_far_from_zero_keep_their_digits(detector: Detector) -> None:
    def far(rows: int, seed: int = 0) -> pd.DataFrame:
        frame = table(rows, seed)
        frame[["left", "right"]] = frame[["left", "right"]].astype(np.float64) + 1e9
        return frame

    own = aejax.fit(timed(), far(300))
    assert own.schema.offset is not None
    scores = own.score(far(60, 1))
    np.testing.assert_allclose(scores, detector.score(table(60, 1)), rtol=1e-3)
    np.testing.assert_array_equal(own.score(own.windows(far(60, 1))), scores[LENGTH - 1 :])


def test_the_last_windows_set_the_threshold(detector: Detector, centred: Detector) -> None:
    held = round(0.1 * (300 - LENGTH + 1))
    scores = detector.score(table(300))[-held:]
    assert detector.threshold_value == pytest.approx(np.quantile(scores, 0.99), rel=1e-6)
    assert centred.threshold is not None
    # The points that these windows hold.
    assert centred.threshold.rows == held + LENGTH - 1


def test_a_threshold_is_set_on_the_points_of_another_series(detector: Detector) -> None:
    frame = table(100, 4)
    own = detector.calibrate(frame, rule=aejax.Quantile(q=0.9))
    scores = detector.score(frame)[LENGTH - 1 :]
    assert own.threshold_value == pytest.approx(np.quantile(scores, 0.9), rel=1e-2)
    assert own.threshold is not None
    assert own.threshold.rows == len(scores)


def test_networks_vote_on_windows() -> None:
    own = aejax.fit(timed(scores="centred"), table(300), members=2)
    assert own.members == 2
    scores = own.score(table(60, 1))
    each = np.stack([own.member(at).score(table(60, 1)) for at in range(2)])
    np.testing.assert_allclose(scores, each.mean(axis=0), rtol=1e-5)


def test_windows_that_are_streamed_train_the_same(plain: Detector) -> None:
    train = dataclasses.replace(TRAIN, feed="stream")
    own = aejax.fit(dataclasses.replace(BASE, train=train), waves(300))
    np.testing.assert_array_equal(own.score(waves(60, 1)), plain.score(waves(60, 1)))


def test_a_length_is_taken_from_the_period(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aejax"):
        own = aejax.fit(dataclasses.replace(BASE, window=Window(time="when")), table(400))
    assert own.schema.series is not None
    assert own.schema.series.period == 16
    assert own.schema.series.length == 32
    assert own.schema.series.step == 300e9
    assert "(the series repeats after 16), a point every 5 min" in caplog.text


def test_files_are_read_as_what_is_in_memory(detector: Detector, tmp_path: Path) -> None:
    table(300).to_csv(tmp_path / "rows.csv", index=False)
    table(300).to_parquet(tmp_path / "rows.parquet", index=False)
    for name in ("rows.csv", "rows.parquet"):
        own = aejax.fit(timed(), tmp_path / name)
        np.testing.assert_array_equal(own.score(table(60, 1)), detector.score(table(60, 1)))


def test_windows_with_an_anomalous_point_do_not_train(tmp_path: Path) -> None:
    frame = table(300).assign(broken=0)
    frame.loc[100:109, "broken"] = 1
    frame.loc[100:109, "left"] = 50
    frame.to_csv(tmp_path / "rows.csv", index=False)
    selection = aejax.data.rows.Selection(label_column="broken")
    own = aejax.fit(timed(), tmp_path / "rows.csv", selection=selection)
    assert own.provenance["training_rows"] < 300 - 10 - 2 * LENGTH
    assert np.nanmax(own.score(table(60, 1))) < 10


def without(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame.drop(columns=column)


@pytest.mark.parametrize(
    ("config", "rows", "message"),
    [
        (timed(), without(table(50), "when"), "rows have no column 'when'"),
        (timed(), waves(50), "rows have no columns with names; allowed: a table with when"),
        (timed(), table(50).assign(when="soon"), "time column 'when' holds 'soon'; allowed: dates"),
        (timed(), table(50).assign(when=3), "row 1: when isn't after that of the row before"),
        (timed(order="sort"), table(50).assign(when=3), "never rises"),
        (timed(), table(50)[::-1], "row 1: when isn't after that of the row before; allowed"),
        (timed(), table(LENGTH - 1), "at most 7 that follow each other; allowed: at least 8"),
        (timed(gap=1), table(50).drop(index=range(4, 50, 5)), "at most 4 that follow each other"),
        (timed(series="pump"), table(50), "rows have no column 'pump'"),
        (BASE, waves(50).reshape(-1), None),
    ],
)
def test_each_bad_series_is_refused_in_a_line(
    config: Config, rows: object, message: str | None
) -> None:
    if message is None:
        assert aejax.fit(config, rows).schema.shape == (LENGTH, 1)
        return
    with pytest.raises(InputError, match=message) as refused:
        aejax.fit(config, rows)
    assert "\n" not in str(refused.value)


def test_what_has_no_meaning_for_windows_is_refused(plain: Detector, centred: Detector) -> None:
    with pytest.raises(InputError, match=r"groups is given with Config\.window"):
        aejax.fit(BASE, waves(50), groups=np.zeros(50, int))
    with pytest.raises(InputError, match=r"columns\.kinds 'mixed'"):
        Config(columns=aejax.Columns(kinds="mixed"), window=Window())
    with pytest.raises(InputError, match="'centred'; allowed with score_next: 'causal'"):
        centred.score_next(None, table(10))
    rows = aejax.fit(dataclasses.replace(BASE, window=None), waves(50))
    with pytest.raises(InputError, match=r"allowed: one with Config\.window"):
        rows.windows(waves(50))
    with pytest.raises(InputError, match=r"Window\.series is 'when'; allowed: another column"):
        Window(time="when", series="when")
    with pytest.raises(InputError, match="several configurations"):
        aejax.fit_population([BASE, BASE], waves(50))

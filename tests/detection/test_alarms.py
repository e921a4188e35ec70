"""Alarms: each is raised by what it warns of, kept, and silent otherwise."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aejax
from aejax import BestF1
from aejax.config import Config, Dense, Scale, Train
from aejax.detection import alarms, stability
from aejax.detection.group_fitting import fit_groups
from aejax.scoring.stream import score_files

GOOD = Train(epochs=30, batch_size=64, learning_rate=3e-3)
NAMES = tuple("abcde")


def rows(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2)) @ np.random.default_rng(99).normal(size=(2, 5))
    return (x + 0.1 * random.normal(size=x.shape)).astype(np.float32)


def fitted(x: np.ndarray, train: Train = GOOD, scale: Scale | None = None) -> aejax.Detector:
    config = Config(model=Dense(hidden=(8, 2)), train=train, scale=scale or Scale())
    return aejax.fit(config, x, schema=aejax.Schema(shape=(5,), names=NAMES))


def test_a_good_detector_raises_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="aejax"):
        assert "alarms" not in fitted(rows(500, 0)).provenance
    assert not caplog.records


def test_a_network_that_learnt_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="aejax"):
        detector = fitted(rows(500, 0), Train(epochs=1, learning_rate=1e-9))
    (alarm,) = detector.provenance["alarms"]
    assert alarm.startswith("the trained network's mean error is")
    assert alarm in caplog.text
    detector.save(tmp_path)
    assert aejax.load(tmp_path).provenance["alarms"] == [alarm]


@pytest.mark.parametrize("score", ["residual-distance", "error-and-neighbours"])
def test_a_network_that_learnt_nothing_is_told_of_whatever_the_score(score: str) -> None:
    """A row far from all others stands out by its distance, with the worst of networks too."""
    lazy = Config(
        model=Dense(hidden=(8, 2)), train=Train(epochs=1, learning_rate=1e-9), score=score
    )
    (alarm,) = aejax.fit(lazy, rows(500, 0)).provenance["alarms"]
    assert alarm.startswith("the trained network's mean error is")
    groups = fit_groups(lazy, rows(500, 0), np.repeat(["a", "b"], 250), column="group")
    assert all(group.error_left == pytest.approx(1, abs=0.05) for group in groups.groups)
    taught = dataclasses.replace(lazy, train=GOOD)
    assert "alarms" not in aejax.fit(taught, rows(500, 0)).provenance


def test_rows_that_were_left_out_of_training_have_no_say() -> None:
    """A tenth lies far off, and is rebuilt no better than before: all that a mean consists of."""
    errors = np.array([1e3] * 10 + [1.0] * 90), np.array([1e3] * 10 + [0.1] * 90)
    before, after = (alarms.mean_error(each, 0.3) for each in errors)
    assert (before, after) == (pytest.approx(1), pytest.approx(0.1))
    assert not alarms.no_better(after, before)
    before, after = (alarms.mean_error(each, 0.05) for each in errors)
    assert alarms.no_better(after, before)
    assert alarms.mean_error(errors[0], 0.0) == errors[0].mean()


def test_rows_that_stay_strange_raise_none() -> None:
    x = rows(500, 0)
    x[::10] = 40 * np.random.default_rng(1).normal(size=(50, 5))
    kept = dataclasses.replace(GOOD, trim=0.3)
    settings = Config(model=Dense(hidden=(8, 2)), train=kept, scale=Scale(kind="robust"))
    assert "alarms" not in aejax.fit(settings, x).provenance
    groups = fit_groups(settings, x, np.repeat(["a", "b"], 250), column="group")
    assert not any(group.alarms for group in groups.groups)
    idle = dataclasses.replace(settings, train=dataclasses.replace(kept, learning_rate=1e-9))
    assert "learnt next to nothing" in aejax.fit(idle, x).provenance["alarms"][0]
    groups = fit_groups(idle, x, np.repeat(["a", "b"], 250), column="group")
    assert all(group.alarms for group in groups.groups)


def test_a_value_that_decides_the_scale() -> None:
    x = rows(500, 0)
    x[3, 2] = 1e6
    (alarm,) = [a for a in fitted(x).provenance["alarms"] if "decides the scale" in a]
    assert alarm.startswith("c has a value ")
    assert "alarms" not in fitted(rows(500, 0)).provenance
    clipped = fitted(x, scale=Scale(clip=10.0)).provenance.get("alarms", [])
    assert not [a for a in clipped if "decides the scale" in a]


@pytest.mark.parametrize(("score", "count"), [(0.5, 1), (0.0, 1)])
def test_constant_scores(score: float, count: int) -> None:
    assert len(stability.constant_scores(np.full(50, score))) == count
    assert not stability.constant_scores(np.full(50, score) + np.arange(50))


def test_rows_that_were_trained_on() -> None:
    x = rows(100, 0)
    assert alarms.rows_seen_in_training(x, rows(50, 1)) == []
    (alarm,) = alarms.rows_seen_in_training(x, np.concatenate([rows(50, 1), x[:7]]))
    assert alarm.startswith("7 of the 57 test rows are among the training rows")


@pytest.mark.parametrize("width", [3, 4, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_seen_rows_are_those_of_the_same_bytes(dtype: type, width: int) -> None:
    draw = np.random.default_rng(0)
    x = draw.integers(0, 3, (300, width)).astype(dtype)
    test = draw.integers(0, 3, (200, width)).astype(dtype)
    known = {row.tobytes() for row in x}
    expected = sum(row.tobytes() in known for row in test)
    found = alarms.rows_seen_in_training(x, test)
    assert [alarm.split(" of ")[0] for alarm in found] == [str(expected)] * (expected > 0)


SHARES = st.lists(st.floats(0.01, 1), min_size=10, max_size=10).map(
    lambda shares: np.array(shares) / sum(shares)
)


@given(SHARES, SHARES)
def test_stability_is_symmetric_and_zero_for_equals(a: np.ndarray, b: np.ndarray) -> None:
    assert stability.population_stability(a, a) == 0
    assert stability.population_stability(a, b) >= 0
    np.testing.assert_allclose(
        stability.population_stability(a, b), stability.population_stability(b, a), atol=1e-12
    )
    by_hand = sum((q - p) * np.log(q / p) for p, q in zip(a, b, strict=True))
    np.testing.assert_allclose(stability.population_stability(a, b), by_hand, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_scoring_job_measures_drift(tmp_path: Path, shift: float) -> None:
    # A large share held out: deciles of few scores are no measure of anything.
    detector = fitted(rows(3000, 0), Train(epochs=20, learning_rate=3e-3, validation_fraction=0.5))
    x = rows(3000, 1)
    x[:, 1] += shift
    table = pa.table({name: x[:, i] for i, name in enumerate(NAMES)})
    pq.write_table(table, tmp_path / "rows.parquet")
    summary = score_files(detector, tmp_path / "rows.parquet", tmp_path / "scores")
    assert detector.threshold is not None
    edges = [-np.inf, *np.asarray(detector.threshold.deciles), np.inf]
    # An empty bin counts as half a row: what is not seen is not never.
    shares = np.maximum(np.histogram(detector.score(x), edges)[0], 0.5) / len(x)
    expected = np.sum((shares - 0.1) * np.log(shares / 0.1))
    # Scores of another batch size may lie on the other side of a decile.
    assert summary["population_stability"] == pytest.approx(expected, rel=0.01, abs=1e-3)
    told = [alarm for alarm in summary["alarms"] if alarm.startswith("the scores")]
    assert len(told) == (shift > 0)
    assert ("b is distributed unlike" in str(summary["alarms"])) == (shift > 0)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_threshold_set_on_rows_of_another_kind(
    shift: float, caplog: pytest.LogCaptureFixture
) -> None:
    detector = fitted(rows(3000, 0), Train(epochs=20, learning_rate=3e-3, validation_fraction=0.5))
    x = rows(3000, 1)
    x[:, 1] += shift
    with caplog.at_level(logging.WARNING, logger="aejax"):
        again = detector.calibrate(x)
    told = again.provenance.get("alarms", [])
    assert [("distributed unlike" in alarm, alarm in caplog.text) for alarm in told] == [
        (True, True)
    ] * (shift > 0)
    # Labelled rows aren't taken to be normal.
    labels = np.arange(3000) % 2
    kept = detector.calibrate(x, rule=BestF1(), is_anomaly=labels)
    assert kept.provenance == detector.provenance


def test_rows_that_all_score_the_same_are_no_measure(caplog: pytest.LogCaptureFixture) -> None:
    detector = fitted(rows(300, 0), Train(epochs=2, learning_rate=3e-3))
    again = detector.calibrate(np.repeat(rows(1, 1), 200, axis=0))
    assert "have the score" in again.provenance["alarms"][-1]
    assert "have the score" in caplog.text

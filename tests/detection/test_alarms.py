"""Alarms: each is raised by what it warns of, kept, and silent otherwise."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aejax
from aejax import BestF1
from aejax.config import Dense, InputError, Scale, Train
from aejax.detection import artifact
from aejax.detection.alarms import Alarm, constant_scores, in_sentences
from aejax.detection.checks import (
    LEAST_GAIN,
    WILD,
    mean_error,
    rows_seen_in_training,
    wild_values,
)
from aejax.detection.detector import Detector
from aejax.detection.groups import QUANTILES, spread_of_losses
from tests.plain import plain_config

GOOD = Train(epochs=30, batch_size=64, learning_rate=3e-3)
NAMES = tuple("abcde")


def rows(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2)) @ np.random.default_rng(99).normal(size=(2, 5))
    return (x + 0.1 * random.normal(size=x.shape)).astype(np.float32)


def fitted(x: np.ndarray, train: Train = GOOD, scale: Scale | None = None) -> aejax.Detector:
    config = plain_config(model=Dense(hidden=(8, 2)), train=train, scale=scale or Scale())
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
def test_a_network_that_learnt_nothing_is_reported_whatever_the_score(score: str) -> None:
    """A row far from all others stands out by its distance, with the worst of networks too."""
    lazy = plain_config(
        model=Dense(hidden=(8, 2)), train=Train(epochs=1, learning_rate=1e-9), score=score
    )
    (alarm,) = aejax.fit(lazy, rows(500, 0)).provenance["alarms"]
    assert alarm.startswith("the trained network's mean error is")
    groups = aejax.fit(lazy, rows(500, 0), groups=np.repeat(["a", "b"], 250))
    assert all(group.error_left == pytest.approx(1, abs=0.05) for group in groups.groups.each)
    taught = dataclasses.replace(lazy, train=GOOD)
    assert "alarms" not in aejax.fit(taught, rows(500, 0)).provenance


@pytest.mark.parametrize("score", ["error", "residual-distance"])
def test_members_that_learnt_nothing(
    score: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An ensemble says a sentence a kind of all its members; of a population each has its own."""
    lazy = plain_config(
        model=Dense(hidden=(8, 2)), train=Train(epochs=1, learning_rate=1e-9), score=score
    )
    x = rows(500, 0)
    x[3, 2] = 1e6
    with caplog.at_level(logging.WARNING, logger="aejax"):
        ensemble = aejax.fit(lazy, x, members=3)
    sentences = ensemble.provenance["alarms"]
    assert [alarm.split(":")[0] for alarm in sentences] == [
        "3 of 3 members learnt next to nothing",
        "3 of 3 members had a value so far out that it decided the scale",
    ]
    assert [record.args[0] for record in caplog.records] == sentences
    ensemble.save(tmp_path)
    assert aejax.load(tmp_path).provenance["alarms"] == sentences
    later = dataclasses.replace(lazy.train, seed=7)
    configs = [dataclasses.replace(lazy, train=train) for train in (lazy.train, GOOD, later)]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="aejax"):
        population = aejax.fit_population(configs, rows(500, 0))
    for at, detector in enumerate(population.detectors):
        assert detector is not None
        alone = aejax.fit(configs[at], rows(500, 0))
        found, wanted = (one.provenance.get("alarms", []) for one in (detector, alone))
        assert len(found) == len(wanted) == (at != 1)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(numbers(one), numbers(other), rtol=1e-3)
    assert "alarms" not in aejax.fit(configs[1], rows(500, 0), members=2).provenance


def test_a_search_tells_nothing_of_its_folds(caplog: pytest.LogCaptureFixture) -> None:
    from aejax.training.search_space import parse_space

    space = parse_space(
        {"train.epochs": 1, "train.learning_rate": {"choices": [1e-9, 2e-9]}},
        plain_config(model=Dense(hidden=(8, 2)), score="residual-distance"),
    )
    with caplog.at_level(logging.WARNING, logger="aejax"):
        aejax.tune(space, rows(200, 0), configurations=2, folds=2)
    assert not [said for said in caplog.messages if "mean error" in said]


def test_rows_that_were_left_out_of_training_have_no_say() -> None:
    """A tenth lies far off, and is rebuilt no better than before: all that a mean consists of."""
    errors = np.array([1e3] * 10 + [1.0] * 90), np.array([1e3] * 10 + [0.1] * 90)
    before, after = (mean_error(each, 0.3) for each in errors)
    assert (before, after) == (pytest.approx(1), pytest.approx(0.1))
    assert after < LEAST_GAIN * before
    before, after = (mean_error(each, 0.05) for each in errors)
    assert after > LEAST_GAIN * before
    assert mean_error(errors[0], 0.0) == errors[0].mean()


def test_rows_that_stay_strange_raise_none() -> None:
    x = rows(500, 0)
    x[::10] = 40 * np.random.default_rng(1).normal(size=(50, 5))
    kept = dataclasses.replace(GOOD, trim=0.3)
    settings = plain_config(model=Dense(hidden=(8, 2)), train=kept, scale=Scale(kind="robust"))
    assert "alarms" not in aejax.fit(settings, x).provenance
    groups = aejax.fit(settings, x, groups=np.repeat(["a", "b"], 250))
    assert not any(group.alarms for group in groups.groups.each)
    idle = dataclasses.replace(settings, train=dataclasses.replace(kept, learning_rate=1e-9))
    assert "learnt next to nothing" in aejax.fit(idle, x).provenance["alarms"][0]
    groups = aejax.fit(idle, x, groups=np.repeat(["a", "b"], 250))
    assert all(group.alarms for group in groups.groups.each)


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
    assert len(constant_scores(np.full(50, score))) == count
    assert not constant_scores(np.full(50, score) + np.arange(50))


def test_rows_that_were_trained_on() -> None:
    x = rows(100, 0)
    assert rows_seen_in_training(x, rows(50, 1)) == []
    (alarm,) = rows_seen_in_training(x, np.concatenate([rows(50, 1), x[:7]]))
    assert alarm.startswith("7 of the 57 test rows are among the training rows")


@pytest.mark.parametrize("width", [3, 4, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_seen_rows_are_those_of_the_same_bytes(dtype: type, width: int) -> None:
    draw = np.random.default_rng(0)
    x = draw.integers(0, 3, (300, width)).astype(dtype)
    test = draw.integers(0, 3, (200, width)).astype(dtype)
    known = {row.tobytes() for row in x}
    expected = sum(row.tobytes() in known for row in test)
    found = rows_seen_in_training(x, test)
    assert [alarm.split(" of ")[0] for alarm in found] == [str(expected)] * (expected > 0)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_scoring_job_measures_drift(tmp_path: Path, shift: float) -> None:
    # A large share held out: deciles of few scores are no measure of anything.
    detector = fitted(rows(3000, 0), Train(epochs=20, learning_rate=3e-3, validation_fraction=0.5))
    x = rows(3000, 1)
    x[:, 1] += shift
    table = pa.table({name: x[:, i] for i, name in enumerate(NAMES)})
    pq.write_table(table, tmp_path / "rows.parquet")
    from aejax.scoring.stream import score_files

    summary = score_files(detector, tmp_path / "rows.parquet", tmp_path / "scores")
    assert detector.threshold is not None
    edges = [-np.inf, *np.asarray(detector.threshold.deciles), np.inf]
    # An empty bin counts as half a row: what is not seen is not never.
    shares = np.maximum(np.histogram(detector.score(x), edges)[0], 0.5) / len(x)
    expected = np.sum((shares - 0.1) * np.log(shares / 0.1))
    # Scores of another batch size may lie on the other side of a decile.
    assert summary["population_stability"] == pytest.approx(expected, rel=0.01, abs=1e-3)
    sentences = [alarm for alarm in summary["alarms"] if alarm.startswith("the scores")]
    assert len(sentences) == (shift > 0)
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
    sentences = again.provenance.get("alarms", [])
    assert [("distributed unlike" in alarm, alarm in caplog.text) for alarm in sentences] == [
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


SCHEMA = aejax.Schema(shape=(5,), names=NAMES)
OF_GROUPS = plain_config(
    model=Dense(hidden=(8, 2)), train=Train(epochs=12, batch_size=32, learning_rate=5e-3)
)
SIZES = {"good": 200, "noise": 200, "same": 200, "wild": 200}


@pytest.fixture(scope="module")
def grouped() -> tuple[np.ndarray, np.ndarray]:
    """Groups of which one is noise, one holds a single row again and again, one a wild value."""
    random = np.random.default_rng(0)
    mixing = np.random.default_rng(99).normal(size=(2, 5))
    parts = []
    for name, size in SIZES.items():
        x = random.normal(size=(size, 2)) @ mixing + 0.1 * random.normal(size=(size, 5))
        if name == "noise":
            x = random.normal(size=(size, 5))
        if name == "same":
            x[:] = [1.0, -2.0, 0.5, 3.0, 1.0]
        parts.append(x)
    parts[3][:, 3] *= 1e-3
    parts[3][20, 3] = 1e3
    names = np.repeat(list(SIZES), list(SIZES.values()))
    return np.concatenate(parts).astype(np.float32), names


@pytest.fixture(scope="module")
def detector(grouped: tuple[np.ndarray, np.ndarray]) -> Detector:
    x, names = grouped
    return aejax.fit(OF_GROUPS, x, groups=names, schema=SCHEMA)


def numbers(text: str) -> list[float]:
    """The numbers of a sentence, in their order."""
    words = text.replace(",", " ").replace(":", " ").split()
    return [float(word) for word in words if word.replace(".", "").replace("e-", "").isdigit()]


def test_each_group_has_the_alarms_that_it_would_have_alone(
    grouped: tuple[np.ndarray, np.ndarray], detector: Detector
) -> None:
    x, names = grouped
    kinds = set()
    for group in detector.groups.each:
        alone = aejax.fit(OF_GROUPS, x[names == group.name], schema=SCHEMA)
        expected = sorted(alone.provenance.get("alarms", []))
        found = sorted(alarm.text for alarm in group.alarms)
        assert len(found) == len(expected), (group.name, found, expected)
        for ours, theirs in zip(found, expected, strict=True):
            # The advice is given once for all groups.
            assert ours.split()[:2] == theirs.split()[:2]
            np.testing.assert_allclose(
                numbers(ours), numbers(theirs)[: len(numbers(ours))], rtol=2e-2, atol=1e-6
            )
        kinds |= {alarm.kind for alarm in group.alarms}
    assert {"wild value", "constant scores"} <= kinds


def test_groups_that_learnt_nothing(
    grouped: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    x, names = grouped
    idle = dataclasses.replace(OF_GROUPS, train=Train(epochs=1, learning_rate=1e-9))
    with caplog.at_level(logging.WARNING, logger="aejax"):
        detector = aejax.fit(idle, x[:400], groups=names[:400], schema=SCHEMA)
    assert len(caplog.records) == 1
    (sentence,) = detector.provenance["alarms"]
    assert sentence in caplog.text
    assert sentence.startswith("2 of 2 groups learnt next to nothing: try more epochs")
    detector.save(tmp_path)
    again = aejax.load(tmp_path)
    assert again.groups == detector.groups
    assert again.provenance["alarms"] == [sentence]
    assert again.history == detector.history
    for group in again.groups.each:
        assert [alarm.kind for alarm in group.alarms] == ["learnt nothing"]
        assert group.error_left == pytest.approx(1.0, abs=1e-3)
        # What is left is the mean score of the held-out rows over that before the training.
        alone = aejax.fit(idle, x[names == group.name], schema=SCHEMA)
        assert alone.provenance["alarms"]


@pytest.mark.parametrize("features", [3, 700])
def test_wild_values_are_those_found_one_group_after_the_other(features: int) -> None:
    random = np.random.default_rng(1)
    sizes = [99, 100, 130, 555, 800, 1301]
    x = random.standard_t(1.5, size=(sum(sizes), features)).astype(np.float32)
    x[:, 1] = 7.0
    # Beside the others' heavy tails: a shifted, a huge and a barely wild value.
    x[:, 0] = random.normal(size=len(x)) + 1e4
    x[[150, 900], 0] = (1.1e4, 1e30)
    x[2500, 0] = 1e4 + 100 * 2.7
    rows_of = np.split(random.permutation(len(x)), np.cumsum(sizes)[:-1])
    schema = aejax.Schema(shape=(features,))
    times, positions = wild_values(plain_config(), schema, [x[rows] for rows in rows_of])
    assert times[0] == 0
    for at, rows in enumerate(rows_of[1:], start=1):
        few = x[rows]
        fewer = few[:: max(1, -(-len(few) // max(512, (1 << 18) // features)))].astype(np.float64)
        middle = np.median(fewer, axis=0)
        usual = np.quantile(np.abs(fewer - middle), 0.99, axis=0)
        farthest = np.abs(few - middle).max(axis=0)
        expected = np.where(usual > 0, farthest / np.where(usual > 0, usual, 1), 0)
        if expected.max() > WILD:
            assert times[at] == pytest.approx(expected.max())
            assert positions[at] == expected.argmax()
        # Features without a value far out aren't sorted.
        assert times[at] <= expected.max() * (1 + 1e-9)
        (alone,), _ = wild_values(plain_config(), schema, [few])
        assert (alone > WILD) == (times[at] > WILD)
        if alone > WILD:
            assert alone == times[at]
    clipped = plain_config(scale=Scale(clip=5.0))
    assert not wild_values(clipped, schema, [x[rows] for rows in rows_of])[0].any()


def test_calibrating_on_other_rows_tells_of_drift_and_calibrating_back_forgets_it(
    grouped: tuple[np.ndarray, np.ndarray], detector: Detector
) -> None:
    x, names = grouped
    good = names == "good"
    moved = detector.calibrate(x[good] + 5, groups=names[good])
    by_name = {group.name: group for group in moved.groups.each}
    assert [alarm.kind for alarm in by_name["good"].alarms] == ["drift"]
    assert by_name["wild"].alarms == detector.groups.each[3].alarms
    assert any("1 of 4 groups had scores unlike" in one for one in moved.provenance["alarms"])
    again = moved.calibrate(x[good] + 5, groups=names[good])
    assert again.groups.each[0].alarms == ()
    # One score before and now is no drift.
    same = names == "same"
    constant = detector.calibrate(x[same], groups=names[same])
    assert [alarm.kind for alarm in constant.groups.each[2].alarms] == ["constant scores"]
    assert again.provenance["alarms"] == detector.provenance["alarms"]


def test_a_description_of_many_groups_is_short_and_one_too_long_is_refused(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.save(tmp_path)
    written = tmp_path / artifact.JSON_NAME
    long = written.stat().st_size
    monkeypatch.setattr(artifact, "MOST_INDENTED", 3)
    detector.save(tmp_path)
    assert written.stat().st_size < 0.7 * long
    assert aejax.load(tmp_path).groups == detector.groups
    before = written.read_bytes()
    monkeypatch.setattr(artifact, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"allowed: 1,000 \(train fewer groups"):
        detector.save(tmp_path)
    assert written.read_bytes() == before


def test_sentences_count_all_and_name_the_worst() -> None:
    found = {
        f"g{at}": [Alarm(kind="learnt nothing", size=at, text=f"text {at}")] for at in range(5)
    }
    (sentence,) = in_sentences(found, 1000)
    assert sentence == (
        "5 of 1,000 groups learnt next to nothing: try more epochs or another learning rate "
        "(worst: 'g4', text 4; then 'g3', 'g2' and 2 more)"
    )
    assert in_sentences({"a": []}, 1) == []


def test_curves_are_quantiles_over_groups_and_bounded() -> None:
    random = np.random.default_rng(0)
    lengths = [3, 500, 500, 41]
    losses = [random.random(length) for length in lengths]
    histories = [
        [{"epoch": at + 1, "loss": float(loss)} for at, loss in enumerate(own)] for own in losses
    ]
    found = spread_of_losses([*histories, []])
    assert len(found) == 200
    assert (found[0]["epoch"], found[-1]["epoch"]) == (1, 500)
    assert (found[0]["groups"], found[-1]["groups"]) == (4, 2)
    for row in found:
        at = row["epoch"] - 1
        now = [own[min(at, len(own) - 1)] for own in losses]
        np.testing.assert_allclose(row["loss"], np.quantile(now, QUANTILES))
        assert "validation_loss" not in row
    assert spread_of_losses([[], []]) == []

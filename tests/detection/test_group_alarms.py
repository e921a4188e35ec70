"""Alarms of groups: those that `fit` raises of each group alone, kept, counted and told once."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

import aejax
from aejax.config import Config, Dense, InputError, Scale, Train
from aejax.detection import alarms, artifact
from aejax.detection.group_alarms import Alarm, in_sentences
from aejax.detection.group_checks import wild_values
from aejax.detection.group_curves import QUANTILES, spread_of_losses
from aejax.detection.group_fitting import fit_groups
from aejax.detection.group_loading import load_groups
from aejax.detection.groups import GroupDetector

NAMES = tuple("abcde")
SCHEMA = aejax.Schema(shape=(5,), names=NAMES)
CONFIG = Config(
    model=Dense(hidden=(8, 2)), train=Train(epochs=12, batch_size=32, learning_rate=5e-3)
)
SIZES = {"good": 200, "noise": 200, "same": 200, "wild": 200}


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
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
def detector(rows: tuple[np.ndarray, np.ndarray]) -> GroupDetector:
    return fit_groups(CONFIG, *rows, schema=SCHEMA)


def numbers(text: str) -> list[float]:
    """The numbers of a sentence, in their order."""
    words = text.replace(",", " ").replace(":", " ").split()
    return [float(word) for word in words if word.replace(".", "").replace("e-", "").isdigit()]


def test_each_group_has_the_alarms_that_it_would_have_alone(
    rows: tuple[np.ndarray, np.ndarray], detector: GroupDetector
) -> None:
    x, names = rows
    kinds = set()
    for group in detector.groups:
        alone = aejax.fit(CONFIG, x[names == group.name], schema=SCHEMA)
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
    rows: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    x, names = rows
    idle = dataclasses.replace(CONFIG, train=Train(epochs=1, learning_rate=1e-9))
    with caplog.at_level(logging.WARNING, logger="aejax"):
        detector = fit_groups(idle, x[:400], names[:400], schema=SCHEMA)
    assert len(caplog.records) == 1
    (told,) = detector.provenance["alarms"]
    assert told in caplog.text
    assert told.startswith("2 of 2 groups learnt next to nothing: try more epochs")
    detector.save(tmp_path)
    again = load_groups(tmp_path)
    assert again.groups == detector.groups
    assert again.provenance["alarms"] == [told]
    assert again.history == detector.history
    for group in again.groups:
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
    times, positions = wild_values(Config(), schema, x, rows_of)
    assert times[0] == 0
    for at, rows in enumerate(rows_of[1:], start=1):
        few = x[rows]
        fewer = few[:: max(1, -(-len(few) // max(512, (1 << 18) // features)))].astype(np.float64)
        middle = np.median(fewer, axis=0)
        usual = np.quantile(np.abs(fewer - middle), 0.99, axis=0)
        farthest = np.abs(few - middle).max(axis=0)
        expected = np.where(usual > 0, farthest / np.where(usual > 0, usual, 1), 0)
        if expected.max() > alarms.WILD:
            assert times[at] == pytest.approx(expected.max())
            assert positions[at] == expected.argmax()
        # Features without a value far out aren't looked at closely.
        assert times[at] <= expected.max() * (1 + 1e-9)
        told = alarms.wild_values(Config(), schema, few)
        assert bool(told) == bool(times[at] > alarms.WILD)
    clipped = Config(scale=Scale(clip=5.0))
    assert not wild_values(clipped, schema, x, rows_of)[0].any()


def test_calibrating_on_other_rows_tells_of_drift_and_calibrating_back_forgets_it(
    rows: tuple[np.ndarray, np.ndarray], detector: GroupDetector
) -> None:
    x, names = rows
    good = names == "good"
    moved = detector.calibrate(x[good] + 5, names[good])
    by_name = {group.name: group for group in moved.groups}
    assert [alarm.kind for alarm in by_name["good"].alarms] == ["drift"]
    assert by_name["wild"].alarms == detector.groups[3].alarms
    assert any("1 of 4 groups had scores unlike" in told for told in moved.provenance["alarms"])
    again = moved.calibrate(x[good] + 5, names[good])
    assert again.groups[0].alarms == ()
    # One score before and now is no drift.
    same = names == "same"
    constant = detector.calibrate(x[same], names[same])
    assert [alarm.kind for alarm in constant.groups[2].alarms] == ["constant scores"]
    assert again.provenance["alarms"] == detector.provenance["alarms"]


def test_a_description_of_many_groups_is_short_and_one_too_long_is_refused(
    detector: GroupDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.save(tmp_path)
    written = tmp_path / artifact.JSON_NAME
    long = written.stat().st_size
    monkeypatch.setattr(artifact, "MOST_INDENTED", 3)
    detector.save(tmp_path)
    assert written.stat().st_size < 0.7 * long
    assert load_groups(tmp_path).groups == detector.groups
    before = written.read_bytes()
    monkeypatch.setattr(artifact, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"allowed: 1,000 \(train fewer groups"):
        detector.save(tmp_path)
    assert written.read_bytes() == before


def test_sentences_count_all_and_name_the_worst() -> None:
    found = {
        f"g{at}": [Alarm(kind="learnt nothing", size=at, text=f"text {at}")] for at in range(5)
    }
    (told,) = in_sentences(found, 1000)
    assert told == (
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

"""A detector for each group: each is what it would have been alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import aejax
from aejax import Quantile
from aejax.config import Dense, Scale, Train
from aejax.core import steps
from aejax.data.groups import group_positions
from aejax.detection.detector import Detector
from aejax.detection.placed import pack, tile_rows
from tests.plain import plain_config

CONFIG = plain_config(
    model=Dense(hidden=(8, 3)),
    train=Train(epochs=12, batch_size=32, patience=2, learning_rate=5e-3, noise=0.05),
    scale=Scale(kind="standard"),
    rule=Quantile(q=0.9),
)
NAMES = [f"f{at}" for at in range(10)]
SIZES = {"a": 60, "b": 300, "c": 17, "d": 100, "e": 33, "f": 180, "g": 260}


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Groups of different sizes, places and dependencies, in one shuffled table."""
    random = np.random.default_rng(0)
    x, groups = [], []
    for name, size in SIZES.items():
        mixed = random.normal(size=(size, 3)) @ random.normal(size=(3, 10))
        x.append(mixed + 0.1 * random.normal(size=mixed.shape) + 10 * random.normal(size=10))
        groups += [name] * size
    order = random.permutation(len(groups))
    return np.concatenate(x).astype(np.float32)[order], np.array(groups)[order]


@pytest.fixture(scope="module")
def detector(rows: tuple[np.ndarray, np.ndarray]) -> Detector:
    x, groups = rows
    return aejax.fit(CONFIG, frame(x, groups), groups="store", group_size=4)


def frame(x: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """Rows with the column of their groups."""
    return pd.DataFrame(x, columns=NAMES).assign(store=groups)


def test_each_group_is_what_it_would_have_been_alone(
    rows: tuple[np.ndarray, np.ndarray], detector: Detector
) -> None:
    x, groups = rows
    scores = detector.score(x, groups=groups)
    flags = detector.predict(x, groups=groups)
    assert detector.groups.names == tuple(SIZES)
    for at, name in enumerate(SIZES):
        own = groups == name
        alone = aejax.fit(CONFIG, x[own])
        assert alone.threshold is not None
        np.testing.assert_allclose(scores[own], alone.score(x[own]), rtol=2e-3)
        assert detector.threshold.values[at] == pytest.approx(alone.threshold.value, rel=2e-3)
        assert detector.groups.each[at].best_epoch == alone.provenance["best_epoch"]
        assert detector.groups.each[at].loss == pytest.approx(alone.history[-1]["loss"], rel=1e-3)
        assert detector.groups.each[at].rows == SIZES[name]
        assert alone.usual_errors is not None
        np.testing.assert_allclose(
            detector.variables["normal"]["error"][at], alone.usual_errors, rtol=5e-3
        )
        # The group's own detector is an ordinary one.
        single = detector.member(name)
        np.testing.assert_allclose(single.score(x[own]), scores[own], rtol=1e-5)
        np.testing.assert_array_equal(single.predict(x[own]), flags[own])


def test_a_score_does_not_depend_on_other_rows(
    rows: tuple[np.ndarray, np.ndarray], detector: Detector
) -> None:
    x, groups = rows
    scores = detector.score(x, groups=groups)
    for size in (1, 8, 100):
        np.testing.assert_allclose(
            detector.score(x[:130], groups=groups[:130], batch_size=size), scores[:130], rtol=1e-5
        )
    np.testing.assert_allclose(
        detector.score(x[::-1], groups=groups[::-1])[::-1], scores, rtol=1e-5
    )
    assert detector.score(x[:0], groups=groups[:0]).shape == (0,)


def test_tiles_side_by_side_give_what_tiles_in_turns_give(
    rows: tuple[np.ndarray, np.ndarray], detector: Detector
) -> None:
    x, groups = rows
    places, members = pack(detector.groups.members(groups, len(x)), 8)
    given = (detector.scoring, detector.variables, detector.scaler, x[np.maximum(places, 0)])
    turns, wide = (
        np.asarray(steps.compiled_score.of_tiles(*given, members, side_by_side=side_by_side))
        for side_by_side in (False, True)
    )
    assert turns.shape == places.shape
    np.testing.assert_allclose(turns, wide, rtol=1e-5)


@pytest.mark.slow
def test_groups_of_many_sizes_compile_few_programs() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(4, 300, size=40)
    groups = np.repeat(np.arange(40), sizes)
    x = random.normal(size=(len(groups), 5)).astype(np.float32)
    train = Train(epochs=2, batch_size=16, validation_fraction=0.2)
    config = dataclasses.replace(CONFIG, model=Dense(hidden=(3,)), train=train)
    before = steps.compiled_train_members.programs()
    found = aejax.fit(config, x, groups=groups, group_size=4)
    # Ten cohorts, of 1 to 15 steps an epoch; but six numbers of them, with padding or without.
    assert steps.compiled_train_members.programs() - before <= 8
    assert len(found.groups.names) == 40
    for name in ("0", "17", "39"):
        own = groups == int(name)
        np.testing.assert_allclose(
            found.score(x[own], groups=groups[own]),
            aejax.fit(config, x[own]).score(x[own]),
            rtol=2e-3,
        )


def test_reasons_are_the_groups_own(
    rows: tuple[np.ndarray, np.ndarray], detector: Detector
) -> None:
    x, groups = rows
    x = x[:40].copy()
    x[np.arange(40), np.arange(40) % 10] += 50
    members = detector.groups.members(groups[:40], 40)
    scores, features, errors = detector.explain_rows(x, members=members, top=3)
    assert features.shape == errors.shape == (40, 3)
    np.testing.assert_allclose(scores, detector.score(x, groups=groups[:40]), rtol=1e-5)
    for row in range(0, 40, 7):
        reasons = detector.member(str(groups[row])).explain(x[row : row + 1], top=3)[0]
        names = [detector.schema.feature_name(int(at)) for at in features[row]]
        assert names == [reason.feature for reason in reasons]


def test_detectors_of_the_ten_digits_know_their_own() -> None:
    images, digits = load_digits(return_X_y=True)
    config = plain_config(
        model=Dense(hidden=(24,)),
        train=Train(epochs=60, batch_size=32, learning_rate=5e-3),
        scale=Scale(kind="min-max-all"),
    )
    train = np.arange(len(images)) % 4 > 0
    found = aejax.fit(config, images[train], groups=digits[train])
    areas = [
        roc_auc_score(
            digits[~train] != digit, found.score(images[~train], groups=[digit] * sum(~train))
        )
        for digit in range(10)
    ]
    # A digit's detector reconstructs other digits worse than its own.
    assert np.mean(areas) > 0.97
    assert min(areas) > 0.9


def test_saved_and_loaded(
    rows: tuple[np.ndarray, np.ndarray], detector: Detector, tmp_path: Path
) -> None:
    x, groups = rows
    detector.save(tmp_path / "groups")
    loaded = aejax.load(tmp_path / "groups")
    assert loaded.groups == detector.groups
    assert loaded.fingerprint == detector.fingerprint
    assert loaded.threshold == detector.threshold
    assert (loaded.groups.column, loaded.groups.skipped) == ("store", {})
    np.testing.assert_array_equal(loaded.score(x, groups=groups), detector.score(x, groups=groups))


def test_new_thresholds_without_training(
    rows: tuple[np.ndarray, np.ndarray], detector: Detector
) -> None:
    x, groups = rows
    some = np.isin(groups, ["a", "b"])
    changed = detector.calibrate(x[some], groups=groups[some], rule=Quantile(q=0.5))
    scores = detector.score(x, groups=groups)
    for at, name in enumerate(SIZES):
        wanted = detector.threshold.values[at]
        if name in "ab":
            wanted = np.quantile(scores[groups == name].astype(np.float64), 0.5)
        assert changed.threshold.values[at] == pytest.approx(wanted, rel=1e-6)


def test_small_groups_are_refused_or_left_out(rows: tuple[np.ndarray, np.ndarray]) -> None:
    x, groups = rows
    train = dataclasses.replace(CONFIG.train, epochs=1)
    config = dataclasses.replace(CONFIG, train=train)
    names = groups.astype(object)
    names[0] = "lonely"
    with pytest.raises(aejax.InputError, match="group 'lonely': it has 1 training rows"):
        aejax.fit(config, x, groups=names)
    found = aejax.fit(config, x, groups=names, least_rows=50)
    assert found.groups.names == ("a", "b", "d", "f", "g")
    assert sorted(found.groups.skipped) == ["c", "e", "lonely"]
    assert "at least 50" in found.groups.skipped["c"]
    with pytest.raises(aejax.InputError, match=r"'c' has no detector \(it has 17 training rows"):
        found.score(x[:1], groups=["c"])
    with pytest.raises(aejax.InputError, match="was not in the training rows"):
        found.score(x[:1], groups=["z"])
    for none in (None, "", pd.NA, np.nan):
        with pytest.raises(aejax.InputError, match="row 1 has no group"):
            aejax.fit(config, x[:2], groups=np.array(["a", none], object))
        reasons = found.bad_rows(x[:3], groups=np.array(["a", none, "z"], object))
        assert reasons == {
            1: "group is empty",
            2: "group 'z' has no detector (it was not in the training rows)",
        }


def test_names_are_those_that_files_give(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """A column of whole numbers becomes one of fractions where a cell of it is missing."""
    x, _ = rows
    x = x[:120]
    stores, days = np.arange(120) % 2 + 7, np.arange(120) % 3 == 0
    train = dataclasses.replace(CONFIG.train, epochs=1)
    config = dataclasses.replace(CONFIG, train=train)
    found = aejax.fit(config, x, groups=stores)
    assert found.groups.names == ("7", "8")
    wanted = found.score(x, groups=stores)
    for same in (stores.astype(float), pd.Series(stores, dtype="Int64"), stores.astype(str)):
        np.testing.assert_array_equal(found.score(x, groups=same), wanted)
    holes = pd.Series(stores, dtype="Int64")
    holes[3] = pd.NA
    for some in (holes, holes.astype("Float64"), np.ma.masked_array(stores, np.arange(120) == 3)):
        assert found.bad_rows(x, groups=some) == {3: "group is empty"}
        scores = found.score(x, groups=some, on_bad_row="null")
        np.testing.assert_array_equal(np.delete(scores, 3), np.delete(wanted, 3))
    assert group_positions(days, 120)[0] == ("false", "true")
    when = np.array(["2026-01-01T06:00", "NaT"], "datetime64[s]")
    names, positions = group_positions(when, 2)
    assert names == tuple(pa.array(when[:1]).cast(pa.string()).to_pylist())
    assert positions.tolist() == [0, -1]


def test_a_series_of_groups_in_another_order_is_refused() -> None:
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))
    stores = pd.Series(np.arange(60) % 2)
    with pytest.raises(aejax.InputError, match="rows and groups have the same index in different"):
        aejax.fit(CONFIG, x, groups=stores[::-1])
    with pytest.raises(aejax.InputError, match="rows and labels have the same index in different"):
        aejax.evaluate(pd.Series(np.arange(60.0)), stores[::-1])


def test_a_group_that_diverges_is_left_out(rows: tuple[np.ndarray, np.ndarray]) -> None:
    x, groups = rows
    train = Train(epochs=3, batch_size=32, optimizer="sgd", learning_rate=1e-2)
    config = dataclasses.replace(CONFIG, train=train, scale=Scale(kind="none", clip=None))
    wild = np.where((groups == "b")[:, None], 1e15 * x, 0.01 * x)
    found = aejax.fit(config, wild, groups=groups)
    assert list(found.groups.skipped) == ["b"]
    assert "step" in found.groups.skipped["b"]
    assert len(found.groups.names) == len(SIZES) - 1
    own = groups == "c"
    np.testing.assert_allclose(
        found.score(wild[own], groups=groups[own]),
        aejax.fit(config, wild[own]).score(wild[own]),
        rtol=2e-3,
    )


def test_tiles_hold_every_row_once_and_one_group_each() -> None:
    random = np.random.default_rng(0)
    members = random.integers(-1, 9, size=500).astype(np.int32)
    places, groups = pack(members, 16)
    real = places >= 0
    np.testing.assert_array_equal(np.sort(places[real]), np.flatnonzero(members >= 0))
    for tile, group in zip(places, groups, strict=True):
        assert set(members[tile[tile >= 0]]) == {group}
    assert places.size < 500 + 9 * 16
    assert tile_rows(members) == 16
    assert tile_rows(np.full(3, -1, np.int32)) == 8

"""Detectors whose score takes neighbours: alone, in ensembles, of groups, saved and exported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import aejax
from aejax.config import Dense, InputError, PrecisionSetting, Scale, Train
from aejax.detection.cross_validation import cross_validate
from aejax.detection.members import split_folds
from aejax.row_scores import neighbours
from tests.plain import plain_config
from tests.row_scores import in_float64

TRAIN = Train(epochs=3, batch_size=64, learning_rate=2e-3)
CONFIG = plain_config(
    model=Dense(hidden=(16, 4)),
    scale=Scale(kind="standard"),
    train=TRAIN,
    score="error-and-neighbours",
)


def rows(seed: int, count: int) -> np.ndarray:
    """Two bands of rows with nothing between them."""
    random = np.random.default_rng(seed)
    band = np.where(random.random((count, 1)) < 0.5, -3.0, 3.0)
    return (band + random.normal(size=(count, 8))).astype(np.float32)


def with_score(detector: aejax.Detector, score: str) -> aejax.Detector:
    return dataclasses.replace(detector, config=dataclasses.replace(detector.config, score=score))


def distance(detector: aejax.Detector, x: np.ndarray) -> np.ndarray:
    normal = detector.variables["normal"]
    kept = normal["neighbours"]
    np.testing.assert_allclose(normal["spacing"], in_float64.spacing(kept), rtol=1e-5)
    scaled = detector.reconstruct(x)[0]
    return in_float64.distance(kept, np.clip(scaled, normal["low"], normal["high"]))


def test_the_score_is_the_geometric_mean_of_an_error_and_twice_a_distance() -> None:
    x, test = rows(0, 900), rows(1, 200)
    detector = aejax.fit(CONFIG, x)
    # Those held out set the threshold; a tenth.
    assert detector.variables["normal"]["neighbours"].shape == (810, 8)
    error = with_score(detector, "error").score(test)
    expected = in_float64.joined(error, distance(detector, test))
    for size in (None, 1, 7, 128):
        np.testing.assert_allclose(detector.score(test, batch_size=size), expected, rtol=1e-5)


def test_it_sees_rows_where_no_normal_row_lies() -> None:
    """A linear network rebuilds what lies between the bands as well as the bands themselves."""
    x, test = rows(0, 900), rows(1, 300)
    between = np.random.default_rng(2).normal(size=(300, 8)).astype(np.float32)
    linear = dataclasses.replace(CONFIG, model=Dense(hidden=(4,), activation="linear"))
    detector = aejax.fit(linear, x)
    labels = np.repeat([0, 1], 300)
    auroc = {
        score: roc_auc_score(
            labels, with_score(detector, score).score(np.concatenate([test, between]))
        )
        for score in ("error", "error-and-neighbours")
    }
    assert auroc["error"] < 0.6
    assert auroc["error-and-neighbours"] > 0.8


def test_without_rows_held_out_a_threshold_is_not_set_on_rows_that_find_themselves() -> None:
    x, test = rows(0, 900), rows(1, 900)
    train = dataclasses.replace(TRAIN, validation_fraction=0.0)
    detector = aejax.fit(dataclasses.replace(CONFIG, train=train), x)
    seen, new = detector.score(x), detector.score(test)
    # Were a row its own neighbour, a fifth of its distance would be 0.
    assert np.median(seen) == pytest.approx(np.median(new), rel=0.1)


def test_an_ensemble_looks_through_its_rows_once() -> None:
    x, test = rows(0, 901), rows(1, 100)
    configs = [
        dataclasses.replace(CONFIG, train=dataclasses.replace(TRAIN, seed=seed)) for seed in (3, 3)
    ]
    configs.append(dataclasses.replace(CONFIG, train=dataclasses.replace(TRAIN, seed=4)))
    population = aejax.fit_population(configs, x)
    first, _, third = population.detectors
    assert first is not None
    assert third is not None
    ensemble = population.ensemble(x)
    kept = ensemble.variables["normal"]["neighbours"]
    assert kept.shape == (3, 271, 8)
    np.testing.assert_array_equal(
        np.sort(kept[np.isfinite(kept)]),
        np.sort(first.variables["normal"]["neighbours"], axis=None),
    )
    error = np.stack([with_score(one, "error").score(test) for one in (first, first, third)])
    expected = in_float64.joined(error, distance(first, test))
    np.testing.assert_allclose(ensemble.score(test), expected.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(ensemble.spread(test), expected.std(axis=0), rtol=1e-3)
    assert len(ensemble.explain(test[:2], top=2)[0]) == 2
    assert np.isfinite(population.ensemble(x, combine="rank").score(test)).all()


@pytest.mark.parametrize("members", [1, 2])
def test_it_is_saved_loaded_and_exported(tmp_path: Path, members: int) -> None:
    x, test = rows(0, 300), rows(1, 90)
    detector = aejax.fit(CONFIG, x)
    if members > 1:
        detector = aejax.fit_population([CONFIG] * members, x).ensemble(x)
    detector.save(tmp_path / "detector")
    loaded = aejax.load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.score(test), detector.score(test))
    assert loaded.fingerprint == detector.fingerprint
    facts = aejax.export(loaded, tmp_path / "export")
    assert facts["parity"]["loaded"] == 0.0
    exported = aejax.load(tmp_path / "export")
    np.testing.assert_array_equal(exported.score(test), detector.score(test))
    card = (tmp_path / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "how badly the model, trained on normal rows, rebuilds it and how far it lies" in card


def test_onnx_refuses_it_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    detector = aejax.fit(CONFIG, rows(0, 200))
    with pytest.raises(InputError, match=r"allowed.*stablehlo"):
        aejax.export(detector, tmp_path / "export", formats="onnx")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("said", [None, 0, 1 << 40, "9", 1.5, 899])
def test_a_description_with_other_rows_is_refused(tmp_path: Path, said: object) -> None:
    aejax.fit(CONFIG, rows(0, 300)).save(tmp_path)
    place = tmp_path / "detector.json"
    described = json.loads(place.read_text(encoding="utf-8"))
    right = described["learnt"]
    assert right == {"neighbours": [270, 8], "spacing": [270], "low": [8], "high": [8]}
    others = {"others": [270, 8], **{name: right[name] for name in list(right)[1:]}}
    wrong = ({**right, "neighbours": [said, 8]}, {**right, "neighbours": said}, others, {}, said)
    for learnt in wrong:
        place.write_text(json.dumps({**described, "learnt": learnt}), encoding="utf-8")
        with pytest.raises(InputError):
            aejax.load(tmp_path)


def test_each_group_looks_among_its_own_rows(tmp_path: Path) -> None:
    x, test = rows(0, 400), rows(1, 60)
    x[100:] += 50
    groups = np.repeat(["a", "b"], [100, 300])
    detectors = aejax.fit(CONFIG, x, groups=groups)
    assert detectors.variables["normal"]["neighbours"].shape == (2, 270, 8)
    for name, shift in (("a", 0), ("b", 50)):
        own = detectors.member(name)
        error = with_score(own, "error").score(test + shift)
        # Rows that aren't there lie at infinity.
        normal = own.variables["normal"]
        there = np.isfinite(normal["neighbours"][:, 0])
        rows_of = {each: normal[each][there] for each in ("neighbours", "spacing")}
        alone = dataclasses.replace(
            own,
            variables={
                "normal": {**normal, **rows_of},
                **{name: tree for name, tree in own.variables.items() if name != "normal"},
            },
        )
        assert len(alone.variables["normal"]["neighbours"]) == {"a": 90, "b": 270}[name]
        expected = in_float64.joined(error, distance(alone, test + shift))
        found = detectors.score(test + shift, groups=np.repeat(name, 60))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    detectors.save(tmp_path)
    again = aejax.load(tmp_path).score(test, groups=np.repeat("a", 60))
    np.testing.assert_array_equal(again, detectors.score(test, groups=np.repeat("a", 60)))


def test_rows_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST_NEIGHBOURS", 100)
    monkeypatch.setattr(neighbours, "MOST_VALUES", 8 * 60)
    detector = aejax.fit(CONFIG, rows(0, 500))
    assert 30 < len(detector.variables["normal"]["neighbours"]) <= 60


def test_one_row_has_no_neighbour() -> None:
    train = dataclasses.replace(TRAIN, validation_fraction=0.0)
    config = dataclasses.replace(CONFIG, train=train)
    message = "training rows: found 1; allowed with Config.score error-and-neighbours: at least 2"
    with pytest.raises(InputError, match=message):
        aejax.fit(config, rows(0, 1))
    with pytest.raises(InputError, match=message):
        aejax.fit_population([config], rows(0, 1))
    with pytest.raises(InputError, match=message):
        aejax.fit(config, rows(0, 41), groups=np.r_[np.repeat("a", 40), ["b"]])


@pytest.mark.parametrize("score", ["residual-distance", "error-and-neighbours"])
def test_what_needs_normal_rows_is_tuned_and_has_its_precision_chosen(score: str) -> None:
    x = rows(0, 240)
    between = np.random.default_rng(2).normal(size=(40, 8)).astype(np.float32)
    config = dataclasses.replace(CONFIG, score=score)
    parts = split_folds(len(x), 3, seed=0)
    schema = aejax.fit(config, x).schema
    (judged,) = cross_validate([config], parts, x, between, schema, "auroc")
    assert judged.problem is None
    for part, auroc in zip(parts, judged.folds, strict=True):
        alone = aejax.fit(config, np.delete(x, part, axis=0))
        scores = alone.score(np.concatenate([x[part], between]))
        labels = np.repeat([0, 1], [len(part), 40])
        assert auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)
    fastest: PrecisionSetting = "fastest"
    chosen = aejax.fit(dataclasses.replace(config, precision=fastest), np.tile(x, (8, 1)))
    assert chosen.config.precision in ("float32", "bfloat16")


def test_rows_that_never_change_leave_others_their_distance() -> None:
    same = np.ones((9, 3), np.float32)
    known = SimpleNamespace(rows=same, training=lambda most: same, sharing=1)
    learnt = neighbours.ErrorAndNeighbours().learn(known)
    np.testing.assert_array_equal(learnt["low"], -3)
    np.testing.assert_array_equal(learnt["high"], 5)


def test_a_value_that_never_changed_may_change_as_much_as_others() -> None:
    x = rows(0, 300)
    x[:, 2] = 7
    known = SimpleNamespace(rows=x, training=lambda most: x, sharing=1)
    learnt = neighbours.ErrorAndNeighbours().learn(known)
    usual = np.sqrt(x.var(axis=0).mean())
    assert learnt["high"][2] == pytest.approx(7 + 4 * usual, rel=1e-5)

"""Tuning: folds are what scikit-learn would make of them, and each is what `fit` gives."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import aejax
from aejax.config import Classifier, Config, Dense, InputError, Train
from aejax.detection.cross_validation import fold_interval
from aejax.detection.members import split_folds
from aejax.detection.tuning import Trial, rungs, tune
from aejax.training.search_space import SearchSpace, draw, parse_space
from tests.plain import plain_config

RATES = {"low": 1e-3, "high": 3e-2, "log": True}


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    random = np.random.default_rng(0)
    rows = random.normal(size=(203, 2)) @ random.normal(size=(2, 6))
    return np.float32(rows + 0.1 * random.normal(size=rows.shape))


@pytest.fixture(scope="module")
def anomalies() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(17, 6)).astype(np.float32)


def space(**more: object) -> SearchSpace:
    return parse_space(
        {"train.epochs": 4, "train.batch_size": 32, "train.learning_rate": RATES, **more},
        plain_config(model=Dense(hidden=(4, 2), activation="tanh")),
    )


def refitted(config: Config, x: np.ndarray, part: np.ndarray) -> aejax.Detector:
    return aejax.fit(config, x[np.setdiff1d(np.arange(len(x)), part)])


def test_each_fold_is_what_fit_gives(x: np.ndarray, anomalies: np.ndarray) -> None:
    folds, seed = 3, 5
    parts = split_folds(len(x), folds, seed)
    hidden = {"model.hidden": {"choices": [[4, 2], [3]]}}
    found = {
        objective: tune(
            space(**hidden),
            x,
            x_anomalous=anomalies,
            configurations=3,
            folds=folds,
            objective=objective,  # type: ignore[arg-type]
            seed=seed,
        )
        for objective in ("reconstruction", "auroc", "average-precision")
    }
    trials = {
        name: {trial.number: trial for trial in tuning.trials} for name, tuning in found.items()
    }
    assert found["auroc"].programs == len({t.config.model for t in found["auroc"].trials})
    for number in range(3):
        config = trials["auroc"][number].drawn.config
        for fold, part in enumerate(parts):
            detector = refitted(config, x, part)
            normal, wild = detector.score(x[part]), detector.score(anomalies)
            scores = np.concatenate([normal, wild]).astype(np.float64)
            labels = np.arange(len(scores)) >= len(part)
            error = normal.mean(dtype=np.float64)
            assert trials["reconstruction"][number].folds[fold] == pytest.approx(error, rel=1e-3)
            area = roc_auc_score(labels, scores)
            assert trials["auroc"][number].folds[fold] == pytest.approx(area, abs=2e-3)
            precision = average_precision_score(labels, scores)
            assert trials["average-precision"][number].folds[fold] == pytest.approx(
                precision, abs=5e-3
            )
    for name, tuning in found.items():
        means = [trial.mean for trial in tuning.trials]
        assert means == sorted(means, reverse=name != "reconstruction")
        assert tuning.best in tuning.close
        json.dumps(tuning.to_dict(), allow_nan=False)


def test_folds_partition_the_rows() -> None:
    parts = split_folds(103, 5, seed=0)
    assert sorted(np.concatenate(parts)) == list(range(103))
    assert {len(part) for part in parts} == {20, 21}
    assert not np.array_equal(parts[0], split_folds(103, 5, seed=1)[0])


def test_the_interval_is_the_corrected_t_interval() -> None:
    values = np.asarray([0.2, 0.5, 0.3, 0.45, 0.35])
    # t of 4 degrees of freedom at 97.5 %, from a table; variance by n - 1.
    half = 2.776445 * np.sqrt(0.0142500 * (1 / 5 + 1 / 4))
    assert fold_interval(values) == pytest.approx((0.36 - half, 0.36 + half), rel=1e-5)


def test_halving_gives_the_best_third_three_times_the_epochs(x: np.ndarray) -> None:
    searched = space(**{"train.epochs": 3})
    tuning = tune(searched, x, configurations=6, folds=2, search="halving")
    assert tuning.to_dict()["rungs"] == [6, 2]
    by_rung = {rung: [t for t in tuning.trials if t.rung == rung] for rung in range(2)}
    assert {t.length for t in by_rung[0]} == {1}
    assert {t.length for t in by_rung[1]} == {3}
    # The winner's last rung is its full training: a random search finds the same of it.
    full = {t.number: t for t in tune(searched, x, configurations=6, folds=2).trials}
    assert tuning.best.folds == pytest.approx(full[tuning.best.number].folds, rel=1e-4)
    # Who goes on is decided by the first rung alone; and the same search finds the same.
    short = tune(space(**{"train.epochs": 1}), x, configurations=6, folds=2)
    assert {t.number for t in by_rung[1]} == {t.number for t in short.trials[:2]}
    assert tune(searched, x, configurations=6, folds=2, search="halving") == tuning


def test_rungs_stop_at_one_epoch_and_one_configuration() -> None:
    drawn = [Trial(number=0, drawn=one, length=2, rung=0) for one in draw(space(), 4, seed=0)]
    assert rungs(drawn) == [1.0]
    many = [dataclasses.replace(drawn[0], length=20) for _ in range(64)]
    assert rungs(many) == [1 / 9, 1 / 3, 1.0]
    assert rungs(many[:5]) == [1 / 3, 1.0]


def test_a_configuration_that_diverges_is_left_out(x: np.ndarray) -> None:
    rates = {"choices": [1e-3, 1e12, 3e-3]}
    searched = space(**{"train.optimizer": "sgd", "train.learning_rate": rates})
    for search in ("random", "halving"):
        tuning = tune(searched, x, configurations=3, folds=2, search=search)  # type: ignore[arg-type]
        lost = tuning.trials[-1]
        assert lost.drawn.settings == {"train.learning_rate": 1e12}
        assert lost.problem is not None
        assert lost.problem.startswith("fold 1: the loss became")
        assert [trial.problem for trial in tuning.trials[:-1]] == [None, None]
        json.dumps(tuning.to_dict(), allow_nan=False)
    rates = {"choices": [1e10, 1e11, 1e12]}
    wild = space(**{"train.optimizer": "sgd", "train.learning_rate": rates})
    with pytest.raises(InputError, match="all 3 configurations diverged"):
        tune(wild, x, configurations=3, folds=2)


def test_a_clear_winner_is_recognised(x: np.ndarray) -> None:
    rates = {"choices": [1e-2, 1e-6]}
    searched = space(**{"train.learning_rate": rates, "train.epochs": 40})
    tuning = tune(searched, x, configurations=2, folds=3)
    assert tuning.best.drawn.settings == {"train.learning_rate": 1e-2}
    assert tuning.close == (tuning.best,)


def test_bad_input(x: np.ndarray, anomalies: np.ndarray) -> None:
    with pytest.raises(InputError, match="folds is 1"):
        tune(space(), x, folds=1)
    with pytest.raises(InputError, match="at least 12 rows, 2 a fold"):
        tune(space(), x[:11], folds=6)
    with pytest.raises(InputError, match="configurations is 0"):
        tune(space(), x, configurations=0)
    with pytest.raises(InputError, match="search is 'grid'"):
        tune(space(), x, search="grid")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="objective is 'f1'"):
        tune(space(), x, objective="f1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no anomalies"):
        tune(space(), x, objective="auroc")
    kinds = {"choices": ["standard", "min-max"]}
    with pytest.raises(InputError, match=r"scale\.kind is searched .* can't be compared"):
        tune(space(**{"scale.kind": kinds}), x)
    mixed = tune(
        space(**{"scale.kind": kinds, "train.epochs": 1}),
        x,
        x_anomalous=anomalies,
        configurations=2,
        folds=2,
        objective="auroc",
    )
    assert len(mixed.trials) == 2
    classifier = plain_config(model=Classifier(classes=2), train=Train(epochs=1))
    with pytest.raises(InputError, match="is a Classifier"):
        tune(parse_space({"train.learning_rate": RATES}, classifier), x)

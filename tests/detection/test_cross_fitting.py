"""Thresholds on scores of rows that the network that gave them didn't see."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import cross_val_predict

import aejax
from aejax import Conformal, Contamination, FalseAlarms, Fixed, Quantile
from aejax.config import Config, Dense, InputError, Scale, Train, Vary
from aejax.detection.cross_fitting import FOLDS, MOST_ROWS, cross_fits, folds_of
from aejax.detection.members import split_folds
from tests.row_scores import in_float64

CONFIG = Config(
    model=Dense(hidden=(16, 2)),
    train=Train(epochs=30, batch_size=16, learning_rate=3e-3, validation_fraction=0.0, seed=3),
    rule=FalseAlarms(rate=0.1),
    calibration="cross-fitted",
)
BY_ITSELF = dataclasses.replace(CONFIG, calibration="held-out")


def rows(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2)) @ np.random.default_rng(99).normal(size=(2, 5))
    return (x + 0.3 * random.normal(size=x.shape)).astype(np.float32)


class Trained(BaseEstimator):
    """An estimator of scikit-learn that `fit` trains anew on every fold's training rows."""

    def __init__(self, config: Config, more: Any = None) -> None:
        self.config, self.more = config, more

    def fit(self, x: np.ndarray, y: None = None) -> Trained:
        self.detector = aejax.fit(self.config, x, **(self.more or {}))
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.detector.score(x)


def out_of_fold(config: Config, x: np.ndarray, **more: Any) -> np.ndarray:
    """Every row's score by a network that `fit` makes of the other folds: scikit-learn."""
    parts = split_folds(len(x), FOLDS, config.train.seed)
    cuts = [(np.setdiff1d(np.arange(len(x)), part), part) for part in parts]
    return cross_val_predict(Trained(config, more), x, cv=cuts)


def quantile(scores: np.ndarray, rate: float) -> float:
    return float(np.quantile(scores.astype(np.float64), 1 - rate, method="weibull"))


def test_the_threshold_is_that_of_scores_out_of_fold() -> None:
    x = rows(103, 0)
    found = aejax.fit(CONFIG, x)
    scores = out_of_fold(BY_ITSELF, x)
    assert found.threshold is not None
    assert found.threshold.rows == 103
    assert found.provenance["training_rows"] == 103
    assert found.provenance["folds"] == FOLDS
    assert found.threshold.value == pytest.approx(quantile(scores, 0.1), rel=1e-3)
    deciles = np.quantile(scores, np.arange(1, 10) / 10)
    np.testing.assert_allclose(found.threshold.deciles, deciles, rtol=1e-3)
    # The network itself is the one of all rows, bit for bit.
    np.testing.assert_array_equal(found.score(x), aejax.fit(BY_ITSELF, x).score(x))
    assert aejax.fit(CONFIG, x).threshold == found.threshold


def test_usual_errors_are_of_rows_that_were_not_seen() -> None:
    x = rows(100, 0)
    found = aejax.fit(CONFIG, x)
    errors = []
    for part in split_folds(100, FOLDS, CONFIG.train.seed):
        one = aejax.fit(BY_ITSELF, np.delete(x, part, axis=0))
        scaled, rebuilt = one.reconstruct(x[part])
        errors.append(np.square(scaled - rebuilt))
    expected = np.concatenate(errors).mean(axis=0)
    np.testing.assert_allclose(found.usual_errors, expected, rtol=1e-3)
    assert (found.usual_errors > aejax.fit(BY_ITSELF, x).usual_errors).all()


def test_neighbours_are_all_rows_but_the_row_itself() -> None:
    x = rows(60, 0)
    config = dataclasses.replace(CONFIG, score="error-and-neighbours")
    expected = np.empty(60)
    for part in split_folds(60, FOLDS, CONFIG.train.seed):
        one = aejax.fit(BY_ITSELF, np.delete(x, part, axis=0))
        scaled = one.reconstruct(x)[0].astype(np.float64)
        assert np.abs(scaled - scaled.mean(axis=0)).max() < 4 * scaled.std(axis=0).min()
        far = in_float64.distance(scaled, scaled[part], itself=True)
        expected[part] = in_float64.joined(one.score(x[part]), far)
    found = aejax.fit(config, x).threshold
    assert found is not None
    assert found.value == pytest.approx(
        aejax.detection.threshold.fit_threshold(config.rule, expected).value, rel=1e-3
    )


@pytest.mark.parametrize("count", [10, 11, 64, 103])
def test_no_row_is_scored_by_a_network_that_saw_it(count: int) -> None:
    positions = np.random.default_rng(0).permutation(500)[:count]
    folds = folds_of(CONFIG, positions)
    held = np.concatenate([fold.held for fold in folds])
    assert sorted(held) == sorted(positions)
    for fold in folds:
        np.testing.assert_array_equal(positions[fold.at], fold.held)
        assert not np.isin(fold.held, fold.member.training).any()
        assert len(fold.held) + len(fold.member.training) == count


def test_groups_have_the_thresholds_that_they_would_have_alone() -> None:
    x = rows(140, 0)
    names = np.repeat(["few", "some", "more"], [30, 50, 60])[
        np.random.default_rng(0).permutation(140)
    ]
    together = aejax.fit(CONFIG, x, groups=names)
    assert together.groups is not None
    for at, name in enumerate(together.groups.names):
        alone = aejax.fit(CONFIG, x[names == name])
        found, wanted = together.threshold.each[at], alone.threshold.each[0]  # type: ignore[union-attr]
        assert found.value == pytest.approx(wanted.value, rel=1e-3)
        assert found.rows == wanted.rows == (names == name).sum()
        np.testing.assert_allclose(together.usual_errors[at], alone.usual_errors, rtol=1e-3)
        assert together.groups.each[at].error_left < 0.95
    # Where few rows are no folds, they are held out as before.
    auto = dataclasses.replace(CONFIG, calibration="auto")
    x, names = np.concatenate([x, x[:8]]), np.concatenate([names, ["least"] * 8])
    mixed = aejax.fit(auto, x, groups=names)
    assert mixed.groups is not None
    assert [group.folds for group in mixed.groups.each] == [
        None if name == "least" else FOLDS for name in mixed.groups.names
    ]
    before = dict(zip(together.groups.names, together.threshold.each, strict=True))  # type: ignore[union-attr]
    for name, own in zip(mixed.groups.names, mixed.threshold.each, strict=True):  # type: ignore[union-attr]
        alone = before[name] if name in before else aejax.fit(auto, x[names == name]).threshold
        assert own.value == pytest.approx(alone.value, rel=1e-3)


@pytest.mark.parametrize("vary", [None, Vary(features=0.6), Vary(rows=0.7)])
def test_an_ensemble_is_judged_by_ensembles_of_its_folds(vary: Vary | None) -> None:
    x = rows(90, 0)
    more = {"members": 3, "vary": vary}
    found = aejax.fit(CONFIG, x, **more)
    scores = out_of_fold(BY_ITSELF, x, **more)
    assert found.threshold.value == pytest.approx(quantile(scores, 0.1), rel=1e-3)  # type: ignore[union-attr]
    assert found.threshold.rows == 90  # type: ignore[union-attr]


def test_ranks_are_among_scores_out_of_fold() -> None:
    x = rows(90, 0)
    found = aejax.fit(CONFIG, x, members=3, combine="rank")
    parts = split_folds(90, FOLDS, CONFIG.train.seed)
    apart = np.empty((90, 3))
    for part in parts:
        one = aejax.fit(BY_ITSELF, np.delete(x, part, axis=0), members=3)
        apart[part] = one.member_scores(x[part])
    grid = found.variables["calibration"]["scores"]
    expected = np.quantile(apart, np.linspace(0, 1, grid.shape[1]), axis=0).T
    np.testing.assert_allclose(grid, expected, rtol=1e-3)
    # A row's rank is as large as its own score's: a tenth of the rows is above 0.9 or so.
    assert 0.8 < found.threshold.value < 1  # type: ignore[union-attr]


def test_members_of_a_population_are_what_fit_makes_of_them() -> None:
    x = rows(80, 0)
    configs = [CONFIG, dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, seed=4))]
    for config, one in zip(configs, aejax.fit_population(configs, x).detectors, strict=True):
        alone = aejax.fit(config, x)
        assert one is not None
        assert one.threshold.value == pytest.approx(alone.threshold.value, rel=1e-3)  # type: ignore[union-attr]
        np.testing.assert_allclose(one.usual_errors, alone.usual_errors, rtol=1e-3)
        assert one.provenance["folds"] == FOLDS


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({"rule": Conformal(alpha=0.1)}, {}, "rule is conformal:0.1, which guarantees nothing"),
        ({"rule": Contamination()}, {}, "contamination:0.1, which isn't set on normal rows"),
        ({"rule": Fixed(value=1.0)}, {}, "fixed:1.0, which isn't set on normal rows"),
        ({"score": "residual-distance"}, {}, "residual-distance, which learns of rows held out"),
        ({"train": dataclasses.replace(CONFIG.train, patience=2)}, {}, "Train.patience is set"),
        ({}, {"x_calibrate": rows(5, 1)}, "x_calibrate is given"),
        ({}, {"x_validation": rows(5, 1)}, "x_validation is given"),
        ({}, {"rows": 9}, "there are 9 training rows for 5 folds"),
    ],
)
def test_what_needs_rows_held_out_says_so(
    change: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    config = dataclasses.replace(CONFIG, **change)
    count = given.pop("rows", 50)
    with pytest.raises(InputError, match=f"Config.calibration is 'cross-fitted' and .*{message}"):
        aejax.fit(config, rows(count, 0), **given)
    assert not cross_fits(dataclasses.replace(config, calibration="auto"), count, **given)


def test_many_rows_are_held_out() -> None:
    auto = dataclasses.replace(CONFIG, calibration="auto")
    assert cross_fits(auto, MOST_ROWS)
    assert not cross_fits(auto, MOST_ROWS + 1)
    assert cross_fits(CONFIG, MOST_ROWS + 1)
    assert not cross_fits(auto, 50, on_disk=True)


def test_a_conformal_rule_keeps_a_true_split() -> None:
    config = dataclasses.replace(
        CONFIG,
        calibration="auto",
        rule=Conformal(alpha=0.1),
        train=dataclasses.replace(CONFIG.train, validation_fraction=0.3),
    )
    found = aejax.fit(config, rows(100, 0))
    assert found.threshold.rows == 30  # type: ignore[union-attr]
    assert found.provenance["training_rows"] == 70


def flagged(config: Config, count: int, tables: int) -> float:
    """Mean share of new normal rows that are flagged, over tables of so many rows."""
    shares = []
    for seed in range(tables):
        drawn = rows(count + 2000, 100 + seed)
        shares.append(aejax.fit(config, drawn[:count]).predict(drawn[count:]).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize(
    ("count", "rate", "low", "high"),
    [(60, 0.05, 0.025, 0.08), pytest.param(200, 0.01, 0.004, 0.018, marks=pytest.mark.slow)],
)
def test_few_rows_keep_the_promise(count: int, rate: float, low: float, high: float) -> None:
    """A quantile of the rows trained on, or of those held out, flags more than half again."""
    config = Config(
        model=Dense(hidden=(32, 8)),
        scale=Scale(kind="standard"),
        train=Train(epochs=150, batch_size=16, learning_rate=3e-3),
        rule=FalseAlarms(rate=rate),
        calibration="auto",
    )
    assert low < flagged(config, count, 8) < high
    before = dataclasses.replace(config, calibration="held-out", rule=Quantile(q=1 - rate))
    assert flagged(before, count, 8) > high
    train = dataclasses.replace(config.train, validation_fraction=0.0)
    assert flagged(dataclasses.replace(before, train=train), count, 8) > high

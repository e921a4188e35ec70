"""Many models at once: each is what it would have been alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

import aejax
from aejax import Conformal, Quantile
from aejax.config import Config, Dense, InputError, Scale, Train
from aejax.detection.detector import Detector
from aejax.detection.population import fit_population
from tests.plain import plain_config

BASE = plain_config(
    model=Dense(hidden=(8, 3)),
    train=Train(epochs=3, batch_size=32, patience=2, noise=0.05, clip_norm=1.0),
    scale=Scale(kind="standard"),
    rule=Quantile(q=0.9),
)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    random = np.random.default_rng(0)
    mixed = random.normal(size=(300, 3)) @ random.normal(size=(3, 10))
    return (mixed + 0.1 * random.normal(size=mixed.shape)).astype(np.float32)


def variations(count: int) -> list[Config]:
    """Members that differ in all that members of one program may differ in."""
    configs = []
    for seed in range(count):
        train = dataclasses.replace(
            BASE.train,
            seed=seed,
            learning_rate=1e-3 * (1 + seed),
            noise=0.01 * (1 + seed),
            clip_norm=0.5 + seed,
        )
        configs.append(dataclasses.replace(BASE, train=train))
    return configs


def largest_difference(a: Detector, b: Detector) -> float:
    def difference(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.max(np.abs(np.asarray(one) - np.asarray(other))))

    return max(jax.tree.leaves(jax.tree.map(difference, a.variables, b.variables)))


def test_each_member_is_what_it_would_have_been_alone(x: np.ndarray) -> None:
    configs = variations(3)
    # Bootstraps and parts of different sizes: some members have fewer steps than others.
    random = np.random.default_rng(1)
    rows = [np.sort(random.choice(300, size, replace=False)) for size in (300, 150, 300)]
    population = fit_population(configs, x, rows=rows, group_size=2)
    assert population.problems == {}
    for config, picked, member in zip(configs, rows, population.detectors, strict=True):
        alone = aejax.fit(config, x[picked])
        assert member is not None
        assert largest_difference(alone, member) < 1e-4
        np.testing.assert_allclose(member.score(x), alone.score(x), rtol=2e-3)
        assert member.threshold is not None
        assert alone.threshold is not None
        assert member.threshold.value == pytest.approx(alone.threshold.value, rel=2e-3)
        assert member.provenance["best_epoch"] == alone.provenance["best_epoch"]
        for found, wanted in zip(member.history, alone.history, strict=True):
            for name in ("loss", "validation_loss"):
                assert found[name] == pytest.approx(wanted[name], rel=1e-3)


def test_early_stopping_is_each_members_own(x: np.ndarray) -> None:
    train = dataclasses.replace(BASE.train, epochs=40, patience=1, batch_size=8, noise=0.0)
    configs = [
        dataclasses.replace(BASE, train=dataclasses.replace(train, seed=seed, learning_rate=rate))
        for seed, rate in enumerate((0.3, 1e-4))
    ]
    wild, tame = fit_population(configs, x).detectors
    assert wild is not None
    assert tame is not None
    assert len(wild.history) < 40
    assert len(tame.history) == 40
    for member in (wild, tame):
        losses = [row["validation_loss"] for row in member.history]
        assert member.provenance["best_epoch"] == int(np.argmin(losses))


def test_kinds_of_architecture_become_programs_of_their_own(x: np.ndarray) -> None:
    other = dataclasses.replace(BASE, model=Dense(hidden=(4,)))
    small, large, again = fit_population([other, BASE, other], x).detectors
    assert small is not None
    assert large is not None
    assert again is not None
    assert small.config.model == Dense(hidden=(4,))
    assert large.config.model == BASE.model
    assert largest_difference(small, again) == 0


def test_a_member_that_diverges_is_reported_and_the_others_go_on(x: np.ndarray) -> None:
    train = Train(epochs=3, batch_size=32, optimizer="sgd", learning_rate=1e-3)
    wild = dataclasses.replace(train, learning_rate=1e9, seed=1)
    configs = [dataclasses.replace(BASE, train=settings) for settings in (train, wild, train)]
    population = fit_population(configs, x)
    assert list(population.problems) == [1]
    assert "step" in population.problems[1]
    assert population.detectors[1] is None
    ensemble = population.ensemble(x)
    assert ensemble.members == 2


@pytest.mark.parametrize("combine", ["mean", "median"])
def test_an_ensemble_is_one_detector(x: np.ndarray, tmp_path: Path, combine: str) -> None:
    population = fit_population(variations(3), x)
    ensemble = population.ensemble(x, combine=combine)  # type: ignore[arg-type]
    each = np.stack([d.score(x) for d in population.detectors if d is not None])
    wanted = np.mean(each, axis=0) if combine == "mean" else np.median(each, axis=0)
    np.testing.assert_allclose(ensemble.score(x), wanted, rtol=1e-5)
    np.testing.assert_allclose(ensemble.spread(x), each.std(axis=0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(ensemble.score(x, batch_size=7), ensemble.score(x), rtol=1e-5)
    assert ensemble.predict(x).mean() == pytest.approx(0.1, abs=0.01)
    assert len(ensemble.explain(x[:2], top=4)[0]) == 4

    ensemble.save(tmp_path / "ensemble")
    loaded = aejax.load(tmp_path / "ensemble")
    assert (loaded.members, loaded.combine) == (3, combine)
    np.testing.assert_array_equal(loaded.score(x), ensemble.score(x))
    assert loaded.fingerprint == ensemble.fingerprint
    with pytest.raises(aejax.InputError, match="single model"):
        loaded.encode(x)


def test_shared_order_shares_validation_rows_too(x: np.ndarray) -> None:
    population = fit_population(variations(3), x, shared_order=True)
    first, second, _ = population.detectors
    assert first is not None
    assert second is not None
    # The first member is what it would have been alone: the order is its own.
    assert largest_difference(aejax.fit(variations(1)[0], x), first) < 1e-4
    assert largest_difference(first, second) > 1e-3


def test_bad_input(x: np.ndarray) -> None:
    with pytest.raises(aejax.InputError, match="found 0"):
        fit_population([], x)
    with pytest.raises(aejax.InputError, match="member 0 has 1 rows"):
        fit_population([BASE], x, rows=[np.array([3])])
    with pytest.raises(aejax.InputError, match="rows has 1 members"):
        fit_population([BASE, BASE], x, rows=[np.arange(300)])


PLAIN = plain_config(model=Dense(hidden=(8, 2)), train=Train(epochs=3, batch_size=64))


def plain_rows(seed: int, count: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(count, 6))).astype(np.float32)


def seeded(seed: int) -> Config:
    return dataclasses.replace(PLAIN, train=dataclasses.replace(PLAIN.train, seed=seed))


@pytest.mark.parametrize(
    "given", [(), ("x_calibrate",), ("x_validation", "x_scale", "x_calibrate")]
)
def test_each_has_the_threshold_that_it_would_have_alone(given: tuple[str, ...]) -> None:
    """Rows to calibrate on are others than those held out, and their scores twice as large."""
    others = {
        "x_validation": plain_rows(1, 90),
        "x_scale": plain_rows(2, 150),
        "x_calibrate": plain_rows(3, 120, scale=1.5),
    }
    how = {name: others[name] for name in given}
    x = plain_rows(0, 400)
    population = fit_population([seeded(seed) for seed in (5, 6)], x, **how)
    for seed, found in zip((5, 6), population.detectors, strict=True):
        alone = aejax.fit(seeded(seed), x, **how)
        assert found is not None
        assert found.threshold is not None
        assert alone.threshold is not None
        assert found.threshold.rows == alone.threshold.rows
        assert found.threshold.value == pytest.approx(alone.threshold.value, rel=1e-3)
        np.testing.assert_allclose(found.score(x), alone.score(x), rtol=1e-2)


def test_too_few_rows_to_calibrate_on_are_refused_before_training() -> None:
    strict = dataclasses.replace(PLAIN, rule=Conformal(alpha=0.01))
    with pytest.raises(InputError, match="calibration scores: found 5"):
        fit_population([strict], plain_rows(0, 4000), x_calibrate=plain_rows(1, 5))

"""Members with dropout rates of their own: one program, and each as it would be alone."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.config import Columns, Config, Dense, Scale, Train, Variational
from aejax.core import steps
from aejax.detection.members import kinds
from aejax.detection.population import fit_population
from aejax.detection.tuning import tune
from aejax.training.search_space import parse_space
from tests.plain import plain_config

RATES = (0.0, 0.1, 0.5)
DENSE = Dense(hidden=(8, 3), activation="tanh")
BASE = plain_config(
    model=DENSE, scale=Scale(kind="standard"), train=Train(epochs=3, batch_size=32, patience=2)
)
LATENT = Variational(network=DENSE, latent=2, likelihood="normal")


def rows(count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    mixed = random.normal(size=(count, 3)) @ random.normal(size=(3, 10))
    return np.float32(mixed + 0.1 * random.normal(size=mixed.shape))


def frame(count: int) -> pd.DataFrame:
    x = rows(count)
    return pd.DataFrame({"a": x[:, 0], "b": np.where(x[:, 1] > 0, "up", "down"), "c": x[:, 2] > 1})


def with_rate(config: Config, rate: float) -> Config:
    model = config.model
    if isinstance(model, Variational):
        assert isinstance(model.network, Dense)
        network = dataclasses.replace(model.network, dropout=rate)
        return dataclasses.replace(config, model=dataclasses.replace(model, network=network))
    return dataclasses.replace(config, model=dataclasses.replace(model, dropout=rate))


@pytest.mark.parametrize("family", ["dense", "variational", "mixed"])
def test_members_of_all_rates_share_a_program_and_are_what_fit_gives(family: str) -> None:
    base, x = BASE, rows(200)
    if family == "variational":
        base = dataclasses.replace(base, model=LATENT, score="reconstruction-probability")
    if family == "mixed":
        base, x = dataclasses.replace(base, columns=Columns(kinds="mixed")), frame(200)
    # Alone, a rate of 0 takes a program of its own, without random bits.
    rates = RATES if family == "dense" else RATES[1:]
    configs = [with_rate(base, rate) for rate in rates]
    assert len(kinds(configs)) == 1
    before = steps.compiled_train_members.programs()
    population = fit_population(configs, x)
    assert steps.compiled_train_members.programs() == before + 1
    found = []
    for config, member in zip(configs, population.detectors, strict=True):
        assert member is not None
        alone = aejax.fit(config, x)
        assert member.config == alone.config == config
        for a, b in zip(*map(jax.tree.leaves, (member.variables, alone.variables)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
        assert jax.tree.structure(member.variables) == jax.tree.structure(alone.variables)
        np.testing.assert_allclose(member.score(x), alone.score(x), rtol=2e-3)
        assert [row["loss"] for row in member.history] == pytest.approx(
            [row["loss"] for row in alone.history], rel=1e-3
        )
        found.append(member.history[-1]["loss"])
    # Of one seed and in the same order: what differs is what was dropped.
    assert sorted(found) == found
    assert len(set(found)) == len(rates)
    # Scoring knows no rate, so detectors of different rates make an ensemble.
    together = population.ensemble(x).score(x)
    each = [member.score(x) for member in population.detectors if member is not None]
    np.testing.assert_allclose(together, np.mean(each, axis=0), rtol=1e-5)


@pytest.mark.parametrize("written", [{"low": 0.0, "high": 0.5}, {"choices": [0.0, 0.1, 0.25, 0.5]}])
def test_a_search_over_dropout_takes_one_program(written: dict[str, object]) -> None:
    space = parse_space({"train.epochs": 2, "model.dropout": written}, BASE)
    before = (steps.compiled_train_members.programs(), steps.compiled_member_scores.programs())
    tuning = tune(space, rows(120), configurations=4, folds=2)
    assert tuning.programs == 1
    assert len({trial.config.model for trial in tuning.trials}) == 4
    assert len({trial.folds for trial in tuning.trials}) == 4
    gained = (steps.compiled_train_members.programs(), steps.compiled_member_scores.programs())
    assert gained[0] - before[0] <= 1
    assert gained[1] - before[1] <= 1

"""Members that lack features, units, connections or rows; and scores combined by rank."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import aejax
from aejax.config import Dense, InputError, Scale, Train, Vary
from aejax.core import steps
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.members import random_parts, random_rows
from aejax.detection.population import fit_population
from aejax.detection.rows import as_rows
from aejax.models.build import build
from aejax.training.members import Parts
from tests.plain import plain_config

BASE = plain_config(
    model=Dense(hidden=(8, 4), activation="sigmoid"),
    train=Train(epochs=4, batch_size=32, patience=3, optimizer="adamw", clip_norm=1.0),
    scale=Scale(kind="standard"),
)
SEEN = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1], bool)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    random = np.random.default_rng(0)
    mixed = random.normal(size=(300, 3)) @ random.normal(size=(3, 10))
    return (mixed + 0.1 * random.normal(size=mixed.shape)).astype(np.float32)


def carved(variables: Any, seen: np.ndarray, widths: list[int]) -> dict[str, Any]:
    """The parameters of the smaller network, cut out of those of the whole one."""
    names = ["encoder_layers_0", "encoder_layers_1", "decoder_layers_0", "output_layer"]
    kept = [np.flatnonzero(seen), *(np.arange(width) for width in widths), np.flatnonzero(seen)]
    params = {}
    for name, before, after in zip(names, kept[:-1], kept[1:], strict=True):
        layer = jax.device_get(variables["params"][name])
        params[name] = {
            "kernel": layer["kernel"][np.ix_(before, after)],
            "bias": layer["bias"][after],
        }
    return {"params": params}


@pytest.mark.parametrize(
    ("parts", "hidden"),
    [
        (Parts(features=SEEN), (8, 4)),
        (Parts(hidden=(5, 2)), (5, 2)),
        (Parts(features=SEEN, hidden=(3, 3)), (3, 3)),
    ],
)
def test_a_member_is_the_smaller_network(
    x: np.ndarray, parts: Parts, hidden: tuple[int, ...]
) -> None:
    whole = Parts()
    member, other = fit_population([BASE, BASE], x, parts=[parts, whole]).detectors
    assert member is not None
    assert other is not None
    seen = np.ones(10, bool) if parts.features is None else parts.features
    fresh = steps.new_variables(build(BASE.model, Schema(shape=(10,))), (10,), 0)
    widths = [hidden[0], hidden[1], hidden[0]]
    narrow = dataclasses.replace(BASE, model=Dense(hidden=hidden, activation="sigmoid"))
    alone = aejax.fit(narrow, x[:, seen], initial=carved(fresh, seen, widths))
    for found, wanted in zip(member.history, alone.history, strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
        assert found["validation_loss"] == pytest.approx(wanted["validation_loss"], rel=1e-4)
    for found, wanted in zip(
        jax.tree.leaves(carved(member.variables, seen, widths)),
        jax.tree.leaves({"params": alone.variables["params"]}),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    np.testing.assert_allclose(member.score(x), alone.score(x[:, seen]), rtol=2e-3)
    # What it lacks doesn't count, whatever it holds.
    changed = x.copy()
    changed[:, ~seen] += 100
    np.testing.assert_array_equal(member.score(changed), member.score(x))
    # A member that lacks nothing is what `fit` makes.
    usual = aejax.fit(BASE, x)
    np.testing.assert_allclose(other.score(x), usual.score(x), rtol=2e-3)


def test_connections_that_are_left_out_stay_out(x: np.ndarray) -> None:
    parts = [Parts(connections=0.6, seed=seed) for seed in range(2)]
    first, second = fit_population([BASE, BASE], x, parts=parts).detectors
    assert first is not None
    assert second is not None
    kernels = [
        np.concatenate(
            [np.ravel(layer["kernel"]) for layer in detector.variables["params"].values()]
        )
        for detector in (first, second)
    ]
    for kernel in kernels:
        assert np.mean(kernel != 0) == pytest.approx(0.6, abs=0.1)
    assert np.any((kernels[0] == 0) != (kernels[1] == 0))


def test_random_parts_and_rows() -> None:
    model = Dense(hidden=(20, 6))
    vary = Vary(features=0.5, units=0.5, rows=0.25)
    parts = random_parts(vary, model, 12, 200, 7)
    counts = [int(one.features.sum()) for one in parts if one.features is not None]
    assert (min(counts), max(counts)) == (6, 11)
    widths = np.array([one.hidden for one in parts])
    assert widths.min(axis=0).tolist() == [10, 3]
    assert widths.max(axis=0).tolist() == [20, 6]
    again = random_parts(vary, model, 12, 3, 7)
    assert [one.hidden for one in again] == [one.hidden for one in parts[:3]]
    rows = random_rows(vary, np.arange(100, 180), 5, 7)
    assert {len(own) for own in rows} == {20}
    assert all(len(np.unique(own)) == 20 for own in rows)
    assert set(np.concatenate(rows)) <= set(range(100, 180))
    assert len({tuple(own) for own in rows}) == 5


def test_an_ensemble_of_parts_is_one_detector(x: np.ndarray, tmp_path: Path) -> None:
    vary = Vary(features=0.5, units=0.5, connections=0.8, rows=0.8)
    ensemble = aejax.fit(BASE, x, members=3, vary=vary, combine="rank")
    assert ensemble.provenance["vary"]["features"] == 0.5
    ensemble.save(tmp_path)
    loaded = aejax.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(x), ensemble.score(x))
    scores, _, errors = loaded.explain_rows(as_rows(x, None)[0], top=10)
    np.testing.assert_allclose(scores, loaded.score(x), rtol=1e-4, atol=1e-6)
    # Each member's errors, as they count, have its score as their mean.
    means = dataclasses.replace(loaded, combine="mean").score(x)
    np.testing.assert_allclose(errors.mean(axis=1), means, rtol=1e-4)
    np.testing.assert_allclose(loaded.errors_of(x).mean(axis=1), means, rtol=1e-4)


def test_ranks_are_shares_of_normal_rows(x: np.ndarray) -> None:
    population = fit_population(
        [dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, seed=s)) for s in (0, 1)],
        x,
    )
    ensemble = population.ensemble(x, combine="rank")
    assert [d is not None for d in population.detectors] == [True, True]
    each = np.stack([d.score(x) for d in population.detectors if isinstance(d, Detector)])
    # Of each row among all rows: as pandas ranks them.
    ranks = each.argsort(axis=1).argsort(axis=1) / (len(x) - 1)
    np.testing.assert_allclose(ensemble.score(x), ranks.mean(axis=0), atol=2 / 256)
    np.testing.assert_allclose(ensemble.spread(x), ranks.std(axis=0), atol=2 / 256)
    # Beyond all normal rows, what is further away still ranks higher.
    far = x[:1] + np.array([[10.0], [20.0], [40.0]], np.float32)
    assert np.all(np.diff(ensemble.score(far)) > 0)
    assert ensemble.score(far)[0] > 1


def test_what_cannot_be_left_out(x: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"Parts\.hidden is \(9, 2\)"):
        fit_population([BASE], x, parts=[Parts(hidden=(9, 2))])
    with pytest.raises(InputError, match="0 features"):
        fit_population([BASE], x, parts=[Parts(features=np.zeros(10, bool))])
    with pytest.raises(InputError, match="parts has 2 members"):
        fit_population([BASE], x, parts=[Parts(), Parts()])
    with pytest.raises(InputError, match="parts of a Conv"):
        aejax.fit(
            dataclasses.replace(BASE, model=aejax.Conv()),
            np.zeros((20, 8, 8, 1), np.float32),
            members=2,
            vary=Vary(units=0.5),
        )
    with pytest.raises(InputError, match=r"Vary\.rows is 0"):
        Vary(rows=0)

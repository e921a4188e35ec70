"""Training that is counted in steps: the same steps in the same order, whatever the rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import aejax
from aejax.config import Dense, InputError, Train
from aejax.core import scaling, steps
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.detection.population import fit_population
from aejax.models.build import build
from aejax.reporting import plots
from aejax.training import feeding, loop
from aejax.training.course import Orders, course, rows_of_steps
from aejax.training.loop import Interrupted, Trained
from aejax.training.members import Member
from aejax.training.population import train_populations
from tests.plain import plain_config

FEATURES, ROWS, BATCH = 5, 70, 8
PER_PASS = 9
MODEL = Dense(hidden=(4, 2), dropout=0.2)


def rows(n: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, FEATURES)).astype(np.float32)


def run(*, x: Any = None, folder: Path | None = None, stop: Any = None, **train: Any) -> Trained:
    config = plain_config(model=MODEL, train=Train(batch_size=BATCH, noise=0.1, **train))
    return loop.train(
        config,
        build(MODEL, Schema(shape=(FEATURES,))),
        scaling.fit(config.scale, [rows()], np.dtype(np.float32)),
        rows() if x is None else x,
        rows(20),
        shape=(FEATURES,),
        folder=folder,
        checkpoint_seconds=0.0,
        **({} if stop is None else {"should_stop": stop}),
    )


def assert_equal(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_as_many_steps_as_some_passes_leave_the_same_bits(schedule: str) -> None:
    passes = run(epochs=7, schedule=schedule)
    counted = run(steps=7 * PER_PASS, schedule=schedule)
    assert_equal(counted.variables, passes.variables)
    total = sum(row["loss"] * row["rows"] for row in passes.history)
    assert sum(row["loss"] * row["rows"] for row in counted.history) == pytest.approx(total)


@pytest.mark.parametrize("count", [1, 49, 50, 61, 120])
@pytest.mark.parametrize("feed", ["device", "stream"])
def test_it_ends_after_that_many_steps(count: int, feed: str) -> None:
    """A last pass that isn't whole counts with the rows that it had, and the rate reaches its end.

    NumPy counts: of the 9 batches of a pass the last has 6 of 8 rows.
    """
    found = run(steps=count, schedule="cosine", learning_rate=0.5, feed=feed).history
    sizes = np.tile([8] * 8 + [6], count)[:count]
    length = -(-count // 50)
    ends = [sizes[first : first + length].sum() for first in range(0, count, length)]
    assert [row["rows"] for row in found] == ends
    assert len(found) <= 50
    last = [min(first + length, count) - 1 for first in range(0, count, length)]
    expected = 0.25 * (1 + np.cos(np.pi * np.array(last) / count))
    np.testing.assert_allclose([row["learning_rate"] for row in found], expected, atol=1e-6)


def test_batches_are_those_of_one_pass_after_the_other() -> None:
    train = Train(steps=130, batch_size=BATCH, seed=3)
    orders = Orders(train=train, rows=ROWS)
    found = np.concatenate([orders(epoch) for epoch in range(course(train, ROWS).epochs)])
    passes = [batches.epoch_order(ROWS, BATCH, 3, number) for number in range(15)]
    np.testing.assert_array_equal(found, np.concatenate(passes)[:130])
    counted = rows_of_steps(train, ROWS, 130)
    np.testing.assert_array_equal(counted, (found >= 0).sum(axis=1))


def test_more_rows_than_the_steps_see() -> None:
    found = run(x=rows(1000), steps=100).history
    assert sum(row["rows"] for row in found) == 100 * BATCH
    assert len(found) == 50


@pytest.mark.parametrize("feed", ["device", pytest.param("stream", marks=pytest.mark.slow)])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: str
) -> None:
    monkeypatch.setattr(feeding, "STEPS_IN_STREAM", 2)
    monkeypatch.setattr(feeding, "STEPS_ON_DEVICE", 2)
    settings = {"steps": 131, "patience": 20, "schedule": "cosine", "feed": feed}
    whole = run(**settings)
    for calls in (1, 2, 30, 44):
        asked = iter(range(1000))
        with pytest.raises(Interrupted, match="of 44"):
            run(folder=tmp_path, stop=lambda a=asked, c=calls: next(a) + 1 >= c, **settings)
    resumed = run(folder=tmp_path, **settings)
    assert_equal(resumed.variables, whole.variables)
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]


def test_a_folder_of_other_steps_is_refused(tmp_path: Path) -> None:
    run(folder=tmp_path, steps=5)
    with pytest.raises(InputError, match="steps"):
        run(folder=tmp_path, steps=6)


@pytest.mark.parametrize("patience", [pytest.param(None, marks=pytest.mark.slow), 3])
def test_members_of_any_rows_share_a_program_and_end_as_alone(patience: int | None) -> None:
    """Of 9, 70 and 200 rows: passes of 2, 9 and 25 steps; 61 steps each, the last a part alone."""
    x = rows(200)
    settings = {"steps": 61, "batch_size": BATCH, "patience": patience, "learning_rate": 0.02}
    members = [
        Member(
            config=plain_config(model=MODEL, train=Train(seed=seed, schedule="cosine", **settings)),
            training=np.arange(count),
            validation=np.arange(150, 170),
        )
        for seed, count in enumerate((9, ROWS, 200))
    ]
    model = build(MODEL, Schema(shape=(FEATURES,)))
    before = steps.compiled_train_members.programs()
    (together,) = train_populations([(members, model)], x, shape=(FEATURES,))
    if patience is None:
        # Rounds of 16 and 15 parts.
        assert steps.compiled_train_members.programs() - before <= 2
    for member, one in zip(members, together, strict=True):
        alone = loop.train(
            member.config,
            model,
            one.scaler,
            x[member.training],
            x[member.validation],
            shape=(FEATURES,),
        )
        assert one.best_epoch == alone.best_epoch
        for name in ("loss", "validation_loss"):
            np.testing.assert_allclose(
                [row[name] for row in one.history], [row[name] for row in alone.history], rtol=1e-3
            )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), one.variables, alone.variables
        )


def test_members_of_other_steps_are_of_another_kind() -> None:
    x = rows()
    base = plain_config(model=MODEL, train=Train(steps=4, batch_size=BATCH))
    other = dataclasses.replace(base, train=dataclasses.replace(base.train, steps=5))
    population = fit_population([base, other], x)
    assert [len(one.history) for one in population.detectors if one is not None] == [4, 5]


def test_a_history_says_after_which_step_it_is() -> None:
    """Of one network and of several, and the plot of it."""
    config = plain_config(model=Dense(hidden=(2,)), train=Train(steps=120, batch_size=16))
    one, several = aejax.fit(config, rows()), aejax.fit(config, rows(), members=2)
    for history in (one.history, several.history):
        assert [row["step"] for row in history] == list(range(3, 121, 3))
    passes = dataclasses.replace(config, train=Train(epochs=2, batch_size=16))
    for found, unit in ((one, "step"), (aejax.fit(passes, rows()), "epoch")):
        plot = plots.losses(found.history)
        assert plot is not None
        assert plot.figure.axes[0].get_xlabel() == unit


def test_one_of_epochs_and_steps() -> None:
    assert (Train(steps=4).epochs, Train(steps=4).steps) == (None, 4)
    assert (Train(epochs=4).epochs, Train(epochs=4).steps) == (4, None)
    assert dataclasses.replace(Train(), epochs=3).length == 3
    assert dataclasses.replace(Train(), steps=3).length == 3
    assert Train(steps=4).of_length(9) == Train(steps=9)
    assert Train(epochs=4).of_length(9) == Train(epochs=9)
    with pytest.raises(InputError, match=r"Train\.steps is 4 beside Train\.epochs 3; allowed: one"):
        Train(epochs=3, steps=4)
    with pytest.raises(InputError, match=r"Train\.steps is 0; allowed"):
        Train(steps=0)

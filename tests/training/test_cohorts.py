"""Members that stopped make room: the same results in fewer steps."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from aejax.config import Dense, Scale, Train
from aejax.core import steps
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.models.build import build
from aejax.training import cohorts
from aejax.training.cohorts import (
    LEAST_EPOCHS_AT_ONCE,
    Kind,
    fit_scalers,
    plan,
    round_up,
    steps_of,
)
from aejax.training.members import Member, TrainedMember
from aejax.training.population import train_populations
from tests.plain import plain_config

EPOCHS = 40
# Most members learn so fast that they get worse soon; two go on to the end.
RATES = (0.2, 0.3, 1e-4, 0.25, 0.2, 0.3, 0.25, 2e-4, 0.2, 0.3)


def members(rows: int) -> list[Member]:
    found = []
    for seed, rate in enumerate(RATES):
        train = Train(epochs=EPOCHS, batch_size=32, patience=1, learning_rate=rate, seed=seed)
        config = plain_config(model=Dense(hidden=(6, 2)), scale=Scale(kind="standard"), train=train)
        # Members have different numbers of rows, and so of steps.
        own = np.arange(rows - 25 * (seed % 3))
        picked, held = batches.validation_split(len(own), 0.2, seed)
        found.append(Member(config=config, training=own[picked], validation=own[held]))
    return found


def trained(chosen: list[Member], x: np.ndarray, group_size: int) -> list[TrainedMember]:
    model = build(chosen[0].config.model, Schema(shape=x.shape[1:]))
    return train_populations([(chosen, model)], x, shape=x.shape[1:], group_size=group_size)[0]


def test_members_that_stopped_cost_nothing_and_the_others_end_the_same() -> None:
    random = np.random.default_rng(0)
    x = (random.normal(size=(200, 3)) @ random.normal(size=(3, 8))).astype(np.float32)
    chosen = members(200)
    before = steps.compiled_train_members.programs()
    together = trained(chosen, x, 4)
    compiled = steps.compiled_train_members.programs() - before
    alone = [trained([member], x, 1)[0] for member in chosen]
    for one, other in zip(together, alone, strict=True):
        assert one.best_epoch == other.best_epoch
        assert len(one.history) == len(other.history)
        for a, b in zip(one.history, other.history, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
            assert a["validation_loss"] == pytest.approx(b["validation_loss"], rel=1e-3)
        for a, b in zip(
            jax.tree.leaves(one.variables), jax.tree.leaves(other.variables), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-4)
    lasted = [len(member.history) for member in together]
    assert lasted.count(EPOCHS) >= 2
    assert max(sorted(lasted)[:-2]) < EPOCHS // 2
    # A member has a place for at most one round after it stopped, and as long as there are
    # as few going on as a program has places.
    run = sum(member.epochs_run for member in together)
    assert run < len(chosen) * EPOCHS / 2
    assert run <= sum(lasted) + len(chosen) * 2 * LEAST_EPOCHS_AT_ONCE
    # Members with the two numbers of steps, in programs of 4 and then of fewer.
    assert compiled <= 6


def test_members_of_like_sizes_stand_together() -> None:
    chosen = members(200)
    kind: list[int] = []

    x = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    model = build(chosen[0].config.model, Schema(shape=(8,)))
    made = Kind(
        program=steps.program_of(chosen[0].config, model),
        members=chosen,
        scalers=fit_scalers(chosen, x, None),
        rows={jax.devices()[0]: jax.device_put(x)},
        shape=(8,),
    )
    for numbers, own in plan(made, 4):
        assert len(numbers) == len(own) == 4
        kind += [number for number, counts in zip(numbers, own, strict=True) if counts]
    assert sorted(kind) == list(range(10))
    found = [steps_of(chosen[number]) for number in kind]
    assert found == sorted(found)
    # Filled up, all programs have the size that was asked for, and each member still counts once.
    for size in (3, 4, 16):
        filled = plan(dataclasses.replace(made, fills=True), size)
        assert {len(part) for pair in filled for part in pair} == {size}
        counted = [
            number
            for numbers, own in filled
            for number, counts in zip(numbers, own, strict=True)
            if counts
        ]
        assert sorted(counted) == list(range(10))


def test_rows_of_many_sizes_share_few_shapes() -> None:
    rounded = [round_up(count) for count in range(1, 200)]
    assert rounded[:13] == [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16]
    assert len(set(rounded)) == 16
    assert all(count <= up < 1.5 * count for count, up in enumerate(rounded, 1))


def test_members_that_share_positions_share_a_scaler() -> None:

    x = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    first = members(200)[0]
    other = dataclasses.replace(first, training=first.training[:50])
    same, again, different = fit_scalers([first, first, other], x, None)
    assert same is again
    assert same.shift is not None
    assert different.shift is not None
    np.testing.assert_allclose(same.shift, x[first.training].mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        different.shift, x[first.training[:50]].mean(axis=0), rtol=1e-4, atol=1e-6
    )


def test_first_values_of_many_members_are_those_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    few = trained(members(100)[:3], x, 2)
    monkeypatch.setattr(cohorts, "MANY", 0)
    many = trained(members(100)[:3], x, 2)
    for one, other in zip(few, many, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)

"""A run that goes on is the one that was begun: everything that decides its result is compared."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

import aejax
from aejax.config import InputError, Train
from aejax.core import scaling
from aejax.models.own import OwnLinenNetwork
from aejax.training.loop import Trained, train
from aejax.training.members import Member
from aejax.training.parts import KeptParts
from aejax.training.population import train_populations
from tests.plain import plain_config

FEATURES = 6
# Large enough to be left out of a text that shortens what it prints.
TABLES = [np.random.default_rng(seed).normal(size=(64, FEATURES)) for seed in (0, 1)]


class Gated(nn.Module):
    """With more that code can change and no parameter tells."""

    width: int = 3
    gate: Callable[[jax.Array], jax.Array] = nn.sigmoid
    begins: Callable[..., Any] = nn.initializers.lecun_normal()
    table: int | None = None
    shift: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: Any = None) -> jax.Array:
        if self.table is not None:
            x = x + TABLES[self.table][0].astype(np.float32)
        latent = nn.Dense(self.width, kernel_init=self.begins)(x)
        latent = latent * self.gate(nn.Dense(self.width)(x))
        found = nn.Dense(FEATURES)(latent)
        return found if train else found + self.shift


class Plain(nn.Module):
    """Parameters of the same names and shapes as `Gated`'s first layers, put to other use."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: Any = None) -> jax.Array:
        return nn.Dense(FEATURES)(nn.Dense(3)(x) + nn.Dense(3)(x))


X = np.random.default_rng(0).normal(size=(60, FEATURES)).astype(np.float32)
HELD = np.random.default_rng(1).normal(size=(20, FEATURES)).astype(np.float32)
# Finite everywhere, so that its last digit is one bit of the input.
OTHER_X = X.copy()
OTHER_X[-1, -1] = np.nextafter(OTHER_X[-1, -1], np.float32(9))
BASE: dict[str, Any] = {"epochs": 2, "batch_size": 16, "patience": 2}


def run(
    folder: Path | None,
    network: nn.Module | None = None,
    *,
    x: Any = X,
    x_validation: np.ndarray = HELD,
    scaled_by: np.ndarray = X,
    config: dict[str, Any] | None = None,
    how: dict[str, Any] | None = None,
    **settings: Any,
) -> Trained:
    chosen = plain_config(train=Train(**BASE | settings), **(config or {}))
    return train(
        chosen,
        OwnLinenNetwork(module=network or Gated()),
        scaling.fit(chosen.scale, [scaled_by], np.dtype(np.float32)),
        x,
        x_validation,
        shape=(FEATURES,),
        folder=folder,
        **(how or {}),
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    folder = tmp_path_factory.mktemp("begun")
    return folder, run(folder)


NETWORKS = [
    Gated(width=4),
    Plain(),
    Gated(gate=nn.tanh),
    Gated(begins=nn.initializers.zeros),
    Gated(table=0),
    # Only its output in validation differs.
    Gated(shift=1.0),
]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_another_network_of_ones_own_is_refused(
    begun: tuple[Path, Trained], network: nn.Module
) -> None:
    with pytest.raises(InputError, match=r"another run \((step|numbers)"):
        run(begun[0], network)


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, "numbers.seed is '0' there and '1' here"),
    ({"learning_rate": 0.01}, "numbers.learning_rate is '0.001' there and '0.01' here"),
    ({"weight_decay": 0.1, "optimizer": "adamw"}, "is"),
    ({"clip_norm": 1.0}, "numbers.clip_norm is 'inf' there and '1.0' here"),
    ({"noise": 0.1}, "numbers.noise"),
    ({"beta": 2.0}, "numbers.beta"),
    ({"loss": "absolute"}, "program.objective.loss is \"'squared'\" there and \"'absolute'\""),
    ({"optimizer": "sgd"}, "program.optimizer"),
    ({"schedule": "cosine"}, "program.schedule"),
    ({"hide": 0.5}, "program.objective.hide"),
    ({"trim": 0.1}, "program.trim"),
    ({"frozen": ("Dense_0",)}, "program.frozen"),
    ({"epochs": 3}, "epochs is 2 there and 3 here"),
    ({"batch_size": 8}, "batch_size is 16 there and 8 here"),
    ({"patience": 1}, "patience is 2 there and 1 here"),
    ({"x": OTHER_X}, "rows is"),
    ({"x": X[:-1]}, "is"),
    ({"x_validation": HELD + 1}, "validation rows is"),
    ({"scaled_by": HELD}, "scaler is"),
    ({"config": {"scale": aejax.Scale(kind="min-max")}}, "scaler is"),
]


@pytest.mark.parametrize(("changed", "said"), OTHERS, ids=lambda one: str(one)[:20])
def test_whatever_else_decides_the_result_is_compared_and_named(
    begun: tuple[Path, Trained], changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match="holds checkpoints of another run") as error:
        run(begun[0], **changed)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_other_initial_variables_are_refused(begun: tuple[Path, Trained]) -> None:
    with pytest.raises(InputError, match="initial variables is None there"):
        run(begun[0], how={"initial": begun[1].variables})


class Source:
    """Rows that can be picked by position, and nothing else."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return X[rows]


@pytest.mark.parametrize(
    "same", [{}, {"x": Source()}, {"feed": "stream"}, {"config": {"rule": aejax.MeanStd(k=2.0)}}]
)
def test_the_same_run_is_continued_however_it_is_fed(
    begun: tuple[Path, Trained], same: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr("aejax.training.feeding.Feed.__call__", never)
    found = run(begun[0], **same)
    jax.tree.map(np.testing.assert_array_equal, found.variables, begun[1].variables)
    # The class's name is no part of what it computes.
    renamed = type("Renamed", (Gated,), {})
    run(begun[0], renamed())


def test_constants_that_a_network_holds_count(tmp_path: Path) -> None:
    run(tmp_path, Gated(table=0))
    with pytest.raises(InputError, match="step is"):
        run(tmp_path, Gated(table=1))


def test_of_a_fit_everything_that_it_is_given_counts(tmp_path: Path) -> None:
    config = plain_config(model=aejax.Dense(hidden=(3,)), train=Train(**BASE))
    rows = {"x_validation": HELD, "x_scale": X}
    first = aejax.fit(config, X, folder=tmp_path, **rows)
    for name, said in (("x_validation", "validation rows is"), ("x_scale", "scaler is")):
        with pytest.raises(InputError, match=said):
            aejax.fit(config, X, folder=tmp_path, **rows | {name: OTHER_X * 2})
    wider = dataclasses.replace(config, model=aejax.Dense(hidden=(4,)))
    said = r"program\.model\.module\.hidden is '\(3,\)' there and '\(4,\)'"
    with pytest.raises(InputError, match=said):
        aejax.fit(wider, X, folder=tmp_path, **rows)
    # A rule is set on the scores of what was trained: another one needs no other training.
    other = dataclasses.replace(config, rule=aejax.MeanStd(k=2.0))
    again = aejax.fit(other, X, folder=tmp_path, **rows)
    np.testing.assert_array_equal(again.score(X), first.score(X))
    assert again.threshold.value != first.threshold.value


def members(seed: int = 0, rows: int = 40) -> list[Member]:
    found = []
    for at in range(4):
        config = plain_config(train=Train(epochs=2, batch_size=16, seed=seed + at))
        found.append(
            Member(config=config, training=np.arange(rows - at), validation=np.arange(50, 60))
        )
    return found


@pytest.mark.slow
def test_of_a_population_in_parts_too(tmp_path: Path) -> None:
    def populate(network: nn.Module, of: list[Member], x: np.ndarray = X) -> Any:
        parts = KeptParts(tmp_path, {}, group_size=2, part_size=4)
        kind = (of, OwnLinenNetwork(module=network))
        return train_populations([kind], x, shape=(FEATURES,), group_size=2, parts=parts)

    (first,) = populate(Gated(), members())
    (again,) = populate(Gated(), members())
    for one, other in zip(first, again, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
    for network in NETWORKS:
        with pytest.raises(InputError, match="parts of another training"):
            populate(network, members())
    for changed in (members(seed=1), members(rows=41), members()[:3]):
        with pytest.raises(InputError, match="parts of another training"):
            populate(Gated(), changed)
    with pytest.raises(InputError, match=r"parts of another training \(rows is"):
        populate(Gated(), members(), OTHER_X)


PROGRAM = """
import sys
from pathlib import Path
from aejax.training.loop import Interrupted
from tests.training import test_identity as here
try:
    here.run(Path(sys.argv[1]), how={"should_stop": lambda: True} if sys.argv[2] == "stop" else {})
except Interrupted:
    print("stopped")
else:
    print("done")
"""


def test_another_process_finds_it_the_same(tmp_path: Path) -> None:
    """What a network computes doesn't depend on addresses or on the order of a set."""
    for seed, how, said in (("1", "stop", "stopped"), ("2", "go on", "done")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path), how],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parents[2],
        )
        assert done.stdout.strip() == said, done.stderr[-2000:]

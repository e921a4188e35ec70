"""Search spaces: what files mean, what draws are like, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from aejax import MeanStd
from aejax.config import Config, Dense, InputError, Scale, Train
from aejax.training.search_space import Choices, Range, draw, parse_space, read_space

RATE = {"low": 1e-4, "high": 1e-1, "log": True}


def write(folder: Path, text: str) -> Path:
    path = folder / "space.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_fixes_and_searches(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        error = "absolute"
        train.epochs = 20
        "train.learning_rate" = { low = 1e-4, high = 1e-1, log = true }
        [model]
        hidden = { choices = [[32, 8], [16]] }
        [rule]
        kind_name = "mean-std"
        k = 1
        [train.clip_norm]
        choices = ["none", 1.0]
        """,
    )
    space = read_space(path)
    assert space.base == Config(
        model=Dense(), error="absolute", train=Train(epochs=20), rule=MeanStd(k=1)
    )
    assert space.searched == {
        "train.learning_rate": Range(low=1e-4, high=1e-1, log=True),
        "model.hidden": Choices(values=([32, 8], [16])),
        "train.clip_norm": Choices(values=(None, 1.0)),
    }
    drawn = draw(space, 30, seed=3)
    assert {one.config.model for one in drawn} == {Dense(hidden=(32, 8)), Dense(hidden=(16,))}
    assert {one.config.train.clip_norm for one in drawn} == {None, 1.0}
    assert all(one.config.train.epochs == 20 for one in drawn)
    assert all(one.config.train.seed == 3 for one in drawn)
    assert all(one.config.error == "absolute" for one in drawn)


def test_a_model_of_another_kind_starts_from_its_defaults() -> None:
    space = parse_space(
        {
            "model.kind_name": "variational",
            "model.network.kind_name": "conv",
            "model.latent": {"choices": [2, 8]},
        },
        Config(model=Dense(hidden=(3,)), scale=Scale(kind="min-max")),
    )
    assert type(space.base.model).__name__ == "Variational"
    assert type(space.base.model.network).__name__ == "Conv"


@pytest.mark.parametrize("log", [False, True])
def test_ranges_are_drawn_evenly(log: bool) -> None:
    space = parse_space({"train.learning_rate": {**RATE, "log": log}})
    values = np.asarray([one.config.train.learning_rate for one in draw(space, 400, seed=0)])
    low, high = 1e-4, 1e-1
    if log:
        values, low, high = np.log(values), np.log(low), np.log(high)
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01


def test_whole_numbers_reach_both_ends_evenly() -> None:
    random = np.random.default_rng(0)
    found = [Range(low=1, high=3, whole=True).draw(random) for _ in range(3000)]
    counts = np.bincount(found, minlength=4)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 0.01
    on_log = [Range(low=1, high=64, log=True, whole=True).draw(random) for _ in range(500)]
    assert set(map(type, on_log)) == {int}
    assert np.median(on_log) == pytest.approx(6, abs=2)  # sqrt(0.5 * 64.5) is 5.7


def test_draws_differ_repeat_and_extend() -> None:
    space = parse_space({"train.learning_rate": RATE, "train.batch_size": {"low": 16, "high": 512}})
    few, many = draw(space, 5, seed=1), draw(space, 40, seed=1)
    assert few == many[:5]
    assert len({repr(one.settings) for one in many}) == 40
    assert draw(space, 5, seed=2) != few


def test_a_small_space_gives_each_combination_once() -> None:
    space = parse_space(
        {"train.epochs": {"low": 3, "high": 5}, "train.batch_size": {"choices": [8, 16]}}
    )
    drawn = draw(space, 64, seed=0)
    assert len(drawn) == 6
    found = {(one.config.train.epochs, one.config.train.batch_size) for one in drawn}
    assert found == {(epochs, size) for epochs in (3, 4, 5) for size in (8, 16)}


def test_combinations_that_are_refused_are_passed_over() -> None:
    # A bernoulli likelihood needs a sigmoid; the other combinations are fine.
    space = parse_space(
        {
            "model.kind_name": "variational",
            "model.likelihood": {"choices": ["bernoulli", "normal"]},
            "model.network.output": {"choices": ["sigmoid", "linear"]},
        },
        Config(scale=Scale(kind="min-max")),
    )
    assert len(draw(space, 10, seed=0)) == 3


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"train.learning_rat": RATE}, "did you mean 'train.learning_rate'?"),
        ({"learning_rate": RATE}, "did you mean 'train.learning_rate'?"),
        ({"modle.hidden": {"choices": [[3]]}}, "'modle' is no setting"),
        ({"train": 3}, "train is 3; allowed: its settings"),
        ({"train.learning_rate": {"low": 1.0, "high": 0.5}}, "low below high"),
        ({"train.learning_rate": {"low": 1.0, "high": 1.0}}, "low below high"),
        ({"train.learning_rate": {"low": 0.0, "high": 1.0, "log": True}}, "above 0"),
        ({"train.learning_rate": {"low": "a", "high": 1.0}}, "low is 'a'; allowed: a number"),
        ({"train.learning_rate": {"low": 1e-3, "hihg": 1.0}}, "did you mean 'high'?"),
        ({"train.learning_rate": {"low": 1e-3}}, "has low; allowed:"),
        ({"train.learning_rate": {}}, "has nothing; allowed:"),
        ({"train.learning_rate": {"low": 1e-3, "high": 1, "log": 1}}, "true or false"),
        ({"train.learning_rate": {"low": -1, "high": 1}}, "Train.learning_rate is -1"),
        ({"train.learning_rate": {"low": 1e-3, "high": float("inf")}}, "high is inf"),
        ({"train.epochs": {"low": 1.5, "high": 3}}, "a whole number"),
        ({"train.epochs": {"choices": [10, 1.5]}}, "Train.epochs is 1.5"),
        ({"train.epochs": "ten", "train.batch_size": {"choices": [1]}}, "Train.epochs is 'ten'"),
        ({"model.hidden": {"low": 1, "high": 3}}, "is no number"),
        ({"model.hidden": {"choices": []}}, "at least 1 value"),
        ({"model.hidden": {"choices": [5]}}, "Dense.hidden is 5"),
        ({"model.hidden": {"choices": [[5], [5]]}}, "twice"),
        ({"train.schedule": {"choices": ["cosin"]}}, "Train.schedule is 'cosin'"),
        ({"train.seed": {"choices": [1, 2]}}, "--seed"),
        ({"train.weight_decay": {"low": 1e-6, "high": 1e-2}}, "0 with optimizer 'adam'"),
        ({"rule.q": {"choices": [0.9, 0.99]}}, "decides nothing"),
        ({"model.kind_name": {"choices": ["dense"]}}, "allowed: one value"),
        ({"model.kind_name": "dens", "train.epochs": {"choices": [1]}}, "'dens'; allowed: 'dense'"),
        ({"train.epochs": 3}, "nothing is searched"),
        ({}, "nothing is searched"),
    ],
)
def test_a_mistake_gets_one_line(written: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_space(written, source="space.toml")
    line = str(caught.value)
    assert line.startswith("space.toml: ")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_wrong_count_is_refused(count: Any) -> None:
    with pytest.raises(InputError, match="at least 1"):
        draw(parse_space({"train.learning_rate": RATE}), count, seed=0)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_space(tmp_path / "none.toml")
    with pytest.raises(InputError, match="not readable as TOML"):
        read_space(write(tmp_path, "train.epochs = \n"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable as TOML"):
        read_space(tmp_path / "binary.toml")

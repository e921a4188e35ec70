"""The one dial: what each of its names sets, in code and on the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aejax
from aejax.cli import main, parse
from aejax.config import EFFORTS, Columns, Config, Conv, Dense, InputError, Scale, Train, rule_text
from aejax.config.effort import Cost
from aejax.estimator import AutoEncoder, PyODAutoEncoder

STEPS = {"quick": (None, 400), "standard": (None, 1500), "best": (4, 1500)}


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same dial, turned in a moment."""
    for name, one in EFFORTS.items():
        monkeypatch.setitem(EFFORTS, name, Cost(members=one.members, steps=5))
    # Thresholds by rows held out, without five trainings more.
    monkeypatch.setattr("aejax.detection.cross_fitting.MOST_ROWS", 0)


def train_command(*flags: str) -> Any:
    return parse(["train", "--input", "a.csv", "--out", "run", *flags])


@pytest.mark.parametrize("effort", STEPS)
def test_the_command_line_has_what_code_has(effort: str) -> None:
    members, steps = STEPS[effort]
    expected = Config.of_effort(effort)
    command = train_command("--effort", effort)
    assert (command.network, command.train, command.scale, command.score, command.ensemble) == (
        expected.model,
        expected.train,
        expected.scale,
        expected.score,
        members,
    )
    assert (expected.train.steps, expected.train.epochs) == (steps, None)
    assert command.model == "noise-conditioned"


def test_other_flags_beside_it_count() -> None:
    command = train_command("--effort=best", "--steps", "7", "--network.hidden", "4", "--seed", "3")
    assert (command.train.steps, command.train.seed, command.network.network.hidden) == (7, 3, (4,))
    assert command.train.schedule == "cosine"
    command = train_command("--effort", "quick", "--epochs", "3", "--ensemble", "2")
    assert (command.train.epochs, command.train.steps, command.ensemble) == (3, None, 2)


def test_a_network_that_is_named_gets_what_suits_it() -> None:
    dense = train_command("--effort", "quick", "--model", "dense")
    assert (dense.score, dense.train.noise, dense.scale) == ("error", 0.5, Scale())
    in_code = Config.of_effort("quick", model=Dense())
    assert (in_code.score, in_code.train) == (dense.score, dense.train)
    conv = Config.of_effort("quick", model=Conv(channels=(4,)), error="absolute")
    assert (conv.score, conv.error, conv.train.noise) == ("error", "absolute", 0.0)
    own = train_command("--effort", "quick", "--model", "package.module:Class")
    assert (own.score, own.train.steps) == ("error", 400)


def test_the_command_line_without_a_word_is_the_default_in_code() -> None:
    command, config = train_command(), Config()
    found = (command.network, command.train, command.scale, command.score, command.calibration)
    assert found == (config.model, config.train, config.scale, config.score, config.calibration)
    assert (command.ensemble, command.rule) == (None, rule_text(config.rule))
    command = train_command("--batch-size", "64")
    assert command.train == dataclasses.replace(config.train, batch_size=64)


@pytest.mark.parametrize("flags", [("--hidden", "8", "2"), ("--model=dense",), ("--dropout=0.1",)])
def test_a_plain_network_on_the_command_line_is_that_in_code(flags: tuple[str, ...]) -> None:
    command = train_command(*flags)
    config = Config(model=command.network)
    assert type(command.network) is Dense
    assert command.model == "dense"
    found = (command.train, command.scale, command.score)
    assert found == (config.train, config.scale, config.score) == (Train(), Scale(), "error")


@pytest.mark.parametrize("effort", STEPS)
def test_rows_among_anomalies_have_the_same_dial(effort: str) -> None:
    config = Config.of_effort(effort, contaminated=True)
    command = train_command("--contaminated", "--effort", effort)
    found = (command.network, command.train, command.scale, command.score, command.rule)
    expected = (config.model, config.train, config.scale, config.score, rule_text(config.rule))
    assert found == expected
    assert command.ensemble == STEPS[effort][0]
    assert (config.train.steps, config.train.trim, config.score) == (
        400,
        0.3,
        "noise-levels-and-norm",
    )
    ours = PyODAutoEncoder(effort=effort)._config()
    same = {"train": ours.train, "rule": config.rule, "calibration": ours.calibration}
    assert dataclasses.replace(config, **same) == ours
    held = dataclasses.replace(config.train, validation_fraction=0.0)
    assert held == ours.train


def test_a_plain_estimator_is_scored_by_its_error() -> None:
    for given in ({"hidden": (4, 2)}, {"columns": "mixed"}):
        config = AutoEncoder(**given)._config()
        assert (config.score, config.train.noise, config.model.dropout) == ("error", 0.1, 0.2)


def test_mixed_columns_get_a_network_that_takes_them() -> None:
    mixed = Config.of_effort("standard", columns=Columns(kinds="mixed"))
    assert (mixed.model, mixed.score, mixed.train.steps) == (Dense(), "error", 1500)
    command = train_command("--effort", "standard", "--columns.kinds", "mixed")
    assert (command.network, command.score, command.train) == (Dense(), "error", mixed.train)


@pytest.mark.parametrize("bad", ["quickly", "", None, 3])
def test_another_name_is_refused(bad: Any) -> None:
    with pytest.raises(InputError, match="allowed: 'quick', 'standard', 'best'"):
        Config.of_effort(bad)
    with pytest.raises(InputError, match="allowed: 'quick', 'standard', 'best'"):
        aejax.fit(bad, np.zeros((9, 2)))


def test_a_wrong_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--input", "a.csv", "--out", "run", "--effort", "slow"]) == 2
    assert "'slow'; allowed: 'quick'" in capsys.readouterr().err


def test_fit_takes_the_name(few_steps: None, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    quick = aejax.fit("quick", x)
    assert quick.config == Config.of_effort("quick")
    best = aejax.fit("best", x)
    assert best.members == 4
    best.save(tmp_path / "best")
    loaded = aejax.load(tmp_path / "best")
    assert loaded.config == best.config
    np.testing.assert_allclose(loaded.score(x), best.score(x), rtol=1e-5)


def test_images_and_groups_too(few_steps: None) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 255, size=(40, 6, 6, 1)).astype(np.uint8)
    assert aejax.fit("quick", images).score(images[:3]).shape == (3,)
    x, groups = random.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2
    assert aejax.fit("quick", x, groups=groups).score(x[:3], groups=groups[:3]).shape == (3,)


def test_a_command_trains(few_steps: None, tmp_path: Path) -> None:
    lines = np.random.default_rng(0).normal(size=(60, 3))
    np.savetxt(tmp_path / "a.csv", lines, delimiter=",", header="a,b,c", comments="")
    out = tmp_path / "run"
    flags = ["--input", str(tmp_path / "a.csv"), "--out", str(out), "--effort", "quick", "--quiet"]
    assert main(["train", *flags]) == 0
    assert aejax.load(out).config.train == Train(
        steps=5, optimizer="adamw", learning_rate=2e-3, schedule="cosine", weight_decay=1e-4
    )

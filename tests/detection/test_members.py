"""Groups whose training is stopped: the same call goes on, to the same bits."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import aejax
from aejax import Quantile
from aejax.config import Config, Dense, InputError, Scale, Train, Vary
from aejax.detection.detector import Detector
from aejax.detection.members import programs_together
from aejax.training.loop import Interrupted
from aejax.training.parts import KeptParts
from tests.plain import plain_config

CONFIG = plain_config(
    model=Dense(hidden=(3,), activation="tanh", dropout=0.1),
    train=Train(epochs=20, batch_size=64, patience=2, learning_rate=0.05, noise=0.05),
    scale=Scale(kind="standard", clip=8.0),
    rule=Quantile(q=0.9),
)
# With programs of two members: three parts of six groups, and one of a single group.
GROUPS, TOGETHER = 19, 2


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    sizes = np.random.default_rng(9).integers(40, 45, size=GROUPS)
    groups = np.repeat(np.arange(GROUPS), sizes)
    x = random.normal(size=(len(groups), 2)) @ random.normal(size=(2, 4)) + groups[:, None]
    order = random.permutation(len(groups))
    return np.float32(x + 0.1 * random.normal(size=x.shape))[order], groups[order]


def assert_same(found: Detector, wanted: Detector) -> None:
    assert found.fingerprint == wanted.fingerprint
    assert found.groups == wanted.groups
    assert found.threshold == wanted.threshold
    jax.tree.map(np.testing.assert_array_equal, found.variables, wanted.variables)
    assert found.scaler._fields == wanted.scaler._fields
    jax.tree.map(np.testing.assert_array_equal, found.scaler, wanted.scaler)

    def facts(detector: Detector) -> dict[str, Any]:
        return {k: v for k, v in detector.provenance.items() if k != "train_seconds"}

    assert facts(found) == facts(wanted)


def kept(folder: Path) -> dict[str, int]:
    """The finished parts, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in sorted((folder / "parts").glob("*.npz"))}


def fit(folder: Path | None, config: Config = CONFIG, **how: Any) -> Detector:
    x, groups = rows()
    return aejax.fit(config, x, groups=groups, folder=folder, group_size=TOGETHER, **how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Detector]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(folder)


def test_parts_are_what_training_in_one_go_gives(whole: tuple[Path, Detector]) -> None:
    folder, found = whole
    assert len(kept(folder)) == 4
    together = fit(None)
    assert found.groups.names == together.groups.names
    x, groups = rows()
    np.testing.assert_allclose(
        found.score(x, groups=groups), together.score(x, groups=groups), rtol=2e-3
    )
    assert [group.best_epoch for group in found.groups.each] == [
        group.best_epoch for group in together.groups.each
    ]


@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_training_goes_on_to_the_same_bits(
    whole: tuple[Path, Detector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    write = KeptParts.write

    def failing(self: KeptParts, number: int, trained: Any) -> None:
        write(self, number, trained)
        if len(kept(tmp_path)) == after:
            raise MemoryError("as if killed")

    with monkeypatch.context() as patch:
        patch.setattr(KeptParts, "write", failing)
        with pytest.raises(MemoryError):
            fit(tmp_path)
    before = kept(tmp_path)
    assert len(before) == after
    found = fit(tmp_path)
    assert_same(found, whole[1])
    assert {name: kept(tmp_path)[name] for name in before} == before
    assert len(kept(tmp_path)) == 4


@pytest.mark.parametrize("vary", [None, Vary(features=0.8, rows=0.8)])
def test_a_stopped_ensemble_goes_on_to_the_same_bits(
    vary: Vary | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One part after the other, however many cores there are.
    monkeypatch.setattr("aejax.training.population.workers", lambda _: 1)
    x, _ = rows()

    def ensemble(folder: Path, members: int = 8, **how: Any) -> Detector:
        how = {"vary": vary, "group_size": 2, "combine": "rank", **how}
        return aejax.fit(CONFIG, x, members=members, folder=folder, **how)

    wanted = ensemble(tmp_path / "whole")
    with pytest.raises(Interrupted):
        ensemble(tmp_path / "stopped", should_stop=lambda: bool(kept(tmp_path / "stopped")))
    before = kept(tmp_path / "stopped")
    assert 1 <= len(before) < len(kept(tmp_path / "whole"))
    found = ensemble(tmp_path / "stopped")
    assert {name: kept(tmp_path / "stopped")[name] for name in before} == before
    assert_same(found, wanted)
    assert found.history == wanted.history
    with pytest.raises(InputError, match=r"members is 8 there and 9 here"):
        ensemble(tmp_path / "stopped", members=9)


def test_a_finished_training_is_not_trained_again(
    whole: tuple[Path, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr("aejax.training.cohorts.begin", never)
    assert_same(fit(whole[0]), whole[1])


def test_a_damaged_part_is_trained_anew(
    whole: tuple[Path, Detector], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path)
    paths = sorted((tmp_path / "parts").glob("*.npz"))
    # Cut short; of another part; and whole for zip, but with a number changed.
    paths[0].write_bytes(paths[0].read_bytes()[:-30])
    with np.load(paths[2]) as archive:
        arrays = dict(archive)
    arrays["scaler/shift"] = arrays["scaler/shift"] + 1
    with paths[2].open("wb") as file:
        np.savez(file, **arrays)
    with caplog.at_level(logging.WARNING):
        assert_same(fit(tmp_path), whole[1])
    said = " ".join(record.message for record in caplog.records)
    assert "part-000000.npz can't be read" in said
    assert "part-000002.npz can't be read and is trained anew: its content is not what" in said
    assert "part-000001" not in said


def test_another_training_is_refused(whole: tuple[Path, Detector]) -> None:
    folder, _ = whole
    longer = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=21))
    with pytest.raises(InputError, match=r"config\.train\.epochs is 20 there and 21 here"):
        fit(folder, longer)
    with pytest.raises(InputError, match=r"least_rows is None there and 2 here"):
        fit(folder, least_rows=2)
    x, groups = rows(1)
    with pytest.raises(InputError, match=r"another training \(groups is .* there and .* here\)"):
        aejax.fit(CONFIG, rows()[0], groups=groups, folder=folder, group_size=TOGETHER)
    with pytest.raises(InputError, match=r"\(rows is .* there and .* here\)"):
        aejax.fit(CONFIG, x, groups=rows()[1], folder=folder, group_size=TOGETHER)


def test_another_machines_number_of_members_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which members train side by side is the folder's choice once it has made one."""
    short = dataclasses.replace(CONFIG, train=Train(epochs=1, batch_size=64))
    x, groups = rows()
    monkeypatch.setattr("aejax.detection.fit_several.members_together", lambda *_: 2)
    aejax.fit(short, x, groups=groups, folder=tmp_path)
    monkeypatch.setattr("aejax.detection.fit_several.members_together", lambda *_: 5)
    before = kept(tmp_path)
    aejax.fit(short, x, groups=groups, folder=tmp_path)
    assert kept(tmp_path) == before
    assert json.loads((tmp_path / "parts" / "parts.json").read_text())["group_size"] == 2


def test_a_stop_that_is_asked_for_leaves_whole_parts(
    whole: tuple[Path, Detector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One part after the other, however many cores there are.
    monkeypatch.setattr("aejax.training.population.workers", lambda _: 1)
    with pytest.raises(Interrupted, match="stopped before all models were trained"):
        fit(tmp_path, should_stop=lambda: bool(kept(tmp_path)))
    assert 1 <= len(kept(tmp_path)) < 4
    assert_same(fit(tmp_path), whole[1])


@pytest.mark.parametrize(
    ("programs", "stops_early", "wanted"),
    [(1, True, 1), (4, True, 1), (16, True, 4), (64, True, 4), (160, True, 10), (10, False, 1)],
)
def test_a_part_is_small_and_there_are_not_too_many(
    programs: int, stops_early: bool, wanted: int
) -> None:
    assert programs_together(programs, stops_early) == wanted


@pytest.mark.slow
def test_the_command_is_killed_and_goes_on(tmp_path: Path, capsys: Any) -> None:
    x, groups = rows()
    table = pd.DataFrame(x, columns=list("abcd")).assign(store=groups.astype(str))
    table.to_csv(tmp_path / "rows.csv", index=False)
    command = ["train", "--input", str(tmp_path / "rows.csv"), "--group-column", "store"]
    command += ["--hidden", "3", "--epochs", "400", "--batch-size", "8", "--patience", "400"]
    command += ["--quiet", "--json"]
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    # As many groups in a program on all machines, so that there are three parts.
    program = "import sys; from aejax.detection import members; "
    program += "members.MOST_TOGETHER = 8; "
    program += "from aejax import cli; sys.exit(cli.main(sys.argv[1:]))"
    whole_command = [sys.executable, "-W", "ignore", "-c", program, *command, "--out"]
    process = subprocess.Popen([*whole_command, str(killed)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not kept(killed):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    before = kept(killed)
    assert not (killed / "detector").exists()
    for out in (killed, unbroken):
        subprocess.run([*whole_command, str(out)], check=True, stdout=subprocess.DEVNULL)
    assert {name: kept(killed)[name] for name in before} == before
    assert len(before) < len(kept(unbroken)) == 3
    assert_same(aejax.load(killed / "detector"), aejax.load(unbroken / "detector"))
    assert (killed / "groups.csv").read_bytes() == (unbroken / "groups.csv").read_bytes()
    # The same file with two rows' stores exchanged.
    table.loc[[0, 1], "store"] = table.loc[[1, 0], "store"].to_numpy()
    table.to_csv(tmp_path / "rows.csv", index=False)
    from aejax import cli

    assert cli.main([*command, "--out", str(killed)]) == 2
    assert "data.groups is" in capsys.readouterr().err
    assert os.listdir(killed / "parts")

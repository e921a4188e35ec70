"""Two processes train what one does: the same parameters, each reading its share of the rows."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aejax
from aejax.training import loop, processes

PROGRAM = Path(__file__).with_name("processes_program.py")
LAUNCH = Path(__file__).parents[2] / "scripts" / "launch_local.sh"


def functions_of(path: Path) -> Any:
    """A module that lies beside the tests; pytest imports none but them."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


program = functions_of(PROGRAM)


def launch(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    with (folder / "stderr").open("wb") as problems:
        return subprocess.Popen(
            [str(LAUNCH), "2", sys.executable, str(PROGRAM), str(folder)],
            stderr=problems,
            env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    with pytest.raises(loop.Interrupted):
        program.train(folder / "stopped-in-one", program.after(7))
    child = launch(folder)
    program.save(folder / "one.npz", program.train(None))
    assert child.wait(300) == 0, (folder / "stderr").read_text()[-3000:]
    program.save(folder / "from-two.npz", program.train(folder / "stopped-in-two"))
    return folder


def saved(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", ["whole-0", "whole-1", "from-two", "from-one-0", "from-one-1"])
def test_parameters_and_losses_are_those_of_one_process(folder: Path, name: str) -> None:
    one, found = saved(folder / "one.npz"), saved(folder / f"{name}.npz")
    assert len(one) > 20
    for key, expected in one.items():
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=1e-5, err_msg=key)


def test_each_process_reads_its_share_of_each_batch(folder: Path) -> None:
    # Each batch of 33 is filled up to 34, with a row of its own.
    reads = [np.load(folder / f"read-{index}.npy") for index in range(2)]
    steps = program.EPOCHS * program.ROWS // program.BATCH
    for read in reads:
        assert read.shape == (steps, 17)
    per_epoch = steps // program.EPOCHS
    for epoch in range(program.EPOCHS):
        # Grain's threads may read batches in another order, never across epochs.
        part = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        both = np.concatenate([read[part].ravel() for read in reads])
        rows, counts = np.unique(both, return_counts=True)
        np.testing.assert_array_equal(rows, np.arange(program.ROWS))
        assert sorted(set(counts)) == [1, 2]
        assert np.count_nonzero(counts == 2) == per_epoch


def test_the_first_process_alone_writes_history(folder: Path) -> None:
    lines = (folder / "whole" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("lost_by", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
def test_a_lost_process_ends_the_job_and_leaves_a_checkpoint(
    tmp_path: Path, data_dir: Path, lost_by: signal.Signals
) -> None:
    run = tmp_path / "forever"
    run.mkdir()
    child = launch(tmp_path, AEJAX_HEARTBEAT_SECONDS="10", AEJAX_GRACE_SECONDS="20")
    deadline = time.monotonic() + 200
    while not [path for path in run.glob("checkpoints/*") if path.name.isdigit()]:
        assert child.poll() is None, (tmp_path / "stderr").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    members = [
        int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    ]
    assert len(members) == 2
    os.kill(members[1], lost_by)
    # A silent one is missed after the 10 seconds set above, and waited for another 20.
    assert child.wait(120) != 0
    said = (tmp_path / "stderr").read_text()
    if lost_by == signal.SIGKILL:
        assert "process 1 of 2 ended with 137" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in members)
    found, whole = program.train(run), program.train(None)
    assert [row["epoch"] for row in found.history] == [1, 2, 3]
    np.testing.assert_allclose(
        [row["loss"] for row in found.history], [row["loss"] for row in whole.history], atol=1e-5
    )


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AEJAX_PROCESSES": "two"}, "AEJAX_PROCESSES is 'two'; allowed: a whole number"),
        ({}, "AEJAX_PROCESSES is None; allowed: a whole number"),
        (
            {"AEJAX_PROCESSES": "2", "AEJAX_PROCESS": "2"},
            "AEJAX_PROCESS is 2; allowed: 0 to 1",
        ),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], said: str) -> None:
    with pytest.raises(aejax.InputError, match=said):
        processes.join({"AEJAX_COORDINATOR": "127.0.0.1:1", **environment})

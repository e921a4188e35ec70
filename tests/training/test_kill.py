"""A run that is killed at any moment and started again ends with the bits of one that wasn't."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import aejax

# The same program in every process; checkpoints come after every two steps of the stream.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import aejax
from aejax.training import feeding

feeding.STEPS_IN_STREAM = 2
folder = Path(sys.argv[1])
x = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
config = aejax.Config(
    model=aejax.Dense(hidden=(5, 3), batch_norm=True, dropout=0.2),
    train=aejax.Train(
        epochs=6, batch_size=8, noise=0.1, learning_rate=0.01, schedule="cosine", patience=6,
        feed="stream",
    ),
)
detector = aejax.fit(config, x, folder=folder, checkpoint_seconds=0)
detector.save(folder / "detector")
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "stderr").open("wb") as problems:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder)],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stderr=problems,
        )


def checkpoints(folder: Path) -> set[str]:
    found = folder / "checkpoints"
    return {entry.name for entry in found.iterdir()} if found.is_dir() else set()


def losses(history: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("epoch", "loss", "validation_loss", "learning_rate", "rows")
    return [tuple(row[name] for name in names) for row in history]


def kill_when_it_has_moved(process: subprocess.Popen[bytes], folder: Path, delay: float) -> bool:
    """Kill `delay` seconds after the first new checkpoint; False where it ended before."""
    before = checkpoints(folder)
    deadline = time.monotonic() + 120
    while process.poll() is None and not checkpoints(folder) - before:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    return True


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    moments = random.Random(0)
    for _ in range(2):
        process = start(killed)
        assert kill_when_it_has_moved(process, killed, moments.uniform(0, 0.2)), (
            "the run ended before it could be killed: the test says nothing"
        )
    assert not (killed / "detector" / "detector.json").exists()
    for folder, process in [(folder, start(folder)) for folder in (killed, whole)]:
        process.wait(300)
        assert process.returncode == 0, (folder / "stderr").read_text()

    found, expected = (aejax.load(folder / "detector") for folder in (killed, whole))
    assert len(expected.history) == 6
    assert losses(found.history) == losses(expected.history)
    assert found.threshold == expected.threshold
    assert found.fingerprint == expected.fingerprint
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)
    lines = (killed / "history.jsonl").read_text().splitlines()
    assert losses([json.loads(line) for line in lines]) == losses(expected.history)
    assert not [name for name in checkpoints(killed) if not name.isdigit()], (
        "litter of a killed save"
    )

"""Checkpoints: deaths at every operation, and a disk that takes no more."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aejax.config import InputError
from aejax.training.checkpoint import Checkpoints

ARRAYS = {"a": np.arange(6, dtype=np.float32), "b": np.ones((3, 2), np.float32)}
LARGE = {"a": np.random.default_rng(0).normal(size=300_000)}


def left_by_deaths(folder: Path) -> list[Path]:
    script = Path(__file__).with_name("deaths.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, folder],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return sorted(path for path in folder.iterdir() if path.name.isdigit())


def test_a_checkpoint_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "start") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {n: x + step for n, x in ARRAYS.items()}, {"step": step})
    folders = left_by_deaths(tmp_path)
    assert len(folders) > 10
    found = []
    for folder in folders:
        with Checkpoints(folder) as checkpoints:
            latest = checkpoints.latest(ARRAYS, lambda notes: None)
        assert latest is not None
        arrays, notes = latest
        assert arrays["a"][0] == notes["step"]
        found.append(notes["step"])
    assert set(found) == {2, 3}


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 KiB: what C++ writes fails half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(
    tmp_path: Path, full_disk: None
) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, ARRAYS, {"step": 1})
    with (
        pytest.raises(InputError, match="cannot be written: ") as raised,
        Checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.save(2, LARGE, {"step": 2})
    assert "\n" not in str(raised.value)
    with Checkpoints(tmp_path) as checkpoints:
        latest = checkpoints.latest(ARRAYS, lambda notes: None)
    assert latest is not None
    assert latest[1]["step"] == 1

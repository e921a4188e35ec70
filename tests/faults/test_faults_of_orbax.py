"""Orbax's part of saving: deaths at every operation, and a disk that takes no more."""

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
from aejax.detection import artifact
from aejax.training.checkpoint import Checkpoints

ARRAYS = {"a": np.arange(6, dtype=np.float32), "b": np.ones((3, 2), np.float32)}
LARGE = {"a": np.random.default_rng(0).normal(size=300_000)}


def left_by_deaths(kind: str, folder: Path) -> list[Path]:
    script = Path(__file__).with_name("deaths.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, kind, folder],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return sorted(path for path in folder.iterdir() if path.name.isdigit())


def first_value(folder: Path) -> float:
    arrays = artifact.read_arrays(folder, artifact.read_description(folder)["arrays"], ARRAYS)
    return float(arrays["a"][0])


def test_a_detector_is_the_old_one_or_the_new_one_wherever_its_process_ends(
    tmp_path: Path,
) -> None:
    artifact.write(tmp_path / "start", {"which": "old"}, ARRAYS)
    folders = left_by_deaths("detector", tmp_path)
    assert len(folders) > 10
    found = [first_value(folder) for folder in folders]
    assert set(found) == {0.0, 1.0}
    for folder, value in zip(folders, found, strict=True):
        assert artifact.read_description(folder)["which"] == ("new" if value else "old")
        artifact.write(folder, {"which": "next"}, {"a": ARRAYS["a"] + 2, "b": ARRAYS["b"]})
        assert first_value(folder) == 2.0
        assert len(list(folder.iterdir())) == 2, "something was left"


def test_a_checkpoint_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "start") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {n: x + step for n, x in ARRAYS.items()}, {"step": step})
    folders = left_by_deaths("checkpoint", tmp_path)
    assert len(folders) > 10
    found = []
    for folder in folders:
        with Checkpoints(folder) as checkpoints:
            latest = checkpoints.latest(ARRAYS)
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


def test_arrays_that_do_not_fit_leave_the_old_detector(tmp_path: Path, full_disk: None) -> None:
    artifact.write(tmp_path, {"which": "old"}, ARRAYS)
    with pytest.raises(InputError, match="cannot be written: ") as raised:
        artifact.write(tmp_path, {"which": "new"}, LARGE)
    assert "\n" not in str(raised.value)
    assert first_value(tmp_path) == 0.0
    assert len(list(tmp_path.iterdir())) == 2, "something was left"


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
        latest = checkpoints.latest(ARRAYS)
    assert latest is not None
    assert latest[1]["step"] == 1

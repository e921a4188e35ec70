"""The training script to copy: killed, on several devices, and its detector without its code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import aejax
from aejax.cli import main

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "train.py"
STEPS = 120


def start(
    folder: Path, *more: str, devices: int = 1, before: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """The script on the rows of a folder's parent, writing to the folder."""
    flags = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={devices}"
    command = [*before, sys.executable, "-W", "ignore", str(SCRIPT)]
    settings = ["--rows", str(folder.parent / "x.npy"), "--steps", str(STEPS), "--width", "16"]
    saving = ["--batch-size", "64", "--save-every", "10", "--out", str(folder)]
    return subprocess.Popen(
        [*command, *settings, *saving, *more],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it wrote."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


def checkpoints(folder: Path) -> set[str]:
    place = folder / "checkpoints"
    return {e.name for e in place.iterdir() if e.name.isdigit()} if place.is_dir() else set()


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    random = np.random.default_rng(0)
    causes = random.normal(size=(3000, 3)) @ random.normal(size=(3, 8))
    return (5 + causes + 0.5 * random.normal(size=causes.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("script") / "whole"
    np.save(folder.parent / "x.npy", rows)
    ended(start(folder))
    return folder


def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(whole: Path) -> None:
    folder = whole.parent / "killed"
    process = start(folder)
    deadline = time.monotonic() + 120
    while len(checkpoints(folder)) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    ended(process, -signal.SIGKILL)
    assert not (folder / "detector").exists()
    assert 0 < max(map(int, checkpoints(folder))) < STEPS
    ended(start(folder))
    same = [aejax.load(at / "detector") for at in (whole, folder)]
    assert same[0].fingerprint == same[1].fingerprint
    assert same[0].threshold == same[1].threshold
    refused = ended(start(folder, "--width", "8"), 1)
    assert "'width': 16" in refused
    assert "allowed: the same settings" in refused
    assert any(entry.name.startswith("events.out.tfevents") for entry in folder.iterdir())


def test_its_detector_needs_none_of_its_code(whole: Path, rows: np.ndarray, tmp_path: Path) -> None:
    detector = aejax.load(whole / "detector")
    assert detector.threshold is not None
    # Trained: rows that break the relations of the others stand out, the held-out ones don't.
    broken = np.random.default_rng(1).permuted(rows[:500], axis=1)
    held_out = rows[9::10]
    assert np.median(detector.score(broken)) > 4 * np.median(detector.score(held_out))
    assert detector.predict(held_out).mean() == pytest.approx(0.01, abs=0.005)
    x, y = detector.reconstruct(rows[:50])
    np.testing.assert_allclose(x.mean(), 0, atol=0.3)
    np.testing.assert_allclose(detector.score(rows[:50]), np.mean((x - y) ** 2, axis=1), 1e-5)
    out = str(tmp_path / "scores")
    assert main(["score", str(whole), "--input", str(whole.parent / "x.npy"), "--out", out]) == 0


@pytest.mark.slow
def test_four_devices_come_to_the_same(whole: Path, rows: np.ndarray) -> None:
    folder = whole.parent / "four"
    ended(start(folder, devices=4))
    one, four = (aejax.load(at / "detector").score(rows) for at in (whole, folder))
    np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-5 * float(np.median(one)))


@pytest.mark.slow
def test_two_processes_come_to_the_same(whole: Path, rows: np.ndarray) -> None:
    folder = whole.parent / "two"
    ended(start(folder, before=("bash", str(ROOT / "scripts" / "launch_local.sh"), "2")))
    one, two = (aejax.load(at / "detector").score(rows) for at in (whole, folder))
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5 * float(np.median(one)))


def test_it_says_what_it_takes() -> None:
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True
    )
    assert "--rows" in found.stdout
    assert "--save-every" in found.stdout
    assert subprocess.run(["bash", "-n", str(ROOT / "scripts" / "slurm.sbatch")]).returncode == 0

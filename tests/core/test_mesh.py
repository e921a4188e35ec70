"""One, two, four and eight devices compute the same: scores to the bit, training to 1e-5."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aejax
from aejax.core import mesh
from tests.plain import plain_config

PROGRAM = Path(__file__).with_name("devices_program.py")
COUNTS = [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(8, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, and a detector that was trained on them on the devices of this process."""
    shared = tmp_path_factory.mktemp("devices")
    random = np.random.default_rng(0)
    x = (random.normal(size=(700, 4)) @ random.normal(size=(4, 12))).astype(np.float32)
    np.save(shared / "x.npy", x)
    config = plain_config(
        model=aejax.Dense(hidden=(8, 3)), train=aejax.Train(epochs=2, batch_size=64)
    )
    aejax.fit(config, x).save(shared / "detector")
    return shared


def run(shared: Path, count: int) -> Path:
    """What `devices_program.py` leaves with so many devices."""
    out = shared / str(count)
    out.mkdir()
    flags = os.environ.get("XLA_FLAGS", "")
    devices = f"{flags} --xla_force_host_platform_device_count={count}"
    given = [str(count), str(shared / "detector"), str(shared / "x.npy"), str(out)]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *given],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def one(shared: Path) -> Path:
    return run(shared, 1)


@pytest.fixture(scope="module", params=COUNTS)
def many(shared: Path, request: pytest.FixtureRequest) -> Path:
    return run(shared, request.param)


def found(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "found.npz") as arrays:
        return dict(arrays)


def test_scores_and_reasons_have_the_same_bits(one: Path, many: Path) -> None:
    for name in ("scores", "scores of few rows", "reasons", "errors", "ensemble"):
        np.testing.assert_array_equal(found(many)[name], found(one)[name], err_msg=name)


def test_score_files_have_the_same_bytes_and_the_same_job(one: Path, many: Path) -> None:
    names = sorted(path.name for path in (one / "scores").glob("*.parquet"))
    assert len(names) == 3
    for name in (*names, "_parts.jsonl"):
        ours, theirs = (folder / "scores" / name for folder in (many, one))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_training_is_the_same_to_1e_5(one: Path, many: Path) -> None:
    expected, actual = found(one), found(many)
    names = [name for name in expected if name.startswith(("device ", "stream "))]
    assert len(names) > 20
    for name in names:
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=1e-5, err_msg=name)


def test_more_devices_than_there_are_is_refused() -> None:
    with pytest.raises(aejax.InputError, match="devices is 99; allowed: 1 to"):
        mesh.on_devices(99)
    with pytest.raises(aejax.InputError, match="devices is 0; allowed: 1 to"):
        mesh.on_all_processes(0)

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

COUNTS = (1, 2, 4, 8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What `devices_program.py` left with each number of devices."""
    shared = tmp_path_factory.mktemp("devices")
    random = np.random.default_rng(0)
    x = (random.normal(size=(700, 4)) @ random.normal(size=(4, 12))).astype(np.float32)
    np.save(shared / "x.npy", x)
    config = aejax.Config(
        model=aejax.Dense(hidden=(8, 3)), train=aejax.Train(epochs=2, batch_size=64)
    )
    aejax.fit(config, x).save(shared / "detector")
    folders = {count: shared / str(count) for count in COUNTS}
    children = []
    for count, out in folders.items():
        out.mkdir()
        program = [sys.executable, str(Path(__file__).with_name("devices_program.py")), str(count)]
        given = [str(shared / "detector"), str(shared / "x.npy"), str(out)]
        with (out / "stderr").open("wb") as problems:
            children.append(
                subprocess.Popen(
                    [*program, *given],
                    stderr=problems,
                    env={
                        **os.environ,
                        "JAX_PLATFORMS": "cpu",
                        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
                    },
                )
            )
    for child, out in zip(children, folders.values(), strict=True):
        assert child.wait(300) == 0, (out / "stderr").read_text()[-3000:]
    return folders


def found(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "found.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("count", COUNTS[1:])
def test_scores_and_reasons_have_the_same_bits(folders: dict[int, Path], count: int) -> None:
    one, many = found(folders[1]), found(folders[count])
    for name in ("scores", "scores of few rows", "reasons", "errors", "ensemble"):
        np.testing.assert_array_equal(many[name], one[name], err_msg=name)


@pytest.mark.parametrize("count", COUNTS[1:])
def test_score_files_have_the_same_bytes_and_the_same_job(
    folders: dict[int, Path], count: int
) -> None:
    one, many = folders[1] / "scores", folders[count] / "scores"
    names = sorted(path.name for path in one.glob("*.parquet"))
    assert len(names) == 3
    for name in (*names, "_parts.jsonl"):
        assert (many / name).read_bytes() == (one / name).read_bytes(), name


@pytest.mark.parametrize("count", COUNTS[1:])
def test_training_is_the_same_to_1e_5(folders: dict[int, Path], count: int) -> None:
    one, many = found(folders[1]), found(folders[count])
    names = [name for name in one if name.startswith(("device ", "stream "))]
    assert len(names) > 20
    for name in names:
        np.testing.assert_allclose(many[name], one[name], rtol=0, atol=1e-5, err_msg=name)


def test_more_devices_than_there_are_is_refused() -> None:
    with pytest.raises(aejax.InputError, match="devices is 99; allowed: 1 to"):
        mesh.on_devices(99)
    with pytest.raises(aejax.InputError, match="devices is 0; allowed: 1 to"):
        mesh.on_all_processes(0)

"""A scoring job that dies, or is refused a file, at any operation: the same call finishes it."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.cli import main
from aejax.config import InputError
from aejax.detection.detector import Detector
from aejax.scoring import manifest
from aejax.scoring.stream import score_files
from tests.plain import plain_config


@pytest.fixture(scope="module")
def detector() -> Detector:
    x = np.random.default_rng(0).normal(size=(300, 6))
    config = plain_config(model=aejax.Dense(hidden=(5, 2)), train=aejax.Train(epochs=2))
    return aejax.fit(config, x)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, np.random.default_rng(1).normal(size=(100, 6)))
    return path


def score(detector: Detector, rows: Path, out: Path, **how: Any) -> None:
    score_files(detector, rows, out, part_rows=40, batch_size=20, top=3, **how)


def finished(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (manifest.LOCK, manifest.TOTALS)
    }


def check_half_done(folder: Path) -> None:
    """What is listed is there and readable; what is called complete is complete."""
    if not (folder / manifest.NAME).is_file():
        assert not (folder / manifest.SUCCESS).exists()
        return
    try:
        parts = manifest.read_description(folder)["parts"]
    except InputError:
        # A restart lists no parts any more before it begins anew.
        assert not (folder / manifest.SUCCESS).exists()
        return
    for part in parts:
        assert len(pq.read_table(folder / part["name"])) == part["rows"]
    if (folder / manifest.SUCCESS).exists():
        # Half of them are there before the others are appended.
        assert sum(part["rows"] for part in parts) in (50, 100)
        assert (folder / manifest.SUMMARY).is_file()


@pytest.mark.parametrize(
    "start",
    [
        "nothing",
        pytest.param("other scores", marks=pytest.mark.slow),
        pytest.param("scores of files before", marks=pytest.mark.slow),
    ],
)
def test_deaths_at_every_operation(
    disk: Any, detector: Detector, rows: Path, tmp_path: Path, start: str
) -> None:
    how: dict[str, Any] = {}
    out = tmp_path / "out"
    if start == "other scores":
        how = {"restart": True}
        score_files(detector, rows, tmp_path / "before", part_rows=70)
    elif start == "scores of files before":
        how = {"append": True}
        folder = tmp_path / "rows"
        folder.mkdir()
        np.save(folder / "1.npy", np.load(rows)[:50])
        rows = folder
        score(detector, rows, tmp_path / "before")
        shutil.copytree(tmp_path / "before", tmp_path / "whole")
        np.save(folder / "2.npy", np.random.default_rng(2).normal(size=(50, 6)))
    score(detector, rows, tmp_path / "whole", **how)
    whole = finished(tmp_path / "whole")
    for operation in range(200):
        shutil.rmtree(out, ignore_errors=True)
        if how:
            shutil.copytree(tmp_path / "before", out)
        with disk.dying(operation, cuts=True):
            score(detector, rows, out, **how)
        if not disk.failed:
            assert operation > 20
            break
        check_half_done(out)
        score(detector, rows, out, **how)
        assert finished(out) == whole, disk.seen[-1]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_refusals_at_every_operation(
    disk: Any, detector: Detector, rows: Path, tmp_path: Path, code: int
) -> None:
    out = tmp_path / "out"
    score(detector, rows, tmp_path / "whole")
    whole = finished(tmp_path / "whole")
    for operation in range(200):
        shutil.rmtree(out, ignore_errors=True)
        said = ""
        with disk.failing(operation, code):
            try:
                score(detector, rows, out)
            except InputError as error:
                said = str(error)
        if not disk.failed:
            assert operation > 20
            break
        assert "\n" not in said
        check_half_done(out)
        if said:
            assert os.strerror(code) in said, disk.seen[-1]
            score(detector, rows, out)
        assert finished(out) == whole, disk.seen[-1]


def test_a_folder_that_is_deleted_under_a_job(
    detector: Detector, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def delete() -> bool:
        shutil.rmtree(out, ignore_errors=True)
        return False

    with pytest.raises(InputError, match="No such file or directory") as raised:
        score(detector, rows, out, should_stop=delete)
    assert "\n" not in str(raised.value)
    shutil.rmtree(out, ignore_errors=True)
    score(detector, rows, out)
    assert len(pq.read_table(out)) == 100


def test_a_working_folder_that_is_gone(
    detector: Detector,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector.save(tmp_path / "run")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    command = ["score", str(tmp_path / "run"), "--input", str(rows), "--out", "scores"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "No such file or directory" in said
    assert said.count("\n") == 1


def test_a_clock_that_stands_still_or_goes_back(
    detector: Detector, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wall clocks are set back; nothing here may depend on them, or on a clock that moves."""
    score(detector, rows, tmp_path / "whole")
    hours = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: 3600.0 * next(hours))
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    score(detector, rows, tmp_path / "out")
    assert finished(tmp_path / "out") == finished(tmp_path / "whole")
    x = np.random.default_rng(0).normal(size=(300, 6))
    again = aejax.fit(detector.config, x, folder=tmp_path / "run")
    assert again.fingerprint == detector.fingerprint


@pytest.mark.parametrize("command", ["calibrate", "score", "export", "train"])
def test_a_read_only_disk_is_one_line(
    disk: Any,
    detector: Detector,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    """As root no permission stops a test, so every operation is refused by hand."""
    run = tmp_path / "run"
    detector.save(run)
    arguments = {
        "calibrate": [str(run), "--input", str(rows), "--rule", "quantile:0.9"],
        "score": [str(run), "--input", str(rows), "--out", str(tmp_path / "scores")],
        "export": [str(run), "--out", str(tmp_path / "export")],
        "train": [
            "--input",
            str(rows),
            "--out",
            str(tmp_path / "new"),
            "--epochs",
            "1",
            "--hidden",
            "2",
        ],
    }[command]
    # Making a folder that is there is refused without harm.
    with disk.failing(1 if command == "calibrate" else 0, errno.EROFS):
        assert main([command, *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in said if "Read-only file system" in line]) == 1
    assert not any("Traceback" in line for line in said)
    assert aejax.load(run).fingerprint == detector.fingerprint

"""Any name that the system takes for a file or a folder is that file's or folder's, and no other's.

Brackets, stars and question marks are patterns to libraries below, backslashes are slashes,
some first folders are buckets, and some names are no Unicode.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax import cli
from aejax.config import InputError
from aejax.data import files
from aejax.detection.detector import Detector
from tests.plain import plain_config

NAMES = [
    "m [1]",
    "[!a-c]",
    "*",
    "what?",
    "{x,y}",
    "ü 列",
    " both ends ",
    "-rf",
    "dots...",
    "50% %20",
    "two\nlines",
    "back\\slash",
    "gs:",
    "k=1",
    "~",
    "#a?b=c&d",
    "x.writing",
    "x.orbax-checkpoint-tmp",
]
NO_UNICODE = "\udcff"
CONFIG = plain_config(model=aejax.Dense(hidden=(2,)), train=aejax.Train(epochs=1, batch_size=16))
X = np.random.default_rng(0).normal(size=(60, 3)).round(3)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere fewer names are legal")


@pytest.fixture(scope="module")
def detectors() -> tuple[Detector, Detector]:
    return aejax.fit(CONFIG, X), aejax.fit(CONFIG, X * 2)


def alone(folder: Path, *there: str) -> None:
    """Nothing was written beside what has these names."""
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(there)


@pytest.mark.parametrize("name", [*NAMES, NO_UNICODE])
def test_a_detector_is_replaced_by_what_is_saved_over_it(
    detectors: tuple[Detector, Detector], tmp_path: Path, name: str
) -> None:
    for detector in (*detectors, detectors[0]):
        detector.save(tmp_path / name)
        found = aejax.load(tmp_path / name)
        assert found.fingerprint == detector.fingerprint
        np.testing.assert_array_equal(found.score(X), detector.score(X))
    alone(tmp_path, name)
    assert len(list((tmp_path / name).iterdir())) == 2


@pytest.mark.parametrize("name", [*NAMES, NO_UNICODE])
def test_a_run_continues(
    detectors: tuple[Detector, Detector],
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A neighbour whose name the run's name would match, as a pattern, isn't touched."""
    neighbour = tmp_path / "ax [y] what! m 1" / "checkpoints"
    neighbour.mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for _ in range(2):
        found = aejax.fit(CONFIG, X, folder=tmp_path / name)
        assert found.fingerprint == detectors[0].fingerprint
    with pytest.raises(InputError, match="checkpoints of another run") as raised:
        aejax.fit(CONFIG, X * 2, folder=tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert [entry.name for entry in (tmp_path / name / "checkpoints").iterdir()] == ["4"]
    alone(tmp_path, name, "tmp", neighbour.parent.name)
    alone(tmp_path / "tmp")
    alone(neighbour)


def test_a_run_that_cannot_be_named_plainly_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "[t]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "[t]"))
    with pytest.raises(InputError, match=r"TMPDIR is .*\[t\].*; allowed: a folder of letters"):
        aejax.fit(CONFIG, X, folder=tmp_path / "m [1]")
    alone(tmp_path / "[t]")
    assert not list((tmp_path / "m [1]" / "checkpoints").iterdir())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".npy", ".npz"])
def test_rows_are_found_by_name_by_folder_and_by_pattern(
    tmp_path: Path, name: str, suffix: str
) -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    folder = tmp_path / name
    folder.mkdir()
    path = folder / f"{name}{suffix}"
    with path.open("wb") as file:
        if suffix == ".parquet":
            frame.to_parquet(file)
        elif suffix.startswith(".csv"):
            how = {"method": "gzip"} if suffix.endswith(".gz") else None
            frame.to_csv(file, index=False, compression=how)
        elif suffix == ".npy":
            np.save(file, X)
        else:
            np.savez(file, x=X)
    # What else the name, as a pattern, would match.
    (tmp_path / "m 1").mkdir(exist_ok=True)
    (tmp_path / "m 1" / f"m 1{suffix}").write_bytes(b"not read")
    for given in (path, str(path), [path], folder, folder / f"*{suffix}", str(folder / "*")):
        read, _, _ = files.read(given)
        np.testing.assert_allclose(read, X, rtol=1e-6)


def test_a_pattern_still_is_one(tmp_path: Path) -> None:
    for folder in ("y1 [a]", "y2 [a]"):
        (tmp_path / folder).mkdir()
        for part in ("p1", "p2", "q1"):
            (tmp_path / folder / f"{part}.csv").write_text(f"a\n{ord(part[0])}\n")
    assert len(files.read(tmp_path / "*" / "p[12].csv")[0]) == 4
    assert len(files.read(tmp_path / "y1 [a]" / "[p]?.csv")[0]) == 2
    assert len(files.read(tmp_path / "**" / "q*.csv")[0]) == 2
    with pytest.raises(InputError, match=r"\[r\]\*\.csv holds no file of rows"):
        files.read(tmp_path / "y1 [a]" / "[r]*.csv")
    # One that is there is no pattern.
    (tmp_path / "p[12].csv").write_text("a\n7\n")
    (tmp_path / "p1.csv").write_text("a\n8\n")
    assert files.read(tmp_path / "p[12].csv")[0].tolist() == [[7]]


@pytest.mark.parametrize("name", ["m [1]", "two\nlines"])
def test_commands_take_any_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    home = tmp_path / name
    home.mkdir()
    rows, run, scores = home / f"{name}.npy", home / "run", home / f"scores {name}"
    with rows.open("wb") as file:
        np.save(file, X)
    commands = [
        [
            "train",
            "--input",
            rows,
            "--out",
            run,
            "--hidden",
            "2",
            "--epochs",
            "1",
            "--calibration",
            "held-out",
        ],
        ["calibrate", run, "--input", rows, "--rule", "quantile:0.9"],
        ["score", run, "--input", rows, "--out", scores, "--top", "3"],
        ["inspect", scores],
        ["explain", run, "--input", rows, "--row", "3"],
        ["export", run, "--out", home / "export"],
        ["score", home / "export", "--input", rows, "--out", home / "again"],
    ]
    for command in commands:
        assert cli.main(list(map(str, command))) == 0, capsys.readouterr().err
        capsys.readouterr()
    alone(tmp_path, name)
    assert cli.main(["inspect", str(home / "nothing")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nothing" in said


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".parquet"])
def test_rows_whose_name_is_no_unicode_are_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    path = tmp_path / f"{NO_UNICODE}{suffix}"
    path.write_text("a\n1\n")
    for given in (path, tmp_path / f"*{suffix}"):
        assert cli.main(["train", "--input", str(given), "--out", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert "allowed: paths in UTF-8" in said
        assert said.count("\n") == 1
    alone(tmp_path, path.name)


def test_a_run_whose_name_is_no_unicode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "rows.npy", X)
    run, rows = str(tmp_path / NO_UNICODE), str(tmp_path / "rows.npy")
    train = [
        "train",
        "--input",
        rows,
        "--out",
        run,
        "--hidden",
        "2",
        "--epochs",
        "1",
        "--calibration",
        "held-out",
    ]
    assert cli.main(train) == 0, capsys.readouterr().err
    assert cli.main(["score", run, "--input", rows, "--out", str(tmp_path / "scores")]) == 0
    assert cli.main(["export", run, "--out", f"{run} export"]) == 0
    assert cli.main(["export", run, "--out", f"{run} onnx", "--format", "onnx"]) == 0
    capsys.readouterr()
    assert cli.main(["score", run, "--input", rows, "--out", f"{run} scores"]) == 2
    assert "allowed: paths in UTF-8" in capsys.readouterr().err
    alone(tmp_path, "rows.npy", NO_UNICODE, "scores", f"{NO_UNICODE} export", f"{NO_UNICODE} onnx")

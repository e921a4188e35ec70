"""`aejax train` on rows that stay on disk: the same run as in memory, and what it leaves."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.cli import main
from aejax.commands.training import parse_bytes
from aejax.config import InputError
from aejax.data import batches
from aejax.recipes import own_rows

FLAGS = [
    "--label-column",
    "label",
    "--hidden",
    "4",
    "--epochs",
    "2",
    "--quiet",
    "--json",
    "--calibration",
    "held-out",
]
STREAMED = [*FLAGS, "--feed", "stream", "--memory-limit", "1 KiB"]


@pytest.fixture(scope="module")
def rows(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ADBench's cardio table as two CSV files in a folder, with a few empty cells."""
    folder = tmp_path_factory.mktemp("cardio") / "rows"
    folder.mkdir()
    with np.load(data_dir / "adbench" / "6_cardio.npz", allow_pickle=False) as archive:
        x, y = archive["X"].astype(np.float32), archive["y"].ravel()
    frame = pd.DataFrame(x, columns=[f"f{number}" for number in range(x.shape[1])])
    frame["label"] = y.astype(int)
    frame.loc[[5, 900], "f3"] = np.nan
    frame[:800].to_csv(folder / "a.csv", index=False)
    frame[800:].to_csv(folder / "b.csv", index=False)
    return folder


def train(rows: Path, out: Path, *flags: str) -> int:
    return main(["train", "--input", str(rows), "--out", str(out), *flags])


def written(out: Path, name: str) -> Any:
    return json.loads((out / name).read_text())


@pytest.fixture(scope="module")
def in_memory(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "memory"
    assert train(rows, out, *FLAGS, "--feed", "stream") == 0
    return out


def test_the_run_is_that_of_rows_in_memory(
    rows: Path, in_memory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(rows, tmp_path / "run", *STREAMED) == 0
    assert "2 of 1,831 rows are left out of training, the first being row 5" in caplog.text
    found, expected = (written(run, "metrics.json") for run in (tmp_path / "run", in_memory))
    for name in ("measured", "metrics"):
        assert found[name] == expected[name]
    # What identifies the run, fingerprints of its rows among it, is the same too.
    assert written(tmp_path / "run", "run.json") == written(in_memory, "run.json")
    described = [
        written(run / "detector", "detector.json") for run in (tmp_path / "run", in_memory)
    ]
    assert described[0]["threshold"] == described[1]["threshold"]
    assert described[0]["provenance"]["alarms"] == described[1]["provenance"]["alarms"]
    assert "rows" not in {entry.name for entry in (tmp_path / "run").iterdir()}


@pytest.mark.slow
def test_rows_can_be_kept_for_the_next_run(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(rows, out, *STREAMED, "--keep-rows") == 0
    kept = (out / "rows" / "normal.npy").stat().st_ino
    assert train(rows, out, *STREAMED, "--keep-rows", "--overwrite", "--seed", "1") == 0
    assert (out / "rows" / "normal.npy").stat().st_ino == kept
    assert written(out, "config.json")["train"]["seed"] == 1


def test_the_report_judges_an_even_sample(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(own_rows, "MOST_JUDGED_BYTES", 100 * 21 * 4)
    assert train(rows, tmp_path / "run", *STREAMED) == 0
    # 165 held-out normal rows and 176 anomalies, of which every fourth is scored.
    assert "one of every 4 test rows" in caplog.text
    metrics = written(tmp_path / "run", "metrics.json")["metrics"]
    assert metrics["rows"] == 42 + 44
    assert metrics["auroc"]["value"] > 0.8


def test_a_folder_of_other_things_is_refused_before_rows_are_copied(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    assert train(rows, tmp_path, *STREAMED) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["letters.txt"]


def test_an_ensemble_wants_rows_in_memory(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(rows, tmp_path / "run", *STREAMED, "--ensemble", "3") == 2
    assert (
        "allowed: rows that fit in memory, or a higher memory_limit (--memory-limit)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1048576", 1 << 20), ("1 MiB", 1 << 20), ("2gib", 2 << 30), ("1.5 KB", 1500), ("0", 0)],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_bytes(text, "x") == expected


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 gig", "1e9", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match=r"--memory-limit is .*; allowed: bytes, as in"):
        parse_bytes(text, "--memory-limit")


@pytest.mark.parametrize("how", [[], ["--ensemble", "2"], ["--group-column", "half"]])
def test_training_rows_are_hashed_once(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: list[str]
) -> None:
    """A run tells its rows from others by a hash, which a detector's training takes over."""
    if "half" in how:
        for path in list(rows.glob("*.csv")):
            frame = pd.read_csv(path).dropna()
            frame.assign(half=np.arange(len(frame)) % 2).to_csv(tmp_path / path.name, index=False)
        rows = tmp_path
    hashed: list[int] = []
    real = batches.data_fingerprint

    def counting(given: Any) -> str:
        if len(given.shape) > 1:
            hashed.append(len(given))
        return real(given)

    for name in ("detection.fit_one", "training.loop", "recipes.recipe", "recipes.own_groups"):
        module = importlib.import_module(f"aejax.{name}")
        monkeypatch.setattr(module, "data_fingerprint", counting)
    assert train(rows, tmp_path / "run", *FLAGS, *how) == 0
    assert hashed.count(max(hashed)) == 1


def test_the_report_judges_rows_that_took_no_part_in_the_threshold(
    rows: Path, in_memory: Path, tmp_path: Path
) -> None:
    """1,653 of the 1,829 usable rows are normal; a tenth of these is held out for the report."""
    assert train(rows, tmp_path / "run", *FLAGS, "--calibration", "cross-fitted") == 0
    crossed, held_out = aejax.load(tmp_path / "run"), aejax.load(in_memory)
    assert crossed.provenance["training_rows"] == held_out.provenance["training_rows"]
    assert crossed.threshold.rows == crossed.provenance["training_rows"]
    judged = written(tmp_path / "run", "metrics.json")["metrics"]["rows"]
    assert judged == written(in_memory, "metrics.json")["metrics"]["rows"]
    assert held_out.threshold.rows + crossed.threshold.rows == 1653

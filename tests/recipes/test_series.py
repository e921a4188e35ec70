"""Series at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.cli import main

TRAIN = ["--model", "dense", "--hidden", "4", "--steps", "20", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("series")
    wave = np.sin(2 * np.pi * np.arange(400) / 16)[:, None]
    noise = 0.1 * np.random.default_rng(0).normal(size=(400, 2))
    table = pd.DataFrame(wave + noise, columns=["flow", "heat"])
    table.insert(0, "time", pd.date_range("2024-01-01", periods=400, freq="h"))
    table.to_csv(made / "rows.csv", index=False)
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    out = folder / "run"
    command = ["train", "--input", str(folder / "rows.csv"), "--out", str(out), *TRAIN]
    assert main([*command, "--time-column", "time"]) == 0
    return out


def test_two_commands_lead_from_a_file_to_scores_and_events(run: Path, folder: Path) -> None:
    detector = aejax.load(run)
    assert detector.schema.shape == (32, 2)  # Twice the period.
    assert (run / "report.html").is_file()
    out = folder / "scores"
    command = ["score", str(run), "--input", str(folder / "rows.csv"), "--out", str(out), "--quiet"]
    assert main([*command, "--merge-gap", "2"]) == 0
    scores = pq.read_table(out).to_pandas()
    assert len(scores) == 400
    assert scores["score"].isna().sum() == 31
    events = pd.read_csv(out / "_events.csv")
    assert main(["report", str(out)]) == 0
    page = (out / "_report" / "report.html").read_text()
    assert len(events) == 0 or f"_events.csv has all {len(events)}." in page
    assert (out / "_report" / "plots" / "scores_over_time.png").is_file()
    peak = scores.loc[[scores["score"].idxmax()], "time"]
    spans = folder / "spans.csv"
    pd.DataFrame({"start": peak, "end": peak}).to_csv(spans, index=False)
    command = ["evaluate", str(out), "--labels", str(spans), "--report", str(out / "_report")]
    assert main(command) == 0
    assert "VUS-PR" in (out / "_report" / "report.html").read_text()
    assert "in no whole window" in page


def test_a_threshold_is_set_anew(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", str(run), "--rule", "quantile:0.5", "--json"]
    assert main([*command, "--input", str(folder / "rows.csv")]) == 0
    result = json.loads(capsys.readouterr().out)
    scores = aejax.load(run).score(pd.read_csv(folder / "rows.csv"))
    assert result["rows"] == 400 - 31
    assert result["threshold"] == pytest.approx(np.nanquantile(scores, 0.5), rel=1e-3)
    assert (
        json.loads((run / "metrics.json").read_text())["metrics"]["threshold"]
        == (result["threshold"])
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--window-gap", "2"], "--window-gap is 2.0; allowed: with --window or --time-column"),
        (["--window", "1"], "Window.length is 1; allowed: a whole number, at least 2"),
        (
            ["--window", "900", "--time-column", "time"],
            "allowed: at least 900, the length of a window",
        ),
        (["--time-column", "when"], "has no column 'when'"),
        (["--window", "8", "--group-column", "time"], "--window is given with --group-column"),
        (
            ["--window", "8"],
            "column 'time' is of type timestamp[s]; allowed: numbers, or --drop-columns time, "
            "or --time-column time of a series",
        ),
    ],
)
def test_each_bad_flag_is_refused_in_a_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    command = ["train", "--input", str(folder / "rows.csv"), "--out", str(tmp_path / "run"), *TRAIN]
    assert main([*command, *flags]) == 2
    assert message in capsys.readouterr().err


def test_what_has_no_meaning_for_a_series_is_refused(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = str(folder / "rows.csv")
    assert main(["explain", str(run), "--input", rows, "--row", "50"]) == 2
    assert "allowed: aejax score --top-features" in capsys.readouterr().err
    assert main(["encode", str(run), "--input", rows, "--out", str(folder / "latent")]) == 2
    assert "allowed with windows of a series: none" in capsys.readouterr().err

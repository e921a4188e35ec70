"""`aejax tune` from a file to a run folder, the page it writes, and what docs/tuning.md shows."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.cli import main
from aejax.data import batches, datasets

DOCS = Path(__file__).parents[2] / "docs" / "tuning.md"
SPACES = Path(__file__).parents[2] / "benchmarks" / "spaces"
COLUMNS = ["a", "b", "c", "d"]
SPACE = """
train.epochs = 2
train.batch_size = 64
model.hidden = [4, 2]
train.learning_rate = { low = 1e-3, high = 1e-1, log = true }
"""


def table(rows: int = 240, anomalies: int = 20) -> pd.DataFrame:
    random = np.random.default_rng(0)
    normal = random.normal(size=(rows, 2)) @ random.normal(size=(2, 4))
    wild = 3 * random.normal(size=(anomalies, 4))
    frame = pd.DataFrame(np.concatenate([normal, wild]), columns=COLUMNS)
    frame["broken"] = np.arange(len(frame)) >= rows
    return frame


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    table().to_csv("pumps.csv", index=False)
    Path("space.toml").write_text(SPACE, encoding="utf-8")
    return tmp_path


def tune(*more: str, source: str = "pumps.csv", out: str = "runs/x") -> int:
    line = ["tune", source, "--space", "space.toml", "--out", out, "--folds", "2"]
    return main([*line, "--configurations", "2", "--quiet", *more])


def test_a_file_becomes_a_tuned_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--label-column", "broken", "--objective", "auroc", "--json")
    assert tune(*flags) == 0
    result = json.loads(capsys.readouterr().out)
    written = json.loads((here / "runs/x/tuning.json").read_text())
    assert written["trials"][0]["settings"] == result["best"]["settings"]
    assert written["trials"][0]["mean"] == result["best"]["mean"]
    assert len(written["trials"]) == 2
    assert all(len(trial["folds"]) == 2 for trial in written["trials"])

    detector = aejax.load(here / "runs/x")
    rate = result["best"]["settings"]["train.learning_rate"]
    assert detector.config.train.learning_rate == rate
    # Of 240 normal rows these were searched with; all train where thresholds are cross-fitted.
    assert detector.provenance["training_rows"] == 192
    metrics = json.loads((here / "runs/x/metrics.json").read_text())
    assert metrics["measured"]["cross_validated_auroc"] == result["best"]["mean"]
    # Judged once: 48 normal rows, and the anomalies that the search didn't have.
    assert metrics["metrics"]["rows"] == 48 + 4
    assert metrics["metrics"]["anomalies"] == 4

    page = (here / "runs/x/report.html").read_text()
    assert 'id="tuning"' in page
    for plot in ("parallel_coordinates", "best_configurations", "objective_by_rank"):
        assert (here / f"runs/x/plots/{plot}.png").is_file()

    # The same command does the same; another one is refused before it searches.
    assert tune(*flags) == 0
    assert json.loads(capsys.readouterr().out)["measured"] == result["measured"]
    assert tune(*flags, "--seed", "1") == 2
    assert "already holds another run" in capsys.readouterr().err
    assert tune(*flags, "--seed", "1", "--overwrite", "--search", "halving") == 0


def test_without_labels_all_rows_are_normal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(anomalies=0)[COLUMNS].to_parquet("plain.parquet")
    assert tune(source="plain.parquet") == 0
    said = capsys.readouterr().out
    assert "best of 2 configurations by reconstruction" in said
    assert "train.learning_rate = " in said


@pytest.mark.slow
def test_the_winners_rows_are_hashed_once_before_its_training(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[tuple[int, ...]] = []
    real = batches.data_fingerprint

    def counting(rows: np.ndarray) -> str:
        hashed.append(rows.shape)
        return real(rows)

    importlib.import_module("aejax.recipes.tune")
    for module in list(sys.modules.values()):
        if module.__name__.startswith("aejax.recipes") and hasattr(module, "data_fingerprint"):
            monkeypatch.setattr(module, "data_fingerprint", counting)
    assert tune("--label-column", "broken") == 0
    run = json.loads((here / "runs/x/run.json").read_text())
    assert {"train", "test"} <= set(run["data"])
    assert hashed == [(192, 4), (68, 4)]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--objective", "auroc"], "0 labelled anomalies"),
        (["--folds", "200", "--label-column", "broken"], "2 a fold"),
        (["--configurations", "0", "--label-column", "broken"], "configurations is 0"),
        (["--test-fraction", "1", "--label-column", "broken"], "test_fraction is 1"),
        (["--label-column", "brokn"], "brokn"),
        (["--space", "none.toml"], "none.toml does not exist"),
        (["--out", "."], "no run's folder"),
        (["--seed", "-1", "--label-column", "broken"], "seed is -1"),
    ],
)
def test_bad_input_gets_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    if "--label-column" not in flags:
        table()[COLUMNS].to_csv("pumps.csv", index=False)
    assert tune(*flags) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (here / "runs").exists()


def test_what_is_neither_file_nor_recipe(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(source="ecg500") == 2
    assert "did you mean 'ecg5000'?" in capsys.readouterr().err
    assert tune(source="none.csv") == 2
    assert "none.csv does not exist" in capsys.readouterr().err
    assert tune("--label-column", "y", source="digits") == 2
    assert "is a recipe and has no columns" in capsys.readouterr().err


def test_a_space_with_an_unknown_setting_names_the_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("space.toml").write_text("train.learning_rat = { low = 1.0, high = 2.0 }\n")
    assert tune("--label-column", "broken") == 2
    said = capsys.readouterr().err
    assert "space.toml: 'train.learning_rat' is no setting; did you mean" in said


@pytest.mark.slow
def test_the_page_in_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    assert [language for language, _ in blocks] == ["toml", "bash", "python"]
    space, command, code = (block for _, block in blocks)
    # Shorter trainings; the settings and their number are the page's.
    Path("space.toml").write_text(space.replace("epochs = 30", "epochs = 1"), encoding="utf-8")
    table(120, 10).to_csv("pumps.csv", index=False)
    assert main(shlex.split(command)[1:]) == 0
    names: dict[str, object] = {}
    exec(compile(code, str(DOCS), "exec"), names)
    assert isinstance(names["detector"], aejax.Detector)


@pytest.mark.slow
def test_a_tuned_ecg_detector_is_as_good_as_the_published(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert datasets.load("ecg5000", "all").x.shape == (4998, 140)
    space = str(SPACES / "ecg5000.toml")
    line = ["tune", "ecg5000", "--space", space, "--out", str(tmp_path / "run"), "--json"]
    assert main([*line, "--quiet", "--configurations", "6", "--folds", "3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["measured"]["accuracy"] > 0.93
    assert result["published"]["accuracy"] == 0.944

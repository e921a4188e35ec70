"""The command line: a user's whole path in processes of its own, and what bad input gets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.cli import main
from aejax.commands import COMMANDS
from aejax.commands.experiments import Run
from aejax.detection.placed import default_batch_size
from aejax.reporting.markup import fixed
from aejax.reporting.sections import published_section

COLUMNS = [f"sensor_{i}" for i in range(6)]
FAST = ["--hidden", "8", "2", "--epochs", "3", "--quiet", "--calibration", "held-out"]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # JAX sets it for the process that imports it, and so for its children.
    environment = {name: to for name, to in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-m", "aejax", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )


def table(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)) @ random.normal(size=(2, 6))
    return pd.DataFrame(x + 0.1 * random.normal(size=x.shape), columns=COLUMNS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv and a run trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    table(400, 0).to_csv(folder / "train.csv", index=False)
    assert (
        main(["train", "--input", str(folder / "train.csv"), "--out", str(folder / "run"), *FAST])
        == 0
    )
    return folder


def test_a_users_path_from_csv_to_scores_that_outlive_the_process(tmp_path: Path) -> None:
    table(500, 0).to_csv(tmp_path / "train.csv", index=False)
    test = table(203, 1)
    test.insert(0, "id", [f"row-{i}" for i in range(203)])
    # Another order of columns, and one more: columns are matched by name.
    test[["id", *COLUMNS[::-1]]].to_parquet(tmp_path / "test.parquet", index=False)
    run, scores = tmp_path / "run", tmp_path / "scores"

    done = command("train", "--input", tmp_path / "train.csv", "--out", run, *FAST, "--json")
    assert done.returncode == 0, done.stderr
    assert (run / "report.html").is_file()
    assert json.loads(done.stdout)["measured"]["loss"] > 0
    rule = ("--rule", "quantile:0.9")
    done = command("calibrate", run, "--input", tmp_path / "train.csv", *rule, "--json")
    assert done.returncode == 0, done.stderr
    threshold = json.loads(done.stdout)["threshold"]
    done = command(
        "score",
        run,
        "--input",
        tmp_path / "test.parquet",
        "--out",
        scores,
        "--key",
        "id",
        "--quiet",
    )
    assert done.returncode == 0, done.stderr
    # Nothing of what XLA says of programs that the processes before it kept.
    assert "\nE" not in f"\n{done.stderr}"

    found = pq.read_table(scores / "part-000000.parquet").to_pandas()
    assert list(found["id"]) == list(test["id"])
    # This process loads what those wrote; the same rows in batches of the same size get the
    # same bits.
    detector = aejax.load(run)
    whole = default_batch_size(detector.schema, detector.config)
    expected = detector.score(test[COLUMNS], batch_size=whole)
    np.testing.assert_array_equal(found["score"], expected)
    np.testing.assert_array_equal(found["is_anomaly"], found["score"] > np.float32(threshold))
    assert detector.threshold is not None
    assert detector.threshold.value == threshold


def test_sigterm_writes_a_checkpoint_and_the_same_command_continues(tmp_path: Path) -> None:
    table(4000, 0).to_csv(tmp_path / "train.csv", index=False)
    arguments = [
        "train",
        "--input",
        str(tmp_path / "train.csv"),
        "--hidden",
        "64",
        "--batch-size",
        "8",
    ]
    arguments += ["--epochs", "12", "--quiet", "--calibration", "held-out", "--out"]
    first = subprocess.Popen(
        [sys.executable, "-m", "aejax", *arguments, str(tmp_path / "stopped")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    history = tmp_path / "stopped" / "history.jsonl"
    deadline = time.monotonic() + 60
    while not history.is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 143, errors
    assert "the same command continues" in errors
    assert any((tmp_path / "stopped" / "checkpoints").iterdir())
    assert main([*arguments, str(tmp_path / "stopped")]) == 0
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    stopped, whole = aejax.load(tmp_path / "stopped"), aejax.load(tmp_path / "whole")
    assert stopped.fingerprint == whole.fingerprint
    assert stopped.threshold == whole.threshold


def test_labels_in_the_training_file_are_for_judging_only(tmp_path: Path) -> None:
    rows = table(300, 0)
    rows["state"] = ["fine"] * 280 + ["broken"] * 20
    rows.loc[280:, COLUMNS] += 30
    rows.to_csv(tmp_path / "train.csv", index=False)
    out = tmp_path / "run"
    label = ["--label-column", "state", "--normal-label", "fine"]
    assert (
        main(["train", "--input", str(tmp_path / "train.csv"), "--out", str(out), *label, *FAST])
        == 0
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["metrics"]["anomalies"] == 20
    assert metrics["metrics"]["rows"] == 20 + 28
    assert aejax.load(out).provenance["training_rows"] == 280 - 28


def test_evaluate_agrees_with_scikit_learn(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows = table(200, 3)
    rows.loc[:19, "sensor_2"] += 5
    rows["label"] = np.arange(200) < 20
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    score = ["score", str(trained / "run"), "--input", str(tmp_path / "rows.parquet"), "--quiet"]
    assert main([*score, "--out", str(tmp_path / "scores"), "--key", "label"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "scores"), "--json"]) == 0
    carried = json.loads(capsys.readouterr().out)
    labels = ["--labels", str(tmp_path / "rows.parquet")]
    assert main(["evaluate", str(tmp_path / "scores"), *labels, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**carried, "joined_by": "position"}
    scores = pq.read_table(tmp_path / "scores").to_pandas()["score"]
    assert carried["auroc"]["value"] == pytest.approx(roc_auc_score(rows["label"], scores))
    expected = average_precision_score(rows["label"], scores)
    assert carried["average_precision"]["value"] == pytest.approx(expected)


def test_bad_rows_do_not_sink_a_job(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = table(50, 4)
    rows.loc[7, "sensor_1"] = np.nan
    rows.loc[9, "sensor_4"] = np.inf
    rows.to_csv(tmp_path / "rows.csv", index=False)
    score = ["score", str(trained / "run"), "--input", str(tmp_path / "rows.csv"), "--quiet"]
    assert main([*score, "--out", str(tmp_path / "scores"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bad_rows"] == 2
    found = pq.read_table(tmp_path / "scores").to_pandas()
    assert list(np.flatnonzero(found["score"].isna())) == [7, 9]
    assert found["reason"][7] == "sensor_1 is missing or NaN"
    assert found["reason"][9] == "sensor_4 is infinite"
    good = np.delete(np.arange(50), [7, 9])
    detector = aejax.load(trained / "run")
    whole = default_batch_size(detector.schema, detector.config)
    expected = detector.score(rows.iloc[good], batch_size=whole)
    np.testing.assert_array_equal(found["score"].iloc[good], expected)
    assert main([*score, "--out", str(tmp_path / "stopped"), "--on-bad-row", "error"]) == 2
    assert "sensor_1" in capsys.readouterr().err


BAD_TRAINING = {
    "missing file": (None, [], "does not exist"),
    "empty file": ("", [], "is empty"),
    "no rows": ("a,b\n", [], "0 rows"),
    "one row": ("a,b\n1,2\n", [], "at least 2"),
    "not a number": ("a,b\n1,x\n2,y\n", [], "'b'"),
    "an empty cell": ("a,b\n1,2\n3,\n5,6\n", ["--on-bad-row", "error"], "'b'"),
    "infinity": ("a,b\n1,2\ninf,4\n5,6\n", ["--on-bad-row", "error"], "'a'"),
    "bad rows only": ("a,b\n1,\n,4\n", [], "none of 2 rows is usable"),
    "a size without a unit": ("a,b\n1,2\n3,4\n", ["--memory-limit", "1 gig"], "'1 gig'"),
    "only constant columns": ("a,b\n1,2\n1,2\n1,2\n", [], "0 columns that vary"),
    "no label column": ("a,b\n1,2\n3,4\n", ["--label-column", "lable"], "'lable'"),
    "labels of other kinds": ("a,l\n1,good\n3,bad\n", ["--label-column", "l"], "--normal-label"),
    "unknown column to drop": ("a,b\n1,2\n3,4\n", ["--drop-columns", "c"], "'c'"),
    "ragged rows": ("a,b\n1,2\n3,4,5\n", ["--on-bad-row", "error"], "columns"),
    "too few but for ragged rows": ("a,b\n1,2\n3,4,5\n", [], "row 1: it has 3 cells"),
    "unknown rule": ("a,b\n1,2\n3,4\n", ["--rule", "quantil:0.9"], "did you mean 'quantile'"),
    "a rule out of range": ("a,b\n1,2\n3,4\n", ["--rule", "quantile:2"], "Quantile.q is 2.0"),
    "no epochs": ("a,b\n1,2\n3,4\n", ["--epochs", "0"], "Train.epochs is 0"),
    "unknown optimiser": ("a,b\n1,2\n3,4\n", ["--optimizer", "adamm"], "'adamm'"),
    "unknown flag": ("a,b\n1,2\n3,4\n", ["--epohcs", "3"], "--epochs"),
    "no number": ("a,b\n1,2\n3,4\n", ["--epochs", "many"], "--epochs"),
    "unknown model": ("a,b\n1,2\n3,4\n", ["--model", "transformer"], "allowed: conv, dense"),
    "conv on a table": ("a,b\n1,2\n3,4\n", ["--model", "conv"], "(2,)"),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_bad_training_input_gets_one_line_and_exit_code_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, flags, expected = BAD_TRAINING[case]
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_text(content)
    code = main(["train", "--input", str(path), "--out", str(tmp_path / "run"), "--quiet", *flags])
    printed = capsys.readouterr()
    assert code == 2
    assert expected in printed.err
    assert printed.err.startswith("aejax: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not (tmp_path / "run" / "detector").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "ecg500", "--out", "x"], "did you mean 'ecg5000'"),
        (["scor"], "did you mean 'score'"),
        (["inspect", "nowhere"], "nowhere does not exist"),
        (["score", "nowhere", "--input", "a.csv", "--out", "b"], "nowhere holds no detector"),
        (["evaluate", "nowhere"], "nowhere holds no scores"),
        (["report", "nowhere"], "nowhere holds no detector"),
        # The flag that is wrong is said before the one that is missing for it.
        (["train", "--inptu", "a.csv", "--out", "b"], "no flag --inptu; did you mean --input?"),
        (["score", "a", "--inptu=a.csv", "--out", "b"], "no flag --inptu; did you mean --input?"),
        (["evaluate", "a", "--thresold", "1"], "did you mean --threshold?"),
    ],
)
def test_unknown_names_get_the_nearest(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_a_column_that_is_missing_when_scoring_is_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(10, 0).drop(columns="sensor_5").to_csv(tmp_path / "rows.csv", index=False)
    score = ["score", str(trained / "run"), "--input", str(tmp_path / "rows.csv")]
    assert main([*score, "--out", str(tmp_path / "scores"), "--quiet"]) == 2
    assert "sensor_5" in capsys.readouterr().err


def test_a_folder_that_holds_another_run_is_left_as_it_is(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = aejax.load(trained / "run").fingerprint
    again = ["train", "--input", str(trained / "train.csv"), "--out", str(trained / "run"), *FAST]
    assert main([*again, "--seed", "5"]) == 2
    assert "config.train.seed is 0 there and 5 here" in capsys.readouterr().err
    assert aejax.load(trained / "run").fingerprint == before
    # The very same command is the same run: it finds it done and reports again.
    assert main(again) == 0
    assert aejax.load(trained / "run").fingerprint == before


def test_a_folder_of_other_files_is_never_written_to(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    arguments = ["train", "--input", str(trained / "train.csv"), "--out", str(tmp_path), *FAST]
    assert main([*arguments, "--overwrite"]) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("flag", ["loss", "optimizer", "schedule"])
def test_fields_of_names_or_objects_take_names(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(60, 0).to_csv(tmp_path / "train.csv", index=False)
    arguments = ["train", "--input", str(tmp_path / "train.csv"), "--out", str(tmp_path / "run")]
    names = {"loss": "absolute", "optimizer": "sgd", "schedule": "cosine"}
    assert main([*arguments, f"--{flag}", "nothing", *FAST]) == 2
    assert names[flag] in capsys.readouterr().err
    assert main([*arguments, f"--{flag}", names[flag], *FAST]) == 0
    assert getattr(aejax.load(tmp_path / "run").config.train, flag) == names[flag]


def test_a_loss_that_is_not_finite_stops_at_its_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(400, 0).to_csv(tmp_path / "train.csv", index=False)
    arguments = ["train", "--input", str(tmp_path / "train.csv"), "--out", str(tmp_path / "run")]
    wild = ["--optimizer", "sgd", "--learning-rate", "1e6"]
    assert main([*arguments, *wild, *FAST]) == 2
    assert "at step" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["recipes", "run", "train", "calibrate", "score", "evaluate", "inspect"]
)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert name in capsys.readouterr().out


def test_flags_that_turn_something_off_say_what_they_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A flag begins with "no" where its text does, and its default is not to."""
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        for flag, said in re.findall(r"(--no-[a-z-]+) (.*?\(default: \w+\))", text):
            assert said.endswith("(default: False)"), (name, flag)


def test_a_quick_run_says_so_first() -> None:
    result = {"quick": True, "published": {}, "measured": {"auroc": 0.16}, "seconds": {}}
    lines = Run.show({**result, "report": "report.html"}).splitlines()
    assert lines[0].endswith("its numbers mean nothing.")
    assert not Run.show({**result, "quick": False, "report": "r"}).startswith("A quick")


@pytest.mark.parametrize("value", [-1e-9, -0.0, 0.0, -4.9e-5])
def test_what_rounds_to_zero_has_no_sign(value: float) -> None:
    assert fixed(value) == "0.0000"
    result = {"published": {}, "measured": {"loss": value}, "seconds": {}, "report": "r"}
    assert "-0.0" not in Run.show(result)
    shown = published_section(Compared({"a": 0.0}, {"a": value}))
    assert shown is not None
    assert not re.search("[-\N{MINUS SIGN}]0[.<]", shown.content)


class Compared(NamedTuple):
    """What stands beside published numbers."""

    published: dict[str, float]
    measured: dict[str, float]


def test_recipes_are_listed_with_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["ecg5000"]["published"]["accuracy"] == 0.944

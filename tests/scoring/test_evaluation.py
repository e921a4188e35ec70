"""Labels meet the scores of their own rows, wherever they stand."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

import aejax
from aejax.cli import main
from aejax.config import InputError
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.scoring import evaluation
from aejax.scoring.stream import score_files

ROWS = 400


@pytest.fixture(scope="module")
def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of which every tenth is off, with a label and keys of several types."""
    made = table[1000 : 1000 + ROWS].reset_index(drop=True)
    label = np.arange(ROWS) % 10 == 3
    made.loc[label, "sensor_3"] += 4
    return made.assign(
        label=label.astype(int),
        number=np.arange(ROWS) * 3,
        when=pd.date_range("2026-01-01", periods=ROWS, freq="h", tz="UTC"),
        machine=np.arange(ROWS) // 100,
    )


@pytest.fixture(scope="module")
def scored(
    detector: Detector, rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    rows.drop(columns="label").to_parquet(folder / "rows.parquet", index=False)
    keys = Selection(key_columns=("id", "number", "when"))
    score_files(detector, folder / "rows.parquet", folder / "out", selection=keys, part_rows=150)
    return folder / "out"


def auroc(scored: Path, rows: pd.DataFrame, kept: Any = slice(None)) -> float:
    """The AUROC of the rows' own labels, by scikit-learn."""
    scores = pq.read_table(scored)["score"].to_numpy()
    return float(roc_auc_score(rows["label"][kept], scores[kept]))


def judged(scored: Path, labels: Any, **how: Any) -> dict[str, Any]:
    return evaluation.judged(evaluation.labelled(scored, labels, selection=Selection(**how)))


@pytest.mark.parametrize("key", ["id", "number", "when"])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_shuffled_labels_are_those_of_their_rows(
    scored: Path, rows: pd.DataFrame, tmp_path: Path, key: str, suffix: str
) -> None:
    path = tmp_path / f"labels.{suffix}"
    mixed = rows[[key, "label"]].sample(frac=1, random_state=0)
    mixed.to_parquet(path) if suffix == "parquet" else mixed.to_csv(path, index=False)
    found = judged(scored, path)
    assert found["auroc"]["value"] == pytest.approx(auroc(scored, rows))
    assert found["joined_by"] == [key]
    assert (found["rows"], found["anomalies"]) == (ROWS, ROWS // 10)
    assert found["rows_without_label"] == found["labels_without_row"] == 0


@pytest.mark.parametrize("form", [str, float, lambda number: f"{number}.0", "{:06d}".format])
def test_a_number_is_the_same_key_in_every_form(
    scored: Path, rows: pd.DataFrame, tmp_path: Path, form: Any
) -> None:
    mixed = rows[["number", "label"]].sample(frac=1, random_state=0)
    mixed["number"] = mixed["number"].map(form)
    mixed.to_parquet(tmp_path / "labels.parquet", index=False)
    found = judged(scored, tmp_path / "labels.parquet")
    assert found["auroc"]["value"] == pytest.approx(auroc(scored, rows))
    assert found["rows"] == ROWS


def test_rows_and_labels_without_a_partner_are_named(
    scored: Path, rows: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = rows[["id", "label"]][:-5].sample(frac=1, random_state=0)
    some.iloc[7, 0] = None
    more = pd.DataFrame({"id": ["nobody"], "label": [1]})
    pd.concat([some, more]).to_csv(tmp_path / "labels.csv", index=False)
    lost = int(some.index[7])
    with caplog.at_level(logging.WARNING, logger="aejax"):
        found = judged(scored, tmp_path / "labels.csv")
    kept = np.setdiff1d(np.arange(ROWS - 5), [lost])
    assert found["auroc"]["value"] == pytest.approx(auroc(scored, rows, kept))
    assert (found["rows"], found["rows_without_label"], found["labels_without_row"]) == (394, 6, 2)
    without = [*rows["id"][[lost]], *rows["id"][-5:]]
    assert sorted(found["first_rows_without_label"]) == sorted(f"id {name!r}" for name in without)
    assert "id 'nobody'" in found["first_labels_without_row"]
    assert "6 of 400 rows have no label, and are left out: id '" in caplog.text
    assert "2 of 396 labels have no row: id ''; id 'nobody'" in caplog.text


def test_labels_of_other_rows_are_refused(scored: Path, tmp_path: Path) -> None:
    pd.DataFrame({"id": ["x1"] * ROWS, "label": 1}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(InputError, match="none of its keys is one of the scores'"):
        judged(scored, tmp_path / "labels.csv")


def test_doubled_keys(detector: Detector, scored: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    labels = pd.concat([rows, rows[:9]])[["id", "label"]].sample(frac=1, random_state=0)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    found = judged(scored, tmp_path / "labels.csv")
    assert found["auroc"]["value"] == pytest.approx(auroc(scored, rows))
    assert (found["rows"], found["labels_of_repeated_keys"]) == (ROWS, 18)
    assert len(found["first_labels_of_repeated_keys"]) == 10
    # A label is of all rows that have its key; two different ones are of none.
    rows.drop(columns="label").to_parquet(tmp_path / "rows.parquet", index=False)
    by_machine = tmp_path / "by-machine"
    machine = Selection(key_columns=("machine",))
    score_files(detector, tmp_path / "rows.parquet", by_machine, selection=machine)
    of_machines = pd.DataFrame({"machine": [2, 0, 3, 1], "label": [1, 0, 0, 0]})
    of_machines.to_csv(tmp_path / "machines.csv", index=False)
    found = judged(by_machine, tmp_path / "machines.csv")
    expected = roc_auc_score(rows["machine"] == 2, pq.read_table(by_machine)["score"])
    assert found["auroc"]["value"] == pytest.approx(expected)
    assert found["rows_of_repeated_keys"] == ROWS
    rows[["machine", "label"]].sample(frac=1, random_state=0).to_csv(
        tmp_path / "mixed.csv", index=False
    )
    with pytest.raises(InputError, match=r"key machine '\d' has both a normal and an anomalous"):
        judged(by_machine, tmp_path / "mixed.csv")
    # In the same order, row by row, each label stands beside its own.
    rows[["machine", "label"]].to_csv(tmp_path / "ordered.csv", index=False)
    found = judged(by_machine, tmp_path / "ordered.csv")
    assert found["auroc"]["value"] == pytest.approx(auroc(by_machine, rows))


def test_only_without_a_key_by_position_and_that_is_said(
    scored: Path,
    rows: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows["label"].to_csv(tmp_path / "labels.csv", index=False)
    with caplog.at_level(logging.INFO, logger="aejax"):
        labels = ["--labels", str(tmp_path / "labels.csv")]
        assert main(["evaluate", str(scored), *labels, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["auroc"]["value"] == pytest.approx(auroc(scored, rows))
    assert found["joined_by"] == "position"
    assert "joined by position" in caplog.text
    np.save(tmp_path / "labels.npy", rows["label"].to_numpy())
    assert judged(scored, tmp_path / "labels.npy") == found
    rows["label"][:-1].to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(InputError, match=r"399 labels in 1 file.* 400 in 1 file, .*id, number, wh"):
        judged(scored, tmp_path / "short.csv")


def test_the_index_of_a_frame_is_a_key_where_it_has_a_name() -> None:
    """Or else in one order on both sides, where labels are joined by position."""
    scores, odd = np.arange(20.0), np.arange(20) > 15
    shuffled = np.random.default_rng(0).permutation(20)
    for name in ("id", None):
        index = pd.Index(100 + np.arange(20), name=name)
        found = pd.DataFrame({"score": scores}, index=index)
        labels = pd.DataFrame({"label": odd}, index=index)
        assert aejax.evaluate(found, labels, threshold=9.0)["auroc"]["value"] == 1.0
        others = [labels["label"].iloc[shuffled]]
        if name:
            judged = aejax.evaluate(found, labels.iloc[shuffled], threshold=9.0)
            assert (judged["joined_by"], judged["auroc"]["value"]) == (["id"], 1.0)
        else:
            others.append(labels.iloc[shuffled])
        for other in others:
            with pytest.raises(InputError, match="rows and labels have the same index in diff"):
                aejax.evaluate(found, other, threshold=9.0)


def test_labels_that_are_missing_by_their_containers_mark_are_no_labels() -> None:
    scores, odd = np.arange(20.0), np.arange(20) > 15
    hole = np.arange(20) == 3
    for labels in (np.ma.masked_array(odd, hole), pd.array(np.where(hole, None, odd), "boolean")):
        with pytest.raises(InputError, match="'label' holds an empty cell in row 3"):
            aejax.evaluate(scores, labels, threshold=9.0)


def test_labels_of_many_files_need_a_key(scored: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    for name, part in (("b", rows[:150]), ("a", rows[150:])):
        (folder / f"day={name}").mkdir(parents=True)
        part[["id", "label"]].to_csv(folder / f"day={name}" / "labels.csv", index=False)
    for labels in (folder, f"{folder}/*/*.csv", sorted(folder.rglob("*.csv"))):
        found = judged(scored, labels)
        assert found["auroc"]["value"] == pytest.approx(auroc(scored, rows))
        assert found["rows"] == ROWS
    for path in folder.rglob("*.csv"):
        pd.read_csv(path)[["label"]].to_csv(path, index=False)
    # The folders' order is not that of the rows.
    with pytest.raises(InputError, match=r"400 labels in 2 file\(s\) and no key of the scores"):
        judged(scored, folder)


def test_a_label_file_made_from_the_scores_is_joined_by_row(
    scored: Path, rows: pd.DataFrame, tmp_path: Path
) -> None:
    table = pq.read_table(scored, columns=["row", "score"]).to_pandas()
    table["label"] = rows["label"]
    worst_first = table.sort_values("score", ascending=False)
    for name, labels in (("all", worst_first), ("few", worst_first[:100])):
        labels.to_csv(tmp_path / f"{name}.csv", index=False)
        found = judged(scored, tmp_path / f"{name}.csv")
        assert found["joined_by"] == ["row"]
        assert found["auroc"]["value"] == pytest.approx(auroc(scored, rows, labels["row"]))
    # A feature of that name numbers nothing.
    table.assign(row=np.random.default_rng(0).normal(size=ROWS)).to_csv(
        tmp_path / "feature.csv", index=False
    )
    assert judged(scored, tmp_path / "feature.csv")["joined_by"] == "position"


def test_keys_of_scores_that_were_appended_to_or_have_other_names(
    detector: Detector, rows: pd.DataFrame, tmp_path: Path
) -> None:
    folder, out = tmp_path / "rows", tmp_path / "out"
    folder.mkdir()
    given = rows.drop(columns="label").assign(score=rows["number"])
    keys = Selection(key_columns=("score",))
    given[200:].to_parquet(folder / "b.parquet", index=False)
    score_files(detector, folder, out, selection=keys)
    given[:200].to_parquet(folder / "a.parquet", index=False)
    score_files(detector, folder, out, selection=keys, append=True)
    given.assign(label=rows["label"]).to_csv(tmp_path / "labels.csv", index=False)
    found = judged(out, tmp_path / "labels.csv")
    scores = pq.read_table(out)["score"].to_numpy()
    assert found["joined_by"] == ["score"]
    assert found["auroc"]["value"] == pytest.approx(
        roc_auc_score([*rows["label"][200:], *rows["label"][:200]], scores)
    )


def test_a_normal_label_that_occurs_nowhere_is_refused(
    detector: Detector, rows: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise every row would be an anomaly."""
    worded = rows.drop(columns="when").assign(state=np.where(rows["label"], "attack", "normal"))
    path, run = str(tmp_path / "rows.csv"), str(tmp_path / "run")
    worded.to_csv(path, index=False)
    detector.save(run)
    assert (
        main(["score", run, "--input", path, "--out", f"{run}/s", "--key", "state", "--quiet"]) == 0
    )
    assert main(["score", run, "--input", path, "--out", f"{run}/t", "--quiet"]) == 0
    label = ["--label-column", "state", "--normal-label"]
    drop = ["--drop-columns", "id", "label", "number"]
    train = [
        "train",
        "--input",
        path,
        "--out",
        f"{run}/new",
        *drop,
        "--epochs",
        "1",
        "--quiet",
        "--model",
        "dense",
        "--calibration",
        "held-out",
    ]
    for command in (
        ["evaluate", f"{run}/s"],
        ["evaluate", f"{run}/t", "--labels", path],
        ["calibrate", run, "--input", path, "--rule", "quantile:0.9"],
        ["calibrate", run, "--input", path, "--rule", "best-f1"],
        train,
        [*train, "--columns.kinds", "mixed"],
        [*train, "--group-column", "machine"],
    ):
        capsys.readouterr()
        assert main([*command, *label, "nrmal"]) == 2, command
        said = capsys.readouterr().err
        assert "no row has the normal label 'nrmal'" in said, command
        assert said.count("\n") == 1
    assert (
        main(["evaluate", f"{run}/s", "--label-column", "state", "--normal-label", "normal"]) == 0
    )

"""Files of many groups, trained and scored by the command line, against each group alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

import aejax
from aejax import Conformal
from aejax.cli import main
from aejax.config import InputError
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.scoring.inspection import inspect_folder
from aejax.scoring.stream import score_files
from aejax.training.loop import Interrupted
from tests.plain import plain_config

COLUMNS = [f"reading_{i}" for i in range(6)]
STORES = {7: 120, 8: 60, 12: 200}


def make_table(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    parts = []
    for store, rows in STORES.items():
        mixing = np.random.default_rng(store).normal(size=(2, 6))
        x = random.normal(size=(rows, 2)) @ mixing + 0.1 * random.normal(size=(rows, 6)) + store
        parts.append(pd.DataFrame(x.astype(np.float32), columns=COLUMNS).assign(store=store))
    return pd.concat(parts).sample(frac=1, random_state=seed).reset_index(drop=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make_table(0)


@pytest.fixture(scope="module")
def grouped(table: pd.DataFrame) -> Detector:
    config = plain_config(
        model=aejax.Dense(hidden=(8, 2)), train=aejax.Train(epochs=2), rule=Conformal(alpha=0.2)
    )
    return aejax.fit(config, table[[*COLUMNS, "store"]], groups="store")


def test_each_row_is_scored_by_its_own_group(
    grouped: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    scored = make_table(1)
    scored.loc[3, "store"] = 99
    scored.loc[5, COLUMNS[2]] = np.nan
    scored.loc[9, COLUMNS[0]] += 30
    scored = scored.astype({"store": "Int64"})
    scored.loc[11, "store"] = pd.NA
    path = tmp_path / "rows.parquet"
    scored.to_parquet(path, index=False)
    summary = score_files(grouped, path, tmp_path / "scores", top_features=2, part_rows=150)
    found = pq.read_table(tmp_path / "scores").to_pandas()
    assert summary["bad_rows_by_reason"] == {"group without a detector": 2, "missing or NaN": 1}
    assert found["reason"][3] == "no detector for this store"
    assert found["reason"][11] == "store is empty"
    bad = found["score"].isna()
    assert list(np.flatnonzero(bad)) == [3, 5, 11]
    assert found.loc[bad, ["threshold", "p_value", "is_anomaly"]].isna().all(axis=None)
    for store in STORES:
        own = ((scored["store"] == store).fillna(False) & ~bad).to_numpy()
        single = grouped.member(str(store))
        x = scored.loc[own, COLUMNS]
        np.testing.assert_allclose(found.loc[own, "score"], single.score(x), rtol=1e-5)
        np.testing.assert_array_equal(found.loc[own, "is_anomaly"], single.predict(x))
        np.testing.assert_allclose(found.loc[own, "p_value"], single.p_values(x))
        assert single.threshold is not None
        assert set(found.loc[own, "threshold"]) == {single.threshold.value}
    assert summary["flagged"] == found["is_anomaly"].sum()
    assert found["is_anomaly"][9]
    assert found["top_features"][9][0] == COLUMNS[0]


def test_a_stopped_job_ends_with_the_same_bytes(
    grouped: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    table.to_csv(path, index=False)

    def run(out: Path, stop: bool) -> None:
        score_files(grouped, path, out, part_rows=64, batch_size=64, should_stop=lambda: stop)

    run(tmp_path / "whole", False)
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", True)
    run(tmp_path / "stopped", False)
    parts = sorted(part.name for part in (tmp_path / "whole").glob("part-*"))
    assert len(parts) == 6
    for name in parts:
        whole, stopped = ((tmp_path / out / name).read_bytes() for out in ("whole", "stopped"))
        assert whole == stopped
    with pytest.raises(InputError, match="threshold_calibration"):
        score_files(
            grouped.calibrate(table, groups="store", rule=aejax.Quantile(q=0.5)),
            path,
            tmp_path / "whole",
            part_rows=64,
            batch_size=64,
        )


def test_commands(table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = table.assign(label=0)
    labelled.loc[:20, "label"] = 1
    labelled.loc[:20, COLUMNS] += 20.0
    labelled.loc[40, "store"] = 500
    path, run = tmp_path / "rows.csv", tmp_path / "run"
    labelled.to_csv(path, index=False)

    def call(*arguments: str, code: int = 0) -> str:
        assert main(list(map(str, arguments))) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    train = ["train", "--input", str(path), "--out", str(run), "--label-column", "label"]
    train += [
        "--group-column",
        "store",
        "--epochs",
        "2",
        "--quiet",
        "--json",
        "--model",
        "dense",
        "--calibration",
        "held-out",
    ]
    assert "group '500'" in call(*train, code=2)
    result = json.loads(call(*train, "--least-rows", "20", "--overwrite"))
    assert result["measured"]["groups"] == 3
    assert result["measured"]["mean_auroc"] > 0.95
    assert list(result["skipped"]) == ["500"]
    lines = pd.read_csv(run / "groups.csv")
    assert list(lines["store"]) == [12, 7, 8, 500]
    assert "1 training rows" in lines["problem"][3]

    result = json.loads(call("inspect", str(run), "--json"))
    assert (result["kind"], result["groups"], result["skipped_groups"]) == (
        "detectors of groups",
        3,
        1,
    )
    assert inspect_folder(run)["group_column"] == "store"

    renamed = tmp_path / "renamed.csv"
    labelled.rename(columns={"store": "shop"}).to_csv(renamed, index=False)
    scores = ["score", str(run), "--input", str(renamed), "--quiet", "--json"]
    assert "'store'" in call(*scores, "--out", str(tmp_path / "no"), code=2)
    result = json.loads(
        call(*scores, "--group-column", "shop", "--key", "label", "--out", str(tmp_path / "s"))
    )
    assert result["bad_rows_by_reason"] == {"group without a detector": 1}
    assert "shop" in pq.read_table(tmp_path / "s").column_names

    found = pq.read_table(tmp_path / "s").to_pandas().dropna(subset=["score"])
    result = json.loads(call("evaluate", str(tmp_path / "s"), "--json"))
    share = found["score"] / found["threshold"]
    assert result["auroc"]["value"] == pytest.approx(roc_auc_score(found["label"] == "1", share))
    assert result["flagged"] == found["is_anomaly"].sum()

    result = json.loads(
        call(
            *("calibrate", str(run), "--input", str(path), "--label-column", "label"),
            *("--rule", "quantile:0.5", "--json"),
        )
    )
    assert result["groups_changed"] == 3
    assert result["rows_of_unknown_groups"] == 1
    assert result["median_threshold"] < result["median_threshold_before"]


def test_one_detector_takes_no_groups(run_folder: Path, rows_of_one: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="allowed without groups: none"):
        score_files(aejax.load(run_folder), rows_of_one, tmp_path / "out", group_column="id")


@pytest.fixture
def rows_of_one(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "one.csv"
    table.to_csv(path, index=False)
    return path


def test_group_column_is_in_the_selection_once(
    grouped: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    table.head(40).assign(id=np.arange(40)).to_parquet(path, index=False)
    selection = Selection(key_columns=("id", "store"))
    score_files(grouped, path, tmp_path / "scores", selection=selection)
    names = pq.read_table(tmp_path / "scores").column_names
    assert names[:3] == ["store", "id", "row"]

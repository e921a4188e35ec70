"""Reports of runs, of scored rows and from Python: rows that can be found, thresholds in force."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import aejax
from aejax.cli import main
from aejax.config import InputError
from aejax.data.rows import Selection
from aejax.detection.promise import promise_of
from aejax.estimator import AutoEncoder
from aejax.recipes.own_rows import prepare
from aejax.reporting.kept import kept_report
from aejax.reporting.markup import percent
from tests.plain import plain_config

NAMES = ["heat", "flow", "draw"]
FLAGS = ["--label-column", "label", "--key", "machine", "--drop-columns", "when"]


def rows(count: int, seed: int) -> pd.DataFrame:
    """Rows on a plane in units of their own; every ninth is off it, and labelled."""
    random = np.random.default_rng(seed)
    cause = random.normal(size=(count, 1))
    x = cause * [5.0, 0.02, 300.0] + random.normal(size=(count, 3)) * [0.5, 0.002, 30.0]
    x += [60.0, 0.5, 2000.0]
    label = np.arange(count) % 9 == 4
    x[label, 0] += 30
    made = pd.DataFrame(x, columns=NAMES)
    machine = [f"M{seed}-{row:04d}" for row in range(count)]
    when = pd.date_range(f"2026-01-0{seed}", periods=count, freq="min").astype(str)
    return made.assign(machine=machine, when=when, label=label.astype(int))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of training rows, of which some can't be used, and one to score."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "rows").mkdir()
    for seed in (1, 2):
        made = rows(150, seed)
        made.loc[[3, 70], "flow"] = np.nan
        made.to_csv(folder / "rows" / f"day{seed}.csv", index=False)
    rows(120, 3).drop(columns="label").to_csv(folder / "today.csv", index=False)
    rows(120, 3)[["machine", "label"]][::-1].to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    where = ["--input", str(folder / "rows"), "--out", str(folder / "run"), "--quiet"]
    network = [
        "--model",
        "dense",
        "--hidden",
        "8",
        "1",
        "--epochs",
        "30",
        "--batch-size",
        "16",
        "--calibration",
        "held-out",
    ]
    assert main(["train", *where, *FLAGS, *network]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def scored(folder: Path, run: Path) -> Path:
    out = folder / "scores"
    keys = Selection(key_columns=("machine",))
    detector = aejax.load(run)
    aejax.score_files(detector, folder / "today.csv", out, selection=keys, top_features=2)
    return out


def test_rows_of_a_report_are_found_in_their_files(folder: Path, run: Path) -> None:
    report, detector = kept_report(run), aejax.load(run)
    assert len(report.places) >= 12
    # Cards fill their lines, of one, two or three.
    assert report.most is not None
    assert report.least is not None
    assert len(report.most.row) == len(report.least.row) == 6
    sources = {place.file for place in report.places.values()}
    assert sources == {"day1.csv", "day2.csv"}
    for row, place in report.places.items():
        table = pd.read_csv(folder / "rows" / place.file).iloc[[place.row]]
        assert detector.score(table[NAMES])[0] == pytest.approx(report.scores[row], rel=1e-4)
        assert report.is_anomaly is not None
        assert bool(report.is_anomaly[row]) == bool(table["label"].iloc[0])
        keys = (("machine", table["machine"].iloc[0]), ("when", table["when"].iloc[0]))
        assert place.keys == keys
    page = (run / "report.html").read_text()
    worst = report.places[int(np.argmax(report.scores))]
    assert f"Row {worst.row} of {worst.file}" in page
    assert f"machine {dict(worst.keys)['machine']}, when 2026" in page
    # The feature that is off comes first, in the file's units.
    value = pd.read_csv(folder / "rows" / worst.file)["heat"][worst.row]
    assert report.reasons[int(np.argmax(report.scores))].startswith(f"heat {value:.4g} (expected ")


@pytest.mark.parametrize("memory_limit", [1 << 30, 256])
def test_all_judged_rows_are_found_wherever_they_are(
    folder: Path, tmp_path: Path, memory_limit: int
) -> None:
    config = plain_config(model=aejax.Dense(hidden=(2,)))
    selection = Selection(label_column="label", drop_columns=("machine", "when"))
    out = tmp_path / "rows"
    made = prepare(config, folder / "rows", selection, out=out, memory_limit=memory_limit)
    assert made.places is not None
    every = np.random.default_rng(0).permutation(len(made.x_test))
    for row, place in zip(every, made.places(every), strict=True):
        assert place is not None
        table = pd.read_csv(folder / "rows" / place.file)
        np.testing.assert_allclose(table.loc[place.row, NAMES], made.x_test[row], rtol=1e-6)


def test_a_file_that_changed_loses_places_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows(60, 4).to_csv(path, index=False)
    config = plain_config(model=aejax.Dense(hidden=(2,)))
    selection = Selection(label_column="label", key_columns=("machine",), drop_columns=("when",))
    made = prepare(config, path, selection, out=tmp_path / "run")
    assert made.places is not None
    path.write_text("gone\n")
    assert made.places(np.arange(5)) == [None] * 5


def test_a_new_threshold_shows_everywhere(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    before = aejax.load(run).threshold_value
    card = run / "MODEL_CARD.md"
    card.write_text(card.read_text().replace("## Settings", "Kept by Ann.\n\n## Settings"))
    capsys.readouterr()
    normal = folder / "normal.csv"
    rows(200, 5).query("label == 0").drop(columns=["label"]).to_csv(normal, index=False)
    assert main(["calibrate", str(run), "--input", str(normal), "--rule", "quantile:0.9"]) == 0
    detector = aejax.load(run)
    threshold = detector.threshold_value
    assert threshold is not None
    assert threshold != before
    report = kept_report(run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["measured"]["threshold"] == metrics["metrics"]["threshold"] == threshold
    flagged = int((report.scores > np.float64(threshold)).sum())
    assert metrics["metrics"]["flagged"] == flagged
    page = (run / "report.html").read_text()
    promise = promise_of(detector.threshold)
    assert promise is not None
    for said in (f"{threshold:.4g}", promise.text, "quantile:0.9", f">{flagged:,}<"):
        assert said in page
    text = card.read_text()
    assert f"{threshold:.9g}, by quantile:0.9" in text
    assert "Kept by Ann." in text
    assert "promised: 0.1" in capsys.readouterr().out
    # The same from Python, where a detector is saved without a page.
    detector.with_threshold(dataclasses.replace(detector.threshold, value=123.5)).save(
        run / "detector"
    )
    assert aejax.report(run) == run / "report.html"
    assert json.loads((run / "metrics.json").read_text())["metrics"]["threshold"] == 123.5
    detector.save(run / "detector")
    aejax.report(run)


def test_scores_have_reasons_in_the_files_units(folder: Path, run: Path, scored: Path) -> None:
    table, today = pq.read_table(scored).to_pandas(), pd.read_csv(folder / "today.csv")
    reasons = aejax.load(run).explain(today[NAMES], top=2)
    for row in (4, 13, 50):
        names = table["top_features"][row]
        assert list(names) == [reason.feature for reason in reasons[row]]
        np.testing.assert_allclose(table["top_found"][row], today.loc[row, names], rtol=1e-6)
        expected = [reason.expected for reason in reasons[row]]
        np.testing.assert_allclose(table["top_expected"][row], expected, rtol=1e-5)
    heat = table["top_expected"][4][0]
    assert table["top_features"][4][0] == "heat"
    assert abs(heat - 60) < 30 < table["top_found"][4][0] - heat + 15


def test_the_report_of_scores(
    folder: Path, run: Path, scored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(scored)]) == 0
    path = scored / "_report" / "report.html"
    assert str(path) in capsys.readouterr().out
    page = path.read_text()
    table, today = pq.read_table(scored).to_pandas(), pd.read_csv(folder / "today.csv")
    worst = int(table["score"].idxmax())
    assert f"row {worst} of today.csv" in page
    assert f"machine {today['machine'][worst]}" in page
    assert f"heat {today['heat'][worst]:.4g} (expected " in page
    assert f"{int(table['is_anomaly'].sum()):,} rows" in page
    # Readers of the parts pass the page by.
    assert len(pq.read_table(scored)) == len(table)


def test_scores_that_came_in_two_runs(folder: Path, run: Path, tmp_path: Path) -> None:
    detector, days = aejax.load(run), tmp_path / "days"
    days.mkdir()
    rows(150, 6).query("label == 0").to_parquet(days / "day1.parquet")
    late = rows(150, 7)
    late["heat"] += 20
    late.loc[3, "draw"] = np.nan
    aejax.score_files(detector, days, tmp_path / "out")
    stale = aejax.report(tmp_path / "out")
    late.to_parquet(days / "day2.parquet")
    added = aejax.score_files(detector, days, tmp_path / "out", append=True)["added"]
    assert not stale.exists()
    drifted = int(pd.read_csv(tmp_path / "out" / "_files.csv")["drifted"].sum())
    page = aejax.report(tmp_path / "out", tmp_path / "page").read_text()
    flagged = percent(added["flagged_rate"])
    assert f"The newest run added 150 rows, of which {flagged} are flagged." in page
    assert f"{drifted} of 2 files have drifted" in page
    assert "missing or NaN" in page
    assert page.index("run 2") < page.index("run 1")
    page = page[page.index("Files, the newest first") :]
    assert page.index(">day2.parquet<") < page.index(">day1.parquet<")


def test_evaluated_scores_have_curves_and_decisions(
    folder: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = str(folder / "labels.csv")
    out = tmp_path / "judged"
    assert main(["evaluate", str(scored), "--labels", labels, "--report", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    table, known = pq.read_table(scored).to_pandas(), rows(120, 3)["label"]
    assert result["auroc"]["value"] == pytest.approx(roc_auc_score(known, table["score"]))
    page = (out / "report.html").read_text()
    assert f"{roc_auc_score(known, table['score']):.4f}" in page
    assert f"{average_precision_score(known, table['score']):.4f}" in page
    found = int((table["is_anomaly"] & (known == 1)).sum())
    assert f"finds {found} of {known.sum()} anomalies" in page
    assert (out / "plots" / "roc.png").is_file()


class TestFromPython:
    def test_evaluate_takes_what_there_is(self, folder: Path, run: Path, scored: Path) -> None:
        today, known = pd.read_csv(folder / "today.csv"), rows(120, 3)["label"].to_numpy()
        detector = aejax.load(run)
        labels = pd.read_csv(folder / "labels.csv")
        frame = pq.read_table(scored).to_pandas()
        from_folder = aejax.evaluate(scored, folder / "labels.csv")
        assert from_folder["joined_by"] == ["machine"]
        ways = {
            "table and table": aejax.evaluate(frame, labels, key="machine"),
            "folder and table": aejax.evaluate(scored, labels),
            "folder and array": aejax.evaluate(scored, known),
            "array": aejax.evaluate(frame["score"].to_numpy(), known),
            "series": aejax.evaluate(frame["score"], pd.Series(known)),
            "detector": aejax.evaluate(detector, known, x=today[NAMES]),
        }
        for way, result in ways.items():
            for area in ("auroc", "average_precision"):
                value = result[area]["value"]
                assert value == pytest.approx(from_folder[area]["value"], rel=1e-6), way
        for way in ("detector", "folder and array"):
            assert ways[way]["anomaly_positive"] == from_folder["anomaly_positive"], way
        with pytest.raises(InputError, match=r"key is 'engine', which .* carry; .*machine"):
            aejax.evaluate(scored, labels, key="engine")
        with pytest.raises(InputError, match="scores has no column 'score'"):
            aejax.evaluate(today, labels)

    def test_rows_without_a_score_are_left_out(self) -> None:
        result = aejax.evaluate(np.array([0.1, np.nan, 0.9]), [0, 1, 1], threshold=0.5)
        assert (result["rows"], result["rows_without_score"]) == (2, 1)

    def test_report_takes_what_there_is(self, folder: Path, run: Path, tmp_path: Path) -> None:
        today, known = pd.read_csv(folder / "today.csv"), rows(120, 3)["label"].to_numpy()
        detector = aejax.load(run)
        page = aejax.report(detector, tmp_path / "a", x=today, labels=known).read_text()
        scores = detector.score(today)
        assert f"{roc_auc_score(known, scores):.4f}" in page
        page = aejax.report(scores, tmp_path / "b", labels=known, threshold=1.0).read_text()
        assert f"{roc_auc_score(known, scores):.4f}" in page
        fitted = AutoEncoder(hidden=(4, 2), steps=4, contamination=0.1).fit(today[NAMES])
        page = aejax.report(fitted, tmp_path / "c", x=today).read_text()
        assert ">12<" in page

    def test_export_takes_a_fitted_estimator(self, folder: Path, tmp_path: Path) -> None:
        x = pd.read_csv(folder / "today.csv")[NAMES]
        fitted = AutoEncoder(hidden=(4, 2), steps=4).fit(x)
        aejax.export(fitted, tmp_path / "export")
        np.testing.assert_allclose(
            aejax.load(tmp_path / "export").score(x), -fitted.score_samples(x), rtol=1e-5
        )

    @pytest.mark.parametrize(
        ("source", "how", "message"),
        [
            (AutoEncoder(), {}, r"AutoEncoder has no detector_; allowed: .*call fit first"),
            (7, {}, "int is given; allowed: a detector, a fitted estimator, or a folder"),
            ("nowhere", {}, "nowhere"),
        ],
    )
    def test_what_is_none_is_said(
        self, source: Any, how: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        for call in (
            lambda: aejax.report(source, tmp_path, x=np.zeros((2, 3)), **how),
            lambda: aejax.export(source, tmp_path / "export", **how),
            lambda: aejax.evaluate(source, [0, 1], x=np.zeros((2, 3)), **how),
        ):
            with pytest.raises(InputError, match=message):
                call()


def test_groups_show_the_thresholds_in_force(folder: Path, tmp_path: Path) -> None:
    made = pd.concat([rows(150, seed).assign(site=f"site {seed}") for seed in (1, 2)])
    path, out = tmp_path / "rows.csv", tmp_path / "run"
    made.drop(columns=["machine", "when"]).to_csv(path, index=False)
    network = [
        "--model",
        "dense",
        "--hidden",
        "4",
        "--epochs",
        "3",
        "--batch-size",
        "16",
        "--calibration",
        "held-out",
    ]
    flags = ["--label-column", "label", "--group-column", "site", "--out", str(out), "--quiet"]
    assert main(["train", "--input", str(path), *flags, *network]) == 0
    before = aejax.load(out)
    promise = promise_of(before.threshold)
    assert promise is not None
    page, card = (out / "report.html").read_text(), (out / "MODEL_CARD.md").read_text()
    assert promise.text in page
    assert promise.text in card
    assert "2 thresholds" in promise.text
    flags = ["--label-column", "label", "--rule", "quantile:0.8"]
    assert main(["calibrate", str(out), "--input", str(path), *flags]) == 0
    detector = aejax.load(out)
    assert detector.threshold is not None
    values = detector.threshold.values
    assert (values != before.threshold.values).all()
    now = promise_of(detector.threshold)
    assert now is not None
    assert now.promised == pytest.approx(0.2)
    page, card = (out / "report.html").read_text(), (out / "MODEL_CARD.md").read_text()
    table = pd.read_csv(out / "groups.csv")
    np.testing.assert_allclose(table["threshold"], values)
    normal = made[made["label"] == 0]
    flagged = detector.predict(normal[NAMES], groups=normal["site"].to_numpy())
    assert table["normal_rows_flagged"].sum() == flagged.sum()
    assert now.text in page
    assert now.text in card
    measured = json.loads((out / "metrics.json").read_text())["measured"]
    assert measured["median_threshold"] == pytest.approx(np.median(values))
    assert re.search(rf"{flagged.sum():,} of {len(normal):,} normal rows", page)

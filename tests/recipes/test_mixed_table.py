"""A mixed table from CSV to scores, reasons, report and export, by the command line.

Columns depend on each other in ways that are known; an anomaly breaks one of them, and each of
its cells alone is usual.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

import aejax
from aejax.cli import main
from aejax.estimator import AutoEncoder, PyODAutoEncoder
from tests.plain import plain_config

SHOPS = np.array(["Lille", "Paris", "Ulm", "Bonn", "Leeds", "York"])
COUNTRIES = np.array(["FR", "FR", "DE", "DE", "GB", "GB"])
PAYMENTS = np.array(["card", "card", "cash", "cash", "phone", "phone"])
BREAKABLE = ("pays", "when", "amount", "country")
SETTINGS = ["--columns.kinds", "mixed", "--hidden", "64", "12", "--hide", "0.3"]
SETTINGS += [
    "--learning-rate",
    "3e-3",
    "--schedule",
    "cosine",
    "--epochs",
    "30",
    "--quiet",
    "--calibration",
    "held-out",
]


def table(rows: int, seed: int, broken: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Sales, a fifth of their cells missing; and which of them break a dependency."""
    random = np.random.default_rng(seed)
    shop, items = random.integers(0, 6, rows), random.integers(1, 9, rows)
    member = random.random(rows) < np.where(shop % 2 == 0, 0.97, 0.03)
    price = items * (shop + 2.0) * np.where(member, 0.8, 1.0)
    amount = price + random.normal(0, 0.3, rows)
    hour = np.array([7, 10, 13, 16, 19, 22])[shop] + random.normal(0, 0.5, rows)
    is_anomaly = random.random(rows) < broken
    which = np.where(is_anomaly, random.integers(0, 4, rows), -1)
    pays = np.where(which == 0, PAYMENTS[(shop + 2) % 6], PAYMENTS[shop])
    hour = np.where(which == 1, hour + 12, hour) % 24
    amount = np.where(which == 2, amount.max() - amount, amount)
    country = np.where(which == 3, COUNTRIES[(shop + 2) % 6], COUNTRIES[shop])
    days = pd.to_timedelta(random.integers(0, 360, rows), unit="D")
    seconds = pd.to_timedelta(np.round(3600 * hour), unit="s")
    made = pd.DataFrame(
        {
            "shop": SHOPS[shop],
            "country": country,
            "pays": pays,
            "member": member.astype(object),
            "items": items.astype(float),
            "amount": amount,
            "when": pd.Timestamp("2024-01-01") + days + seconds,
        }
    )
    for name in made.columns:
        missing = random.random(rows) < 0.2
        if name in BREAKABLE:
            missing &= which != BREAKABLE.index(name)
        made.loc[missing, name] = None
    return made, is_anomaly


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and a trained run."""
    home = tmp_path_factory.mktemp("mixed")
    normal, _ = table(3000, 0)
    normal.assign(currency="EUR").to_csv(home / "train.csv", index=False)
    test, is_anomaly = table(1500, 1, 0.1)
    test.loc[0, "country"] = "ZZ"
    test.loc[1] = [None] * 7
    test.insert(0, "sale", [f"s{i}" for i in range(len(test))])
    test.assign(label=is_anomaly.astype(int)).to_csv(home / "test.csv", index=False)
    train = ["train", "--input", str(home / "train.csv"), "--out", str(home / "run")]
    assert main([*train, *SETTINGS]) == 0
    return home


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def plain(made: pd.DataFrame) -> pd.DataFrame:
    """What a person would give to a forest: medians for missing numbers, one-hot categories."""
    when = made["when"].dt
    numbers = made[["items", "amount"]].assign(
        member=made["member"].astype(float), hour=when.hour, weekday=when.day_of_week
    )
    words = pd.get_dummies(made[["shop", "country", "pays"]])
    return pd.concat([numbers.fillna(numbers.median()), words], axis=1)


def test_from_csv_to_scores_and_reasons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, test = str(folder / "run"), str(folder / "test.csv")
    out = folder / "scores"
    score = ["score", run, "--input", test, "--out", str(out), "--key", "sale", "label"]
    summary = command([*score, "--top-features", "1", "--quiet"], capsys)
    # A missing cell is data; a row without any cell is not, nor is a country unheard of.
    assert summary["rows"] == 1500
    assert summary["bad_rows_by_reason"] == {"missing or NaN": 1}
    assert summary["unseen_values"] == {"country": 1}
    found = pq.read_table(out).to_pandas()
    assert found["reason"][1] == "no column has a value"
    assert found["sale"][7] == "s7"
    kept = found.drop(index=[0, 1])
    auroc = roc_auc_score(kept["label"], kept["score"])
    (normal, _), (rows, is_anomaly) = table(3000, 0), table(1500, 1, 0.1)
    forest = IsolationForest(random_state=0).fit(plain(normal))
    baseline = roc_auc_score(is_anomaly, -forest.score_samples(plain(rows)))
    assert auroc > 0.95 > 0.9 > baseline
    result = command(["explain", run, "--input", test, "--row", "0"], capsys)
    first = result["features"][0]
    assert first["feature"] == "country"
    assert first["found"] == "ZZ (never seen)"
    assert first["expected"] in set(COUNTRIES)
    assert result["score"] == pytest.approx(found["score"][0], rel=1e-5)
    assert command(["explain", run, "--input", test, "--row", "5"], capsys)["row"] == 5
    assert main(["explain", run, "--input", test, "--row", "0"]) == 0
    assert "ZZ (never seen)" in capsys.readouterr().out


def test_reasons_name_the_column_that_was_broken(folder: Path) -> None:
    detector = aejax.load(folder / "run")
    made, _ = table(1500, 1, 0.1)
    normal, _ = table(1500, 1, 0.0)
    reasons = detector.explain(made.dropna(how="all"), top=1)
    # The same seed: what differs is what was broken.
    country = np.flatnonzero(
        (made["country"] != normal["country"]) & made["country"].notna() & normal["country"].notna()
    )
    assert len(country) > 5
    blamed = [reasons[row][0] for row in country]
    # The country depends on the shop and the payment: broken, any of the three may be named.
    assert np.mean([reason.feature in ("country", "shop", "pays") for reason in blamed]) > 0.9
    named = [reason for reason in blamed if reason.feature == "country"]
    assert {reason.found for reason in named} <= set(COUNTRIES)
    assert all(reason.found != reason.expected for reason in named)


def test_the_report_and_the_model_say_what_the_columns_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert "expected" in page
    assert "when.hour" in page
    described = command(["inspect", str(folder / "run")], capsys)
    kinds = {column["name"]: column["kind"] for column in described["schema"]["columns"]}
    assert kinds["pays"] == "category"
    assert kinds["when.month"] == "cycle"
    assert described["schema"]["dropped"] == {"currency": "always 'EUR'"}
    written = json.loads((folder / "run" / "detector" / "detector.json").read_text())
    assert written["format"] == 3


def test_a_new_threshold_on_rows_with_missing_cells(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "run" / "detector", tmp_path / "detector")
    made, _ = table(800, 2)
    made.loc[3] = [None] * 7
    made.to_parquet(tmp_path / "normal.parquet")
    rule = ["--input", str(tmp_path / "normal.parquet"), "--rule", "quantile:0.9"]
    found = command(["calibrate", str(tmp_path / "detector"), *rule], capsys)
    assert found["rows"] == 799
    scores = aejax.load(folder / "run").score(made.drop(index=3))
    assert found["threshold"] == pytest.approx(np.quantile(scores, 0.9), rel=1e-5)


def test_an_export_scores_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "export"
    result = command(["export", str(folder / "run"), "--out", str(out)], capsys)
    assert result["parity"]["loaded"] <= 1e-6
    detector, export = aejax.load(folder / "run"), aejax.load(out)
    made, _ = table(300, 3)
    np.testing.assert_array_equal(export.score(made), detector.score(made))
    assert main(["export", str(folder / "run"), "--out", str(out) + "-2", "--format", "onnx"]) == 2
    assert "the table is mixed; allowed for ONNX: rows of numbers" in capsys.readouterr().err


def test_frames_of_any_library_have_the_same_scores(folder: Path) -> None:
    detector = aejax.load(folder / "run")
    made, _ = table(300, 3)
    scores = detector.score(made)
    np.testing.assert_array_equal(detector.score(pl.from_pandas(made)), scores)
    np.testing.assert_array_equal(detector.score(made[made.columns[::-1]]), scores)
    # A row's score is the mean of its present columns' errors.
    rows, _ = aejax.detection.rows.as_rows(made, detector.schema)
    errors = detector.errors_of(rows).astype(np.float64)
    present = (~np.isnan(rows)).sum(axis=1)
    np.testing.assert_allclose(scores, errors.sum(axis=1) / present, rtol=1e-5)
    alone = [detector.score(made[row : row + 1])[0] for row in range(3)]
    np.testing.assert_allclose(alone, scores[:3], rtol=1e-5)


def test_a_row_without_a_value_is_refused(folder: Path) -> None:
    made, _ = table(5, 3)
    made.loc[2] = [None] * 7
    with pytest.raises(aejax.InputError, match="row 2 has no value in any column"):
        aejax.load(folder / "run").score(made)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": aejax.Conv()}, "Config.model is 'Conv'; allowed with columns.kinds 'mixed'"),
        ({"score": "latent-distance"}, "Config.score is 'latent-distance'"),
        ({"scale": aejax.Scale(kind="min-max-all")}, "Config.scale.kind is 'min-max-all'"),
        ({"train": aejax.Train(noise=0.1, noise_on="target")}, "Config.train.noise_on"),
    ],
)
def test_what_mixed_columns_cannot_have_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(aejax.InputError, match=message.replace("(", r"\(")):
        plain_config(columns=aejax.Columns(kinds="mixed"), **changed)


def test_a_search_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "space.toml").write_text(
        'columns.kinds = "mixed"\ntrain.learning_rate = { low = 1e-4, high = 1e-2 }\n'
    )
    made = table(50, 0)[0][["items", "amount"]].dropna()
    made.to_csv(tmp_path / "rows.csv", index=False)
    search = ["tune", str(tmp_path / "rows.csv"), "--space", str(tmp_path / "space.toml")]
    assert main([*search, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    assert "columns.kinds is set; allowed in a search: 'numbers'" in capsys.readouterr().err


@pytest.mark.slow
def test_an_ensemble_with_embeddings_indicators_and_ranks(tmp_path: Path) -> None:
    config = plain_config(
        model=aejax.Dense(hidden=(16, 4)),
        columns=aejax.Columns(kinds="mixed", embedding=3, indicator=True, dates="number"),
        scale=aejax.Scale(kind="quantile", clip=1.5),
        train=aejax.Train(epochs=2, hide=0.1, trim=0.05, noise=0.05),
        error="absolute",
    )
    normal, _ = table(400, 0)
    ensemble = aejax.fit(config, normal, members=2)
    ensemble.save(tmp_path / "both")
    made, _ = table(50, 3)
    again = aejax.load(tmp_path / "both")
    np.testing.assert_array_equal(again.score(made), ensemble.score(made))
    assert again.fingerprint == ensemble.fingerprint
    reasons = again.explain(made, top=2)
    assert all(reason.expected is not None for row in reasons for reason in row)
    parity = aejax.export(again, tmp_path / "export")["parity"]
    assert parity["loaded"] <= 1e-6


@pytest.mark.parametrize("kind", [AutoEncoder, PyODAutoEncoder])
def test_the_estimators_take_mixed_tables(kind: type[AutoEncoder] | type[PyODAutoEncoder]) -> None:
    made, _ = table(300, 0)
    widths = "hidden" if kind is AutoEncoder else "hidden_neuron_list"
    found = kind(columns="mixed", **{widths: (8, 2)}, steps=5, contamination=0.1).fit(made)
    assert found.n_features_in_ == 7
    scores = found.decision_function(made)
    assert np.isfinite(scores).all()
    assert np.sum(found.predict(made) == (-1 if kind is AutoEncoder else 1)) == 30
    again = copy.deepcopy(found)
    np.testing.assert_array_equal(again.decision_function(made), scores)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(made.rename(columns={"shop": "store"}))


@pytest.mark.slow
def test_the_page_in_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "mixed.md"
    blocks = re.findall(r"```(\w+)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "bash", "python"]
    names: dict[str, Any] = {}
    exec(compile(blocks[0][1], str(page), "exec"), names)
    for line in blocks[1][1].splitlines():
        # Shorter than the page's; what each command says is the same.
        quick = ["--epochs", "8"] if line.startswith("aejax train") else []
        assert main([*shlex.split(line)[1:], *quick]) == 0, line
        result = capsys.readouterr().out
        if "score" in line:
            assert "unseen_values: country: 1" in result
        if "explain" in line:
            assert re.search(r"country +Atlantis \(never seen\) +(DE|FR) ", result)
    exec(compile(blocks[2][1], str(page), "exec"), names)
    assert names["reason"].feature == "country"
    assert names["reason"].found == "Atlantis (never seen)"

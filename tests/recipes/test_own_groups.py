"""What the command line shows of a detector of groups: report, card, inspection, reasons, export.

Rows are scikit-learn's handwritten digits, and each digit is a group.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

import aejax
from aejax.cli import main
from aejax.data.batches import validation_split

PIXELS = [f"pixel_{i}" for i in range(64)]
# Of the digits 0 to 4 these are 0 in all images; others only in all images of some digits.
BLANK = ["pixel_0", "pixel_32", "pixel_39"]
KEPT = [name for name in PIXELS if name not in BLANK]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Digits 0 to 4, of which the last 3 rows are of a group that hardly has any."""
    images = load_digits()
    table = pd.DataFrame(images.data.astype(np.float32), columns=PIXELS)
    table = table.assign(digit=[f"digit {label}" for label in images.target])
    table = table[images.target < 5].reset_index(drop=True)
    table.loc[len(table) - 3 :, "digit"] = "digit 9"
    return table


@pytest.fixture(scope="module")
def run(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    rows.to_csv(folder / "rows.csv", index=False)
    train = ["train", "--input", str(folder / "rows.csv"), "--group-column", "digit"]
    train += [
        "--least-rows",
        "20",
        "--hidden",
        "16",
        "4",
        "--epochs",
        "20",
        "--quiet",
        "--calibration",
        "held-out",
    ]
    train += ["--learning-rate", "0.005", "--out", str(folder / "run")]
    assert main(train) == 0
    return folder / "run"


def call(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main(list(map(str, arguments))) == code
    out, err = capsys.readouterr()
    return out if code == 0 else err


def test_columns_that_change_in_no_group_are_left_out(run: Path, rows: pd.DataFrame) -> None:
    trained = rows[rows["digit"] != "digit 9"]
    blank = [name for name in PIXELS if rows[name].nunique() == 1]
    assert blank == BLANK
    detectors = aejax.load(run)
    assert dict(detectors.schema.dropped) == dict.fromkeys(BLANK, "always 0")
    assert detectors.schema.names == tuple(KEPT)
    # Constant in one group: it stays for the others, and does no harm.
    assert (trained[KEPT].groupby(trained["digit"]).nunique() == 1).to_numpy().any()
    other = trained.assign(**dict.fromkeys(BLANK, 1e6))
    scores = detectors.score(trained[PIXELS], groups=trained["digit"])
    np.testing.assert_array_equal(detectors.score(other[PIXELS], groups=other["digit"]), scores)
    assert np.isfinite(scores).all()


def test_report_and_table_agree_with_the_detectors(run: Path, rows: pd.DataFrame) -> None:
    page = (run / "report.html").read_text()
    assert "5 groups of &#x27;digit&#x27; have a detector each" in page
    assert "digit 9" in page
    assert "The thresholds of 5 of 5 groups rest on fewer than 100 scores each" in page
    assert (run / "plots" / "thresholds_of_groups.png").is_file()
    table = pd.read_csv(run / "groups.csv").set_index("digit")
    detectors = aejax.load(run)
    known = rows[rows["digit"] != "digit 9"]
    flags = detectors.predict(known, groups="digit")
    expected = pd.Series(flags, index=known["digit"]).groupby(level=0).sum()
    assert table["normal_rows_flagged"].dropna().to_dict() == expected.to_dict()
    # A network that was hardly moved stands for the untrained one.
    own = known.loc[known["digit"] == "digit 3", KEPT].to_numpy(np.float32)
    idle = aejax.Train(epochs=1, learning_rate=1e-12)
    before = aejax.fit(dataclasses.replace(detectors.config, train=idle), own)
    _, held = validation_split(len(own), 0.1, seed=0)
    left = detectors.member("digit 3").score(own[held]).mean() / before.score(own[held]).mean()
    assert table.loc["digit 3", "error_left"] == pytest.approx(left, rel=1e-3)
    metrics = json.loads((run / "metrics.json").read_text())["measured"]
    assert metrics["flagged_of_normal_rows"] == pytest.approx(flags.mean())


def test_card_and_inspection(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = (run / "MODEL_CARD.md").read_text()
    detectors = aejax.load(run)
    low, high = detectors.threshold.values.min(), detectors.threshold.values.max()
    assert "# Model card: 5 detectors of groups, each a dense autoencoder of 61 features" in card
    assert f"lowest: {low:.4g}" in card
    assert f"highest: {high:.4g}" in card
    assert "The thresholds of 5 of 5 groups rest on fewer than 100 scores each" in card
    assert "Groups of the training rows that have no detector: 1." in card
    result = json.loads(call(capsys, "inspect", run, "--json", "--shapes"))
    assert result["thresholds"]["highest"] == high
    assert result["rows_of_a_group"]["median"] == np.median([g.rows for g in detectors.groups.each])
    assert result["epochs_done"] == 20
    assert len(result["limits"]) == 2
    assert all(shape.split("[")[1].startswith("5") for shape in result["arrays"].values())


def test_a_row_is_explained_by_its_own_group(
    run: Path, rows: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = rows.iloc[:40].copy()
    wrong.loc[17, "pixel_20"] += 200
    wrong.loc[3, "digit"] = "digit 8"
    wrong.loc[4, "digit"] = "digit 9"
    wrong.loc[5, "digit"] = None
    path = tmp_path / "rows.csv"
    wrong.rename(columns={"digit": "label"}).to_csv(path, index=False)
    place = ("explain", run, "--input", path, "--group-column", "label")
    picture = tmp_path / "row.png"
    result = json.loads(call(capsys, *place, "--row", 17, "--picture", picture, "--json"))
    assert result["group"] == wrong["digit"][17]
    assert result["is_anomaly"] is True
    assert result["features"][0]["feature"] == "pixel_20"
    single = aejax.load(run).member(result["group"])
    x = wrong.loc[[17], KEPT].to_numpy(np.float32)
    _, expected = single.reconstruct(x)
    expected = expected / np.asarray(single.scaler.factor) + np.asarray(single.scaler.shift)
    assert result["score"] == pytest.approx(float(single.score(x)[0]), rel=1e-5)
    assert result["features"][0]["found"] == wrong.loc[17, "pixel_20"]
    assert result["features"][0]["expected"] == pytest.approx(
        float(expected[0, KEPT.index("pixel_20")]), rel=1e-4
    )
    assert single.threshold is not None
    assert result["threshold"] == single.threshold.value
    assert picture.is_file()
    known = wrong.iloc[:3]
    reasons = aejax.load(run).explain(known, groups="digit", top=2)
    for row, found in enumerate(reasons):
        alone = aejax.load(run).member(known["digit"][row])
        (theirs,) = alone.explain(known[PIXELS][row : row + 1], top=2)
        assert [reason.feature for reason in found] == [reason.feature for reason in theirs]
        np.testing.assert_allclose(
            [reason[1:3] for reason in found], [reason[1:3] for reason in theirs], rtol=1e-4
        )
    text = call(capsys, *place, "--row", 17)
    assert text.startswith(f"row 17 of {result['group']!r}: score ")
    for row, why in (
        (3, "'digit 8' has no detector (it was not in the training rows)"),
        (4, "'digit 9' has no detector (it has 3 training rows; allowed: at least 20)"),
        (5, "label is empty"),
        (99, "row is 99; allowed: 0 to 39"),
    ):
        result = call(capsys, *place, "--row", row, code=2)
        assert why in result
        assert len(result.strip().splitlines()) == 1
    assert "'digit'" in call(capsys, *place[:-2], "--row", 1, code=2)


def test_one_group_is_exported_by_itself(
    run: Path, rows: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "export"
    result = call(capsys, "export", run, "--out", out, "--group", "digit 33", code=2)
    assert "'digit 33' has no detector" in result
    assert "did you mean 'digit 3'" in result
    both = call(capsys, "export", run, "--out", out, "--format", "stablehlo", "onnx", code=2)
    assert "--group NAME" in both
    call(capsys, "export", run, "--out", out, "--group", "digit 3")
    own = rows[rows["digit"] == "digit 3"]
    exported = aejax.load(out)
    scores = exported.score_rows(own[KEPT].to_numpy(np.float32))
    detectors = aejax.load(run)
    np.testing.assert_allclose(scores, detectors.score(own[PIXELS], groups=own["digit"]), rtol=1e-5)
    assert exported.threshold is not None
    assert exported.threshold.value == detectors.threshold.values[3]
    card = (out / "MODEL_CARD.md").read_text()
    assert "| group | digit 3 |" in card
    assert f"| rows | {len(own) - round(len(own) * 0.1)}, taken to be normal |" in card
    assert "Not measured" in card

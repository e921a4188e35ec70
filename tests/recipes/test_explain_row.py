"""One row explained: the numbers are the detector's, the picture is one, wrong rows are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.cli import main
from tests.plain import plain_config

NAMES = tuple("abcdef")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, and rows of which row 17 has a wrong "d" and row 4 an empty cell."""
    folder = tmp_path_factory.mktemp("explain")
    random = np.random.default_rng(0)
    causes = random.normal(size=(2, 6))
    x = (random.normal(size=(800, 2)) @ causes).astype(np.float32)
    config = plain_config(
        model=aejax.Dense(hidden=(16, 2)), train=aejax.Train(epochs=40, learning_rate=3e-3)
    )
    schema = aejax.Schema(shape=(6,), names=NAMES)
    aejax.fit(config, x, schema=schema).save(folder / "detector")
    rows = pd.DataFrame(x[:50], columns=list(NAMES))
    rows.loc[17, "d"] += 6 * x[:, 3].std()
    rows.loc[4, "b"] = np.nan
    rows.to_csv(folder / "rows.csv", index=False)
    return folder


def explain(folder: Path, row: int, *more: str) -> int:
    where = [str(folder / "detector"), "--input", str(folder / "rows.csv")]
    return main(["explain", *where, "--row", str(row), *more])


def test_the_wrong_feature_is_named_with_what_was_expected(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "row.png"
    assert explain(folder, 17, "--json", "--picture", str(picture)) == 0
    found = json.loads(capsys.readouterr().out)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert found["is_anomaly"] is True
    first = found["features"][0]
    assert first["feature"] == "d"
    detector = aejax.load(folder / "detector")
    x = pd.read_csv(folder / "rows.csv").iloc[17:18].to_numpy(np.float32)
    scaled, expected = detector.reconstruct(x)
    # In the file's units; errors in those in which features compare.
    mean, deviation = detector.scaler.shift[3], 1 / detector.scaler.factor[3]
    np.testing.assert_allclose(
        [first["found"], first["expected"], first["error"]],
        [x[0, 3], expected[0, 3] * deviation + mean, (scaled[0, 3] - expected[0, 3]) ** 2],
        rtol=1e-5,
    )
    sizes = [fact["error"] / np.sqrt(fact["usual_error"]) for fact in found["features"]]
    assert sizes == sorted(sizes, reverse=True)
    (reasons,) = detector.explain(x, top=5)
    assert [(one.feature, one.found, one.expected) for one in reasons] == [
        (fact["feature"], fact["found"], fact["expected"]) for fact in found["features"]
    ]
    assert [one.size for one in reasons] == pytest.approx(sizes)
    np.testing.assert_allclose(found["score"], detector.score(x)[0], rtol=1e-5)


def test_text_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(folder, 17, "--top", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("row 17: score ")
    assert "above the threshold" in lines[0]
    assert lines[2].split()[0] == "d"
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (50, "row is 50; allowed: 0 to 49, the rows of"),
        (-1, "row is -1; allowed: 0 and above"),
        (4, "row 4 holds NaN or infinity"),
    ],
)
def test_a_row_that_cannot_be_explained(
    folder: Path, row: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(folder, row) == 2
    assert message in capsys.readouterr().err

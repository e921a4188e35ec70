"""A saved detector's threshold, set anew on a file by each kind of rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

import aejax
from aejax.config import InputError, parse_rule
from aejax.data.rows import Selection
from aejax.recipes.own_rows import calibrate_on_file
from tests.plain import plain_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, and 200 rows of which the first 20 are anomalies."""
    home = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(0)
    config = plain_config(model=aejax.Dense(hidden=(3,)), train=aejax.Train(epochs=1))
    aejax.fit(config, random.normal(size=(300, 4)).astype(np.float32)).save(home / "detector")
    x = random.normal(size=(200, 4))
    x[:20] *= 5
    labels = np.arange(200) < 20
    lines = [
        ",".join([*map(str, row), str(int(label))]) for row, label in zip(x, labels, strict=True)
    ]
    (home / "rows.csv").write_text("\n".join(["a,b,c,d,label", *lines]) + "\n")
    return home


def calibrated(folder: Path, rule: str, label_column: str | None = "label") -> aejax.Detector:
    selection = Selection(
        label_column=label_column, drop_columns=() if label_column else ("label",)
    )
    calibrate_on_file(folder, folder / "rows.csv", parse_rule(rule), selection=selection)
    return aejax.load(folder)


def test_normal_rows_only(folder: Path) -> None:
    detector = calibrated(folder, "conformal:0.05")
    assert detector.threshold is not None
    assert detector.threshold.rows == 180
    assert detector.threshold.calibration is not None
    assert detector.threshold.calibration.rows == 180


def test_best_f1_takes_all_rows_and_their_labels(folder: Path) -> None:
    detector = calibrated(folder, "best-f1")
    assert detector.threshold is not None
    assert detector.threshold.rows == 200
    table = np.loadtxt(folder / "rows.csv", delimiter=",", skiprows=1)
    scores, labels = detector.score(table[:, :4]), table[:, 4]
    best = max(f1_score(labels, scores > cut) for cut in scores[:-1])
    assert f1_score(labels, detector.predict(table[:, :4])) == pytest.approx(best)


def test_best_f1_without_labels_says_so(folder: Path) -> None:
    before = aejax.load(folder).threshold
    with pytest.raises(InputError, match="rule is 'best-f1' but there are no labels"):
        calibrated(folder, "best-f1", label_column=None)
    assert aejax.load(folder).threshold == before

"""An ensemble's members are what `fit` makes of their seeds, and its threshold is its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import aejax
from aejax import Quantile
from aejax.cli import main
from aejax.config import Dense, InputError, Scale, Train
from aejax.detection.members import seeds
from tests.plain import plain_config

CONFIG = plain_config(
    model=Dense(hidden=(6, 2)),
    scale=Scale(kind="standard"),
    train=Train(epochs=4, batch_size=32, seed=5),
    rule=Quantile(q=0.9),
)


def rows(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2)) @ np.random.default_rng(99).normal(size=(2, 5))
    return (x + 0.1 * random.normal(size=x.shape)).astype(np.float32)


@pytest.mark.parametrize("given", [False, True])
def test_members_are_what_fit_makes_of_their_seeds(given: bool) -> None:
    x, validation, scale = rows(200, 0), rows(40, 1), rows(300, 2) * np.float32(2)
    more = {"x_validation": validation, "x_scale": scale} if given else {}
    config = CONFIG
    if not given:
        # Alone, each seed holds out other rows; given rows are the same for all.
        config = dataclasses.replace(
            CONFIG, train=dataclasses.replace(CONFIG.train, validation_fraction=0.0)
        )
    ensemble = aejax.fit(config, x, members=3, **more)
    alone = [aejax.fit(one, x, **more) for one in seeds(config, 3)]
    test = rows(50, 3)
    expected = np.mean([detector.score(test) for detector in alone], axis=0)
    np.testing.assert_allclose(ensemble.score(test), expected, rtol=1e-3)
    np.testing.assert_allclose(
        ensemble.threshold.value,  # type: ignore[union-attr]
        np.quantile(np.mean([detector.score(x) for detector in alone], axis=0), 0.9),
        rtol=1e-3,
    )
    assert ensemble.provenance["seeds"] == [5, 6, 7]
    assert ensemble.provenance["training_rows"] == 200


def test_held_out_rows_set_the_threshold() -> None:
    x = rows(200, 0)
    ensemble = aejax.fit(CONFIG, x, members=2)
    assert ensemble.threshold.rows == 20  # type: ignore[union-attr]
    assert ensemble.provenance["training_rows"] == 180


@pytest.mark.parametrize("members", [0, 1025])
def test_a_wrong_number_of_members_is_refused(members: int) -> None:
    with pytest.raises(InputError, match=f"members is {members}; allowed: 1 to 1024"):
        aejax.fit(CONFIG, rows(20, 0), members=members)


@pytest.mark.slow
def test_the_command_trains_one_and_it_scores_files(tmp_path: Path) -> None:
    import pandas as pd

    names = list("abcde")
    pd.DataFrame(rows(200, 0), columns=names).to_csv(tmp_path / "rows.csv", index=False)
    run, fast = (
        tmp_path / "run",
        ["--hidden", "4", "--epochs", "2", "--quiet", "--calibration", "held-out"],
    )
    given = ["--input", str(tmp_path / "rows.csv"), "--out", str(run)]
    assert main(["train", *given, "--ensemble", "3", *fast]) == 0
    detector = aejax.load(run)
    assert detector.members == 3
    assert "ensemble" in json.loads((run / "run.json").read_text())["data"]
    scores = ["--input", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "scores"), "--quiet"]
    assert main(["score", str(run), *scores]) == 0
    assert main(["train", *given, "--ensemble", "2", *fast]) == 2


def test_what_needs_labels_is_refused_however_many_are_trained_together() -> None:
    config = plain_config(model=aejax.Classifier(classes=2))
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    for fit in (
        lambda: aejax.fit(config, x, members=2),
        lambda: aejax.fit_population([config], x),
        lambda: aejax.fit(config, x, groups=np.arange(60) % 2),
    ):
        with pytest.raises(aejax.InputError, match="is a Classifier; allowed: models that learn"):
            fit()


def test_the_fastest_products_are_measured_of_an_ensemble_too() -> None:
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    config = plain_config(precision="fastest", train=aejax.Train(epochs=1))
    ensemble = aejax.fit(config, x, members=2)
    assert ensemble.config.precision in ("float32", "tensorfloat32", "bfloat16")
    assert "too few to time" in ensemble.provenance["precision"]

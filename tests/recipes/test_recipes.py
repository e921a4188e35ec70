"""The published experiments: whole runs where they take seconds, small ones where they don't."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import aejax
from aejax import recipes
from aejax.detection.fitting import fit
from aejax.detection.metrics import evaluate
from aejax.recipes.recipe import Recipe, Study
from aejax.recipes.runner import run_recipe


def test_every_recipe_is_found_by_its_name() -> None:
    for name in recipes.NAMES:
        recipe = recipes.find(name)
        assert isinstance(recipe, Recipe | Study)
        assert recipe.name == name
    with pytest.raises(aejax.InputError, match="did you mean 'digits'"):
        recipes.find("digit")


@pytest.mark.slow
def test_digits_beat_principal_components_of_the_same_size(tmp_path: Path) -> None:
    from sklearn.decomposition import PCA
    from sklearn.metrics import roc_auc_score

    result = run_recipe(recipes.find("digits"), tmp_path / "run")
    experiment = recipes.find("digits").prepare(False)
    train, test = (x.reshape(len(x), -1) for x in (experiment.x_train, experiment.x_test))
    pca = PCA(16, random_state=0).fit(train)
    errors = np.square(test - pca.inverse_transform(pca.transform(test))).mean(axis=1)
    measured = result["measured"]
    assert measured["auroc"] >= measured["auroc_of_the_fifth_neighbour"] > 0.99
    normal = int((~experiment.is_anomaly).sum())
    flagged = round(measured["false_alarms"] * normal)
    assert stats.binomtest(flagged, normal, measured["false_alarms_promised"]).pvalue > 0.05
    assert result["measured"]["auroc"] > roc_auc_score(experiment.is_anomaly, errors)

    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert written["measured"] == result["measured"]
    assert {"published", "measured", "metrics", "seconds"} <= set(written)
    assert {"compile", "train", "score"} <= set(written["seconds"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{result['measured']['auroc']:.4f}" in page
    # What the report speaks of is what is on disk.
    detector = aejax.load(tmp_path / "run")
    again = evaluate(detector.score(experiment.x_test), experiment.is_anomaly, None)
    assert again["auroc"]["value"] == result["measured"]["auroc"]


def test_ecg5000_as_published(data_dir: Path) -> None:
    """Medians over five seeds reach the tutorial's accuracy, precision and recall."""
    recipe = recipes.find("ecg5000")
    experiment = recipe.prepare(False)
    assert len(experiment.x_train) == 2359  # The tutorial's count of normal training rows.
    measured = []
    for seed in range(5):
        train = dataclasses.replace(recipe.config.train, seed=seed)
        detector = fit(
            dataclasses.replace(recipe.config, train=train),
            experiment.x_train,
            x_validation=experiment.x_validation,
            x_scale=experiment.x_scale,
            schema=experiment.schema,
        ).calibrate(experiment.x_calibrate)
        scores = detector.score(experiment.x_test)
        assert detector.threshold is not None
        metrics = evaluate(scores, experiment.is_anomaly, detector.threshold.value, bootstrap=0)
        measured.append(recipe.measure(detector, experiment, metrics))
    median = {name: np.median([m[name] for m in measured]) for name in measured[0]}
    assert median["accuracy"] >= 0.944
    assert median["precision"] >= 0.992
    assert median["recall"] >= 0.905
    assert abs(median["threshold"] - recipe.published["threshold"]) < 0.002
    assert abs(median["loss"] - recipe.published["loss"]) < 0.001


def test_fashion_mnist_dense_quickly(data_dir: Path, tmp_path: Path) -> None:
    result = run_recipe(recipes.find("fashion_mnist_dense"), tmp_path, quick=True)
    assert 0 < result["measured"]["validation_loss"] < 0.06
    assert "mean nothing" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_fashion_mnist_dense_as_published(data_dir: Path, tmp_path: Path) -> None:
    result = run_recipe(recipes.find("fashion_mnist_dense"), tmp_path)
    assert result["measured"]["validation_loss"] <= 0.0090

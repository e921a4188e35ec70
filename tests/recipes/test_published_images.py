"""The published experiments on images: their settings, small runs, and whole ones when asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aejax
from aejax import recipes
from aejax.config import Dense, SuperResolution
from aejax.detection.fitting import fit
from aejax.models.build import build
from aejax.recipes import fashion_mnist, mnist_one, mnist_vae
from aejax.recipes.recipe import Recipe
from aejax.recipes.runner import run_recipe

ONES = ("mnist_one_plain", "mnist_one_denoise", "mnist_one_denoise_input", "mnist_one_superres")


def recipe_of(name: str) -> Recipe:
    recipe = recipes.find(name)
    assert isinstance(recipe, Recipe)
    assert recipe.name == name
    return recipe


def run(name: str, folder: Path, **how: Any) -> dict[str, Any]:
    """A run whose written numbers are the returned ones, and whose figures are there."""
    result = run_recipe(recipe_of(name), folder, **how)
    written = json.loads((folder / "metrics.json").read_text())
    assert written["measured"] == result["measured"]
    assert written["published"] == dict(recipe_of(name).published)
    assert all(np.isfinite(value) for value in result["measured"].values())
    assert list((folder / "plots").glob("figure_01_*.png"))
    return result


@pytest.mark.parametrize("name", ONES)
def test_settings_of_the_article(name: str) -> None:
    config = recipe_of(name).config
    assert (config.train.epochs, config.train.batch_size) == (50, 675)
    assert (config.train.loss, config.error) == ("absolute", "squared")
    assert config.train.validation_fraction == 0
    assert config.rule == aejax.MeanStd(k=3)
    noise = {"mnist_one_denoise": (0.1, "target"), "mnist_one_denoise_input": (0.1, "input")}
    assert (config.train.noise, config.train.noise_on) == noise.get(name, (0.0, "input"))


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        # Conv 1 -> 8, four times 8 -> 8, 8 -> 1, and five normalisations.
        ("mnist_one_plain", (9 * 8 + 8) + 4 * (9 * 64 + 8) + (9 * 8 + 1) + 5 * 16),
        ("mnist_one_superres", (9 * 8 + 8) + 3 * (9 * 64 + 8) + (9 * 8 + 1) + 4 * 16),
        # Down 1 -> 16 -> 8, up 8 -> 8 -> 16, then 16 -> 1, each with biases.
        ("fashion_mnist_denoise", 160 + 1160 + 584 + 1168 + 145),
        ("mnist_vae", 784 * 500 + 500 + 2 * (500 * 20 + 20) + 20 * 500 + 500 + 500 * 784 + 784),
    ],
)
def test_networks_have_the_published_parameters(name: str, weights: int) -> None:
    schema = aejax.Schema(shape=(28, 28, 1), dtype="uint8", kind="image")
    module = build(recipe_of(name).config.model, schema).module
    made = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(made["params"])) == weights


def test_rows_of_the_article(data_dir: Path) -> None:
    experiment = mnist_one.prepare(False)
    assert experiment.is_anomaly is not None
    assert experiment.x_calibrate is not None
    assert len(experiment.x_train) == 6742
    assert (len(experiment.x_calibrate), experiment.is_anomaly.sum()) == (1135, 8865)
    # A round is ten steps.
    assert -(-len(experiment.x_train) // mnist_one.BATCH_SIZE) == 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_one_denoise", "mnist_one_superres"])
def test_ones_quickly(data_dir: Path, tmp_path: Path, name: str) -> None:
    result = run(name, tmp_path, quick=True)
    experiment = mnist_one.prepare(True)
    assert experiment.is_anomaly is not None
    detector = aejax.load(tmp_path)
    # The rates as the article has them, by NumPy.
    scaled, found = detector.reconstruct(experiment.x_test)
    errors = np.square(np.float64(scaled) - found).mean(axis=(1, 2, 3))
    normal, anomalous = errors[~experiment.is_anomaly], errors[experiment.is_anomaly]
    threshold = normal.mean() + 3 * normal.std()
    measured = result["measured"]
    assert abs(measured[mnist_one.NORMAL] - np.mean(normal <= threshold)) < 0.01
    assert abs(measured[mnist_one.ANOMALOUS] - np.mean(anomalous > threshold)) < 0.01
    np.testing.assert_allclose(measured["threshold"], threshold, rtol=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    last = lines[-1]
    assert (last[mnist_one.NORMAL], last[mnist_one.ANOMALOUS]) == (
        measured[mnist_one.NORMAL],
        measured[mnist_one.ANOMALOUS],
    )


def test_noise_on_target_and_on_input_are_different_trainings(data_dir: Path) -> None:
    experiment = mnist_one.prepare(True)
    losses = {}
    for name in ONES[:3]:
        config = recipe_of(name).config
        small = dataclasses.replace(
            config,
            model=Dense(hidden=(4,), output="sigmoid", batch_norm=True),
            train=dataclasses.replace(config.train, epochs=1),
        )
        losses[name] = fit(small, experiment.x_train).history[0]["loss"]
    assert len(set(losses.values())) == 3
    # Noise on the target cannot be learned: E|N(0, 0.1)| = 0.0798 on what is black.
    assert losses["mnist_one_denoise"] > losses["mnist_one_plain"]


@pytest.mark.slow
def test_denoising_quickly(data_dir: Path, tmp_path: Path) -> None:
    result = run("fashion_mnist_denoise", tmp_path, quick=True)
    measured = result["measured"]
    experiment = fashion_mnist.prepare(True)
    seen = fashion_mnist.denoise(aejax.load(tmp_path), experiment.x_test)
    np.testing.assert_allclose(seen.clean, experiment.x_test / 255, atol=1e-6)
    inside = (seen.clean > 0.4) & (seen.clean < 0.6)
    assert abs((seen.noisy - seen.clean)[inside].std() - 0.2) < 0.02
    assert (seen.noisy.min(), seen.noisy.max()) == (0, 1)
    for name, images in (("noisy", seen.noisy), ("denoised", seen.denoised)):
        error = np.square(np.float64(images) - seen.clean).mean(axis=(1, 2, 3))
        expected = np.mean(-10 * np.log10(error))
        np.testing.assert_allclose(measured[f"psnr_{name}"], expected, rtol=1e-4)
    # The model saw the noisy images themselves, not what 256 steps leave of them.
    error = np.square(seen.denoised - seen.clean).mean()
    assert abs(error - measured["validation_loss"]) < 0.05 * measured["validation_loss"]


@pytest.mark.slow
def test_variational_quickly(data_dir: Path, tmp_path: Path) -> None:
    result = run("mnist_vae", tmp_path, quick=True)
    measured = result["measured"]
    last = measured[mnist_vae.after(2)]
    # Two estimates of the same: a sample for every row, and samples that all rows share.
    assert abs(measured["negative_elbo_as_scored"] - last) < 0.05 * last
    assert measured["divergence_nats"] > 0
    assert len(list((tmp_path / "plots").glob("figure_*.png"))) == 3
    detector = aejax.load(tmp_path)
    experiment = mnist_vae.prepare(True)
    walks = mnist_vae.walks(detector, experiment.x_test)
    ends = detector.reconstruct(experiment.x_test[: 2 * mnist_vae.WALKS])[1]
    steps = mnist_vae.COLUMNS
    np.testing.assert_allclose(walks[::steps], ends[::2], atol=1e-5)
    np.testing.assert_allclose(walks[steps - 1 :: steps], ends[1::2], atol=1e-5)


@pytest.mark.slow
def test_denoising_as_published(data_dir: Path, tmp_path: Path) -> None:
    measured = run("fashion_mnist_denoise", tmp_path)["measured"]
    assert measured["validation_loss"] <= 0.0072
    assert measured["psnr_denoised"] > measured["psnr_noisy"] + 5
    assert measured["ssim_denoised"] > measured["ssim_noisy"] + 0.2


@pytest.mark.slow
def test_variational_as_published(data_dir: Path, tmp_path: Path) -> None:
    measured = run("mnist_vae", tmp_path)["measured"]
    assert measured[mnist_vae.after(10)] <= 106
    assert measured[mnist_vae.after(30)] <= 104
    assert abs(measured["negative_elbo_as_scored"] - measured[mnist_vae.after(30)]) < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ONES)
def test_ones_as_published(data_dir: Path, tmp_path: Path, name: str) -> None:
    measured = run(name, tmp_path)["measured"]
    assert measured[mnist_one.NORMAL] > 0.975
    least = 0.8 if isinstance(recipe_of(name).config.model, SuperResolution) else 0.9
    assert measured[mnist_one.ANOMALOUS] > least

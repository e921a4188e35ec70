"""The studies on MNIST: small runs on real data, and their parts against something outside."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aejax import recipes
from aejax.config import InputError
from aejax.data import datasets
from aejax.detection.loading import load
from aejax.recipes import mnist_compression, mnist_latent, mnist_model_state, mnist_transfer
from aejax.recipes.recipe import Study, StudyRun
from aejax.recipes.runner import run_study


def quick(name: str, out: Path) -> dict[str, Any]:
    """A small run of a study; what it wrote is checked to say the same as what it returns."""
    study = recipes.find(name)
    assert isinstance(study, Study)
    assert study.name == name
    result = run_study(study, StudyRun(out=out, quick=True))
    written = json.loads((out / "metrics.json").read_text())
    assert written["measured"] == result["measured"]
    assert written["metrics"]["conclusions"] == result["conclusions"]
    page = (out / "report.html").read_text()
    assert html.escape(study.title) in page or study.title in page
    assert "mean nothing" in page
    assert list((out / "plots").glob("*.png"))
    assert all(np.isfinite(value) for value in result["measured"].values())
    return {**result, "details": written["metrics"]}


@pytest.mark.slow
def test_model_state_quickly(data_dir: Path, tmp_path: Path) -> None:
    result = quick("mnist_model_state", tmp_path)
    rates = result["details"]["auroc"]
    # 4 noises x 4 views x 3 detectors.
    assert len(rates) == 48
    assert all(0 <= value <= 1 for values in rates.values() for value in values)
    # Plainly visible noise is found even by a detector that hardly learned.
    assert rates["supervised/pixels/0.6"][0] > 0.95
    assert rates["isolation forest/pixels/0.6"][0] > rates["isolation forest/pixels/0.02"][0]
    kept = load(tmp_path / "classifier")
    assert set(mnist_model_state.LAYERS) <= set(kept.layers)
    x = datasets.load("mnist", "test").x[:5]
    layer = kept.variables["params"]["network"]["encoder_layers_0"]
    expected = np.maximum(x.reshape(5, -1) / 255 @ layer["kernel"] + layer["bias"], 0)
    found = mnist_model_state.look(kept, x, "layer 1")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert mnist_model_state.look(kept, x, "both layers").shape == (5, 64)
    np.testing.assert_array_equal(
        mnist_model_state.look(kept, x, "both layers")[:, 32:],
        mnist_model_state.look(kept, x, "layer 2"),
    )


@pytest.mark.slow
def test_transfer_quickly(data_dir: Path, tmp_path: Path) -> None:
    result = quick("mnist_transfer", tmp_path)
    assert len(result["measured"]) == 6
    assert all(0 <= value <= 1 for value in result["measured"].values())
    assert load(tmp_path / "encoder").config.model == mnist_transfer.NETWORK
    assert mnist_transfer.TUNE.schedule == "rise-and-fall"
    assert {one.labels: one.epochs for one in mnist_transfer.FULL}[1000] == 800


@pytest.mark.slow
def test_latent_quickly(data_dir: Path, tmp_path: Path) -> None:
    from sklearn.decomposition import PCA

    result = quick("mnist_latent", tmp_path)
    x_train = datasets.load("mnist", "train").x[:1000].reshape(1000, -1) / 255
    x_test = datasets.load("mnist", "test").x[:500].reshape(500, -1) / 255
    exact = PCA(32, svd_solver="full").fit(x_train)
    restored = np.clip(exact.inverse_transform(exact.transform(x_test)), 0, 1)
    error = result["measured"]["squared_error_components"]
    np.testing.assert_allclose(error, np.mean(np.square(restored - x_test)), rtol=1e-3)
    assert 0.7 < result["measured"]["probe_accuracy_components"] < 0.95
    assert load(tmp_path).encode(datasets.load("mnist", "test").x[:3]).shape == (3, 32)


@pytest.mark.slow
def test_compression_quickly(data_dir: Path, tmp_path: Path) -> None:
    result = quick("mnist_compression", tmp_path)
    details = result["details"]
    for name in ("mnist", "fashion_mnist"):
        sizes = [point["size"] for point in details[name]["autoencoder"]]
        assert sizes == [32]
        jpegs = [tuple(point.values()) for point in details[name]["JPEG"]]
        assert jpegs == sorted(jpegs)
    # 784-256-w-256-784: kernels, biases and one batch normalisation after the latent layer,
    # and two numbers a latent value.
    for width, size in details["decoder_bytes"].items():
        w = int(width)
        assert size == 4 * (w * 256 + 256 + 4 * 256 + 256 * 784 + 784 + 2 * w)


def test_jpeg_is_pillows_and_gives_every_image_its_place() -> None:
    from PIL import Image

    images = np.random.default_rng(0).integers(256, size=(230, 28, 28, 1)).astype(np.uint8)
    images[7] = 255
    size, found = mnist_compression.jpeg(images, quality=95)
    assert found.shape == images.shape
    # Noise is hard for JPEG, yet nearer to itself than to any other image.
    distance = np.abs(found[:, None, ::4, ::4] - images[None, :, ::4, ::4] / 255).mean((2, 3, 4))
    np.testing.assert_array_equal(distance.argmin(axis=1), np.arange(len(images)))
    one, back = mnist_compression.jpeg(images[:1], quality=30)
    stream = io.BytesIO()
    Image.fromarray(images[0, ..., 0]).save(stream, "JPEG", quality=30, optimize=True)
    assert one == len(stream.getvalue())
    np.testing.assert_array_equal(np.rint(back[0, ..., 0] * 255), np.asarray(Image.open(stream)))
    assert size * len(images) == mnist_compression.picture_bytes(images, "JPEG", 95)


def test_a_byte_is_off_by_half_a_step_at_most() -> None:
    random = np.random.default_rng(0)
    latent = np.float32(random.normal(size=(500, 4)) * [1, 100, 1e-3, 0] + [0, 5, 0, 3])
    kept = mnist_compression.Bytes.of(latent)
    code = kept.write(latent)
    assert code.dtype == np.uint8
    spread = latent.max(axis=0) - latent.min(axis=0)
    off = np.abs(kept.read(code) - latent)
    assert (off <= spread / 255 * 0.5001 + 1e-5).all()
    assert code[:, :3].min() == 0
    assert code[:, :3].max() == 255
    # Beyond what training rows have, the nearest value is kept.
    beyond = kept.read(kept.write(latent * 10))
    assert (beyond <= latent.max(axis=0) + 1e-4).all()


def test_bytes_that_jpeg_needs_lie_between_its_qualities() -> None:
    point = mnist_compression.Point
    curves = {"JPEG": [point(30, 20, 0.5), point(60, 30, 0.9)]}
    assert mnist_compression.jpeg_bytes_for(curves, 25) == 45
    assert mnist_compression.jpeg_bytes_for(curves, 31) is None
    assert mnist_compression.jpeg_beside(curves, 31) == point(60, 30, 0.9)
    assert mnist_compression.jpeg_beside(curves, 8) == point(30, 20, 0.5)
    assert mnist_compression.jpeg_beside(curves, 61) is None


def test_noise_is_normal_clipped_and_whole() -> None:
    from scipy import stats

    grey = np.full((40, 28, 28, 1), 128, np.uint8)
    for deviation in (0.02, 0.1, 0.6):
        noisy = mnist_model_state.add_noise(grey, deviation, np.random.default_rng(0))
        assert noisy.dtype == np.uint8
        below = stats.norm.cdf((63.5 - 128) / (255 * deviation))
        np.testing.assert_allclose(np.mean(noisy <= 63), below, atol=4 * np.sqrt(0.25 / grey.size))
    assert (mnist_model_state.add_noise(grey, 0.6, np.random.default_rng(0)) == 0).any()


def state_results(pixels: list[float], layer: list[float]) -> list[Any]:
    """Results in which two views have these numbers, and the others lower ones."""
    found = []
    for first, second in zip(pixels, layer, strict=True):
        values = dict(zip(mnist_model_state.VIEWS, (first, second, 0.1, 0.2), strict=True))
        found.append(
            {
                (detector, view, noise): {"auroc": value, "found": value / 2}
                for detector in mnist_model_state.DETECTORS
                for noise in mnist_model_state.NOISES
                for view, value in values.items()
            }
        )
    return found


def test_a_view_wins_where_the_paired_differences_say_so() -> None:
    def winners(pixels: list[float], layer: list[float]) -> list[str]:
        return mnist_model_state.winners(state_results(pixels, layer), "supervised", 0.1, "auroc")

    assert winners([0.9, 0.7, 0.8], [0.89, 0.69, 0.788]) == ["pixels"]
    assert winners([0.9, 0.7, 0.8], [0.6, 0.9, 0.8]) == ["pixels", "layer 1"]
    assert winners([0.8, 0.8, 0.8], [0.8, 0.8, 0.8]) == ["pixels", "layer 1"]
    assert winners([0.8], [0.9]) == ["layer 1"]
    results = state_results([0.9, 0.7, 0.8], [0.6, 0.9, 0.8])
    assert "not distinguishable from layer 1" in mnist_model_state.conclusion(results, 0.1)
    assert "no single view in 12" in mnist_model_state.overall(results)


def test_labels_are_drawn_evenly_and_without_repeats() -> None:
    labels = np.random.default_rng(0).integers(10, size=5000)
    picked = mnist_transfer.pick(labels, 1000, seed=3)
    assert len(np.unique(picked)) == 1000
    np.testing.assert_array_equal(np.bincount(labels[picked]), np.full(10, 100))
    np.testing.assert_array_equal(picked, mnist_transfer.pick(labels, 1000, seed=3))
    assert set(picked) != set(mnist_transfer.pick(labels, 1000, seed=4))


def test_transfer_says_when_a_difference_may_be_chance() -> None:
    ways = {"from scratch": [0.7, 0.8, 0.75], "frozen": [0.6, 0.6, 0.6]}
    sure = mnist_transfer.conclusion({**ways, "fine-tuned": [0.75, 0.85, 0.801]}, 100)
    assert "beats from scratch: 80.03% against 75.00%" in sure
    assert "chance" not in sure
    assert "better on 3 of 3" in sure
    chance = mnist_transfer.conclusion({**ways, "fine-tuned": [0.9, 0.7, 0.75]}, 100)
    assert "may be chance" in chance
    lost = mnist_transfer.conclusion({**ways, "fine-tuned": [0.6, 0.7, 0.65]}, 100)
    assert "does not beat" in lost


def test_a_probe_is_worth_what_a_regression_finds() -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    labels = random.integers(10, size=600)
    numbers = random.normal(size=(600, 32)) + np.eye(10, 32)[labels] * 2
    images = random.integers(256, size=(300, 4, 4, 1)).astype(np.uint8)
    reduction = mnist_latent.Reduction(
        train=numbers[:300], test=numbers[300:], restored=images / 255 + 0.1
    )
    judged = mnist_latent.judge(reduction, labels[:300], images, labels[300:])
    scaled = (numbers - numbers[:300].mean(axis=0)) / numbers[:300].std(axis=0)
    probe = LogisticRegression(max_iter=1000).fit(scaled[:300], labels[:300])
    assert judged.accuracy == pytest.approx(probe.score(scaled[300:], labels[300:]), abs=0.01)
    assert judged.error == pytest.approx(0.01)


def test_a_study_leaves_another_runs_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError):
        run_study(mnist_latent.RECIPE, StudyRun(out=tmp_path, quick=True))
    assert (tmp_path / "mine.txt").read_text() == "kept"

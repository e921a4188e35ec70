"""Dimensionality reduction: 32 latent values of an autoencoder, and 32 principal components.

    aejax run mnist_latent --out runs/mnist_latent
    aejax encode runs/mnist_latent --input IMAGES --out LATENT

Hinton and Salakhutdinov ("Reducing the dimensionality of data with neural networks",
Science 313, 2006) show that a deep autoencoder's few latent values keep more of a digit than
as many principal components. Nothing is published for the 32 of this comparison.

Here: a dense denoising autoencoder 784-256-128-32 and back (SiLU, batch normalisation,
sigmoid out; normal noise of standard deviation 0.3, clipped to [0, 1], in training only)
learns MNIST's 60,000 training images without their labels: 20 epochs of batch 128, Adam,
cosine from 2e-3, settings that were chosen with the last 5,000 of them. The
principal components (scikit-learn's) are those of the same images. Both are asked two
things: what is the mean squared error of a test image that is restored from 32 numbers, and
how many test images does a linear probe name right (scikit-learn's logistic regression on
the 32 numbers, each of mean 0 and standard deviation 1, learned from the training images)?
Restored values are clipped to [0, 1], which helps the components. The autoencoder is trained
with 5 seeds. It takes about three minutes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Config, Dense, Scale, Train
from aejax.data import datasets
from aejax.detection.metrics import mean_interval, repeat_seeds
from aejax.recipes.recipe import Study, StudyRun
from aejax.reporting.report import Findings, Table

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

LATENT = 32
TOP = 255
SEEDS = 5
OWN, LINEAR = "autoencoder", "principal components"
CONFIG = Config(
    # Without batch normalisation some latent values die, and fewer than 32 are compared.
    model=Dense(hidden=(256, 128, LATENT), activation="silu", output="sigmoid", batch_norm=True),
    scale=Scale(kind="unit"),
    train=Train(
        epochs=20,
        batch_size=128,
        learning_rate=2e-3,
        schedule="cosine",
        noise=0.3,
        noise_range=(0.0, 1.0),
        validation_fraction=0.0,
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reduction:
    """Images in few numbers, and restored.

    Attributes:
        train: numbers of the training images, [n, LATENT].
        test: numbers of the test images.
        restored: test images in [0, 1], [n, 28, 28, 1].
    """

    train: np.ndarray
    test: np.ndarray
    restored: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """What a reduction is worth.

    Attributes:
        accuracy: share of test images that the linear probe names right.
        error: mean squared error of restored test images.
        wrong: share of each digit's test images that the probe names wrong.
    """

    accuracy: float
    error: float
    wrong: tuple[float, ...]


def find(run: StudyRun) -> Findings:
    """Train the autoencoders, fit the components, and probe both."""
    train, test = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    kept, tested = slice(1_000 if run.quick else None), slice(500 if run.quick else None)
    rows = train.x[kept], train.y[kept], test.x[tested], test.y[tested]
    components = reduce_linearly(rows[0], rows[2])
    linear = judge(components, *rows[1:])
    own, first = [], components
    for number, seed in enumerate(repeat_seeds(run.seed, 1 if run.quick else SEEDS)):
        detector = train_autoencoder(run, rows[0], seed)
        reduction = reduce(detector, rows[0], rows[2])
        if number == 0:
            detector.save(run.out / "detector")
            first = reduction
        own.append(judge(reduction, *rows[1:]))
    return Findings(
        conclusions=conclusions(own, linear),
        measured={
            "probe_accuracy": float(np.mean([judged.accuracy for judged in own])),
            "probe_accuracy_components": linear.accuracy,
            "squared_error": float(np.mean([judged.error for judged in own])),
            "squared_error_components": linear.error,
        },
        tables=(results_table(own, linear), digits_table(own, linear)),
        figures=draw(rows[2], rows[3], first, components),
        details={
            "probe_accuracy": [judged.accuracy for judged in own],
            "squared_error": [judged.error for judged in own],
            "interval": mean_interval([judged.accuracy for judged in own], within=(0, 1)),
        },
    )


def train_autoencoder(run: StudyRun, x: np.ndarray, seed: int) -> Detector:
    """The autoencoder, with one seed."""
    epochs = 2 if run.quick else CONFIG.train.epochs
    train = dataclasses.replace(CONFIG.train, seed=seed, epochs=epochs)
    config = dataclasses.replace(CONFIG, train=train)
    return run.fit(config, x)


def reduce(detector: Detector, x_train: np.ndarray, x_test: np.ndarray) -> Reduction:
    """An autoencoder's latent values, and what its decoder makes of them."""
    latent = detector.encode(x_test)
    return Reduction(train=detector.encode(x_train), test=latent, restored=detector.decode(latent))


def reduce_linearly(x_train: np.ndarray, x_test: np.ndarray) -> Reduction:
    """The first principal components, and what they restore."""
    from sklearn.decomposition import PCA

    flat_train, flat_test = (np.float32(x.reshape(len(x), -1)) / TOP for x in (x_train, x_test))
    model = PCA(LATENT, svd_solver="covariance_eigh").fit(flat_train)
    components = model.transform(flat_test)
    restored = np.clip(model.inverse_transform(components), 0, 1)
    return Reduction(
        train=model.transform(flat_train), test=components, restored=restored.reshape(x_test.shape)
    )


def judge(reduction: Reduction, y_train: np.ndarray, x_test: np.ndarray, y: np.ndarray) -> Judged:
    """The linear probe's accuracy, and the error of what is restored."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    named = probe.fit(reduction.train, y_train).predict(reduction.test)
    return Judged(
        accuracy=float(np.mean(named == y)),
        error=float(np.mean(np.square(reduction.restored - x_test / TOP))),
        wrong=tuple(float(np.mean(named[y == digit] != digit)) for digit in range(10)),
    )


def conclusions(own: Sequence[Judged], linear: Judged) -> tuple[str, ...]:
    """Who keeps more, and whose numbers tell digits apart better."""
    accuracy = mean_interval([judged.accuracy for judged in own], within=(0, 1))
    error = mean_interval([judged.error for judged in own])
    seeds = f"{len(own)} seed{'s' if len(own) > 1 else ''}"
    sure = mean_interval([judged.accuracy - linear.accuracy for judged in own]).excludes_zero
    chance = "" if sure else ", which may be chance"
    fewer = 1 - (1 - accuracy.mean) / (1 - linear.accuracy)
    change = f"{abs(fewer):.0%} {'fewer' if fewer > 0 else 'more'} mistakes"
    ratio = linear.error / error.mean
    times = f"{ratio:.1f} times less" if ratio > 1 else f"{1 / ratio:.1f} times more"
    return (
        f"A linear probe on {LATENT} latent values names {accuracy.text(2, 100)} % of the test "
        f"images right ({seeds}), on {LATENT} principal components {linear.accuracy:.2%}: "
        f"{change}{chance}.",
        f"Restored from {LATENT} numbers, a test image is off by a mean squared error of "
        f"{error.text(5)} with the autoencoder and {linear.error:.5f} with the components: "
        f"{times}.",
    )


def results_table(own: Sequence[Judged], linear: Judged) -> Table:
    """Both reductions, side by side."""
    accuracy = mean_interval([judged.accuracy for judged in own], within=(0, 1))
    error = mean_interval([judged.error for judged in own])
    return Table(
        title="Test images in 32 numbers; in brackets the 95 % interval over seeds",
        head=("Numbers", "Linear probe, % right", "Mean squared error"),
        lines=[
            (OWN, accuracy.text(2, 100), error.text(5)),
            (LINEAR, f"{linear.accuracy:.2%}".rstrip("%"), f"{linear.error:.5f}"),
        ],
    )


def digits_table(own: Sequence[Judged], linear: Judged) -> Table:
    """The share of mistakes, digit by digit."""
    mean = np.mean([judged.wrong for judged in own], axis=0)
    return Table(
        title="Test images that the probe names wrong, in %",
        head=("Digit", OWN.capitalize(), LINEAR.capitalize()),
        lines=[
            (str(digit), f"{100 * mean[digit]:.1f}", f"{100 * linear.wrong[digit]:.1f}")
            for digit in range(10)
        ],
    )


def draw(
    images: np.ndarray, labels: np.ndarray, own: Reduction, linear: Reduction
) -> tuple[tuple[str, str, Any], ...]:
    """The same digits, restored from both."""
    from aejax.reporting.pictures import strips_figure

    shown = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
    strips = {
        "original": images[shown] / TOP,
        OWN: own.restored[shown],
        "components": linear.restored[shown],
    }
    return (
        (
            f"Digits restored from {LATENT} numbers",
            "The first test image of every digit, from the autoencoder's latent values and from "
            "as many principal components.",
            strips_figure(strips),
        ),
    )


RECIPE = Study(
    name="mnist_latent",
    title="Digits in 32 numbers: an autoencoder and principal components",
    summary="A linear probe and the reconstruction error say what 32 latent values hold, next to "
    "32 principal components.",
    source="the comparison of Hinton and Salakhutdinov (Science 313, 2006), with 32 numbers",
    time="about three minutes",
    published={},
    find=find,
)

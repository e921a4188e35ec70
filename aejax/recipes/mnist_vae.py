"""Variational autoencoders of handwritten digits.

aejax run mnist_vae --out runs/mnist_vae
aejax run mnist_vae_conv --out runs/mnist_vae_conv
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Config, Conv, Dense, Scale, Train, Variational
from aejax.data import datasets
from aejax.recipes.recipe import Experiment, Figures, Recipe
from aejax.rules.quantile import Quantile

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

# Lines of generated digits and of walks, and pictures in every line.
GENERATED, WALKS, COLUMNS = 8, 6, 12


def recipe(
    name: str,
    *,
    title: str,
    summary: str,
    source: str,
    time: str,
    model: Variational,
    epochs: int,
) -> Recipe:
    """A variational autoencoder of all digits, trained as is usual.

    Args:
        name: on the command line.
        title: of the report.
        summary: one sentence.
        source: who published it, and where.
        time: what to expect on two CPU cores.
        model: the network.
        epochs: of batch 128, with Adam at 1e-3.
    """
    return Recipe(
        name=name,
        title=title,
        summary=summary,
        source=source,
        time=time,
        published={},
        config=Config(
            model=model,
            scale=Scale(kind="unit"),
            train=Train(epochs=epochs, batch_size=128),
            score="negative-elbo",
            rule=Quantile(q=0.99),
        ),
        prepare=prepare,
        measure=measure,
        draw=draw,
    )


def prepare(quick: bool) -> Experiment:
    """All training digits; the test digits are validated on and scored."""
    train, test = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    kept = slice(256 if quick else None)
    return Experiment(
        x_train=train.x[: 1024 if quick else None],
        x_test=test.x[kept],
        x_validation=test.x[kept],
        schema=train.schema,
    )


def after(epochs: int) -> str:
    """The name of the negative ELBO of the test rows after so many epochs."""
    return f"negative_elbo_after_{epochs}_epochs"


def measure(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """Negative ELBO of the test rows, estimated in two ways, and its two terms, in nats.

    After every tenth epoch, with a posterior sample of its own for every row: the validation
    loss. And at the end, as rows are scored: averaged over samples that all rows share.
    """
    history = detector.history
    measured = {
        after(row["epoch"]): row["validation_loss"]
        for row in history
        if row["epoch"] % 10 == 0 or row is history[-1]
    }
    total = float(detector.score(experiment.x_test).mean())
    reconstruction = float(reconstruction_scorer(detector).score(experiment.x_test).mean())
    return {
        **measured,
        "negative_elbo_as_scored": total,
        "reconstruction_nats": reconstruction,
        "divergence_nats": total - reconstruction,
        "loss": history[-1]["loss"],
    }


def reconstruction_scorer(detector: Detector) -> Detector:
    """The same detector, whose score is -log p(row | latent) without the divergence."""
    config = dataclasses.replace(detector.config, score="reconstruction-probability")
    return dataclasses.replace(detector, config=config)


def draw(detector: Detector, experiment: Experiment) -> Figures:
    """Digits and their reconstructions, walks between digits, and digits that never were."""
    from aejax.reporting.pictures import grid_figure, strips_figure

    x = experiment.x_test[:COLUMNS]
    scaled, reconstructed = detector.reconstruct(x)
    count = GENERATED * COLUMNS
    return (
        (
            "Reconstructions",
            f"The first {len(x)} test digits, and what the model makes of the means of their "
            "posteriors.",
            strips_figure({"digits": scaled, "reconstructed": reconstructed}),
        ),
        (
            "Digits that never were",
            f"The model's mean images for {count} samples of its prior.",
            grid_figure(detector.generate(count), columns=COLUMNS),
        ),
        (
            "Walks through the latent space",
            f"From one test digit to another, in {COLUMNS - 1} equal steps along the straight "
            "line between their latent values; every picture is the model's.",
            grid_figure(walks(detector, experiment.x_test), columns=COLUMNS),
        ),
    )


def walks(detector: Detector, x: np.ndarray) -> np.ndarray:
    """Pictures along straight lines in the latent space.

    Args:
        detector: a variational model of digits.
        x: digits to walk between, at least one for each walk's end.

    Returns:
        float32 [walks * steps, 28, 28, 1], walk by walk.
    """
    ends = detector.encode(x[: 2 * WALKS])
    share = np.linspace(0, 1, COLUMNS, dtype=np.float32)[:, np.newaxis]
    latent = [a + share * (b - a) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    return detector.decode(np.concatenate(latent))


# Kingma and Welling, "Auto-encoding variational Bayes" (2014), as it is usually run on MNIST:
# 784-500-20-500-784 with ReLU, pixels in [0, 1] as probabilities of a Bernoulli likelihood,
# Adam 1e-3, batches of 128, one posterior sample a row. Nothing is published for just this
# network; PyTorch's basic VAE example, 784-400-20 and otherwise the same, is shown at a negative
# ELBO of the test rows of 106.66 nats after 7 epochs (pytorch/examples, pull request 1416).
#
# Rows are scored by their negative ELBO; `aejax.Config(score="error")` scores by the
# reconstruction from the posterior's mean, "reconstruction-probability" by the first term
# alone. `Train.beta` weighs the second.
MNIST_VAE = recipe(
    "mnist_vae",
    title="A variational autoencoder of handwritten digits",
    summary="784 pixels become a distribution over 20 numbers, and samples of these new digits.",
    source="Kingma and Welling 2014; nothing is published for this network",
    time="about two minutes",
    model=Variational(network=Dense(hidden=(500,), output="sigmoid"), latent=20),
    epochs=30,
)


# Nothing is published for it: `mnist_vae` with convolutions instead of the dense layer: Conv
# 16 and 32 (3x3, stride 2, ReLU), 20 latent dimensions, transposed Conv 32 and 16 (3x3,
# stride 2, ReLU), Conv 1. 10 epochs.
MNIST_VAE_CONV = recipe(
    "mnist_vae_conv",
    title="A convolutional variational autoencoder of handwritten digits",
    summary="Convolutions turn an image into a distribution over 20 numbers, and back.",
    source="Kingma and Welling 2014; nothing is published for this network",
    time="about ten minutes",
    model=Variational(network=Conv(channels=(16, 32)), latent=20),
    epochs=10,
)

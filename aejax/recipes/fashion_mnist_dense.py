"""The basic autoencoder: the first example of the TensorFlow autoencoder tutorial.

    aejax run fashion_mnist_dense --out runs/fashion_mnist_dense

Published (tensorflow.org/tutorials/generative/autoencoder, "First example: Basic
autoencoder"): validation loss 0.0089 after 10 epochs.

As published: Fashion-MNIST in [0, 1]; Dense 784-64-784, ReLU on the latent layer,
sigmoid out; mean squared error; Adam 1e-3; 10 epochs of batch 32 on the 60,000 training
images; validation on the 10,000 test images. It takes about half a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aejax.config import Config, Dense, Scale, Train
from aejax.data import datasets
from aejax.recipes.recipe import Experiment, Recipe, final_losses
from aejax.rules.quantile import Quantile

if TYPE_CHECKING:
    from aejax.detection.detector import Detector


def prepare(quick: bool) -> Experiment:
    """All training images; the test images are validated on and scored."""
    train = datasets.load("fashion_mnist", "train")
    test = datasets.load("fashion_mnist", "test")
    return Experiment(
        x_train=train.x[:2048] if quick else train.x,
        x_test=test.x[:512] if quick else test.x,
        x_validation=test.x[:512] if quick else test.x,
        schema=train.schema,
    )


def measure(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """Loss and validation loss of the last epoch."""
    return final_losses(detector)


RECIPE = Recipe(
    name="fashion_mnist_dense",
    title="A basic autoencoder on Fashion-MNIST",
    summary="784 pixels squeezed into 64 numbers and back.",
    source="TensorFlow tutorial, Intro to Autoencoders, first example",
    time="about half a minute",
    published={"validation_loss": 0.0089},
    config=Config(
        model=Dense(hidden=(64,), output="sigmoid"),
        scale=Scale(kind="unit"),
        train=Train(epochs=10, batch_size=32),
        rule=Quantile(q=0.99),
    ),
    prepare=prepare,
    measure=measure,
)

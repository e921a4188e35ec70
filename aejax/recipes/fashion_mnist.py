"""The first two examples of the TensorFlow autoencoder tutorial, on Fashion-MNIST.

    aejax run fashion_mnist_dense --out runs/fashion_mnist_dense
    aejax run fashion_mnist_denoise --out runs/fashion_mnist_denoise

Published (tensorflow.org/tutorials/generative/autoencoder): "First example: Basic autoencoder",
validation loss 0.0089 after 10 epochs; "Second example: Image denoising", 0.0071.

As published, the first: Fashion-MNIST in [0, 1]; Dense 784-64-784, ReLU on the latent layer,
sigmoid out; mean squared error; Adam 1e-3; 10 epochs of batch 32 on the 60,000 training
images; validation on the 10,000 test images.

As published, the second: Fashion-MNIST in [0, 1], plus 0.2 x normal noise, clipped to [0, 1];
Conv 16 and 8 (3x3, stride 2, ReLU), transposed Conv 8 and 16 (3x3, stride 2, ReLU), Conv 1 with
sigmoid; mean squared error to the clean image; Adam 1e-3; 10 epochs of batch 32 on the
60,000 training images; validation on the 10,000 test images. The tutorial draws its noise
once; here training draws it anew in every step, and validation sees the same noise after
every epoch. PSNR and SSIM are ours: over all test images, with noise of a seed of their
own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Config, Conv, Dense, Scale, Train
from aejax.data import batches, datasets
from aejax.detection.quality import peak_signal_to_noise, structural_similarity
from aejax.recipes.recipe import Experiment, Figures, Recipe, final_losses
from aejax.rules.quantile import Quantile

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

NOISE = 0.2
NOISE_RANGE = (0.0, 1.0)
IMAGES_SHOWN = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """The same images three times, each float32 [n, 28, 28, 1] in [0, 1].

    Attributes:
        clean: as published.
        noisy: as the model saw them.
        denoised: what it made of them.
    """

    clean: np.ndarray
    noisy: np.ndarray
    denoised: np.ndarray


def prepare(quick: bool, most: int = 1024) -> Experiment:
    """All training images; the test images are validated on and scored. Quickly, `most` of them."""
    train = datasets.load("fashion_mnist", "train")
    test = datasets.load("fashion_mnist", "test")
    judged = test.x[: most // 4] if quick else test.x
    return Experiment(
        x_train=train.x[:most] if quick else train.x,
        x_test=judged,
        x_validation=judged,
        schema=train.schema,
    )


def losses(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """Loss and validation loss of the last epoch."""
    return final_losses(detector)


def denoise(detector: Detector, x: np.ndarray) -> Pictures:
    """Add noise of a fixed seed to images, and let a detector take it away.

    Args:
        detector: trained on images like these.
        x: uint8 [n, 28, 28, 1].
    """
    from aejax.core.scaling import Scaler

    clean = x.astype(np.float32) / 255
    random = batches.host_random(0, "pictures")
    noise = random.normal(scale=NOISE, size=clean.shape).astype(np.float32)
    noisy = np.clip(clean + noise, *NOISE_RANGE)
    # As pixels are stored, in 256 steps, noise would be rounded.
    exact = dataclasses.replace(
        detector,
        config=dataclasses.replace(detector.config, scale=Scale(kind="none")),
        schema=dataclasses.replace(detector.schema, dtype="float32"),
        scaler=Scaler(None, None, None),
    )
    return Pictures(clean=clean, noisy=noisy, denoised=exact.reconstruct(noisy)[1])


def measure(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """Losses of the last epoch, and how near noisy and denoised test images are to clean ones."""
    seen = denoise(detector, experiment.x_test)
    measured = final_losses(detector)
    for name, quality in (("psnr", peak_signal_to_noise), ("ssim", structural_similarity)):
        measured[f"{name}_noisy"] = float(quality(seen.noisy, seen.clean).mean())
        measured[f"{name}_denoised"] = float(quality(seen.denoised, seen.clean).mean())
    return measured


def draw(detector: Detector, experiment: Experiment) -> Figures:
    """The first test images: noisy, denoised and clean."""
    from aejax.reporting.pictures import strips_figure

    seen = denoise(detector, experiment.x_test[:IMAGES_SHOWN])
    before, after = (
        peak_signal_to_noise(images, seen.clean).mean() for images in (seen.noisy, seen.denoised)
    )
    figure = strips_figure({"noisy": seen.noisy, "denoised": seen.denoised, "clean": seen.clean})
    caption = (
        f"The first {len(seen.clean)} test images with {NOISE:g} x normal noise, what the model "
        f"makes of them, and the images themselves, which it never saw. Denoising takes their "
        f"mean PSNR from {before:.1f} to {after:.1f} dB."
    )
    return (("Noisy, denoised and clean test images", caption, figure),)


DENSE = Recipe(
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
    prepare=functools.partial(prepare, most=2048),
    measure=losses,
)

DENOISE = Recipe(
    name="fashion_mnist_denoise",
    title="Taking noise off Fashion-MNIST",
    summary="A convolutional autoencoder sees noisy images and learns to give the clean ones.",
    source="TensorFlow tutorial, Intro to Autoencoders, second example",
    time="about two minutes",
    published={"validation_loss": 0.0071},
    config=Config(
        model=Conv(channels=(16, 8), down="stride", output="sigmoid"),
        scale=Scale(kind="unit"),
        train=Train(epochs=10, batch_size=32, noise=NOISE, noise_range=NOISE_RANGE),
        rule=Quantile(q=0.99),
    ),
    prepare=prepare,
    measure=measure,
    draw=draw,
)

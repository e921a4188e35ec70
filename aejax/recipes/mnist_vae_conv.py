"""A convolutional variational autoencoder of handwritten digits.

    aejax run mnist_vae_conv --out runs/mnist_vae_conv

Nothing is published for it: `mnist_vae` with convolutions instead of the dense layer: Conv
16 and 32 (3x3, stride 2, ReLU), 20 latent dimensions, transposed Conv 32 and 16 (3x3,
stride 2, ReLU), Conv 1. 10 epochs. It takes about ten minutes.
"""

from __future__ import annotations

from aejax.config import Conv, Variational
from aejax.recipes import digit_makers

RECIPE = digit_makers.recipe(
    "mnist_vae_conv",
    title="A convolutional variational autoencoder of handwritten digits",
    summary="Convolutions turn an image into a distribution over 20 numbers, and back.",
    source="Kingma and Welling 2014; nothing is published for this network",
    time="about ten minutes",
    model=Variational(network=Conv(channels=(16, 32)), latent=20),
    epochs=10,
)

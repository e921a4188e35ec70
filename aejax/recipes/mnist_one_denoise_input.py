"""Ones against all other digits, with noise on what the autoencoder sees.

    aejax run mnist_one_denoise_input --out runs/mnist_one_denoise_input

Nothing is published for it: the article behind `mnist_one_denoise` describes this, a
denoising autoencoder, but its program adds the noise to the target. The same 0.1 x normal
noise, drawn anew in every step, is added to the input here, and the clean image is the
target. All else: `aejax.recipes.mnist_one`. It takes about two minutes.
"""

from __future__ import annotations

from aejax.config import Conv
from aejax.recipes import mnist_one

RECIPE = mnist_one.recipe(
    "mnist_one_denoise_input",
    title="Ones against other digits: noise on the input",
    summary="A denoising autoencoder that has only seen ones meets all other digits.",
    model=Conv(channels=(8, 8), down="pool", batch_norm=True),
    noise=mnist_one.NOISE,
    published=None,
)

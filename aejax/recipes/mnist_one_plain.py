"""Ones against all other digits, with a plain convolutional autoencoder.

    aejax run mnist_one_plain --out runs/mnist_one_plain

Published (a Qiita article on unsupervised anomaly detection, one run): 98.68 % of the test
ones and 97.13 % of the other test digits judged right.

As published: Conv 8 + BatchNorm, max-pool 2, again, Conv 8 + BatchNorm, up-sample 2, Conv 8
+ BatchNorm, up-sample 2, Conv 8 + BatchNorm, Conv 1 with sigmoid; kernels of 3x3, ReLU
before BatchNorm. All else: `aejax.recipes.mnist_one`. It takes about two minutes.
"""

from __future__ import annotations

from aejax.config import Conv
from aejax.recipes import mnist_one

RECIPE = mnist_one.recipe(
    "mnist_one_plain",
    title="Ones against other digits: a plain autoencoder",
    summary="An autoencoder that has only seen ones meets all other digits.",
    model=Conv(channels=(8, 8), down="pool", batch_norm=True),
    published=(0.9868, 0.9713),
)

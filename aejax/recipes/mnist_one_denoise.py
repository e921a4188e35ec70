"""Ones against all other digits, with noise on what the autoencoder learns to give.

    aejax run mnist_one_denoise --out runs/mnist_one_denoise

Published (a Qiita article on unsupervised anomaly detection, one run): 98.68 % of the test
ones and 97.59 % of the other test digits judged right.

As published: the network of `mnist_one_plain`. The article speaks of a denoising
autoencoder, whose *input* is noisy, but its program adds 0.1 x normal noise to the *target*
and leaves the input clean; so does this recipe. Noise is drawn anew in every step and not
cut off at [0, 1]. `mnist_one_denoise_input` does what the article speaks of. All else:
`aejax.recipes.mnist_one`. It takes about two minutes.
"""

from __future__ import annotations

from aejax.config import Conv
from aejax.recipes import mnist_one

RECIPE = mnist_one.recipe(
    "mnist_one_denoise",
    title="Ones against other digits: noise on the target",
    summary="An autoencoder that has only seen ones, trained to give them with noise added, "
    "meets all other digits.",
    model=Conv(channels=(8, 8), down="pool", batch_norm=True),
    noise=mnist_one.NOISE,
    noise_on_target=True,
    published=(0.9868, 0.9759),
)

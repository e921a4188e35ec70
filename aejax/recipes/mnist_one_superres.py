"""Ones against all other digits, with a network that restores a shrunk image.

    aejax run mnist_one_superres --out runs/mnist_one_superres

Published (a Qiita article on unsupervised anomaly detection, one run): 98.59 % of the test
ones and 84.85 % of the other test digits judged right.

As published: max-pool 4, up-sample 2, twice Conv 8 + BatchNorm, up-sample 2, twice Conv 8 +
BatchNorm, Conv 1 with sigmoid; kernels of 3x3, ReLU before BatchNorm. All else:
`aejax.recipes.mnist_one`. It takes about three minutes.
"""

from __future__ import annotations

from aejax.config import SuperResolution
from aejax.recipes import mnist_one

RECIPE = mnist_one.recipe(
    "mnist_one_superres",
    title="Ones against other digits: super-resolution",
    summary="A network that has only learnt to restore shrunk ones meets all other digits.",
    model=SuperResolution(levels=2, convolutions=2, channels=8, batch_norm=True),
    published=(0.9859, 0.8485),
    time="about three minutes",
)

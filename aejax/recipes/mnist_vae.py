"""A variational autoencoder of handwritten digits.

    aejax run mnist_vae --out runs/mnist_vae

Kingma and Welling, "Auto-encoding variational Bayes" (2014), as it is usually run on MNIST:
784-500-20-500-784 with ReLU, pixels in [0, 1] as probabilities of a Bernoulli likelihood,
Adam 1e-3, batches of 128, one posterior sample a row. Nothing is published for just this
network; PyTorch's basic VAE example, 784-400-20 and otherwise the same, is shown at a negative
ELBO of the test rows of 106.66 nats after 7 epochs (pytorch/examples, pull request 1416).

Rows are scored by their negative ELBO; `aejax.Config(score="error")` scores by the
reconstruction from the posterior's mean, "reconstruction-probability" by the first term
alone. `Train.beta` weighs the second. It takes about two minutes.
"""

from __future__ import annotations

from aejax.config import Dense, Variational
from aejax.recipes import digit_makers

RECIPE = digit_makers.recipe(
    "mnist_vae",
    title="A variational autoencoder of handwritten digits",
    summary="784 pixels become a distribution over 20 numbers, and samples of these new digits.",
    source="Kingma and Welling 2014; nothing is published for this network",
    time="about two minutes",
    model=Variational(network=Dense(hidden=(500,), output="sigmoid"), latent=20),
    epochs=30,
)

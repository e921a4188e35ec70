"""The published experiments, by name. A recipe's file is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from aejax.config import InputError, suggest

if TYPE_CHECKING:
    from aejax.recipes.recipe import Recipe, Study

# Where each is: a file of this folder, and the name in it.
PLACES = {
    "digits": "digits:RECIPE",
    "ecg5000": "ecg5000:RECIPE",
    "fashion_mnist_dense": "fashion_mnist:DENSE",
    "fashion_mnist_denoise": "fashion_mnist:DENOISE",
    "mnist_one_plain": "mnist_one:MNIST_ONE_PLAIN",
    "mnist_one_denoise": "mnist_one:MNIST_ONE_DENOISE",
    "mnist_one_denoise_input": "mnist_one:MNIST_ONE_DENOISE_INPUT",
    "mnist_one_superres": "mnist_one:MNIST_ONE_SUPERRES",
    "mnist_vae": "mnist_vae:MNIST_VAE",
    "mnist_vae_conv": "mnist_vae:MNIST_VAE_CONV",
    "mnist_latent": "mnist_latent:RECIPE",
    "mnist_compression": "mnist_compression:RECIPE",
    "mnist_model_state": "mnist_model_state:RECIPE",
    "mnist_transfer": "mnist_transfer:RECIPE",
    "nab_machine_temperature": "nab_machine_temperature:RECIPE",
    "hdfs_cbow": "hdfs_cbow:RECIPE",
    "words_cbow": "words_cbow:RECIPE",
}
NAMES = tuple(PLACES)


def find(name: str) -> Recipe | Study:
    """The recipe, or study, of a name.

    Raises:
        InputError: if there is none, with the nearest name.
    """
    if name not in NAMES:
        raise InputError(f"recipe is {name!r}; {suggest(name, NAMES)}")
    module, _, attribute = PLACES[name].partition(":")
    recipe: Recipe | Study = getattr(importlib.import_module(f"aejax.recipes.{module}"), attribute)
    return recipe

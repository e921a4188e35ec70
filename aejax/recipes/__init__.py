"""The published experiments, by name. A recipe's file is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from aejax.config import InputError, suggest

if TYPE_CHECKING:
    from aejax.recipes.recipe import Recipe, Study

NAMES = (
    "digits",
    "ecg5000",
    "fashion_mnist_dense",
    "fashion_mnist_denoise",
    "mnist_one_plain",
    "mnist_one_denoise",
    "mnist_one_denoise_input",
    "mnist_one_superres",
    "mnist_vae",
    "mnist_vae_conv",
    "mnist_latent",
    "mnist_compression",
    "mnist_model_state",
    "mnist_transfer",
    "nab_machine_temperature",
    "hdfs_cbow",
    "words_cbow",
)


def find(name: str) -> Recipe | Study:
    """The recipe, or study, of a name.

    Raises:
        InputError: if there is none, with the nearest name.
    """
    if name not in NAMES:
        raise InputError(f"recipe is {name!r}; {suggest(name, NAMES)}")
    recipe: Recipe | Study = importlib.import_module(f"aejax.recipes.{name}").RECIPE
    return recipe

"""The published experiments, by name. A recipe's file is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from aejax.config import InputError, suggest

if TYPE_CHECKING:
    from aejax.recipes.recipe import Recipe

NAMES = ("digits", "ecg5000", "fashion_mnist_dense")


def find(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        InputError: if there is none, with the nearest name.
    """
    if name not in NAMES:
        raise InputError(f"recipe is {name!r}; {suggest(name, NAMES)}")
    recipe: Recipe = importlib.import_module(f"aejax.recipes.{name}").RECIPE
    return recipe

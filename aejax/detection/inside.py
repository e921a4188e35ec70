"""Looking inside a model: latent values and back, classes, the states of its neurons."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError
from aejax.core import mesh, steps
from aejax.data import batches
from aejax.detection.placed import PlacedModel
from aejax.detection.rows import finite_rows
from aejax.models.backend import shapes_of

# The name under which `state_rows` gives what `encode` gives.
LATENT = "latent"


def feature_errors(config: Config, x: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Every feature's error, float32 [n, features], of scaled rows and their reconstructions."""
    placed = mesh.ONE_DEVICE.everywhere((x, reconstruction))
    error = jax.device_get(steps.compiled_feature_error(config.error, *placed))
    return np.reshape(error, (len(x), -1))


def decode(model: PlacedModel, latent: object) -> np.ndarray:
    """Scaled rows, float32 [n, ...], that latent values [n, ...] stand for.

    Raises:
        InputError: if the model decodes nothing, or latent values of another shape.
    """
    model.require("decode", allowed="a single model")
    model.require_reconstructions("decode")
    variables, scaler = model.arrays_on(mesh.ONE_DEVICE)
    latent = np.asarray(latent, np.float32)
    shape = shapes_of(
        lambda x: steps.encode_rows(model.scoring, variables, scaler, x), _one_row(model)
    ).shape[1:]
    if latent.shape[1:] != shape:
        raise InputError(
            f"latent values have shape {list(latent.shape)}; allowed: [n, "
            f"{', '.join(map(str, shape))}]"
        )
    placed = mesh.ONE_DEVICE.everywhere(latent)
    rows: np.ndarray = jax.device_get(steps.compiled_decode(model.scoring, variables, placed))
    return rows


def generate(model: PlacedModel, count: int, seed: int) -> np.ndarray:
    """Decoded samples of a variational model's prior, float32 [count, ...], scaled.

    Raises:
        InputError: if the model is another one, or `count` isn't positive.
    """
    network: Any = model.config.model
    if not network.generates:
        raise InputError(f"generate: the model is {type(network).__name__}; allowed: Variational")
    if count < 1:
        raise InputError(f"generate: count is {count}; allowed: at least 1")
    random = batches.host_random(seed, "generate")
    return decode(model, random.normal(size=(count, network.latent)))


def classify(model: PlacedModel, x: object, batch_size: int | None) -> np.ndarray:
    """Probabilities of a classifier's classes, float32 [n, classes].

    Raises:
        InputError: if the model is another one, or rows don't fit the schema.
    """
    if not model.config.model.learns_classes:
        raise InputError(
            f"classify: the model is {type(model.config.model).__name__}; allowed: Classifier"
        )
    (logits,) = model.run(steps.compiled_output, finite_rows(x, model.schema), batch_size)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
    return probabilities


def layers(model: PlacedModel) -> dict[str, tuple[int, ...]]:
    """The layers whose neurons' states can be had, and the shape of one row's."""
    variables, scaler = model.variables, model.scaler
    if model.parted is not None:
        variables, scaler = jax.tree.map(lambda leaf: leaf[0], (variables, scaler))
    found = shapes_of(
        lambda x: steps.state_rows(model.scoring, variables, scaler, x), _one_row(model)
    )
    return {name: state.shape[1:] for name, state in found.items()}


def _one_row(model: PlacedModel) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *model.schema.shape), np.float32)

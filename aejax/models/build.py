"""From settings and the shape of a row to a network."""

from __future__ import annotations

import importlib
from typing import Any

from aejax import config
from aejax.config.own_network import own_network
from aejax.data.schema import Schema
from aejax.models.network import Network

# Built-in networks: settings -> what makes the network of these, a schema and a precision.
BUILDERS: dict[type, str] = {
    config.Dense: "aejax.models.dense:network",
    config.Conv: "aejax.models.conv:network",
    config.Temporal: "aejax.models.temporal:network",
    config.SuperResolution: "aejax.models.super_resolution:network",
    config.Variational: "aejax.models.variational:network",
    config.NoiseConditioned: "aejax.models.noise_conditioned:network",
    config.Classifier: "aejax.models.classifier:network",
    config.Context: "aejax.models.context:network",
    config.OwnNetwork: "aejax.models.own:network",
}


def build(
    settings: config.NetworkSettings, schema: Schema, *, precision: config.Precision = "float32"
) -> Network:
    """The network that settings describe, for rows of one shape.

    Args:
        settings: the network's.
        schema: the rows; only their shape, and the kinds of columns of a mixed table, matter.
        precision: type of the inputs of the matrix products. Parameters don't depend on
            it: a model trained with one type can score with the other.

    Raises:
        InputError: if the network can't take rows of this shape.

    Example:
        >>> network = build(config.Dense(hidden=(8, 2)), Schema(shape=(20,)))
        >>> network.module.hidden, network.module.decoder
        ((8, 2), (8,))
    """
    module, _, name = BUILDERS[type(settings)].partition(":")
    made: Network = getattr(importlib.import_module(module), name)(settings, schema, precision)
    return made


def network_for(network: Any, shape: tuple[int, ...]) -> Network:
    """The network of settings or of an object, as `Config(model=...)` takes them.

    Args:
        network: settings of a built-in one, a module, or `aejax.network(...)`.
        shape: of one row.

    Raises:
        InputError: if it is none, or can't take rows of this shape.
    """
    if not isinstance(network, config.NetworkSettings):
        network = own_network(network)
    kind: Any = "image" if len(shape) == 3 else "table"
    return build(network, Schema(shape=shape, kind=kind))


def inner(
    settings: config.Dense | config.Conv, shape: tuple[int, ...], precision: config.Precision
) -> tuple[Any, tuple[int, ...]]:
    """The module that another network is made around, and the shape of a row's latent values."""
    home = importlib.import_module(BUILDERS[type(settings)].partition(":")[0])
    return home.autoencoder(settings, shape, precision), home.latent_shape(settings, shape)

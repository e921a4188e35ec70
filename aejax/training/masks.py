"""Which parameters a member lacks, by the features, units and connections that it has."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from aejax.config import InputError
from aejax.core import steps
from aejax.core.masks import Mask
from aejax.data import batches
from aejax.models.backend import shapes_of
from aejax.models.dense import DenseAutoencoder
from aejax.models.network import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What a member has of a fully connected autoencoder; None for all.

    Attributes:
        features: bool [features], those that it sees.
        hidden: units of each hidden layer up to the latent one: the first ones are kept.
        decoder: units of those after it; None mirrors `hidden` where the model does.
        connections: probability that a weight is kept.
        seed: of the connections.
    """

    features: np.ndarray | None = None
    hidden: tuple[int, ...] | None = None
    decoder: tuple[int, ...] | None = None
    connections: float | None = None
    seed: int = 0


def described(parts: Parts) -> dict[str, Any]:
    """A member's parts as a JSON-ready dict, for its provenance."""
    features = None if parts.features is None else np.flatnonzero(parts.features).tolist()
    return {
        "features": features,
        "hidden": None if parts.hidden is None else list(parts.hidden),
        "decoder": None if parts.decoder is None else list(parts.decoder),
        "connections": parts.connections,
    }


def mask_of(parts: Parts, network: Network, shape: tuple[int, ...]) -> Mask:
    """The mask of a member's parts.

    Args:
        parts: what it has.
        network: built for its settings.
        shape: of one row.

    Raises:
        InputError: if the model is of another kind, or the parts are not parts of it.
    """
    module = getattr(network, "module", None)
    if not isinstance(module, DenseAutoencoder):
        raise InputError(
            f"parts of a {type(module).__name__} were asked for; allowed: of a Dense model"
        )
    count = int(np.prod(shape))
    features = np.ones(count, bool) if parts.features is None else np.asarray(parts.features)
    if features.shape != (count,) or features.dtype != bool or not features.any():
        raise InputError(
            f"Parts.features is {features.dtype}{list(features.shape)} with {features.sum()} "
            f"features; allowed: bool [{count}], at least one"
        )
    hidden = _widths("hidden", parts.hidden, module.hidden)
    decoder = parts.decoder
    if decoder is None and module.decoder == module.hidden[-2::-1]:
        decoder = hidden[-2::-1]
    widths = [features, *(_first(*pair) for pair in zip(hidden, module.hidden, strict=True))]
    after = _widths("decoder", decoder, module.decoder)
    widths += [_first(*pair) for pair in zip(after, module.decoder, strict=True)]
    widths.append(features)
    names = [f"encoder_layers_{at}" for at in range(len(hidden))]
    names += [f"decoder_layers_{at}" for at in range(len(after))]
    names.append("output_layer")
    random = batches.host_random(parts.seed, "connections")
    kept: dict[str, dict[str, np.ndarray]] = {}
    for name, before, behind in zip(names, widths[:-1], widths[1:], strict=True):
        kernel = before[:, None] & behind
        if parts.connections is not None:
            kernel = kernel & (random.random(kernel.shape) < parts.connections)
        kept[name] = {"kernel": kernel, "bias": behind}
    params = shapes_of(lambda: steps.new_variables(network, shape, 0))["params"]

    def one(path: Any, leaf: Any) -> np.ndarray:
        layer, kind = (str(part.key) for part in path)
        # Normalised units that are 0 come out as 0, and their outgoing weights are 0.
        return kept.get(layer, {}).get(kind, np.ones(leaf.shape, bool))

    weights = features.reshape(shape) * np.float32(count / features.sum())
    return Mask(weights.astype(np.float32), jax.tree_util.tree_map_with_path(one, params))


def _widths(name: str, asked: tuple[int, ...] | None, most: tuple[int, ...]) -> tuple[int, ...]:
    if asked is None:
        return most
    if len(asked) != len(most) or any(not 1 <= a <= b for a, b in zip(asked, most, strict=True)):
        raise InputError(f"Parts.{name} is {asked}; allowed: from 1 to each of {most}")
    return asked


def _first(count: int, size: int) -> np.ndarray:
    kept: np.ndarray = np.arange(size) < count
    return kept

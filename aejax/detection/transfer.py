"""Transfer learning: a classifier that begins with a trained encoder."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from aejax.config import Classifier, InputError
from aejax.core import steps
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.models.build import build

NETWORK, ENCODER = "network", "encoder"


def encoder_of(detector: Detector, model: Classifier, schema: Schema, seed: int) -> dict[str, Any]:
    """A classifier's fresh variables with a trained encoder's put in their place.

    The result is what `fit` takes as `initial`; with `Train.frozen` naming encoder layers
    ("network/encoder_layers_0"), only the others learn. The encoder expects rows as they
    were scaled in its own training: give the classifier the same `Config.scale` and, where
    that is fitted to rows, the same rows as `x_scale`.

    Args:
        detector: the trained one, from `fit` or `load`: an autoencoder, a variational
            autoencoder or a classifier, whose encoder has the layers of `model.network`.
        model: the classifier to begin.
        schema: of the rows that it will see.
        seed: of the variables that are new, the head's among them.

    Returns:
        {"params": ..., "batch_stats": ... where the model has any}, float32.

    Raises:
        InputError: if the detector is an ensemble, or a layer of the classifier's encoder
            is missing from the trained one or has another shape; it names the layer.

    Example:
        >>> variables = encoder_of(load("runs/pretrained"), model, schema, 0)  # doctest: +SKIP
        >>> frozen = ("network/encoder_layers_0",)  # doctest: +SKIP
        >>> train = Train(frozen=frozen)  # doctest: +SKIP
        >>> fit(Config(model=model, train=train), x, labels=y, initial=variables)  # doctest: +SKIP
    """
    if detector.is_stacked:
        kind = "an ensemble" if detector.groups is None else "a detector"
        of = "" if detector.groups is None else " groups"
        raise InputError(
            f"the trained encoder is {kind} of {detector.members}{of}; allowed: a single model"
        )
    trained = _encoder_leaves(detector.variables)
    module = build(model, schema)
    fresh = steps.new_variables(module, schema.shape, seed)
    wanted = _encoder_leaves(fresh)
    # Parameters first: a statistic of another shape is the consequence of a layer of another width.
    for name, leaf in sorted(wanted.items(), key=lambda item: not item[0].startswith("params")):
        if name not in trained:
            held = sorted({"/".join(other.split("/")[:-1]) for other in trained})
            raise InputError(
                f"{name} of the classifier is not in the trained encoder; "
                f"allowed: an encoder with its layers (found: {', '.join(held) or 'none'})"
            )
        if trained[name].shape != leaf.shape:
            raise InputError(
                f"{name} has shape {list(trained[name].shape)} in the trained encoder; "
                f"allowed with this classifier: {list(leaf.shape)}"
            )

    def place(path: object, leaf: object) -> np.ndarray:
        name = _encoder_name(path)
        return np.asarray(leaf if name is None else trained[name])

    placed: dict[str, Any] = jax.tree_util.tree_map_with_path(place, fresh)
    return placed


def encoder_layers(model: Classifier, lowest: int | None = None) -> tuple[str, ...]:
    """The names by which `Train.frozen` knows the layers of a classifier's encoder.

    A layer's batch normalisation is part of it: its statistics stay as they are as well.

    Args:
        model: the classifier.
        lowest: how many, from the input on; None takes all.

    Example:
        >>> encoder_layers(aejax.Classifier(network=aejax.Dense(hidden=(64, 32))), lowest=1)
        ('network/encoder_layers_0',)
    """
    network = model.network
    kinds = ("layers", "norms") if network.batch_norm else ("layers",)
    return tuple(
        f"{NETWORK}/{ENCODER}_{kind}_{index}"
        for index in range(network.depth)[:lowest]
        for kind in kinds
    )


def _encoder_leaves(variables: dict[str, Any]) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    named = ((_encoder_name(path), leaf) for path, leaf in leaves)
    return {name: leaf for name, leaf in named if name is not None}


def _encoder_name(path: Any) -> str | None:
    """A leaf's name, the same in an autoencoder and inside another model; None outside encoders."""
    collection, *parts = (str(part.key) for part in path)
    if parts[0] == NETWORK:
        parts = parts[1:]
    return "/".join((collection, *parts)) if parts[0].startswith(f"{ENCODER}_") else None

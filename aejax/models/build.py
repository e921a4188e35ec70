"""From settings and the shape of a row to a module."""

from __future__ import annotations

import flax.linen as nn

from aejax import config
from aejax.data.schema import Schema
from aejax.models.conv import ConvAutoencoder, check_image
from aejax.models.dense import DenseAutoencoder


def build(
    settings: config.Model, schema: Schema, *, precision: config.Precision = "float32"
) -> nn.Module:
    """The module that settings describe, for rows of one shape.

    Args:
        settings: the network.
        schema: the rows; only their shape matters.
        precision: type of the inputs of the matrix products. Parameters don't depend on
            it: a model trained with one type can score with the other.

    Returns:
        A hashable module. `module.apply(variables, x, train=False, mask=None)` maps float32
        [B, *schema.shape] to its reconstruction; `method="encode"` gives the latent values.

    Raises:
        InputError: if the network can't take rows of this shape.

    Example:
        >>> module = build(config.Dense(hidden=(8, 2)), Schema(shape=(20,)))
        >>> module.hidden, module.decoder
        ((8, 2), (8,))
    """
    if isinstance(settings, config.Dense):
        mirrored = settings.hidden[-2::-1]
        return DenseAutoencoder(
            shape=schema.shape,
            hidden=settings.hidden,
            decoder=mirrored if settings.decoder is None else settings.decoder,
            activation=settings.activation,
            output=settings.output,
            batch_norm=settings.batch_norm,
            dropout=settings.dropout,
            precision=precision,
        )
    check_image(schema.shape, len(settings.channels))
    return ConvAutoencoder(
        shape=schema.shape,
        channels=settings.channels,
        kernel=settings.kernel,
        down=settings.down,
        activation=settings.activation,
        output=settings.output,
        batch_norm=settings.batch_norm,
        precision=precision,
    )

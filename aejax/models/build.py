"""From settings and the shape of a row to a module."""

from __future__ import annotations

import flax.linen as nn

from aejax import config
from aejax.config import InputError
from aejax.data.schema import Schema
from aejax.models.classifier import EncoderClassifier
from aejax.models.context import ContextPredictor
from aejax.models.conv import ConvAutoencoder, check_image
from aejax.models.dense import DenseAutoencoder
from aejax.models.heads import heads_of, outputs_of
from aejax.models.mixed import MixedAutoencoder
from aejax.models.super_resolution import SuperResolver
from aejax.models.variational import VariationalAutoencoder


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
        [B, *schema.shape] to its reconstruction (a classifier: to logits; a context model:
        to surprises); `method="encode"` gives the latent values and `method="decode"`, of
        autoencoders, rows of these.

    Raises:
        InputError: if the network can't take rows of this shape.

    Example:
        >>> module = build(config.Dense(hidden=(8, 2)), Schema(shape=(20,)))
        >>> module.hidden, module.decoder
        ((8, 2), (8,))
    """
    shape = schema.shape
    heads = heads_of(schema)
    if heads is not None:
        if not isinstance(settings, config.Dense):
            raise InputError(
                f"model is {type(settings).__name__}; allowed for a mixed table: Dense"
            )
        heads_network = _dense(settings, (outputs_of(heads),), precision)
        return MixedAutoencoder(heads=heads, network=heads_network)
    if isinstance(settings, config.Dense | config.Conv):
        return _autoencoder(settings, shape, precision)
    if isinstance(settings, config.SuperResolution):
        check_image(shape, settings.levels)
        return SuperResolver(shape=shape, precision=precision, **vars(settings))
    if isinstance(settings, config.Variational):
        return VariationalAutoencoder(
            network=_autoencoder(settings.network, shape, precision),
            body=_latent_shape(settings.network, shape),
            latent=settings.latent,
            likelihood=settings.likelihood,
            samples=settings.samples,
            precision=precision,
        )
    if isinstance(settings, config.Classifier):
        network = _autoencoder(settings.network, shape, precision)
        return EncoderClassifier(network=network, classes=settings.classes, precision=precision)
    if shape != (2 * settings.window + 1,):
        raise InputError(
            f"shape of a row is {shape!r}; allowed with a context model of window "
            f"{settings.window}: ({2 * settings.window + 1},)"
        )
    return ContextPredictor(precision=precision, **vars(settings))


def _dense(
    settings: config.Dense, shape: tuple[int, ...], precision: config.Precision
) -> DenseAutoencoder:
    mirrored = settings.hidden[-2::-1]
    decoder = mirrored if settings.decoder is None else settings.decoder
    given = {**vars(settings), "decoder": decoder}
    # A number of the training: networks that differ in it share their programs.
    del given["dropout"]
    return DenseAutoencoder(shape=shape, precision=precision, **given)


def _autoencoder(
    settings: config.Dense | config.Conv, shape: tuple[int, ...], precision: config.Precision
) -> DenseAutoencoder | ConvAutoencoder:
    if isinstance(settings, config.Dense):
        return _dense(settings, shape, precision)
    check_image(shape, len(settings.channels))
    return ConvAutoencoder(shape=shape, precision=precision, **vars(settings))


def _latent_shape(settings: config.Dense | config.Conv, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(settings, config.Dense):
        return (settings.hidden[-1],)
    factor = 2 ** len(settings.channels)
    return (shape[0] // factor, shape[1] // factor, settings.channels[-1])

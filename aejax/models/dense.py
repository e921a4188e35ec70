"""The fully connected autoencoder."""

from __future__ import annotations

import math

import jax

from aejax import config
from aejax.config import Activation, Precision
from aejax.data.schema import Schema
from aejax.models import layers
from aejax.models.heads import heads_of, outputs_of
from aejax.models.layers import Dropout
from aejax.models.network import LinenNetwork


class DenseAutoencoder(layers.Autoencoder):
    """Flattens a row, maps it through narrowing and widening layers, and restores its shape.

    Args:
        shape: shape of one row.
        hidden: widths of the hidden layers from the input to the latent layer.
        decoder: widths of the hidden layers after the latent one.
        activation: after every hidden layer.
        output: after the last layer.
        batch_norm: normalise every hidden layer over the batch, before the activation.
        precision: type of the inputs of the products.
    """

    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    decoder: tuple[int, ...]
    activation: Activation = "relu"
    output: Activation = "linear"
    batch_norm: bool = False
    precision: Precision = "float32"

    def setup(self) -> None:
        """Name the layers."""
        self.encoder_layers = [layers.Dense(width, self.precision) for width in self.hidden]
        self.decoder_layers = [layers.Dense(width, self.precision) for width in self.decoder]
        self.encoder_norms = [layers.batch_norm() for _ in self.hidden if self.batch_norm]
        self.decoder_norms = [layers.batch_norm() for _ in self.decoder if self.batch_norm]
        self.drop = Dropout()
        self.output_layer = layers.Dense(math.prod(self.shape), self.precision)

    def encode(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """The latent layer's values, float32 [B, hidden[-1]], of rows float32 [B, *shape]."""
        x = x.reshape(x.shape[0], -1)
        for index, layer in enumerate(self.encoder_layers):
            norm = self.encoder_norms[index] if self.batch_norm else None
            x = self._hidden(layer, norm, x, train, mask)
            layers.keep_state(self, f"encoder_{index}", x)
        return x

    def decode(
        self, latent: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Rows float32 [B, *shape] of latent values float32 [B, hidden[-1]]."""
        x = self.decode_logits(latent, train, mask)
        return layers.ACTIVATIONS[self.output](x)

    def decode_logits(
        self, latent: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """What `decode` gives before the output's activation."""
        for index, layer in enumerate(self.decoder_layers):
            norm = self.decoder_norms[index] if self.batch_norm else None
            latent = self._hidden(layer, norm, latent, train, mask)
            layers.keep_state(self, f"decoder_{index}", latent)
        return self.output_layer(latent).reshape(-1, *self.shape)

    @property
    def takes_columns(self) -> bool:
        """Whether `reconstruct_columns` gives what `__call__` does."""
        return len(self.shape) == 1 and not self.batch_norm

    def reconstruct_columns(self, x: jax.Array) -> jax.Array:
        """Reconstructions of rows that lie side by side, float32 [features, B]; not in training."""
        for layer in (*self.encoder_layers, *self.decoder_layers):
            x = layers.ACTIVATIONS[self.activation](layer(x, by_column=True))
        return layers.ACTIVATIONS[self.output](self.output_layer(x, by_column=True))

    def _hidden(
        self,
        layer: layers.Dense,
        norm: layers.BatchNorm | None,
        x: jax.Array,
        train: bool,
        mask: jax.Array | None,
    ) -> jax.Array:
        x = layer(x)
        if norm is not None:
            x = layers.normalise(norm, x, train=train, mask=mask)
        return self.drop(layers.ACTIVATIONS[self.activation](x), train=train)


def network(settings: config.Dense, schema: Schema, precision: Precision) -> LinenNetwork:
    """The network of settings; of a mixed table, between the inputs and outputs of its columns."""
    heads = heads_of(schema)
    if heads is None:
        module = autoencoder(settings, schema.shape, precision)
        return LinenNetwork(module=module, precision=precision)
    from aejax.models.mixed import MixedAutoencoder

    inner = autoencoder(settings, (outputs_of(heads),), precision)
    mixed = MixedAutoencoder(heads=heads, network=inner)
    return LinenNetwork(module=mixed, precision=precision, heads=heads)


def autoencoder(
    settings: config.Dense, shape: tuple[int, ...], precision: Precision
) -> DenseAutoencoder:
    """The module of settings, for rows of one shape."""
    mirrored = settings.hidden[-2::-1]
    decoder = mirrored if settings.decoder is None else settings.decoder
    fields = {**vars(settings), "decoder": decoder}
    # A number of the training: networks that differ in it share their programs.
    del fields["dropout"]
    return DenseAutoencoder(shape=shape, precision=precision, **fields)


def latent_shape(settings: config.Dense, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a row's latent values."""
    return (settings.hidden[-1],)

"""The network that sees a shrunk image and restores it."""

from __future__ import annotations

import functools

import jax

from aejax import config
from aejax.config import Activation, Precision
from aejax.data.schema import Schema
from aejax.models import layers
from aejax.models.conv import check_image
from aejax.models.heads import refuse_mixed
from aejax.models.network import LinenNetwork


class SuperResolver(layers.Autoencoder):
    """Shrinks an image by max-pooling, then doubles and convolves it level by level.

    Args:
        shape: height, width and channels of an image.
        levels: how often it is halved and doubled.
        convolutions: convolutions in each level.
        channels: channels of every hidden convolution.
        kernel: height and width of every kernel, in pixels, odd.
        activation: after every hidden convolution.
        output: after the last convolution.
        batch_norm: normalise after the activation of every hidden convolution.
        precision: type of the inputs of the products.

    Raises:
        InputError: when called, if `shape` isn't an image that can be halved so often.
    """

    shape: tuple[int, ...]
    levels: int = 2
    convolutions: int = 2
    channels: int = 8
    kernel: int = 3
    activation: Activation = "relu"
    output: Activation = "sigmoid"
    batch_norm: bool = True
    precision: Precision = "float32"

    def setup(self) -> None:
        """Name the layers."""
        check_image(self.shape, self.levels)
        layer = functools.partial(layers.Conv, kernel=self.kernel, precision=self.precision)
        self.decoder_layers = [
            layer(
                self.channels,
                activation=self.activation,
                # The first convolution of a level doubles the image on the way.
                resize="repeat" if index % self.convolutions == 0 else "none",
            )
            for index in range(self.levels * self.convolutions)
        ]
        self.decoder_norms = [layers.batch_norm() for _ in self.decoder_layers if self.batch_norm]
        self.output_layer = layer(self.shape[-1], activation=self.output)

    def encode(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """The shrunk images, float32 [B, height / 2**levels, width / 2**levels, channels]."""
        for _ in range(self.levels):
            x = layers.max_pool(x)
        layers.keep_state(self, "shrunk", x)
        return x

    def decode(
        self, latent: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Images float32 [B, height, width, channels] of shrunk ones."""
        x = latent
        for index, layer in enumerate(self.decoder_layers):
            x = layer(x)
            if self.batch_norm:
                x = layers.normalise(self.decoder_norms[index], x, train=train, mask=mask)
            layers.keep_state(self, f"decoder_{index}", layers.as_image(x))
        return self.output_layer(x)


def network(settings: config.SuperResolution, schema: Schema, precision: Precision) -> LinenNetwork:
    """The network of settings."""
    refuse_mixed(settings, schema)
    check_image(schema.shape, settings.levels)
    module = SuperResolver(shape=schema.shape, precision=precision, **vars(settings))
    return LinenNetwork(module=module, precision=precision)

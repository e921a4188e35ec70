"""The convolutional autoencoders of images, strided or pooled."""

from __future__ import annotations

import functools
from typing import Literal

import jax

from aejax import config
from aejax.config import Activation, InputError, Precision
from aejax.data.schema import Schema
from aejax.models import layers
from aejax.models.heads import refuse_mixed
from aejax.models.network import LinenNetwork


class ConvAutoencoder(layers.Autoencoder):
    """Halves an image level by level, then doubles it back.

    Args:
        shape: height, width and channels of an image; height and width must be divisible
            by 2 to the number of levels.
        channels: channels of each level going down; mirrored going up.
        kernel: height and width of every kernel, in pixels, odd.
        down: "stride" (strided and transposed convolutions) or "pool" (2x2 max-pooling and
            nearest up-sampling, with one more convolution at full size).
        activation: after every hidden convolution.
        output: after the last convolution.
        batch_norm: normalise after the activation of every hidden convolution.
        precision: type of the inputs of the products.

    Raises:
        InputError: when called, if `shape` isn't an image that can be halved so often.
    """

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    kernel: int = 3
    down: Literal["stride", "pool"] = "stride"
    activation: Activation = "relu"
    output: Activation = "sigmoid"
    batch_norm: bool = False
    precision: Precision = "float32"

    def setup(self) -> None:
        """Name the layers."""
        check_image(self.shape, len(self.channels))
        layer = functools.partial(layers.Conv, kernel=self.kernel, precision=self.precision)
        hidden = functools.partial(layer, activation=self.activation)
        up = self.channels[::-1]
        if self.down == "stride":
            self.encoder_layers = [hidden(width, resize="stride") for width in self.channels]
            self.decoder_layers = [hidden(width, resize="transpose") for width in up]
        else:
            self.encoder_layers = [hidden(width) for width in self.channels]
            # The up-sampling after a convolution is the next one's "repeat".
            self.decoder_layers = [
                hidden(up[0]),
                *(hidden(width, resize="repeat") for width in (*up[1:], self.channels[0])),
            ]
        self.encoder_norms = [layers.batch_norm() for _ in self.encoder_layers if self.batch_norm]
        self.decoder_norms = [layers.batch_norm() for _ in self.decoder_layers if self.batch_norm]
        self.output_layer = layer(self.shape[-1], activation=self.output)

    def encode(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """The latent images of float32 [B, height, width, channels].

        Returns:
            float32 [B, height / 2**levels, width / 2**levels, channels of the last level].
        """
        for index, layer in enumerate(self.encoder_layers):
            norm = self.encoder_norms[index] if self.batch_norm else None
            x = self._hidden(layer, norm, x, train, mask)
            if self.down == "pool":
                x = layers.max_pool(x)
            layers.keep_state(self, f"encoder_{index}", layers.as_image(x))
        return x

    def decode(
        self, latent: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Images float32 [B, height, width, channels] of latent images."""
        return self.output_layer(self._up(latent, train, mask))

    def decode_logits(
        self, latent: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """What `decode` gives before the output's activation."""
        return self.output_layer(self._up(latent, train, mask), activate=False)

    def _up(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        for index, layer in enumerate(self.decoder_layers):
            norm = self.decoder_norms[index] if self.batch_norm else None
            x = self._hidden(layer, norm, x, train, mask)
            layers.keep_state(self, f"decoder_{index}", layers.as_image(x))
        return x

    def _hidden(
        self,
        layer: layers.Conv,
        norm: layers.BatchNorm | None,
        x: jax.Array,
        train: bool,
        mask: jax.Array | None,
    ) -> jax.Array:
        x = layer(x)
        return x if norm is None else layers.normalise(norm, x, train=train, mask=mask)


def check_image(shape: tuple[int, ...], levels: int) -> None:
    """Check that a row is an image whose height and width can be halved `levels` times.

    Raises:
        InputError: naming the shape and what is allowed.
    """
    if len(shape) != 3:
        raise InputError(
            f"shape of a row is {shape!r}; allowed with a conv model: (height, width, channels)"
        )
    factor = 2**levels
    if shape[0] % factor or shape[1] % factor:
        raise InputError(
            f"shape of a row is {shape!r}; allowed with a conv model of {levels} levels: "
            f"a height and a width divisible by {factor}"
        )


def network(settings: config.Conv, schema: Schema, precision: Precision) -> LinenNetwork:
    """The network of settings."""
    refuse_mixed(settings, schema)
    module = autoencoder(settings, schema.shape, precision)
    return LinenNetwork(module=module, precision=precision)


def autoencoder(
    settings: config.Conv, shape: tuple[int, ...], precision: Precision
) -> ConvAutoencoder:
    """The module of settings, for images of one shape."""
    check_image(shape, len(settings.channels))
    return ConvAutoencoder(shape=shape, precision=precision, **vars(settings))


def latent_shape(settings: config.Conv, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of an image's latent values: height, width and channels."""
    factor = 2 ** len(settings.channels)
    return (shape[0] // factor, shape[1] // factor, settings.channels[-1])

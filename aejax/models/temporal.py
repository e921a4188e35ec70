"""The temporal convolutional autoencoder of windows of a series."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aejax import config
from aejax.config import Activation, InputError, Precision
from aejax.data.schema import Schema
from aejax.models import layers
from aejax.models.convolution import convolve_series, inputs_of
from aejax.models.heads import refuse_mixed
from aejax.models.network import LinenNetwork


class SeriesConv(nn.Module):
    """A dilated convolution along a series with "SAME" padding, and its activation.

    Parameters and values are those of `flax.linen.Conv`, with Keras' initial values. On CPUs it is
    a matrix product: XLA's own form is as fast alone, and many times slower in a loop of steps.

    Args:
        features: channels of the result.
        kernel: points of the kernel, odd.
        dilation: points from one of the kernel to the next.
        activation: applied to the result.
        precision: type of the inputs of the products; parameters and results are float32.
    """

    features: int
    kernel: int = 1
    dilation: int = 1
    activation: Activation = "linear"
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve float32 [B, length, in] to float32 [B, length, features]."""
        shape = (self.kernel, x.shape[-1], self.features)
        kernel = layers.parameter(self, "kernel", nn.initializers.glorot_uniform(), shape)
        bias = layers.parameter(self, "bias", nn.initializers.zeros, (self.features,))
        activation = layers.ACTIVATIONS[self.activation]

        def products(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
            y = convolve_series(x.transpose(2, 1, 0), kernel, self.dilation, self.precision)
            # On this side of the transpose, so that two layers' transposes meet and XLA drops both.
            return activation(y + bias[:, None, None]).transpose(2, 1, 0)

        def native(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
            stored, exactly = inputs_of(self.precision)
            y = lax.conv_general_dilated(
                x.astype(stored),
                kernel.astype(stored),
                (1,),
                "SAME",
                rhs_dilation=(self.dilation,),
                dimension_numbers=("NWC", "WIO", "NWC"),
                precision=exactly,
                preferred_element_type=jnp.float32,
            )
            return activation(y + bias)

        return lax.platform_dependent(x, kernel, bias, cpu=products, default=native)


class TemporalAutoencoder(nn.Module):
    """Convolutions of growing dilation, means over a few points each, and the way back.

    Args:
        shape: points and channels of a window.
        channels: of each convolution going down; mirrored going up.
        kernel: points of every kernel, odd.
        latent: channels of the latent series.
        pool: points that share a latent value; the last may be shared by fewer.
        activation: after every hidden convolution.
        output: after the last convolution.
        precision: type of the inputs of the products.
    """

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    kernel: int
    latent: int
    pool: int
    activation: Activation = "relu"
    output: Activation = "linear"
    precision: Precision = "float32"

    def setup(self) -> None:
        """Name the layers."""
        hidden = [
            (width, self.kernel, 2**level, self.activation, self.precision)
            for level, width in enumerate(self.channels)
        ]
        self.encoder_layers = [SeriesConv(*each) for each in hidden]
        self.latent_layer = SeriesConv(self.latent, precision=self.precision)
        self.decoder_layers = [SeriesConv(*each) for each in hidden[::-1]]
        self.output_layer = SeriesConv(
            self.shape[-1], activation=self.output, precision=self.precision
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Reconstruct scaled windows, float32 [B, length, channels]."""
        return self.decode(self.encode(x))

    def encode(self, x: jax.Array) -> jax.Array:
        """The latent series of windows, float32 [B, ceil(length / pool), latent]."""
        for index, layer in enumerate(self.encoder_layers):
            x = layer(x)
            layers.keep_state(self, f"encoder_{index}", x)
        shared = self._shared()
        means = shared / shared.sum(axis=0)
        return jnp.einsum("blc,lp->bpc", self.latent_layer(x), means, precision="highest")

    def decode(self, latent: jax.Array) -> jax.Array:
        """Windows float32 [B, length, channels] of latent series."""
        x = jnp.einsum("bpc,lp->blc", latent, self._shared(), precision="highest")
        for index, layer in enumerate(self.decoder_layers):
            x = layer(x)
            layers.keep_state(self, f"decoder_{index}", x)
        return self.output_layer(x)

    def _shared(self) -> np.ndarray:
        """Which points share which latent value, float32 [length, ceil(length / pool)]."""
        places = np.arange(self.shape[0]) // self.pool
        return np.eye(places[-1] + 1, dtype=np.float32)[places]


def network(settings: config.Temporal, schema: Schema, precision: Precision) -> LinenNetwork:
    """The network of settings.

    Raises:
        InputError: if rows aren't windows of a series.
    """
    refuse_mixed(settings, schema)
    if len(schema.shape) != 2:
        raise InputError(
            f"shape of a row is {schema.shape!r}; allowed with a temporal model: (points, "
            "channels), as windows have (Config.window, --window)"
        )
    module = TemporalAutoencoder(shape=schema.shape, precision=precision, **vars(settings))
    return LinenNetwork(module=module, precision=precision)

"""Dense, convolution and pooling layers: Flax's parameters and values, fastest form by backend.

A convolution is one native instruction on a GPU or TPU and a matrix product on a CPU
(`aejax.models.convolution`). The form is chosen when a program is lowered for its platform:
one set of parameters serves all, and a program exported for several platforms keeps both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from aejax.config import Activation, Precision
from aejax.models.convolution import (
    Resize,
    convolve_blocks,
    inputs_of,
    merge,
    product,
    split,
)

# Outputs from which a convolution merges blocks into an image first.
MERGED_FEATURES = 4


class Autoencoder(nn.Module):
    """What encodes rows and decodes latent values; the one after the other reconstructs."""

    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Reconstruct rows.

        Args:
            x: float32 [B, *shape], scaled; images as [B, height, width, channels].
            train: normalise with the batch's own statistics, and drop units where `rates` said
                how many; that needs the "dropout" random stream.
            mask: bool [B]; rows that are False don't enter the batch's statistics.

        Returns:
            float32 [B, *shape].
        """
        return self.decode(self.encode(x, train, mask), train, mask)


class Dropout(nn.Module):
    """Dropout (Srivastava et al., JMLR 15, 2014) whose rate is an array and not a constant.

    The rate is the variable "rate" of the collection "dropout", which `rates` makes; a model
    that isn't given one has no random bits in its program. Units are those that
    `flax.linen.Dropout` drops.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Rows float32 [B, features], some of their units 0 and the others scaled up."""
        if not train or not self.has_variable("dropout", "rate"):
            return x
        kept = 1 - self.get_variable("dropout", "rate")
        keep = jax.random.bernoulli(self.make_rng("dropout"), kept, x.shape)
        return jnp.where(keep, x / kept, 0)


def rates(model: nn.Module, rate: jax.Array | float) -> dict[str, Any]:
    """What makes a model drop units while it trains, to be joined to its variables.

    Args:
        model: as `build` gives it.
        rate: share of hidden units that are dropped, float32 scalar, traced or not.
    """
    drops = {"drop": {"rate": rate}}
    return {"dropout": {"network": drops} if hasattr(model, "network") else drops}


def sigmoid(x: jax.Array) -> jax.Array:
    """The logistic function, by way of tanh: equal to 1e-7, with a division less on CPUs."""
    return 0.5 + 0.5 * jnp.tanh(0.5 * x)


ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "tanh": nn.tanh,
    "sigmoid": sigmoid,
    "linear": lambda x: x,
}


def parameter(
    module: nn.Module, name: str, initial: Callable[..., jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """What `module.param` gives: that traces `initial` at every use, only to compare shapes.

    Tracing it takes longer than tracing what a layer computes.
    """
    if module.has_variable("params", name):
        known: jax.Array = module.get_variable("params", name)
        if known.shape == shape:
            return known
    made: jax.Array = module.param(name, initial, shape)
    return made


class Dense(nn.Module):
    """An affine map of the last axis; parameters as in `flax.linen.Dense`, Keras' initial values.

    Args:
        features: size of the last axis of the result.
        precision: type of the inputs of the product; parameters and results are float32.
    """

    features: int
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, by_column: bool = False) -> jax.Array:
        """Map float32 [..., in] to [..., features]; `by_column`, [in, B] to [features, B]."""
        shape = (x.shape[0 if by_column else -1], self.features)
        kernel = parameter(self, "kernel", nn.initializers.glorot_uniform(), shape)
        bias = parameter(self, "bias", nn.initializers.zeros, (self.features,))
        if by_column:
            return product(kernel.T, x, self.precision) + bias[:, None]
        return product(x, kernel, self.precision) + bias


class Conv(nn.Module):
    """A 2-D convolution with "SAME" padding, and its activation.

    Parameters and values are those of `flax.linen.Conv` or `flax.linen.ConvTranspose`, with
    Keras' initial values. An image of even size may travel as [B, h, 2, w, 2, c], 2x2
    blocks of pixels: what a doubling layer writes and the next layer reads without a copy.
    `as_image` gives [B, 2 h, 2 w, c].

    Args:
        features: channels of the result.
        kernel: height and width of the kernel, odd.
        resize: "none"; "stride" (windows 2 pixels apart halve the image); "transpose" (a
            transposed convolution of stride 2 doubles it); "repeat" (every pixel is first
            repeated in a 2x2 block).
        activation: applied to the result.
        precision: type of the inputs of the products; parameters and results are float32.
    """

    features: int
    kernel: int = 3
    resize: Resize = "none"
    activation: Activation = "linear"
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, activate: bool = True) -> jax.Array:
        """Convolve.

        Args:
            x: float32 [B, h, w, in] or blocks [B, h, 2, w, 2, in].
            activate: whether the activation is applied.

        Returns:
            float32 [B, h', w', features], or in blocks where the image was doubled.
        """
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = parameter(self, "kernel", nn.initializers.glorot_uniform(), shape)
        bias = parameter(self, "bias", nn.initializers.zeros, (self.features,))
        doubles = self.resize in ("transpose", "repeat")
        activation = ACTIVATIONS[self.activation if activate else "linear"]

        def products(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
            x = _batch_last(x)
            # Over blocks a kernel holds three zeros for each weight; that pays where there
            # are few outputs, as in a last layer.
            if x.shape[0] == 2 and (self.resize != "none" or self.features >= MERGED_FEATURES):
                x = merge(x)[None, None]
            y = convolve_blocks(x, kernel, self.resize, self.precision)
            # Bias and activation stay on this side of the transpose, so that between two
            # layers only a transpose and its inverse meet, and XLA drops both.
            y = activation(y + bias[:, None, None, None])
            return _batch_first(y if doubles or y.shape[0] == 1 else merge(y)[None, None])

        def native(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
            y = convolve(as_image(x), kernel, self.resize, self.precision)
            y = activation(y + bias)
            return as_blocks(y) if doubles else y

        return lax.platform_dependent(x, kernel, bias, cpu=products, default=native)


def keep_state(module: nn.Module, name: str, state: jax.Array) -> None:
    """Keep a layer's state for whoever asks for the collection "states"; free otherwise."""
    if not module.is_initializing():
        module.sow("states", name, state)


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis; names and values of `flax.linen.BatchNorm`.

    Images are normalised with the batch last on CPUs, as convolutions compute there, so that
    the transposes of two neighbours meet and XLA drops both. Constants are those of Keras'
    layer.

    Args:
        momentum: share of the running statistics that a batch leaves as it is.
        epsilon: added to the variance.
    """

    momentum: float = 0.99
    epsilon: float = 1e-3

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Normalise.

        Args:
            x: float32 [B, ..., features]; images may come in blocks, as from `Conv`.
            train: with the batch's own mean and variance, which also move the running ones.
            mask: bool [B]; rows that are False don't enter the statistics.
        """
        width = x.shape[-1]
        scale = parameter(self, "scale", nn.initializers.ones, (width,))
        bias = parameter(self, "bias", nn.initializers.zeros, (width,))
        mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(width, jnp.float32))
        variance = self.variable("batch_stats", "var", lambda: jnp.ones(width, jnp.float32))
        known = None if train else (mean.value, variance.value)

        def batch_first(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
            shape = (-1,) + (1,) * (x.ndim - 1)
            rows = None if mask is None else mask.reshape(shape)
            return _normalised(x, scale, bias, known, rows, x.ndim - 1, self.epsilon)

        def batch_last(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
            y, *statistics = _normalised(_batch_last(x), scale, bias, known, mask, 2, self.epsilon)
            return _batch_first(y), *statistics

        if x.ndim in (4, 6):
            statistics = lax.platform_dependent(x, scale, bias, cpu=batch_last, default=batch_first)
        else:
            statistics = batch_first(x, scale, bias)
        y: jax.Array = statistics[0]
        if train and not self.is_initializing():
            for kept, new in ((mean, statistics[1]), (variance, statistics[2])):
                kept.value = self.momentum * kept.value + (1 - self.momentum) * new
        return y


def _normalised(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    known: tuple[jax.Array, jax.Array] | None,
    mask: jax.Array | None,
    axis: int,
    epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalised values, with the mean and variance that they were normalised by.

    Args:
        x: float32, features on `axis`.
        scale: float32 [features].
        bias: float32 [features].
        known: mean and variance; None takes the batch's.
        mask: bool, which broadcasts against x; False doesn't enter the statistics.
        axis: of the features.
        epsilon: added to the variance.
    """
    others = tuple(i for i in range(x.ndim) if i != axis)
    wide = [1] * x.ndim
    wide[axis] = -1
    if known is not None:
        mean, variance = known
    else:
        count = x.size // x.shape[axis]
        part = 1.0 if mask is None else jnp.sum(mask) / mask.size
        kept = x if mask is None else jnp.where(mask, x, 0)
        # A batch of padding only must not divide by zero.
        share = 1 / (count * jnp.maximum(part, 1 / count))
        mean = jnp.sum(kept, axis=others) * share
        squares = jnp.sum(jnp.square(kept), axis=others) * share
        variance = jnp.maximum(squares - jnp.square(mean), 0)
    factor = scale * lax.rsqrt(variance + epsilon)
    # The mean's gradient is taken through the shift, which is one number a feature: through
    # the difference it would take another pass over the rows.
    held = lax.stop_gradient(mean)
    shift = bias - (mean - held) * factor
    y = (x - held.reshape(wide)) * factor.reshape(wide) + shift.reshape(wide)
    return y, mean, variance


def batch_norm() -> BatchNorm:
    """Batch normalisation with the constants of Keras' layer (momentum 0.99, epsilon 0.001)."""
    return BatchNorm()


def normalise(norm: BatchNorm, x: jax.Array, *, train: bool, mask: jax.Array | None) -> jax.Array:
    """Apply `norm` to float32 [B, ...]; in training, only rows whose `mask` [B] is True count."""
    return norm(x, train=train, mask=mask)


def convolve(x: jax.Array, kernel: jax.Array, resize: Resize, precision: Precision) -> jax.Array:
    """A convolution in XLA's own form: float32 [B, h, w, in] to [B, h', w', out]."""
    if resize == "repeat":
        x = upsample(x)
    operation = lax.conv_transpose if resize == "transpose" else lax.conv_general_dilated
    stored, exactly = inputs_of(precision)
    return operation(
        x.astype(stored),
        kernel.astype(stored),
        (1, 1) if resize in ("none", "repeat") else (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=exactly,
        preferred_element_type=jnp.float32,
    )


def max_pool(x: jax.Array) -> jax.Array:
    """Largest value of every 2x2 block of float32 [B, h, w, channels]; h and w are even.

    Of equal values the first, row by row, receives the gradient, as in `flax.linen.max_pool`.
    """
    blocks = split(_batch_last(x)[0, 0])
    largest = blocks[0, 0]
    for pixel in (blocks[0, 1], blocks[1, 0], blocks[1, 1]):
        largest = jnp.where((pixel > largest) | jnp.isnan(pixel), pixel, largest)
    return _batch_first(largest[None, None])


def upsample(x: jax.Array) -> jax.Array:
    """Every pixel of float32 [B, h, w, channels] repeated in a 2x2 block."""
    batch, height, width, channels = x.shape
    blocks = (batch, height, 2, width, 2, channels)
    return as_image(jnp.broadcast_to(x[:, :, None, :, None], blocks))


def as_image(x: jax.Array) -> jax.Array:
    """[B, h, 2, w, 2, channels] as [B, 2 h, 2 w, channels]; an image stays as it is."""
    if x.ndim == 4:
        return x
    batch, height, _, width, _, channels = x.shape
    return x.reshape(batch, 2 * height, 2 * width, channels)


def as_blocks(x: jax.Array) -> jax.Array:
    """[B, 2 h, 2 w, channels] as [B, h, 2, w, 2, channels]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _batch_last(x: jax.Array) -> jax.Array:
    """[B, h, w, c] or [B, h, 2, w, 2, c] as [s, s, c, h, w, B]."""
    if x.ndim == 4:
        return x.transpose(3, 1, 2, 0)[None, None]
    return x.transpose(2, 4, 5, 1, 3, 0)


def _batch_first(x: jax.Array) -> jax.Array:
    """The inverse of `_batch_last`."""
    if x.shape[0] == 1:
        return x[0, 0].transpose(3, 1, 2, 0)
    return x.transpose(5, 3, 0, 4, 1, 2)

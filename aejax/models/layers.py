"""Dense, convolution and pooling layers: Flax's parameters and values, in each backend's fastest form.

A convolution is one native instruction on a GPU or TPU. On a CPU XLA's own convolution,
and above all its gradient, is several times slower than matrix products over sliced
patches, so there it is lowered to products. The form is chosen when a program is lowered
for its platform: one set of parameters serves all, and an exported program keeps every form.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from aejax.config import Activation, Precision

ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "linear": lambda x: x,
}
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def product(x: jax.Array, kernel: jax.Array, precision: Precision) -> jax.Array:
    """Matrix product over the last axis of `x` and the first of `kernel`, accumulated in float32.

    Args:
        x: float32 [..., in].
        kernel: float32 [in, out].
        precision: type that both inputs are rounded to before they are multiplied.

    Returns:
        float32 [..., out].
    """
    # The accumulation type is asked for by name: a product from bfloat16 to bfloat16
    # takes a slow road on a CPU.
    return jnp.dot(
        x.astype(precision), kernel.astype(precision), preferred_element_type=jnp.float32
    )


class Dense(nn.Module):
    """An affine map of the last axis; parameters as in `flax.linen.Dense`, Keras' initial values.

    Args:
        features: size of the last axis of the result.
        precision: type of the inputs of the product; parameters and results are float32.
    """

    features: int
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map float32 [..., in] to float32 [..., features]."""
        kernel = self.param(
            "kernel", nn.initializers.glorot_uniform(), (x.shape[-1], self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return product(x, kernel, self.precision) + bias


class Conv(nn.Module):
    """A 2-D convolution with "SAME" padding; parameters and values as in `flax.linen.Conv`.

    Args:
        features: channels of the result.
        kernel: height and width of the kernel, odd.
        stride: step between windows, in pixels, along both axes.
        precision: type of the inputs of the products; parameters and results are float32.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map float32 [B, h, w, in] to float32 [B, ceil(h / stride), ceil(w / stride), features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve(x, kernel, stride=self.stride, precision=self.precision) + bias


class ConvTranspose(nn.Module):
    """A 2-D transposed convolution of stride 2; parameters and values as in `flax.linen.ConvTranspose`.

    Args:
        features: channels of the result.
        kernel: height and width of the kernel, odd.
        precision: type of the inputs of the products; parameters and results are float32.
    """

    features: int
    kernel: int = 3
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map float32 [B, h, w, in] to float32 [B, 2 h, 2 w, features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve_transpose(x, kernel, precision=self.precision) + bias


def batch_norm() -> nn.BatchNorm:
    """Batch normalisation with the constants of Keras' layer (momentum 0.99, epsilon 0.001)."""
    return nn.BatchNorm(momentum=0.99, epsilon=1e-3)


def normalise(
    norm: nn.BatchNorm, x: jax.Array, *, train: bool, mask: jax.Array | None
) -> jax.Array:
    """Apply `norm` to float32 [B, ...]; while training, rows where `mask` [B] is False don't count."""
    if mask is not None:
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - 1))
    return norm(x, use_running_average=not train, mask=mask)


def convolve(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, precision: Precision = "float32"
) -> jax.Array:
    """Convolution with "SAME" padding, as `jax.lax.conv_general_dilated` defines it.

    Args:
        x: float32 [B, h, w, in].
        kernel: float32 [k, k, in, out].
        stride: step between windows, in pixels.
        precision: type of the inputs of the products.

    Returns:
        float32 [B, ceil(h / stride), ceil(w / stride), out].
    """

    def native(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x.astype(precision),
            kernel.astype(precision),
            (stride, stride),
            "SAME",
            dimension_numbers=_LAYOUT,
            preferred_element_type=jnp.float32,
        )

    def products(x: jax.Array, kernel: jax.Array) -> jax.Array:
        size, _, channels, features = kernel.shape
        # Shifting results costs size**2 * features values a pixel, gathering patches
        # size**2 * channels.
        if stride == 1 and features < channels:
            return _shifted_sums(x, kernel, precision)
        patches = _patches(x, size, stride)
        return product(patches, kernel.reshape(-1, features), precision)

    return lax.platform_dependent(x, kernel, cpu=products, default=native)


def convolve_transpose(
    x: jax.Array, kernel: jax.Array, *, precision: Precision = "float32"
) -> jax.Array:
    """Transposed convolution of stride 2 with "SAME" padding, as `jax.lax.conv_transpose` defines it.

    Args:
        x: float32 [B, h, w, in].
        kernel: float32 [k, k, in, out].
        precision: type of the inputs of the products.

    Returns:
        float32 [B, 2 h, 2 w, out].
    """

    def native(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_transpose(
            x.astype(precision),
            kernel.astype(precision),
            (2, 2),
            "SAME",
            dimension_numbers=_LAYOUT,
            preferred_element_type=jnp.float32,
        )

    def products(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _subpixel(x, kernel, precision)

    return lax.platform_dependent(x, kernel, cpu=products, default=native)


def max_pool(x: jax.Array) -> jax.Array:
    """Largest value of every 2x2 block of float32 [B, h, w, channels]; h and w are even."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def upsample(x: jax.Array) -> jax.Array:
    """Every pixel of float32 [B, h, w, channels] repeated in a 2x2 block: [B, 2 h, 2 w, channels]."""
    batch, height, width, channels = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return blocks.reshape(batch, 2 * height, 2 * width, channels)


def _same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def _patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """The windows of a "SAME" convolution: [B, h, w, c] to [B, rows, columns, size * size * c]."""
    _, height, width, _ = x.shape
    rows, columns = -(-height // stride), -(-width // stride)
    across = (_same_padding(height, size, stride), _same_padding(width, size, stride))
    x = jnp.pad(x, ((0, 0), *across, (0, 0)))
    last_row, last_column = (rows - 1) * stride + 1, (columns - 1) * stride + 1
    return jnp.concatenate(
        [
            x[:, i : i + last_row : stride, j : j + last_column : stride]
            for i in range(size)
            for j in range(size)
        ],
        axis=-1,
    )


def _shifted_sums(x: jax.Array, kernel: jax.Array, precision: Precision) -> jax.Array:
    """A convolution as one product to a map for every kernel position, then a sum of shifted maps."""
    size, _, channels, features = kernel.shape
    _, height, width, _ = x.shape
    before = size // 2
    maps = product(x, kernel.transpose(2, 0, 1, 3).reshape(channels, -1), precision)
    maps = jnp.pad(maps, ((0, 0), (before, before), (before, before), (0, 0)))
    shifted = [
        maps[:, i : i + height, j : j + width, (i * size + j) * features :][..., :features]
        for i in range(size)
        for j in range(size)
    ]
    return sum(shifted[1:], start=shifted[0])


def _subpixel(x: jax.Array, kernel: jax.Array, precision: Precision) -> jax.Array:
    """A stride-2 transposed convolution as one product to the 2x2 pixels of each source pixel.

    Result pixel 2 q + p reads source pixels q + d through kernel position 2 d - p + before,
    so pairs of kernel positions belong to one shift d (Shi et al., 2016, arXiv:1609.05158).
    """
    size, _, channels, features = kernel.shape
    batch, height, width, _ = x.shape
    # "SAME" as in lax.conv_transpose: size zeros, less one, come before where the kernel
    # is not wider than the stride.
    before = size - 1 if size < 3 else (size + 1) // 2
    first = -(before // 2)
    lead = 2 * first + before - 1
    shifts = -(-(size - lead) // 2)
    fill = (-lead, lead + 2 * shifts - size)
    pairs = jnp.pad(kernel, (fill, fill, (0, 0), (0, 0)))
    pairs = pairs.reshape(shifts, 2, shifts, 2, channels, features)[:, ::-1, :, ::-1]
    pairs = pairs.transpose(0, 2, 4, 1, 3, 5).reshape(shifts * shifts * channels, 4 * features)
    around = (-first, shifts - 1 + first)
    x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
    patches = jnp.concatenate(
        [x[:, i : i + height, j : j + width] for i in range(shifts) for j in range(shifts)],
        axis=-1,
    )
    pixels = product(patches, pairs, precision)
    pixels = pixels.reshape(batch, height, width, 2, 2, features).transpose(0, 1, 3, 2, 4, 5)
    return pixels.reshape(batch, 2 * height, 2 * width, features)

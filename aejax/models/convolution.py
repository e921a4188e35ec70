"""Two-dimensional convolutions as matrix products over images stored with the batch last.

On a CPU XLA's own convolution, and above all its gradient, is several times slower than
matrix products. Here an image is [channels, height, width, B]: every shift is a slice of
whole runs of rows, and every product has the long axis last. Strides disappear into 2x2
blocks of pixels, which count as channels: a strided convolution reads blocks, a transposed
one writes them (the sub-pixel convolution of Shi et al., 2016, arXiv:1609.05158), and both
become a convolution of stride 1 over blocks whose kernel holds zeros.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from aejax.config import Precision

Resize = Literal["none", "stride", "transpose", "repeat"]
Offsets = tuple[int, ...]


def product(x: jax.Array, y: jax.Array, precision: Precision) -> jax.Array:
    """Matrix product of inputs rounded to `precision`, accumulated in float32."""
    stored, exactly = inputs_of(precision)
    # The accumulation type is asked for by name: a product from bfloat16 to bfloat16
    # is slow on a CPU.
    return jnp.dot(
        x.astype(stored), y.astype(stored), precision=exactly, preferred_element_type=jnp.float32
    )


def inputs_of(precision: Precision) -> tuple[str, jax.lax.Precision]:
    """The type in which a product's inputs are stored, and how exactly they are multiplied."""
    if precision == "float32":
        # By default a GPU multiplies float32 in TensorFloat-32, which changes the fourth digit
        # of a score (benchmarks/README.md, on an H100).
        return "float32", jax.lax.Precision.HIGHEST
    stored = "bfloat16" if precision == "bfloat16" else "float32"
    return stored, jax.lax.Precision.DEFAULT


def convolve_blocks(
    x: jax.Array, kernel: jax.Array, resize: Resize, precision: Precision
) -> jax.Array:
    """A convolution with "SAME" padding, from blocks to blocks.

    Args:
        x: float32 [s, s, in, h, w, B], blocks of s x s pixels; s is 1 or 2 where `resize` is
            "none" and 1 otherwise. Strided images are split into blocks here.
        kernel: float32 [k, k, in, out].
        resize: as in `layers.Conv`.
        precision: type of the inputs of the products.

    Returns:
        float32 [r, r, out, h', w', B]; r is s with "none", 1 with "stride" and 2 otherwise.
    """
    size = kernel.shape[0]
    befores = [_before(size, length, resize) for length in x.shape[3:5]]
    if resize == "stride":
        x = jnp.pad(x[0, 0], ((0, 0), *((0, length % 2) for length in x.shape[3:5]), (0, 0)))
        x = split(x)
    rows, row_table = _reads(size, befores[0], resize, x.shape[0])
    columns, column_table = _reads(size, befores[1], resize, x.shape[0])
    blocks = row_table.shape[2]
    kernel = jnp.einsum(
        "aijt,bklu,tuco->abjloikc", row_table, column_table, kernel, precision="highest"
    )
    channels, features = x.shape[2] * x.shape[0] ** 2, kernel.shape[4] * blocks**2
    kernel = kernel.reshape(len(rows), len(columns), features, channels)
    x = x.reshape(channels, *x.shape[3:])
    y = _slide(x, kernel, rows, columns, precision)
    return y.reshape(blocks, blocks, -1, *y.shape[1:])


def convolve_series(
    x: jax.Array, kernel: jax.Array, dilation: int, precision: Precision
) -> jax.Array:
    """A dilated convolution with "SAME" padding along a series: [in, n, B] to [out, n, B].

    Args:
        x: float32 [in, n, B].
        kernel: float32 [k, in, out], k odd.
        dilation: points from one of the kernel to the next.
        precision: type of the inputs of the products.
    """
    half = kernel.shape[0] // 2
    offsets = tuple(dilation * place for place in range(-half, half + 1))
    moved = kernel.transpose(0, 2, 1)[:, None]
    return _slide(x[:, :, None], moved, offsets, (0,), precision)[:, :, 0]


def _slide(
    x: jax.Array, kernel: jax.Array, rows: Offsets, columns: Offsets, precision: Precision
) -> jax.Array:
    """Sum over offsets of kernel[offset] @ x[moved by offset]: [c, h, w, B] to [f, h, w, B]."""
    features, channels = kernel.shape[2:]
    # Of the two orders, the one whose intermediate, k * k times an image, is smaller. The
    # kernel is laid out as the left side of its product: contracting its first axis instead
    # takes up to three times as long.
    if channels <= features:
        moved = gather(x, rows, columns).reshape(-1, x[0].size)
        matrix = kernel.transpose(2, 0, 1, 3).reshape(features, -1)
        return product(matrix, moved, precision).reshape(features, *x.shape[1:])
    maps = product(kernel.reshape(-1, channels), x.reshape(channels, -1), precision)
    return total(maps.reshape(len(rows), len(columns), features, *x.shape[1:]), rows, columns)


# XLA's own gradients of a slice and of a sum of slices are sums of padded arrays, which it
# computes element by element with a branch for each. The two maps below are each other's
# transposes, so each serves as the other's gradient and both only ever slice.


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather(x: jax.Array, rows: Offsets, columns: Offsets) -> jax.Array:
    """Moved copies of an image: [c, h, w, B] to [len(rows), len(columns), c, h, w, B]."""
    height, width = x.shape[1:3]
    across = (_margin(rows), _margin(columns))
    x = jnp.pad(x, ((0, 0), *across, (0, 0)))
    (top, _), (left, _) = across
    moved = jnp.stack([x[:, top + i :][:, :height] for i in rows])
    return jnp.stack([moved[:, :, :, left + j :][:, :, :, :width] for j in columns], axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def total(maps: jax.Array, rows: Offsets, columns: Offsets) -> jax.Array:
    """Sum of moved maps: [len(rows), len(columns), c, h, w, B] to [c, h, w, B]."""
    height, width = maps.shape[3:5]
    across = (_margin(rows), _margin(columns))
    maps = jnp.pad(maps, ((0, 0), (0, 0), (0, 0), *across, (0, 0)))
    moved = [
        maps[a, b, :, across[0][0] + i :, across[1][0] + j :][:, :height, :width]
        for a, i in enumerate(rows)
        for b, j in enumerate(columns)
    ]
    return sum(moved[1:], start=moved[0])


def _opposite(offsets: Offsets) -> Offsets:
    return tuple(-offset for offset in offsets)


gather.defvjp(
    lambda x, rows, columns: (gather(x, rows, columns), None),
    lambda rows, columns, _, moved: (total(moved, _opposite(rows), _opposite(columns)),),
)
total.defvjp(
    lambda maps, rows, columns: (total(maps, rows, columns), None),
    lambda rows, columns, _, x: (gather(x, _opposite(rows), _opposite(columns)),),
)


@jax.custom_vjp
def split(x: jax.Array) -> jax.Array:
    """An image into blocks of 2x2 pixels: [c, 2 h, 2 w, B] to [2, 2, c, h, w, B]."""
    pixels = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
    return jnp.stack(pixels).reshape(2, 2, *pixels[0].shape)


@jax.custom_vjp
def merge(x: jax.Array) -> jax.Array:
    """Blocks of 2x2 pixels into an image: [2, 2, c, h, w, B] to [c, 2 h, 2 w, B]."""
    channels, height, width, batch = x.shape[2:]
    # Stacking moves whole runs; a transpose is computed index by index.
    lines = [jnp.stack([x[i, 0], x[i, 1]], axis=3) for i in range(2)]
    return jnp.stack(lines, axis=2).reshape(channels, 2 * height, 2 * width, batch)


split.defvjp(lambda x: (split(x), None), lambda _, blocks: (merge(blocks),))
merge.defvjp(lambda x: (merge(x), None), lambda _, image: (split(image),))


def _margin(offsets: Offsets) -> tuple[int, int]:
    return max(0, -min(offsets)), max(0, max(offsets))


def _before(size: int, length: int, resize: Resize) -> int:
    """Zeros that "SAME" padding puts before an axis."""
    if resize == "transpose":
        return size - 1 if size < 3 else (size + 1) // 2
    stride = 2 if resize == "stride" else 1
    return max((-(-length // stride) - 1) * stride + size - length, 0) // 2


@functools.cache
def _reads(size: int, before: int, resize: Resize, blocks: int) -> tuple[Offsets, np.ndarray]:
    """Which block, and which pixel of it, each kernel position reads for each result pixel.

    Returns:
        The offsets of the blocks read, and float32 [offsets, source pixel, result pixel,
        kernel position] of zeros and ones.
    """
    results = {"none": blocks, "stride": 1}.get(resize, 2)
    reads: list[tuple[int, int, int, int]] = []
    for result in range(results):
        for position in range(size):
            source = result + position - before
            if resize == "stride":
                source = position - before
            elif resize == "transpose":
                if source % 2:
                    continue
                source //= 2
            elif resize == "repeat":
                source //= 2
            reads.append((*divmod(source, blocks), result, position))
    first, last = min(read[0] for read in reads), max(read[0] for read in reads)
    table = np.zeros((last - first + 1, blocks, results, size), np.float32)
    for offset, source, result, position in reads:
        table[offset - first, source, result, position] = 1
    return tuple(range(first, last + 1)), table

"""The networks and their row errors in float64 NumPy: what every system is compared with.

Written from the definitions, one loop over kernel positions for a convolution; shares
nothing with aejax and is far too slow for more than some hundred rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.cases import BATCH_NORM_EPSILON, Case, Layer, Weights

_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "linear": lambda x: x,
}


def scores(case: Case, weights: Weights, rows: np.ndarray) -> np.ndarray:
    """Mean squared reconstruction error of every row.

    Args:
        case: the network.
        weights: its weights.
        rows: [n, *shape]; integers stand for themselves divided by their type's maximum.

    Returns:
        float64 [n].
    """
    x = rows.astype(np.float64)
    if np.issubdtype(rows.dtype, np.integer):
        x /= np.iinfo(rows.dtype).max
    y = reconstruct(case, weights, x)
    return np.square(x - y).reshape(len(x), -1).mean(axis=1)


def reconstruct(case: Case, weights: Weights, x: np.ndarray) -> np.ndarray:
    """Reconstructions, float64 [n, *shape], of scaled rows of that shape."""
    for layer, arrays in zip(case.layers, weights, strict=True):
        x = _apply(layer, arrays, x)
    return x


def negative_elbo(case: Case, weights: Weights, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """What a variational autoencoder minimises, for every row, in nats.

    -log p(x | mean + deviation * noise) of Bernoulli features, and the divergence of the
    posterior from the standard normal prior (Kingma and Welling, "Auto-encoding variational
    Bayes", 2014, equation 10).

    Args:
        case: the network.
        weights: its weights.
        x: rows, [n, features], in [0, 1].
        noise: standard normal, [n, latent].

    Returns:
        float64 [n].
    """
    assert case.posterior is not None
    hidden = x.astype(np.float64)
    for layer, arrays in zip(case.layers[: case.posterior], weights, strict=False):
        hidden = _apply(layer, arrays, hidden)
    posterior = {k: v.astype(np.float64) for k, v in weights[case.posterior].items()}
    mean = hidden @ posterior["kernel"] + posterior["bias"]
    log_variance = hidden @ posterior["log_variance_kernel"] + posterior["log_variance_bias"]
    y = mean + np.exp(log_variance / 2) * noise
    rest = slice(case.posterior + 1, None)
    for layer, arrays in zip(case.layers[rest], weights[rest], strict=True):
        y = _apply(layer, arrays, y)
    nats = -(x * np.log(y) + (1 - x) * np.log(1 - y)).sum(axis=1)
    return nats + (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1) / 2


def _apply(layer: Layer, arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    if layer.kind in ("dense", "posterior"):
        return x @ w["kernel"] + w["bias"]
    if layer.kind == "batch_norm":
        return (x - w["mean"]) / np.sqrt(w["var"] + BATCH_NORM_EPSILON) * w["scale"] + w["bias"]
    if layer.kind == "conv":
        return _convolve(x, w["kernel"], layer.stride, layer.shape_out) + w["bias"]
    if layer.kind == "conv_transpose":
        return _convolve_transpose(x, w["kernel"], layer.stride, layer.shape_out) + w["bias"]
    if layer.kind == "max_pool":
        n, height, width, channels = x.shape
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    if layer.kind == "upsample":
        return x.repeat(2, axis=1).repeat(2, axis=2)
    return _FUNCTIONS[layer.function](x)


def _convolve(x: np.ndarray, kernel: np.ndarray, stride: int, shape: tuple[int, ...]) -> np.ndarray:
    """y[i] = sum over t of kernel[t] x[stride i + t - before], zeros outside ("SAME")."""
    size = len(kernel)
    height, width = shape[:2]
    pads = [
        max((out - 1) * stride + size - found, 0)
        for out, found in zip((height, width), x.shape[1:3], strict=True)
    ]
    x = np.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
    y = np.zeros((len(x), *shape))
    for i in range(size):
        for j in range(size):
            seen = x[:, i : i + stride * height : stride, j : j + stride * width : stride]
            y += np.einsum("nhwc,cd->nhwd", seen[:, :height, :width], kernel[i, j])
    return y


def _convolve_transpose(
    x: np.ndarray, kernel: np.ndarray, stride: int, shape: tuple[int, ...]
) -> np.ndarray:
    """y[stride i + before - t] += kernel[t] x[i], as `flax.linen.ConvTranspose` with "SAME" has it.

    There "before" is ceil((size + stride - 2) / 2) zeros ahead of the spread-out image, and
    one less than the size where the stride is as wide as the kernel or wider.
    """
    size = len(kernel)
    before = size - 1 if stride > size - 1 else -(-(size + stride - 2) // 2)
    height, width = shape[:2]
    y = np.zeros((len(x), *shape))
    for i in range(size):
        for j in range(size):
            spread = np.einsum("nhwc,cd->nhwd", x, kernel[i, j])
            for row in range(x.shape[1]):
                for column in range(x.shape[2]):
                    to_row, to_column = stride * row + before - i, stride * column + before - j
                    if 0 <= to_row < height and 0 <= to_column < width:
                        y[:, to_row, to_column] += spread[:, row, column]
    return y

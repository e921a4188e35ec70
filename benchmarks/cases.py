"""What is measured: networks, their given weights, rows, and the work that one row takes.

A network is described once, as a list of layers that knows no library. Every system builds
its own form of it from the same weights, and `reference.py` computes it in float64.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from aejax import Conv, Dense, SuperResolution, Variational

Weights = list[dict[str, np.ndarray]]
Model = Dense | Conv | SuperResolution | Variational
# "posterior" is a dense layer that gives the mean of a normal distribution. Its second kernel
# gives the log variance, which training needs and a score at the mean doesn't.
Kind = Literal[
    "dense", "conv", "conv_transpose", "batch_norm", "activation", "max_pool", "upsample",
    "posterior",
]  # fmt: skip
# The constants of Keras' layer, which aejax shares.
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.99


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a network.

    Attributes:
        kind: what it does.
        shape_in: of one row's values before it.
        shape_out: of one row's values after it.
        kernel: height and width of a convolution's kernel, in pixels.
        stride: of a convolution, in pixels.
        function: of an activation.
    """

    kind: Kind
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    kernel: int = 0
    stride: int = 1
    function: str = "linear"

    @property
    def flops(self) -> int:
        """Multiplications and additions of its products for one row; the rest is left out."""
        if self.kind in ("dense", "posterior"):
            return 2 * self.shape_in[0] * self.shape_out[0]
        if self.kind in ("conv", "conv_transpose"):
            # A transposed convolution multiplies once for each pixel that goes in.
            pixels = self.shape_in[:2] if self.kind == "conv_transpose" else self.shape_out[:2]
            channels = self.shape_in[-1] * self.shape_out[-1]
            return 2 * self.kernel**2 * channels * math.prod(pixels)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A network and the rows it is measured on.

    Attributes:
        name: as given to `--models`.
        title: what it is and where it comes from.
        model: its settings in aejax.
        shape: of one row.
        scoring_rows: rows that a scoring run takes, unless `--rows` says otherwise.
        train_rows: rows of the training set.
        epochs: passes over the training set in a timed run.
        batch_sizes: of training; each is measured by itself.
        noise: standard deviation of the noise added to training inputs (denoisers).
        pixels: whether a row is a picture, which people store as uint8.
    """

    name: str
    title: str
    model: Model
    shape: tuple[int, ...]
    scoring_rows: int = 131_072
    train_rows: int
    epochs: int = 1
    batch_sizes: tuple[int, ...]
    noise: float = 0.0
    pixels: bool = False

    @property
    def is_image(self) -> bool:
        """Whether rows are images [height, width, channels]."""
        return len(self.shape) == 3

    @property
    def in_unit_range(self) -> bool:
        """Whether rows lie in [0, 1], as a sigmoid's do."""
        model = self.model.network if isinstance(self.model, Variational) else self.model
        return model.output == "sigmoid"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The network, layer by layer."""
        return _layers(self.model, self.shape)

    @property
    def posterior(self) -> int | None:
        """Place of the posterior among the layers of a variational autoencoder; else None."""
        places = [index for index, layer in enumerate(self.layers) if layer.kind == "posterior"]
        return places[0] if places else None

    @property
    def score_flops(self) -> int:
        """Operations of the products that score one row."""
        return sum(layer.flops for layer in self.layers)

    @property
    def train_flops(self) -> int:
        """The same for one row in one training step.

        A gradient costs a product for the weights and one for the inputs, which the first
        layer does without. A posterior multiplies twice, for mean and log variance.
        """
        times = {"posterior": 2}
        flops = [layer.flops * times.get(layer.kind, 1) for layer in self.layers]
        products = [product for product in flops if product]
        return 3 * sum(products) - products[0]

    def row_bytes(self, dtype: str) -> int:
        """Bytes that must be read for one row, and the 4 that are written for its score."""
        return math.prod(self.shape) * np.dtype(dtype).itemsize + 4


def _layers(model: Model, shape: tuple[int, ...]) -> tuple[Layer, ...]:
    layers: list[Layer] = []

    def add(kind: Kind, out: tuple[int, ...], **more: int | str) -> None:
        layers.append(Layer(kind=kind, shape_in=here(), shape_out=out, **more))  # type: ignore[arg-type]

    def here() -> tuple[int, ...]:
        return layers[-1].shape_out if layers else shape

    if isinstance(model, Variational):
        return _variational(model, shape)
    if isinstance(model, Dense):
        decoder = model.hidden[-2::-1] if model.decoder is None else model.decoder
        for width in (*model.hidden, *decoder):
            add("dense", (width,))
            if model.batch_norm:
                add("batch_norm", here())
            add("activation", here(), function=model.activation)
        add("dense", (math.prod(shape),))
        add("activation", here(), function=model.output)
        return tuple(layers)

    def hidden(kind: Kind, out: tuple[int, ...], stride: int) -> None:
        add(kind, out, kernel=model.kernel, stride=stride)
        add("activation", out, function=model.activation)
        if model.batch_norm:
            add("batch_norm", out)

    if isinstance(model, SuperResolution):
        for _ in range(model.levels):
            height, columns, channels = here()
            add("max_pool", (height // 2, columns // 2, channels))
        for _ in range(model.levels):
            height, columns, channels = here()
            add("upsample", (2 * height, 2 * columns, channels))
            for _ in range(model.convolutions):
                hidden("conv", (2 * height, 2 * columns, model.channels), 1)
        add("conv", shape, kernel=model.kernel)
        add("activation", shape, function=model.output)
        return tuple(layers)

    for width in model.channels:
        height, columns, _ = here()
        half = (height // 2, columns // 2, width)
        if model.down == "stride":
            hidden("conv", half, 2)
        else:
            hidden("conv", (height, columns, width), 1)
            add("max_pool", half)
    for width in model.channels[::-1]:
        height, columns, _ = here()
        double = (2 * height, 2 * columns, width)
        if model.down == "stride":
            hidden("conv_transpose", double, 2)
        else:
            hidden("conv", (height, columns, width), 1)
            add("upsample", double)
    if model.down == "pool":
        hidden("conv", (*here()[:2], model.channels[0]), 1)
    add("conv", (*here()[:2], shape[-1]), kernel=model.kernel)
    add("activation", here(), function=model.output)
    return tuple(layers)


def _variational(model: Variational, shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """A dense autoencoder's layers with the posterior, and a layer after it, in the middle."""
    network = model.network
    if not isinstance(network, Dense) or network.batch_norm:
        raise ValueError(f"no benchmark of a variational autoencoder around {network}")
    layers = _layers(network, shape)
    # A product and an activation for every hidden width.
    before, after = layers[: 2 * len(network.hidden)], layers[2 * len(network.hidden) :]
    body, latent = before[-1].shape_out, (model.latent,)
    middle = (
        Layer(kind="posterior", shape_in=body, shape_out=latent),
        Layer(kind="dense", shape_in=latent, shape_out=body),
        Layer(kind="activation", shape_in=body, shape_out=body, function=network.activation),
    )
    return (*before, *middle, *after)


def make_weights(case: Case, *, seed: int = 0, trained: bool = True) -> Weights:
    """Weights of every layer; empty for layers that have none.

    Kernels are drawn as Keras draws them (Glorot uniform) and laid out as in Flax: [in, out]
    and [height, width, in, out], a transposed convolution's as in `flax.linen.ConvTranspose`.

    Args:
        case: whose.
        seed: of everything random.
        trained: draw biases and batch statistics too, as after training; else as before it.
    """
    random = np.random.default_rng([seed, 1])
    weights: Weights = []
    for layer in case.layers:
        width = layer.shape_out[-1]
        if layer.kind == "batch_norm":
            drawn = {
                "scale": random.uniform(0.5, 1.5, width),
                "bias": random.normal(0, 0.1, width),
                "mean": random.normal(0, 0.1, width),
                "var": random.uniform(0.5, 1.5, width),
            }
            fresh = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}
            found = drawn if trained else {k: np.full(width, v) for k, v in fresh.items()}
        elif layer.flops:
            size = () if layer.kind in ("dense", "posterior") else (layer.kernel, layer.kernel)
            fan_in, fan_out = (math.prod(size) * n for n in (layer.shape_in[-1], width))
            limit = math.sqrt(6 / (fan_in + fan_out))
            bias = random.normal(0, 0.05, width)
            found = {
                "kernel": random.uniform(-limit, limit, (*size, layer.shape_in[-1], width)),
                "bias": bias if trained else np.zeros(width),
            }
            if layer.kind == "posterior":
                second = random.uniform(-limit, limit, (layer.shape_in[-1], width))
                found |= {"log_variance_kernel": second, "log_variance_bias": np.zeros(width)}
        else:
            found = {}
        weights.append({name: value.astype(np.float32) for name, value in found.items()})
    return weights


def make_rows(case: Case, rows: int, *, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Rows with eight hidden causes and some noise, so that training has something to find.

    Args:
        case: whose.
        rows: how many.
        dtype: "float32", or "uint8" for rows in [0, 1] stored as 0 to 255.
        seed: of everything random.

    Returns:
        [rows, *shape]; float32 rows in [0, 1] are the uint8 ones divided by 255.
    """
    if dtype != "float32" and not case.in_unit_range:
        raise ValueError(f"rows of {case.name} have no {dtype} form")
    random = np.random.default_rng([seed, 2])
    features = math.prod(case.shape)
    mixing = random.normal(size=(8, features)).astype(np.float32)
    out = np.empty((rows, features), dtype)
    for first in range(0, rows, 8192):
        part = out[first : first + 8192]
        causes = random.standard_normal((len(part), 8), np.float32)
        values = causes @ mixing / np.sqrt(np.float32(8))
        values += 0.1 * random.standard_normal(values.shape, np.float32)
        if case.in_unit_range:
            stored = (255 / (1 + np.exp(-2 * values))).round().astype(np.uint8)
            part[:] = stored if dtype == "uint8" else stored / np.float32(255)
        else:
            part[:] = values
    return out.reshape(rows, *case.shape)


_CASES = (
    Case(
        name="dense",
        title="784-64-784, the TensorFlow tutorial's first autoencoder",
        model=Dense(hidden=(64,), output="sigmoid"),
        shape=(784,),
        train_rows=60_000,
        batch_sizes=(32,),
        pixels=True,
    ),
    Case(
        name="ecg",
        title="140-32-16-8-16-32-140, the TensorFlow tutorial's ECG model",
        model=Dense(hidden=(32, 16, 8), output="sigmoid"),
        shape=(140,),
        train_rows=2_359,
        epochs=20,
        batch_sizes=(512,),
    ),
    Case(
        name="mlperf",
        title="640-128x4-8-128x4-640 with BatchNorm, MLPerf Tiny anomaly detection",
        model=Dense(hidden=(128, 128, 128, 128, 8), batch_norm=True),
        shape=(640,),
        train_rows=32_768,
        batch_sizes=(512,),
    ),
    Case(
        name="wide",
        title="1024-2048-512-64-512-2048-1024",
        model=Dense(hidden=(2048, 512, 64)),
        shape=(1024,),
        scoring_rows=16_384,
        train_rows=8_192,
        batch_sizes=(512,),
    ),
    Case(
        name="denoiser",
        title="strided convolutions (16, 8) on 28x28x1, the TensorFlow tutorial's denoiser",
        model=Conv(channels=(16, 8), down="stride"),
        shape=(28, 28, 1),
        scoring_rows=16_384,
        train_rows=8_192,
        batch_sizes=(32, 128),
        noise=0.2,
        pixels=True,
    ),
    Case(
        name="pooled",
        title="pooled convolutions (8, 8) with BatchNorm on 28x28x1",
        model=Conv(channels=(8, 8), down="pool", batch_norm=True),
        shape=(28, 28, 1),
        scoring_rows=8_192,
        train_rows=4_096,
        batch_sizes=(128,),
        pixels=True,
    ),
    Case(
        name="vae",
        title="784-500-20-500-784, the variational autoencoder, scored at its posterior's mean",
        model=Variational(network=Dense(hidden=(500,), output="sigmoid"), latent=20),
        shape=(784,),
        scoring_rows=32_768,
        train_rows=16_384,
        batch_sizes=(128,),
        pixels=True,
    ),
    Case(
        name="superres",
        title="28x28x1 shrunk to 7x7x1 and restored by two levels of two convolutions (8)",
        model=SuperResolution(levels=2, convolutions=2, channels=8),
        shape=(28, 28, 1),
        scoring_rows=8_192,
        train_rows=4_096,
        batch_sizes=(128,),
        pixels=True,
    ),
)
CASES = {case.name: case for case in _CASES}

"""The networks."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from aejax.config.checks import (
    InputError,
    check,
    check_choices,
    check_counts,
    check_sizes,
    is_count,
    is_number,
)

# Values in a batch: small enough that a batch and its reconstruction stay in cache.
BATCH_VALUES = 1 << 22
# Of wide layers the weights, which every batch reads anew, count more than the cache does:
# 4,096 rows of 1024-2048-512-64-512-2048-1024 score 1.1 times as fast as 2,048 in float32 and
# 1.5 times in bfloat16.
WIDE, WIDE_BATCH_VALUES = 1024, 1 << 23
# Convolutions keep many copies of their widest layer at once: 128 rows of a 28x28 image with
# 16 channels score half again as fast as 512 on a CPU with 2 MiB of cache a core.
CONV_BATCH_VALUES = 1 << 21

Activation = Literal["relu", "gelu", "silu", "tanh", "sigmoid", "linear"]


class NetworkSettings:
    """What is to be known of a built-in network before it is built.

    Attributes:
        reconstructs: whether it gives rows of the shape that it takes.
        own_score: name of the score of a network that reconstructs nothing.
        learns_classes: whether it is trained on each row's class.
        dropout: share of hidden units that are dropped while it trains.
        likelihood: of a feature given its reconstruction, of models of one.
        numbers: how many whole numbers, from 0 on, its rows are made of; None takes any values.
        generates: whether latent values can be drawn from a prior, and decoded.
        takes_levels: whether it is given the level of the noise that it removes.
    """

    reconstructs: ClassVar[bool] = True
    learns_classes: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    takes_levels: ClassVar[bool] = False
    dropout = 0.0
    likelihood: str | None = None

    @property
    def numbers(self) -> int | None:
        """See the class."""
        return None

    def widest(self, features: int) -> int:
        """Values of the widest layer for one row of so many."""
        return features

    def batch_values(self, widest: int) -> int:
        """Values of the widest layer that a scoring batch should hold, to stay in a CPU's cache."""
        return BATCH_VALUES

    @property
    def own_score(self) -> str | None:
        """See the class."""
        return None

    def without_dropout(self) -> NetworkSettings:
        """The same network, whose training is over."""
        return self


class _AroundNetwork(NetworkSettings):
    """Settings of a network that is made around an inner one, whose units are dropped."""

    network: Dense | Conv

    @property
    def dropout(self) -> float:  # type: ignore[override]
        """The inner network's rate."""
        return self.network.dropout

    def widest(self, features: int) -> int:
        """Values of the inner network's widest layer."""
        return self.network.widest(features)

    def batch_values(self, widest: int) -> int:
        """The inner network's values of a batch."""
        return self.network.batch_values(widest)

    def without_dropout(self) -> NetworkSettings:
        """With an inner network whose training is over."""
        inner = self.network.without_dropout()
        return dataclasses.replace(self, network=inner)  # type: ignore[type-var, no-any-return]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense(NetworkSettings):
    """A fully connected autoencoder; rows of any shape are flattened and restored.

    Args:
        hidden: widths of the hidden layers from the input to the latent layer.
        decoder: widths of the hidden layers after the latent one; None mirrors `hidden`.
        activation: after every hidden layer.
        output: after the last layer; "sigmoid" needs rows scaled to [0, 1].
        batch_norm: normalise every hidden layer over the batch (before the activation).
        dropout: share of hidden units dropped while training, in [0, 1).

    Example:
        >>> aejax.Config(model=aejax.Dense(hidden=(32, 8), activation="gelu")).model.hidden
        (32, 8)
    """

    hidden: tuple[int, ...] = (128, 64)
    decoder: tuple[int, ...] | None = None
    activation: Activation = "relu"
    output: Activation = "linear"
    batch_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_sizes(self, "hidden")
        if self.decoder is not None:
            check_sizes(self, "decoder", at_least=0)
        check(
            self,
            "dropout",
            "a number in [0, 1)",
            is_number(self.dropout) and 0 <= self.dropout < 1,
        )

    @property
    def depth(self) -> int:
        """Layers of the encoder."""
        return len(self.hidden)

    def widest(self, features: int) -> int:
        """Units of the widest hidden layer, or values of the row."""
        return max(features, *self.hidden, *(self.decoder or ()))

    def batch_values(self, widest: int) -> int:
        """More of wide layers, whose weights every batch reads anew."""
        return WIDE_BATCH_VALUES if widest > WIDE else BATCH_VALUES

    def without_dropout(self) -> Dense:
        """The same network, whose training is over."""
        return dataclasses.replace(self, dropout=0.0)


def _check_kernel(settings: Conv | Temporal | SuperResolution) -> None:
    odd = is_count(settings.kernel) and settings.kernel % 2 == 1
    check(settings, "kernel", "an odd whole number, at least 1", odd)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conv(NetworkSettings):
    """A convolutional autoencoder for images of shape [height, width, channels].

    "stride": strided convolutions down and strided transposed convolutions up, then
    one convolution to the image's channels (the TensorFlow tutorial's denoiser).
    "pool": convolution and 2x2 max-pooling down, convolution and 2x nearest
    up-sampling up, one more convolution, then one to the image's channels.

    Args:
        channels: channels of each level going down; mirrored going up. Height and
            width must be divisible by 2 to the number of levels.
        kernel: height and width of every kernel, in pixels.
        down: how each level halves the image.
        activation: after every hidden convolution.
        output: after the last convolution.
        batch_norm: normalise after the activation of every hidden convolution.

    Example:
        >>> aejax.Config(model=aejax.Conv(channels=(16, 8), down="stride")).model.channels
        (16, 8)
    """

    channels: tuple[int, ...] = (16, 8)
    kernel: int = 3
    down: Literal["stride", "pool"] = "stride"
    activation: Activation = "relu"
    output: Activation = "sigmoid"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        check_sizes(self, "channels")
        _check_kernel(self)

    @property
    def depth(self) -> int:
        """Layers of the encoder."""
        return len(self.channels)

    def widest(self, features: int) -> int:
        """Values of the widest layer at full size."""
        return features * max(self.channels)

    def batch_values(self, widest: int) -> int:
        """Fewer, because convolutions keep many copies of their widest layer at once."""
        return CONV_BATCH_VALUES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Temporal(NetworkSettings):
    """A temporal convolutional autoencoder of windows of a series, [points, channels].

    Convolutions along the window see ever farther (dilations 1, 2, 4, ...); the latent series has a
    few channels, and one value for several points (Thill, Konen, Wang and Baeck, "Temporal
    convolutional autoencoder for unsupervised anomaly detection in time series", Applied Soft
    Computing 112, 2021).

    Args:
        channels: channels of each convolution going down; mirrored going up.
        kernel: points of every kernel.
        latent: channels of the latent series.
        pool: points that share a latent value, their mean.
        activation: after every hidden convolution.
        output: after the last convolution.

    Example:
        >>> window = aejax.Window(length=64)
        >>> aejax.Config(model=aejax.Temporal(channels=(16, 16)), window=window).model.latent
        4
    """

    channels: tuple[int, ...] = (16, 16, 16)
    kernel: int = 5
    latent: int = 4
    pool: int = 16
    activation: Activation = "relu"
    output: Activation = "linear"

    def __post_init__(self) -> None:
        check_choices(self)
        check_sizes(self, "channels")
        _check_kernel(self)
        check_counts(self, "latent", "pool")

    def widest(self, features: int) -> int:
        """Values of the widest layer, of a series of one channel."""
        return features * max(self.channels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolution(NetworkSettings):
    """A network that sees an image shrunk by max-pooling and restores it level by level.

    Each level doubles the image (nearest neighbour) and convolves it; one more convolution
    gives the image's channels. Its latent values are the shrunk image.

    Args:
        levels: how often the image is halved and doubled; height and width must be
            divisible by 2 to this number.
        convolutions: convolutions in each level.
        channels: channels of every hidden convolution.
        kernel: height and width of every kernel, in pixels.
        activation: after every hidden convolution.
        output: after the last convolution.
        batch_norm: normalise after the activation of every hidden convolution.

    Example:
        >>> aejax.Config(model=aejax.SuperResolution(levels=2)).model.levels
        2
    """

    levels: int = 2
    convolutions: int = 2
    channels: int = 8
    kernel: int = 3
    activation: Activation = "relu"
    output: Activation = "sigmoid"
    batch_norm: bool = True

    def __post_init__(self) -> None:
        check_choices(self)
        check_counts(self, "levels", "convolutions", "channels")
        _check_kernel(self)

    def widest(self, features: int) -> int:
        """Values of the widest layer at full size."""
        return features * self.channels

    def batch_values(self, widest: int) -> int:
        """Fewer still: with two convolutions on every level their patches leave the cache."""
        return CONV_BATCH_VALUES // 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variational(_AroundNetwork):
    """A variational autoencoder (Kingma and Welling, "Auto-encoding variational Bayes", 2014).

    The network's encoder gives mean and log variance of a normal posterior, a sample of
    which its decoder turns into a reconstruction; `Train.beta` weighs the divergence from
    the standard normal prior.

    Args:
        network: encoder and decoder around the latent layer; its last hidden layer comes
            before the latent one.
        latent: dimensions of the latent space.
        likelihood: of a feature given its reconstruction: "bernoulli" (values in [0, 1];
            the network's `output` has to be "sigmoid") or "normal" (variance 1).
        samples: how many latent samples scores draw that need some; the same for all rows,
            so a row's score depends on nothing but the row.

    Example:
        >>> model, scale = aejax.Variational(latent=2), aejax.Scale(kind="min-max-all")
        >>> aejax.Config(model=model, scale=scale, score="negative-elbo").model.latent
        2
    """

    generates: ClassVar[bool] = True

    network: Dense | Conv = Dense(hidden=(500,), output="sigmoid")
    latent: int = 20
    likelihood: Literal["bernoulli", "normal"] = "bernoulli"
    samples: int = 16

    def __post_init__(self) -> None:
        check_choices(self)
        check(self, "network", "Dense or Conv", isinstance(self.network, Dense | Conv))
        check_counts(self, "latent", "samples")
        if self.likelihood == "bernoulli" and self.network.output != "sigmoid":
            raise InputError(
                f"Variational.network.output is {self.network.output!r}; "
                "allowed: 'sigmoid' with likelihood 'bernoulli'"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseConditioned(_AroundNetwork):
    """A denoising autoencoder that is given the level of the noise that it is to remove.

    The level is drawn anew for every row of every batch, the score "noise-levels" averages over
    several (Sattarov et al., "Diffusion-scheduled denoising autoencoders for anomaly detection in
    tabular data", KDD 2025). Levels are standard deviations in scaled units, so `Scale` should
    give features a standard deviation near 1. `Train.noise` isn't needed beside it.

    Args:
        network: takes the row with two values of the level after it.
        lowest: least level; rows are reconstructed as they are at this one.
        highest: largest level.
        levels: how many levels "noise-levels" averages over; its cost grows with them.

    Example:
        >>> aejax.Config(model=aejax.NoiseConditioned(levels=4)).model.levels
        4
    """

    takes_levels: ClassVar[bool] = True

    network: Dense = Dense(hidden=(128, 128), decoder=())
    lowest: float = 0.05
    highest: float = 1.0
    levels: int = 8

    def __post_init__(self) -> None:
        check(self, "network", "Dense", isinstance(self.network, Dense))
        positive = is_number(self.lowest) and self.lowest > 0
        check(self, "lowest", "a number above 0", positive)
        above = is_number(self.highest) and self.highest > self.lowest
        check(self, "highest", f"a number above lowest = {self.lowest:g}", above)
        check_counts(self, "levels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(_AroundNetwork):
    """A network that names a row's class; trained on labels given as `targets`.

    It is an autoencoder's encoder with one more layer, so a trained encoder can be put in
    its place. As a detector it scores a row by the log-odds of class 1 against class 0
    where there are two classes; where there are more, by how little it trusts the class it
    finds likeliest: 1 minus that probability (Hendrycks and Gimpel, "A baseline for
    detecting misclassified and out-of-distribution examples", 2017).

    Args:
        network: of which the encoder is taken.
        classes: how many; labels are 0 to classes - 1.

    Example:
        >>> aejax.Classifier(network=aejax.Dense(hidden=(32,)), classes=10).classes
        10
    """

    reconstructs: ClassVar[bool] = False
    learns_classes: ClassVar[bool] = True

    network: Dense | Conv = Dense(hidden=(32, 32))
    classes: int = 10

    @property
    def own_score(self) -> str:
        """The log-odds of class 1, or how little the likeliest of many classes is trusted."""
        return "log-odds" if self.classes == 2 else "distrust"

    def __post_init__(self) -> None:
        check(self, "network", "Dense or Conv", isinstance(self.network, Dense | Conv))
        many = is_count(self.classes) and self.classes >= 2
        check(self, "classes", "a whole number, at least 2", many)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context(NetworkSettings):
    """A model that predicts an event, or a word, from those around it (continuous bag of words).

    A row is a window of 2 * window + 1 whole numbers, the one to predict in the middle; 0
    stands for what lies outside the text. The sum of the neighbours' embeddings predicts
    the middle one; a row's score is its surprise, -log of its probability, in nats (Mikolov
    et al., "Efficient estimation of word representations in vector space", 2013).

    Args:
        vocabulary: how many numbers there are, with 0.
        window: neighbours seen on each side.
        width: dimensions of an embedding.
        hidden: widths of layers between the sum and the prediction; none in the published model.
        combine: how the neighbours' embeddings become one.
        positions: how many of the nearest neighbours on each side also add an embedding of
            their position; 0, as published, sees which neighbours there are and not their
            order.
        negatives: 0 compares with the whole vocabulary; otherwise training compares with so
            many random words (negative sampling, Mikolov et al., "Distributed representations
            of words and phrases and their compositionality", 2013), which is faster for large
            vocabularies. Numbers have to go by frequency then, the most frequent first.

    Example:
        >>> aejax.Config(model=aejax.Context(vocabulary=3274, window=4, width=64)).model.width
        64
    """

    reconstructs: ClassVar[bool] = False

    vocabulary: int = 1000
    window: int = 2
    width: int = 32
    hidden: tuple[int, ...] = ()
    combine: Literal["sum", "mean"] = "sum"
    positions: int = 0
    negatives: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        many = is_count(self.vocabulary) and self.vocabulary >= 2
        check(self, "vocabulary", "a whole number, at least 2", many)
        check_sizes(self, "hidden", at_least=0)
        check_counts(self, "window", "width")
        fits = self._is_whole("positions") and self.positions <= self.window
        check(self, "positions", "a whole number from 0 to the window", fits)
        check(self, "negatives", "a whole number, at least 0", self._is_whole("negatives"))

    @property
    def own_score(self) -> str:
        """The surprise of the middle of a window."""
        return "surprise"

    @property
    def numbers(self) -> int:
        """Its vocabulary."""
        return self.vocabulary

    def widest(self, features: int) -> int:
        """The largest of the vocabulary, the context and the layers."""
        return max(self.vocabulary, 2 * self.window * self.width, *self.hidden, 1)

    def _is_whole(self, name: str) -> bool:
        value = getattr(self, name)
        return is_count(value) or (type(value) is int and value == 0)


Model = (
    Dense
    | Conv
    | Temporal
    | SuperResolution
    | Variational
    | NoiseConditioned
    | Classifier
    | Context
)
MODELS: dict[str, type[NetworkSettings]] = {
    "dense": Dense,
    "conv": Conv,
    "temporal": Temporal,
    "super-resolution": SuperResolution,
    "variational": Variational,
    "noise-conditioned": NoiseConditioned,
    "classifier": Classifier,
    "context": Context,
}

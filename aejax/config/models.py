"""The networks."""

from __future__ import annotations

import dataclasses
from typing import Literal

from aejax.config.checks import (
    InputError,
    check,
    check_choices,
    check_sizes,
    is_count,
    is_number,
)

Activation = Literal["relu", "gelu", "silu", "tanh", "sigmoid", "linear"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense:
    """A fully connected autoencoder; rows of any shape are flattened and restored.

    Args:
        hidden: widths of the hidden layers from the input to the latent layer.
        decoder: widths of the hidden layers after the latent one; None mirrors `hidden`.
        activation: after every hidden layer.
        output: after the last layer; "sigmoid" needs rows scaled to [0, 1].
        batch_norm: normalise every hidden layer over the batch (before the activation).
        dropout: share of hidden units dropped while training, in [0, 1).
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conv:
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
        odd = is_count(self.kernel) and self.kernel % 2 == 1
        check(self, "kernel", "an odd whole number, at least 1", odd)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolution:
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
        for name in ("levels", "convolutions", "channels"):
            check(self, name, "a whole number, at least 1", is_count(getattr(self, name)))
        odd = is_count(self.kernel) and self.kernel % 2 == 1
        check(self, "kernel", "an odd whole number, at least 1", odd)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variational:
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
    """

    network: Dense | Conv = Dense(hidden=(500,), output="sigmoid")
    latent: int = 20
    likelihood: Literal["bernoulli", "normal"] = "bernoulli"
    samples: int = 16

    def __post_init__(self) -> None:
        check_choices(self)
        check(self, "network", "Dense or Conv", isinstance(self.network, Dense | Conv))
        for name in ("latent", "samples"):
            check(self, name, "a whole number, at least 1", is_count(getattr(self, name)))
        if self.likelihood == "bernoulli" and self.network.output != "sigmoid":
            raise InputError(
                f"Variational.network.output is {self.network.output!r}; "
                "allowed: 'sigmoid' with likelihood 'bernoulli'"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """A network that names a row's class; trained on labels given as `targets`.

    It is an autoencoder's encoder with one more layer, so a trained encoder can be put in
    its place. As a detector it scores a row by the log-odds of class 1 against class 0
    where there are two classes; where there are more, by how little it trusts the class it
    finds likeliest: 1 minus that probability (Hendrycks and Gimpel, "A baseline for
    detecting misclassified and out-of-distribution examples", 2017).

    Args:
        network: of which the encoder is taken.
        classes: how many; labels are 0 to classes - 1.
    """

    network: Dense | Conv = Dense(hidden=(32, 32))
    classes: int = 10

    def __post_init__(self) -> None:
        check(self, "network", "Dense or Conv", isinstance(self.network, Dense | Conv))
        many = is_count(self.classes) and self.classes >= 2
        check(self, "classes", "a whole number, at least 2", many)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
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
    """

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
        for name in ("window", "width"):
            check(self, name, "a whole number, at least 1", is_count(getattr(self, name)))
        fits = self._is_whole("positions") and self.positions <= self.window
        check(self, "positions", "a whole number from 0 to the window", fits)
        check(self, "negatives", "a whole number, at least 0", self._is_whole("negatives"))

    def _is_whole(self, name: str) -> bool:
        value = getattr(self, name)
        return is_count(value) or (type(value) is int and value == 0)


Model = Dense | Conv | SuperResolution | Variational | Classifier | Context
MODELS: dict[str, type] = {
    "dense": Dense,
    "conv": Conv,
    "super-resolution": SuperResolution,
    "variational": Variational,
    "classifier": Classifier,
    "context": Context,
}


def dropout_of(model: Model) -> float:
    """Share of hidden units that a model drops while training; 0 of those that drop none."""
    network = model.network if isinstance(model, Variational | Classifier) else model
    return network.dropout if isinstance(network, Dense) else 0.0


def without_dropout(model: Model) -> Model:
    """A model that drops no units: what is left of it when its training is over."""
    if isinstance(model, Dense):
        return dataclasses.replace(model, dropout=0.0)
    if isinstance(model, Variational | Classifier) and isinstance(model.network, Dense):
        return dataclasses.replace(model, network=dataclasses.replace(model.network, dropout=0.0))
    return model

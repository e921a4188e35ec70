"""The context model: the middle of a window from its neighbours (Mikolov et al. 2013)."""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax import config
from aejax.config import InputError, Precision
from aejax.data.schema import Schema
from aejax.models import layers
from aejax.models.convolution import product
from aejax.models.heads import refuse_mixed
from aejax.models.network import LinenNetwork, Variables

# A random word of rank r is drawn in proportion to r ** -0.75: Zipf's law, to the power that
# Mikolov et al. (the second paper of 2013, section 2.2) raise the words' frequencies to.
ZIPF = 0.75
# Logarithm of a probability that is as good as 0, and that differences can be taken of.
NEVER = -1e9


class ContextPredictor(nn.Module):
    """Predicts the middle of a window from the sum of its neighbours' embeddings.

    Tables are looked up and gradients are added to the rows that were looked up; no one-hot
    vector is ever made.

    Args:
        vocabulary: how many numbers there are, with 0 for "outside".
        window: neighbours on each side.
        width: dimensions of an embedding.
        hidden: widths of layers between the sum and the prediction.
        combine: how the neighbours' embeddings become one.
        positions: how many of the nearest neighbours on each side add an embedding of their
            position to the one that all positions share.
        negatives: random words to compare with in training; 0 compares with all.
        precision: type of the inputs of the products.
    """

    vocabulary: int
    window: int
    width: int
    hidden: tuple[int, ...] = ()
    combine: Literal["sum", "mean"] = "sum"
    positions: int = 0
    negatives: int = 0
    precision: Precision = "float32"

    def setup(self) -> None:
        """Name the tables and layers."""
        shape = (self.vocabulary, self.width)
        self.embedding = layers.parameter(self, "embedding", _embeddings, shape)
        if self.positions:
            near = (2 * self.positions, *shape)
            self.near = layers.parameter(self, "near", nn.initializers.zeros, near)
        self.hidden_layers = [layers.Dense(width, self.precision) for width in self.hidden]
        last = self.hidden[-1] if self.hidden else self.width
        # As in word2vec: every word is equally likely at first, and gradients flow, since
        # the embeddings are not zero.
        zeros = nn.initializers.zeros
        self.output = layers.parameter(self, "output", zeros, (self.vocabulary, last))
        self.bias = layers.parameter(self, "bias", zeros, (self.vocabulary,))

    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """The surprise of the middle of every window: -log of its probability, in nats.

        Args:
            x: windows of whole numbers, [B, 2 * window + 1], of any numeric type.
            train: estimate by negative sampling where `negatives` is above 0; needs the
                "samples" random stream.
            mask: unused; no batch statistics.

        Returns:
            float32 [B]; NaN where a window holds a number outside the vocabulary.
        """
        known = jnp.all((x >= 0) & (x < self.vocabulary) & (x == jnp.trunc(x)), axis=1)
        x = x.astype(jnp.int32)
        middle = x[:, self.window]
        hidden = self._hidden(x)
        if train and self.negatives:
            return self._sampled(hidden, middle)
        logits = product(hidden, self.output.T, self.precision) + self.bias
        if self.negatives:
            logits = logits + _log_zipf(self.vocabulary)
        chosen = jnp.take_along_axis(logits, middle[:, None], axis=1)[:, 0]
        # A lookup outside the tables would answer with another word's numbers.
        return jnp.where(known, jax.nn.logsumexp(logits, axis=1) - chosen, jnp.nan)

    def encode(self, x: jax.Array) -> jax.Array:
        """What the neighbours of every window say together, float32 [B, width]."""
        return self._hidden(x.astype(jnp.int32))

    def _hidden(self, x: jax.Array) -> jax.Array:
        around = jnp.concatenate([x[:, : self.window], x[:, self.window + 1 :]], axis=1)
        inside = (around > 0)[..., None]
        hidden = jnp.sum(jnp.where(inside, self.embedding[around], 0), axis=1)
        if self.positions:
            near = slice(self.window - self.positions, self.window + self.positions)
            own = self.near[jnp.arange(2 * self.positions), around[:, near]]
            hidden = hidden + jnp.sum(jnp.where(inside[:, near], own, 0), axis=1)
        if self.combine == "mean":
            hidden = hidden / jnp.maximum(jnp.sum(inside, axis=1), 1)
        for index, layer in enumerate(self.hidden_layers):
            hidden = nn.relu(layer(hidden))
            layers.keep_state(self, f"hidden_{index}", hidden)
        layers.keep_state(self, "context", hidden)
        return hidden

    def _sampled(self, hidden: jax.Array, middle: jax.Array) -> jax.Array:
        shape = (len(middle), self.negatives)
        others = _zipf(self.make_rng("samples"), shape, self.vocabulary)
        right = jnp.sum(hidden * self.output[middle], axis=1) + self.bias[middle]
        wrong = jnp.einsum("bw,bnw->bn", hidden, self.output[others], precision="highest")
        wrong = wrong + self.bias[others]
        # A random word may be the right one: left out, as word2vec does, what is learned
        # would be the logarithm of odds and no longer that of a probability.
        return jax.nn.softplus(-right) + jnp.sum(jax.nn.softplus(wrong), axis=1)


def _embeddings(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform in +-0.5 / width, as in word2vec: what is learned soon outweighs it."""
    return jax.random.uniform(key, shape, minval=-0.5, maxval=0.5) / shape[-1]


def _zipf(key: jax.Array, shape: tuple[int, ...], vocabulary: int) -> jax.Array:
    """Random numbers from 1 to vocabulary - 1, int32 of a shape, small ones more often.

    r has the density r ** -ZIPF on [1, vocabulary); its integral is inverted. Since numbers
    go by frequency, no table of frequencies is needed.
    """
    most = vocabulary ** (1 - ZIPF)
    drawn = 1 + jax.random.uniform(key, shape) * (most - 1)
    # Rounding may reach the upper end.
    return jnp.minimum(drawn ** (1 / (1 - ZIPF)), vocabulary - 1).astype(jnp.int32)


def _log_zipf(vocabulary: int) -> jax.Array:
    """Logarithm of each number's probability in `_zipf`, up to a constant, float32 [vocabulary].

    What negative sampling learns is log P(word | context) less this (Levy and Goldberg,
    "Neural word embedding as implicit matrix factorization", 2014, equation 7). 0 is never
    drawn, so nothing was learned of it: it is as good as impossible.
    """
    rank = jnp.arange(1, vocabulary, dtype=jnp.float32)
    # (r + 1) ** (1 - ZIPF) - r ** (1 - ZIPF), without the loss of digits of a difference.
    power = 1 - ZIPF
    drawn = power * jnp.log(rank) + jnp.log(jnp.expm1(power * jnp.log1p(1 / rank)))
    return jnp.concatenate([jnp.full(1, NEVER), drawn])


class ContextNetwork(LinenNetwork):
    """A context model, which minimises the surprise of the middle of every window."""

    def losses(
        self,
        variables: Variables,
        x: jax.Array,
        target: Any,
        *,
        mask: jax.Array,
        key: jax.Array,
        train: bool,
        beta: jax.Array,
    ) -> tuple[jax.Array, Variables]:
        """Surprise of every window's middle, in nats, or its estimate by negative sampling."""
        output = self.apply(variables, x, train=train, mask=mask, key=key)
        return output if train else (output, {})


def network(settings: config.Context, schema: Schema, precision: Precision) -> ContextNetwork:
    """The network of settings.

    Raises:
        InputError: if rows aren't windows of the settings' size.
    """
    refuse_mixed(settings, schema)
    wanted = (2 * settings.window + 1,)
    if schema.shape != wanted:
        raise InputError(
            f"shape of a row is {schema.shape!r}; allowed with a context model of window "
            f"{settings.window}: {wanted}"
        )
    module = ContextPredictor(precision=precision, **vars(settings))
    return ContextNetwork(
        module=module, precision=precision, reconstructs=False, own_score=settings.own_score
    )

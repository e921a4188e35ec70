"""The variational autoencoder, dense or convolutional (Kingma and Welling 2014)."""

from __future__ import annotations

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax import config
from aejax.config import Precision
from aejax.data.schema import Schema
from aejax.models import layers
from aejax.models.build import inner
from aejax.models.conv import ConvAutoencoder
from aejax.models.dense import DenseAutoencoder
from aejax.models.heads import refuse_mixed
from aejax.models.network import LinenNetwork, Variables

# Log variances beyond this are no use to anyone and overflow when training goes astray.
MOST_LOG_VARIANCE = 20.0


class VariationalAutoencoder(nn.Module):
    """An autoencoder whose latent values are a normal distribution.

    Args:
        network: the encoder before the posterior's layers and the decoder after them.
        body: shape of what the network's encoder gives for one row.
        latent: dimensions of the latent space.
        likelihood: of a feature given its reconstruction.
        samples: latent samples that scores draw.
        precision: type of the inputs of the products.
    """

    network: DenseAutoencoder | ConvAutoencoder
    body: tuple[int, ...]
    latent: int
    likelihood: Literal["bernoulli", "normal"] = "bernoulli"
    samples: int = 16
    precision: Precision = "float32"

    def setup(self) -> None:
        """Name the layers."""
        self.mean_layer = layers.Dense(self.latent, self.precision)
        self.log_variance_layer = layers.Dense(self.latent, self.precision)
        self.expand_layer = layers.Dense(math.prod(self.body), self.precision)

    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Reconstruct rows from the means of their posteriors; nothing is random.

        Args:
            x: float32 [B, *shape], scaled.
            train: as in the network.
            mask: bool [B]; rows that are False don't enter the batch's statistics.

        Returns:
            float32 [B, *shape].
        """
        mean, _ = self.posterior(x, train, mask)
        return self.decode(mean, train, mask)

    def posterior(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance of every row's posterior, both float32 [B, latent]."""
        hidden = self.network.encode(x, train, mask).reshape(x.shape[0], -1)
        mean = self.mean_layer(hidden)
        spread = jnp.clip(self.log_variance_layer(hidden), -MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)
        layers.keep_state(self, "latent", mean)
        return mean, spread

    def encode(self, x: jax.Array) -> jax.Array:
        """The posterior's mean, float32 [B, latent], of rows float32 [B, *shape]."""
        return self.posterior(x)[0]

    def decode(
        self, latent: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Rows float32 [B, *shape] of latent values float32 [B, latent]."""
        return self.network.decode(self._expand(latent), train, mask)

    def _expand(self, latent: jax.Array) -> jax.Array:
        expanded = layers.ACTIVATIONS[self.network.activation](self.expand_layer(latent))
        layers.keep_state(self, "expanded", expanded)
        return expanded.reshape(-1, *self.body)

    def negative_log_likelihood(
        self,
        target: jax.Array,
        latent: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """-log p(row | latent) in nats, summed over features.

        Args:
            target: rows float32 [B, *shape].
            latent: float32 [B, latent].
            train: as in the network.
            mask: as in the network.

        Returns:
            float32 [B].
        """
        if self.likelihood == "bernoulli":
            # Of the logit and not of the probability, which rounds to 0 and 1.
            y = self.network.decode_logits(self._expand(latent), train, mask)
            nats = jnp.maximum(y, 0) - y * target + jnp.log1p(jnp.exp(-jnp.abs(y)))
        else:
            y = self.network.decode(self._expand(latent), train, mask)
            nats = 0.5 * (jnp.square(target - y) + math.log(2 * math.pi))
        return jnp.sum(nats, axis=tuple(range(1, nats.ndim)))

    def negative_elbo(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        *,
        target: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The two terms of the negative evidence lower bound, with one random sample a row.

        Args:
            x: rows as the encoder sees them, float32 [B, *shape].
            train: as in the network.
            mask: as in the network.
            target: rows as they should be, float32 [B, *shape].

        Returns:
            -log p(target | sample) and KL(posterior, prior), both float32 [B], in nats.
            Needs the "samples" random stream.
        """
        mean, log_variance = self.posterior(x, train, mask)
        noise = jax.random.normal(self.make_rng("samples"), mean.shape, mean.dtype)
        latent = mean + jnp.exp(0.5 * log_variance) * noise
        reconstruction = self.negative_log_likelihood(target, latent, train, mask)
        return reconstruction, divergence(mean, log_variance)


def divergence(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL divergence in nats of normal distributions from the standard one.

    Args:
        mean: float32 [B, latent].
        log_variance: float32 [B, latent].

    Returns:
        float32 [B], summed over latent dimensions (Kingma and Welling 2014, appendix B).
    """
    return 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance, axis=1)


class VariationalNetwork(LinenNetwork):
    """A variational autoencoder, which minimises the negative evidence lower bound."""

    def losses(
        self,
        variables: Variables,
        x: jax.Array,
        target: object,
        *,
        mask: jax.Array,
        key: jax.Array,
        train: bool,
        beta: jax.Array,
    ) -> tuple[jax.Array, Variables]:
        """The negative bound of every row, in nats, with one sample of the posterior.

        -log p(row | sample) + beta * KL(posterior, prior), summed over features and latent
        dimensions (Kingma and Welling 2014, equation 10).
        """
        how: dict[str, Any] = {"train": train, "mask": mask if train else None, "key": key}
        output = self._run(variables, x, method="negative_elbo", target=target, **how)
        terms, changed = output if train else (output, {})
        reconstruction, divergence = terms
        return reconstruction + beta * divergence, changed


def network(
    settings: config.Variational, schema: Schema, precision: Precision
) -> VariationalNetwork:
    """The network of settings."""
    refuse_mixed(settings, schema)
    around, body = inner(settings.network, schema.shape, precision)
    fields = {**vars(settings), "network": around}
    module = VariationalAutoencoder(body=body, precision=precision, **fields)
    return VariationalNetwork(module=module, precision=precision)

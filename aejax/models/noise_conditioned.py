"""The denoising autoencoder that is given the noise's level, drawn anew for every row."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from aejax import config
from aejax.config import Precision
from aejax.data.schema import Schema
from aejax.models import layers
from aejax.models.build import inner
from aejax.models.dense import DenseAutoencoder
from aejax.models.heads import refuse_mixed
from aejax.models.network import LinenNetwork, Variables


class NoiseConditionedAutoencoder(layers.Autoencoder):
    """Removes normal noise of a level that it is given; reconstructs at the lowest level.

    Args:
        network: takes a row, flattened, with the level and its logarithm after it.
        lowest: least level in training, and of plain reconstructions; in scaled units.
        highest: largest level in training.
        levels: how many levels scores are averaged over.
    """

    network: DenseAutoencoder
    lowest: float
    highest: float
    levels: int

    def encode(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """The latent values float32 [B, latent] of rows float32 [B, *shape] at the lowest level."""
        return self.network.encode(_with_level(x, self.lowest), train, mask)

    def decode(
        self, latent: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Rows float32 [B, *shape] of latent values float32 [B, latent]."""
        return self.network.decode(latent, train, mask)

    def denoise(
        self,
        noisy: jax.Array,
        level: jax.Array | float,
        train: bool = False,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Rows as they were before noise was added.

        Args:
            noisy: float32 [B, *shape].
            level: standard deviation of the noise, one for all rows or float32 [B].
            train: as in the network.
            mask: as in `__call__`.

        Returns:
            float32 [B, *shape].
        """
        return self.network(_with_level(noisy, level), train, mask)

    def restore(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Rows restored from noise of a random level, float32 [B, *shape].

        The logarithm of a row's level is uniform between those of the lowest and the highest.
        Needs the "samples" random stream.

        Args:
            x: rows that noise is added to, float32 [B, *shape].
            train: as in the network.
            mask: as in `__call__`.
        """
        uniform = jax.random.uniform(self.make_rng("samples"), x.shape[:1], x.dtype)
        level = self.lowest * (self.highest / self.lowest) ** uniform
        noise = jax.random.normal(self.make_rng("samples"), x.shape, x.dtype)
        noisy = x + level.reshape(-1, *(1,) * (x.ndim - 1)) * noise
        return self.denoise(noisy, level, train, mask)


def _with_level(x: jax.Array, level: jax.Array | float) -> jax.Array:
    """Flattened rows with their level and its logarithm, float32 [B, features + 2]."""
    each = jnp.broadcast_to(jnp.asarray(level, x.dtype), x.shape[:1])
    return jnp.column_stack([x.reshape(x.shape[0], -1), each, jnp.log(each)])


class NoiseConditionedNetwork(LinenNetwork):
    """A network that trains on rows with noise of levels that it draws itself."""

    def restore(
        self,
        variables: Variables,
        x: jax.Array,
        *,
        train: bool,
        mask: jax.Array,
        key: jax.Array,
    ) -> Any:
        """Rows restored from noise of a random level each."""
        return self._run(variables, x, train=train, mask=mask, key=key, method="restore")


def network(
    settings: config.NoiseConditioned, schema: Schema, precision: Precision
) -> NoiseConditionedNetwork:
    """The network of settings."""
    refuse_mixed(settings, schema)
    around, _ = inner(settings.network, schema.shape, precision)
    module = NoiseConditionedAutoencoder(**{**vars(settings), "network": around})
    return NoiseConditionedNetwork(module=module, precision=precision)

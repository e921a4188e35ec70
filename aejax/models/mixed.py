"""The autoencoder of mixed tables: columns in, one head for every column out."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aejax.models import layers
from aejax.models.convolution import product
from aejax.models.dense import DenseAutoencoder
from aejax.models.heads import Head, Run, runs_of


class MixedAutoencoder(nn.Module):
    """A dense autoencoder between the inputs and the outputs of columns of different kinds.

    Args:
        heads: of the columns, in order.
        network: whose `shape` is the number of all heads' outputs.
    """

    heads: tuple[Head, ...]
    network: DenseAutoencoder

    def setup(self) -> None:
        """Name the embeddings."""
        self.embeddings = {
            str(position): layers.parameter(
                self,
                f"embedding_{position}",
                nn.initializers.normal(stddev=head.embedding**-0.5),
                (head.size, head.embedding),
            )
            for position, head in enumerate(self.heads)
            if head.embedding
        }

    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Outputs of all heads.

        Args:
            x: float32 [B, columns]: scaled numbers, codes, and NaN for missing cells.
            train: as in `DenseAutoencoder`.
            mask: as in `DenseAutoencoder`.

        Returns:
            float32 [B, outputs]; `core.mixed` says what they mean.
        """
        return self.network(self.inputs(x), train, mask)

    def encode(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """The latent layer's values of rows float32 [B, columns]."""
        return self.network.encode(self.inputs(x), train, mask)

    def decode(
        self, latent: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Outputs of all heads of latent values."""
        return self.network.decode(latent, train, mask)

    def inputs(self, x: jax.Array) -> jax.Array:
        """What the network sees of rows: [B, inputs]; a missing cell is 0 in all its inputs."""
        present = ~jnp.isnan(x)
        parts = [self._inputs_of(run, x, present) for run in runs_of(self.heads)]
        indicated = [position for position, head in enumerate(self.heads) if head.indicator]
        if indicated:
            parts.append(jnp.where(present[:, np.array(indicated)], 0.0, 1.0))
        return jnp.concatenate(parts, axis=1)

    def _inputs_of(self, run: Run, x: jax.Array, present: jax.Array) -> jax.Array:
        columns = slice(run.first, run.first + run.columns)
        there = present[:, columns]
        # Without this, what is done to NaN would reach the gradient.
        value = jnp.where(there, x[:, columns], 0)
        match run.head.kind:
            case "category":
                # A value that is not known is no input either.
                chosen = (value == jnp.arange(run.head.size)) & there
                one_hot = chosen.astype(jnp.float32)
                if not run.head.embedding:
                    return one_hot
                return product(one_hot, self.embeddings[str(run.first)], "float32")
            case "boolean":
                return jnp.where(there, 2 * value - 1, 0)
            case "cycle":
                angle = value * turns(self.heads[columns])
                return jnp.concatenate(
                    [jnp.where(there, part, 0) for part in (jnp.sin(angle), jnp.cos(angle))], axis=1
                )
        return value


def turns(heads: tuple[Head, ...]) -> np.ndarray:
    """Radians in a unit of each cycle, float32."""
    return np.array([2 * np.pi / head.size for head in heads], np.float32)

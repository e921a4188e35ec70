"""The classifier: an autoencoder's encoder with one more layer."""

from __future__ import annotations

import flax.linen as nn
import jax

from aejax.config import Precision
from aejax.models import layers
from aejax.models.conv import ConvAutoencoder
from aejax.models.dense import DenseAutoencoder


class EncoderClassifier(nn.Module):
    """Names the class of a row.

    Args:
        network: whose encoder is used; its decoder has no parameters here.
        classes: how many.
        precision: type of the inputs of the products.
    """

    network: DenseAutoencoder | ConvAutoencoder
    classes: int
    precision: Precision = "float32"

    def setup(self) -> None:
        """Name the layers."""
        self.head = layers.Dense(self.classes, self.precision)

    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Logits of the classes.

        Args:
            x: float32 [B, *shape], scaled.
            train: as in the network.
            mask: bool [B]; rows that are False don't enter the batch's statistics.

        Returns:
            float32 [B, classes].
        """
        hidden = self.network.encode(x, train, mask)
        return self.head(hidden.reshape(x.shape[0], -1))

    def encode(self, x: jax.Array) -> jax.Array:
        """What the encoder gives for rows float32 [B, *shape]."""
        return self.network.encode(x)

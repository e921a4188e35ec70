"""The classifier: an autoencoder's encoder with one more layer."""

from __future__ import annotations

from typing import Any

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


class ClassifierNetwork(LinenNetwork):
    """A classifier, which minimises the cross-entropy of each row's class."""

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
        """Cross-entropy of every row's class, float32 [B], in nats; `target` is int32 [B]."""
        output = self.apply(variables, x, train=train, mask=mask, key=key)
        logits, changed = output if train else (output, {})
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], axis=1)
        return -chosen[:, 0], changed


def network(settings: config.Classifier, schema: Schema, precision: Precision) -> ClassifierNetwork:
    """The network of settings."""
    refuse_mixed(settings, schema)
    around, _ = inner(settings.network, schema.shape, precision)
    module = EncoderClassifier(network=around, classes=settings.classes, precision=precision)
    return ClassifierNetwork(
        module=module, precision=precision, reconstructs=False, own_score=settings.own_score
    )

"""Dropout with a rate that is a number of the run, not of the program."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """Dropout (Srivastava et al., JMLR 15, 2014) whose rate is an array and not a constant.

    The rate is the variable "rate" of the collection "dropout", which `rates` makes; a model
    that isn't given one has no random bits in its program. Units are those that
    `flax.linen.Dropout` drops.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Rows float32 [B, features], some of their units 0 and the others scaled up."""
        if not train or not self.has_variable("dropout", "rate"):
            return x
        kept = 1 - self.get_variable("dropout", "rate")
        keep = jax.random.bernoulli(self.make_rng("dropout"), kept, x.shape)
        return jnp.where(keep, x / kept, 0)


def rates(model: nn.Module, rate: jax.Array | float) -> dict[str, Any]:
    """What makes a model drop units while it trains, to be joined to its variables.

    Args:
        model: as `build` gives it.
        rate: share of hidden units that are dropped, float32 scalar, traced or not.
    """
    found = {"drop": {"rate": rate}}
    return {"dropout": {"network": found} if hasattr(model, "network") else found}

"""Members that lack parts of a network: the parts are there, and stay 0.

A member of a population can do without some features, units or connections. Its parameters
for them begin at 0 and their gradients are 0, so that it trains as the smaller network would;
and errors of features that it doesn't see don't count. So members of different widths share
one compiled program.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Variables = dict[str, Any]


class Mask(NamedTuple):
    """What a member has; of a population with a leading axis of members.

    Attributes:
        weights: float32 of the row's shape: how much a feature's error counts. 0 for those that
            the member doesn't see, equal for the others, with a mean of 1.
        params: a tree like the parameters, bool, False for those that stay 0.
    """

    weights: Any
    params: Any


def masked(variables: Variables, mask: Mask) -> Variables:
    """Fresh variables without the parts that a mask leaves out, and what keeps it so."""
    return {
        **variables,
        "params": only(mask.params, variables["params"]),
        "weights": {"features": mask.weights},
        "mask": mask.params,
    }


def only(kept: object, tree: object) -> Any:
    """A tree with 0 where `kept` is False."""
    return jax.tree.map(lambda keep, leaf: jnp.where(keep, leaf, 0), kept, tree)


def weighted(variables: Variables, error: jax.Array) -> jax.Array:
    """Errors of features as they count, [B, ...]; as they are where all count alike.

    Args:
        variables: of a model; those of a member that lacks features hold "weights".
        error: of every feature, float32 [B, ...].
    """
    if "weights" not in variables:
        return error
    weights = variables["weights"]["features"]
    # An error that doesn't count may be infinite, and 0 times that is no number.
    return jnp.where(weights > 0, error * weights, 0)


def seen(variables: Variables, x: jax.Array, y: jax.Array) -> jax.Array:
    """Reconstructions, which equal the row in features that the member doesn't see."""
    if "weights" not in variables:
        return y
    return jnp.where(variables["weights"]["features"] > 0, y, x)

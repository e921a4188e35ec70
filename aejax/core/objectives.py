"""What training minimises, as one loss per row. The caller masks and averages."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aejax import config
from aejax.core import errors
from aejax.core.errors import Error
from aejax.core.optimizers import Numbers
from aejax.models.heads import Head
from aejax.models.network import Network, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What is static in a loss; hashable, compared by value.

    Attributes:
        loss: error of a reconstruction; networks may have an objective of their own instead.
        noise_on: what noise is added to, or None.
        bounds: range of what noise was added to.
        hide: share of the cells that the model is not shown.
        drops: whether hidden units are dropped; `Numbers.dropout` says how many.
    """

    loss: Error = "squared"
    noise_on: Literal["input", "target"] | None = None
    bounds: tuple[float, float] | None = None
    hide: float = 0.0
    drops: bool = False


class Fed(NamedTuple):
    """What a loss is computed of.

    Attributes:
        x: scaled rows, float32 [B, ...].
        target: int32 [B], each row's class, or None where rows are their own target.
        mask: bool [B]; padding must not enter batch statistics.
        key: of this batch; noise, dropout and samples are folded out of it.
        values: the run's numbers.
    """

    x: jax.Array
    target: jax.Array | None
    mask: jax.Array
    key: jax.Array
    values: Numbers


def objective_of(settings: config.Config) -> Objective:
    """What a configuration says of the objective."""
    train = settings.train
    return Objective(
        loss=train.loss,
        noise_on=train.noise_on if train.noise > 0 else None,
        bounds=train.noise_range,
        hide=train.hide,
        drops=settings.model.dropout > 0,
    )


def row_losses(
    objective: Objective, network: Network, variables: Variables, fed: Fed, *, train: bool
) -> tuple[jax.Array, Variables]:
    """Loss of every row.

    Args:
        objective: what the configuration says of it.
        network: which may have an objective of its own.
        variables: its parameters and batch statistics.
        fed: rows and what belongs to them.
        train: batch statistics, dropout and samples as in training.

    Returns:
        float32 [B], and the network's other variables after this batch ({} unless `train`).
    """
    heads = network.heads
    seen, target = _noisy(objective, fed, heads)
    if train and objective.drops:
        variables = network.dropping(variables, fed.values.dropout)
    own = network.losses(
        variables,
        seen,
        target if fed.target is None else fed.target,
        mask=fed.mask,
        key=fed.key,
        train=train,
        beta=fed.values.beta,
    )
    if own is not None:
        losses, changed = own
    else:
        output = network.restore(variables, seen, train=train, mask=fed.mask, key=fed.key)
        y, changed = output if train else (output, {})
        if heads is not None:
            losses = errors.row_error(objective.loss, target, y, heads)
        else:
            losses = errors.row_losses(objective.loss, variables, target, y)
    return errors.of_shape(losses, fed.mask.shape, "the losses of a batch are"), changed


def corrupt(
    x: jax.Array,
    key: jax.Array,
    deviation: jax.Array | float,
    bounds: tuple[float, float] | None,
) -> jax.Array:
    """Rows with normal noise added: the input of a denoising autoencoder (Vincent et al. 2008).

    Args:
        x: scaled rows, float32 [B, ...].
        key: of this batch's noise.
        deviation: standard deviation of the noise.
        bounds: lowest and highest value of the result, or None.
    """
    noisy = x + deviation * jax.random.normal(key, x.shape, x.dtype)
    return noisy if bounds is None else jnp.clip(noisy, *bounds)


def _noisy(
    objective: Objective, fed: Fed, heads: tuple[Head, ...] | None = None
) -> tuple[jax.Array, jax.Array]:
    """What the model sees, and what its output is compared with."""
    seen = target = fed.x
    if objective.noise_on is not None:
        noisy = corrupt(fed.x, jax.random.fold_in(fed.key, 0), fed.values.noise, objective.bounds)
        if heads is not None:
            # A code with noise added is no code.
            noisy = jnp.where(np.array([head.kind == "number" for head in heads]), noisy, fed.x)
        seen, target = (noisy, fed.x) if objective.noise_on == "input" else (fed.x, noisy)
    if objective.hide > 0:
        hidden = jax.random.bernoulli(jax.random.fold_in(fed.key, 3), objective.hide, seen.shape)
        seen = jnp.where(hidden, 0.0 if heads is None else jnp.nan, seen)
    return seen, target

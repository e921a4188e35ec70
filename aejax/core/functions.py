"""Pure functions for somebody's own training script: a state, and a step to jit, shard or scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aejax import config
from aejax.config import InputError
from aejax.config.training import is_optimizer
from aejax.core import errors
from aejax.models.build import network_for

Metrics = dict[str, jax.Array]


class TrainingState(NamedTuple):
    """Everything that a step of one's own changes: a pytree of arrays.

    Attributes:
        step: int32 scalar, steps taken.
        variables: {"params": ..., and others that the network has}.
        optimizer: optax's state.
        key: of all randomness; each step folds its number in.

    Example:
        >>> import jax, optax
        >>> network = aejax.Dense(hidden=(2,))
        >>> state = aejax.train_state(network, optax.adam(1e-2), jax.random.key(0), (4,))
        >>> int(state.step)
        0
    """

    step: jax.Array
    variables: dict[str, Any]
    optimizer: Any
    key: jax.Array


def train_state(
    network: Any, optimizer: Any, key: jax.Array, shape: tuple[int, ...]
) -> TrainingState:
    """The state before the first step.

    Args:
        network: as in `Config(model=...)`.
        optimizer: an `optax.GradientTransformation`.
        key: a JAX key; the first variables and every step's randomness derive from it.
        shape: of one row.

    Raises:
        InputError: if the network or the optimizer is none.

    Example:
        >>> import optax
        >>> network, optimizer = config.Dense(hidden=(8, 2)), optax.adam(1e-2)
        >>> state = train_state(network, optimizer, jax.random.key(0), (6,))
        >>> step = jax.jit(train_step(network, "squared", optimizer))
        >>> state, metrics = step(state, jnp.ones((32, 6)))
        >>> int(state.step), metrics["loss"].shape
        (1, ())
    """
    _check_optimizer(optimizer)
    variables = network_for(network, shape).init(key, shape)
    return TrainingState(jnp.int32(0), variables, optimizer.init(variables["params"]), key)


def train_step(
    network: Any, loss: Any, optimizer: Any
) -> Callable[[TrainingState, Any], tuple[TrainingState, Metrics]]:
    """A pure function (state, batch) -> (state, metrics): jit it, shard it, scan it.

    A batch is float32 [B, *shape], scaled rows; or a pair of these and a mask bool [B], False
    where a row is padding. Metrics are float32 scalars: "loss" before the step, the mean over
    rows, and "gradient_norm".

    Args:
        network: as in `Config(model=...)`; one with an objective of its own minimises that.
        loss: "squared", "absolute", "bernoulli", or a function of target and output, float32
            [B, ...], that gives [B, ...] or [B].
        optimizer: an `optax.GradientTransformation`, the one of `train_state`.

    Raises:
        InputError: if the optimizer or the loss is none; when it is called, as `train_state`.

    Example:
        >>> import jax, optax
        >>> network, optimizer = aejax.Dense(hidden=(2,)), optax.adam(1e-2)
        >>> step = jax.jit(aejax.train_step(network, "squared", optimizer))
        >>> state = aejax.train_state(network, optimizer, jax.random.key(0), (4,))
        >>> state, metrics = step(state, np.ones((8, 4), np.float32))
        >>> int(state.step)
        1
    """
    _check_optimizer(optimizer)
    config.Train(loss=loss)

    def step(state: TrainingState, batch: Any) -> tuple[TrainingState, Metrics]:
        x, mask = batch if isinstance(batch, tuple) else (batch, jnp.ones(len(batch), bool))
        made = network_for(network, x.shape[1:])
        key = jax.random.fold_in(state.key, state.step)
        others = {name: tree for name, tree in state.variables.items() if name != "params"}

        def mean_loss(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, **others}
            own = made.losses(variables, x, x, mask=mask, key=key, train=True, beta=jnp.float32(1))
            if own is None:
                y, changed = made.apply(variables, x, train=True, mask=mask, key=key)
                own = errors.row_losses(loss, variables, x, y), changed
            losses = errors.of_shape(own[0], mask.shape, "the losses of a batch are")
            return errors.masked_mean(losses, mask), own[1]

        params = state.variables["params"]
        (mean, changed), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params)
        updates, inner = optimizer.update(gradient, state.optimizer, params)
        moved = jax.tree.map(lambda old, update: old + update, params, updates)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)]
        after = TrainingState(
            state.step + 1, {**others, **changed, "params": moved}, inner, state.key
        )
        return after, {"loss": mean, "gradient_norm": jnp.sqrt(sum(squares, jnp.float32(0)))}

    return step


def _check_optimizer(optimizer: object) -> None:
    if not is_optimizer(optimizer):
        raise InputError(
            f"optimizer is {optimizer!r:.200}; allowed: an optax.GradientTransformation"
        )

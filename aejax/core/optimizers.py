"""Optimisers and learning-rate schedules by name, with their numbers as traced values.

Names are part of a compiled program; numbers are its arguments. So a second run with
another learning rate compiles nothing, and a population's members may differ in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aejax.config import Config
from aejax.config.own import require_here

if TYPE_CHECKING:
    import optax

Number = Any  # A NumPy scalar on the host, a traced array inside a program.
Schedule = Callable[[jax.Array], jax.Array]

# Keras's epsilon, since the published experiments were run with it.
ADAM_EPSILON = 1e-7
MOMENTUM = 0.9
WARMUP_SHARE = 0.1
# The largest float32 below 1.
MOST_DROPOUT = 1 - 2**-24
# Of "rise-and-fall": 100 of 800 epochs up from 0.00002 to 0.002, the rest down to 0.0002.
RISE_SHARE, RISE_FROM, FALL_TO = 1 / 8, 1 / 100, 1 / 10


class Numbers(NamedTuple):
    """The numbers of a run: float32 scalars (the seed: uint32), or [members] in a population.

    Attributes:
        seed: of everything random on the device.
        learning_rate: the schedule's highest value.
        weight_decay: decoupled decay, per unit of learning rate.
        clip_norm: largest global norm of a gradient; infinity where there is none.
        noise: standard deviation of the noise added to scaled rows.
        dropout: share of hidden units dropped.
        beta: weight of a variational autoencoder's divergence from the prior.
        steps: length of the schedule, in steps.
    """

    seed: Number
    learning_rate: Number
    weight_decay: Number
    clip_norm: Number
    noise: Number
    dropout: Number
    beta: Number
    steps: Number


def numbers(config: Config, steps: int) -> Numbers:
    """The numbers in a configuration, for a run of `steps` steps."""
    train = config.train
    clip_norm = np.inf if train.clip_norm is None else train.clip_norm
    rates = (train.learning_rate, train.weight_decay, clip_norm)
    dropout = min(config.model.dropout, MOST_DROPOUT)
    values = (*rates, train.noise, dropout, train.beta, max(steps, 1))
    return Numbers(np.uint32(train.seed), *map(np.float32, values))


def learning_rate(schedule: Any, values: Numbers) -> Schedule:
    """The schedule `schedule`, as a function of the step (from 0)."""
    if not isinstance(schedule, str):
        require_here(schedule, "Train.schedule", "a schedule that is here")
        own: Schedule = schedule
        return lambda step: jnp.asarray(own(step), jnp.float32)
    peak, steps = jnp.asarray(values.learning_rate), jnp.asarray(values.steps)

    def constant(step: jax.Array) -> jax.Array:
        return peak

    def linear(step: jax.Array) -> jax.Array:
        return peak * jnp.clip(1 - step / steps, 0, 1)

    def cosine(step: jax.Array) -> jax.Array:
        return peak * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(step / steps, 0, 1)))

    def warmup_cosine(step: jax.Array) -> jax.Array:
        warmup = jnp.maximum(WARMUP_SHARE * steps, 1)
        rest = jnp.clip((step - warmup) / jnp.maximum(steps - warmup, 1), 0, 1)
        return peak * jnp.minimum((step + 1) / warmup, 0.5 * (1 + jnp.cos(jnp.pi * rest)))

    def rise_and_fall(step: jax.Array) -> jax.Array:
        rise = jnp.maximum(RISE_SHARE * steps, 1)
        rising = RISE_FROM + (1 - RISE_FROM) * step / rise
        fallen = jnp.clip((step - rise) / jnp.maximum(steps - rise, 1), 0, 1)
        return peak * jnp.minimum(rising, 1 - (1 - FALL_TO) * fallen)

    schedules = {
        "constant": constant,
        "linear": linear,
        "cosine": cosine,
        "warmup-cosine": warmup_cosine,
        "rise-and-fall": rise_and_fall,
    }
    return schedules[schedule]


def optimizer(
    name: object,
    schedule: object,
    clips: bool,
    values: Numbers,
    frozen: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
    """The optimiser `name`; called inside the compiled step, where `values` may be traced.

    Args:
        name: "adam", "adamw" or "sgd"; or an optax.GradientTransformation, taken as it is.
        schedule: name of the learning-rate schedule, or a function of the step.
        clips: whether gradients are clipped to `values.clip_norm`; kept out of programs that don't.
        values: the run's numbers.
        frozen: parameters -> which of them stay as they are, a tree of bool; or None.
    """
    # Scoring needs this file's types and not optax, which takes a third of a second to import.
    import optax

    if isinstance(name, str):
        descent = _named(name, learning_rate(schedule, values), clips, values)
    else:
        require_here(name, "Train.optimizer", "an optimizer that is here")
        descent = name
    if frozen is None:
        return descent
    return optax.multi_transform(
        {True: optax.set_to_zero(), False: descent}, lambda params: frozen(params)
    )


def _named(name: str, rate: Schedule, clips: bool, values: Numbers) -> optax.GradientTransformation:
    import optax

    direction = optax.trace(MOMENTUM) if name == "sgd" else optax.scale_by_adam(eps=ADAM_EPSILON)
    stages = [optax.clip_by_global_norm(values.clip_norm)] if clips else []
    stages.append(direction)
    if name != "adam":
        stages.append(optax.add_decayed_weights(values.weight_decay))
    return optax.chain(*stages, optax.scale_by_learning_rate(rate))

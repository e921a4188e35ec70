"""Learning: train state, train step, epochs, early stopping. Pure and unjitted.

A compiled program is made for one `Program` (what is static) and one set of shapes.
Settings that are numbers are arguments, so changing them compiles nothing, and a
population maps over them.
"""

from __future__ import annotations

import dataclasses
import zlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aejax.config import Config
from aejax.core import errors, masks, objectives, optimizers, scaling
from aejax.core.objectives import Fed, Objective
from aejax.core.optimizers import Numbers
from aejax.core.scaling import Scaler
from aejax.core.score import check_score
from aejax.models.network import Network

# Rows as stored, [..., B, *shape], and with labels beside them where a model learns those.
Rows = jax.Array | tuple[jax.Array, jax.Array]


# One seed, split by name: every use of randomness has a stream of its own. Adding a new stream
# never changes the numbers drawn from the others.
def named_key(seed: int | jax.Array, name: str) -> jax.Array:
    """The key of the stream `name` of a run's seed.

    Args:
        seed: the run's seed, a whole number or an integer scalar (traced ones too).
        name: what the randomness is for, such as "parameters" or "noise".
    """
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def is_frozen(frozen: tuple[str, ...], tree: Any) -> Any:
    """Which leaves of a tree of parameters are frozen, a tree of bool.

    Args:
        frozen: beginnings of paths, such as "network/encoder_layers_0".
        tree: parameters, or batch statistics.
    """

    def one(path: Any, _: Any) -> bool:
        parts = [str(part.key) for part in path]
        return any(parts[: len(start)] == start for start in starts)

    starts = [start.split("/") for start in frozen]
    return jax.tree_util.tree_map_with_path(one, tree)


def kept(frozen: tuple[str, ...], new: object, old: object) -> Any:
    """The new tree with the old one's frozen leaves.

    Args:
        frozen: as in `is_frozen`.
        new: a tree of parameters, or batch statistics.
        old: one of the same structure.
    """
    if not frozen:
        return new
    return jax.tree.map(lambda keep, a, b: b if keep else a, is_frozen(frozen, old), new, old)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """What a training program is specialised on; hashable, compared by value.

    Attributes:
        model: the network.
        objective: what is minimised.
        optimizer: its name, or an optax.GradientTransformation.
        schedule: name of the learning-rate schedule, or a function of the step.
        clips: whether gradients are clipped.
        frozen: beginnings of the paths of parameters that stay as they are.
        trim: share of a batch's rows, with the largest losses, that its loss leaves out.
    """

    model: Network
    objective: Objective
    optimizer: Any
    schedule: Any
    clips: bool
    frozen: tuple[str, ...] = ()
    trim: float = 0.0


class TrainState(NamedTuple):
    """Everything that a step changes.

    Attributes:
        step: int32 scalar, steps taken.
        variables: {"params": ..., "batch_stats": ... where there are any}.
        optimizer: optax's state.
    """

    step: jax.Array
    variables: dict[str, Any]
    optimizer: Any


class Best(NamedTuple):
    """The best variables so far, and whether training should go on.

    Attributes:
        variables: those after the best epoch.
        loss: float32 scalar, their validation loss.
        epoch: int32 scalar, the best epoch.
        waited: int32 scalar, epochs since.
        stopped: bool scalar; once True, nothing here changes any more.
    """

    variables: dict[str, Any]
    loss: jax.Array
    epoch: jax.Array
    waited: jax.Array
    stopped: jax.Array


def program_of(config: Config, model: Network) -> Program:
    """The static part of a configuration.

    Raises:
        InputError: if its score is none of such a network.
    """
    check_score(config, model)
    train = config.train
    return Program(
        model=model,
        objective=objectives.objective_of(config),
        optimizer=train.optimizer,
        schedule=train.schedule,
        clips=train.clip_norm is not None,
        frozen=train.frozen,
        trim=train.trim,
    )


def _optimizer(program: Program, values: Numbers) -> Any:
    return optimizers.optimizer(
        program.optimizer,
        program.schedule,
        program.clips,
        values,
        partial(is_frozen, program.frozen) if program.frozen else None,
    )


def _losses(
    program: Program,
    variables: dict[str, Any],
    scaler: Scaler,
    rows: Rows,
    mask: jax.Array,
    key: jax.Array,
    values: Numbers,
    train: bool,
) -> tuple[jax.Array, dict[str, Any]]:
    x, target = rows if isinstance(rows, tuple) else (rows, None)
    fed = Fed(scaling.apply(scaler, x), target, mask, key, values)
    return objectives.row_losses(program.objective, program.model, variables, fed, train=train)


def pick(rows: Rows, order: jax.Array) -> Rows:
    """Some rows, and their labels where there are any, by position; ~position is padding."""
    order = jnp.maximum(order, ~order)
    picked: Rows = jax.tree.map(lambda part: jnp.take(part, order, axis=0, mode="clip"), rows)
    return picked


def new_variables(model: Network, shape: tuple[int, ...], seed: int | jax.Array) -> dict[str, Any]:
    """Fresh parameters, and batch statistics where the model has any, for rows of one shape."""
    return model.init(named_key(seed, "parameters"), shape)


def new_state(program: Program, shape: tuple[int, ...], values: Numbers) -> TrainState:
    """Fresh parameters and optimiser state.

    Args:
        program: what to train.
        shape: of one row.
        values: the run's numbers; parameters derive from the seed.
    """
    variables = new_variables(program.model, shape, values.seed)
    optimizer = _optimizer(program, values).init(variables["params"])
    return TrainState(jnp.int32(0), variables, optimizer)


def train_step(
    program: Program,
    state: TrainState,
    x: Rows,
    mask: jax.Array,
    scaler: Scaler,
    values: Numbers,
) -> tuple[TrainState, jax.Array]:
    """One step of gradient descent.

    Args:
        program: what is trained.
        state: before the step.
        x: rows as stored, [B, ...], or these and their labels, int32 [B].
        mask: bool [B], False for padding.
        scaler: fitted on training rows.
        values: the run's numbers; noise and dropout derive from the seed and the step.

    Returns:
        The state after the step, and the loss before it (float32 scalar, mean over the mask).
    """
    key = jax.random.fold_in(named_key(values.seed, "training"), state.step)
    others = {name: value for name, value in state.variables.items() if name != "params"}

    def loss_of(params: object) -> tuple[jax.Array, dict[str, Any]]:
        # Without this, gradients of frozen layers would be computed and thrown away.
        params = kept(program.frozen, params, jax.lax.stop_gradient(params))
        rows, changed = _losses(
            program, {"params": params, **others}, scaler, x, mask, key, values, True
        )
        if program.trim > 0:
            return errors.trimmed_mean(rows, mask, program.trim), changed
        return errors.masked_mean(rows, mask), changed

    params = state.variables["params"]
    (loss, changed), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
    if "mask" in others:
        gradient = masks.only(others["mask"], gradient)
    updates, optimizer = _optimizer(program, values).update(gradient, state.optimizer, params)
    # Adding a frozen leaf's update of 0 would turn a -0.0 into 0.0.
    moved = kept(program.frozen, jax.tree.map(jnp.add, params, updates), params)
    changed = {name: kept(program.frozen, new, others[name]) for name, new in changed.items()}
    variables = {**state.variables, **changed, "params": moved}
    return TrainState(state.step + 1, variables, optimizer), loss


def train_steps(
    program: Program,
    state: TrainState,
    rows: Rows,
    order: jax.Array,
    scaler: Scaler,
    values: Numbers,
    *,
    ragged: bool = False,
) -> tuple[TrainState, jax.Array]:
    """Many steps in one program, on rows that stay in device memory.

    Args:
        program: what is trained.
        state: before the first step.
        rows: all rows as stored, [n, ...], or these and their labels.
        order: int32 [steps, B], which rows make each batch; -1 is padding.
        scaler: fitted on training rows.
        values: the run's numbers.
        ragged: whether batches may hold padding only; a step on one changes nothing.

    Returns:
        The state after the last step, and the loss of every step, float32 [steps].
    """

    def step(state: TrainState, picked: jax.Array) -> tuple[TrainState, jax.Array]:
        after, loss = train_step(program, state, pick(rows, picked), picked >= 0, scaler, values)
        if ragged:
            real = picked[0] >= 0
            after = jax.tree.map(lambda new, old: jnp.where(real, new, old), after, state)
        return after, loss

    return jax.lax.scan(step, state, order)


def validation_loss(
    program: Program,
    variables: dict[str, Any],
    tiles: Rows,
    mask: jax.Array,
    scaler: Scaler,
    values: Numbers,
    before: jax.Array | None = None,
) -> jax.Array:
    """Mean loss of rows without learning from them; a denoiser sees the same noise every time.

    Args:
        program: what is trained.
        variables: parameters and batch statistics.
        tiles: rows as stored, [T, B, ...], padded, or these and their labels.
        mask: bool [T, B].
        scaler: fitted on training rows.
        values: the run's numbers.
        before: int32 scalar, tiles of the same rows that other calls have had.

    Returns:
        float32 scalar.
    """
    key = named_key(values.seed, "validation")
    indices = jnp.arange(len(mask))
    if before is not None:
        indices = indices + before

    def total(tile: Rows, mask: jax.Array, index: jax.Array) -> jax.Array:
        noise = jax.random.fold_in(key, index)
        rows, _ = _losses(program, variables, scaler, tile, mask, noise, values, False)
        return jnp.sum(jnp.where(mask, rows, 0))

    totals = jax.lax.map(lambda tile: total(*tile), (tiles, mask, indices))
    return jnp.sum(totals) / jnp.maximum(jnp.sum(mask), 1)


def keep_best(
    best: Best, state: TrainState, loss: jax.Array, epoch: jax.Array, patience: jax.Array
) -> Best:
    """Remember the best epoch's variables; stop after `patience` epochs without a better one."""
    better = (loss < best.loss) & ~best.stopped
    waited = jnp.where(better, 0, best.waited + 1)

    def pick(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(better, new, old)

    return Best(
        variables=jax.tree.map(pick, state.variables, best.variables),
        loss=pick(loss, best.loss),
        epoch=pick(epoch, best.epoch),
        waited=jnp.where(best.stopped, best.waited, waited),
        stopped=best.stopped | (waited >= patience),
    )


def new_best(state: TrainState) -> Best:
    """Before the first epoch: nothing is known, so any finite loss is better."""
    copied = jax.tree.map(jnp.copy, state.variables)
    return Best(copied, jnp.float32(jnp.inf), jnp.int32(-1), jnp.int32(0), jnp.bool_(False))


def learning_rates(schedule: object, values: Numbers, steps: jax.Array) -> jax.Array:
    """The learning rate at each of some steps, float32 [n]."""
    return jax.vmap(optimizers.learning_rate(schedule, values))(steps)

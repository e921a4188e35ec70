"""Learning of many members at once: whole epochs as one program, mapped over members."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aejax.core.learn import (
    Best,
    Program,
    Rows,
    TrainState,
    keep_best,
    new_state,
    pick,
    train_steps,
    validation_loss,
)
from aejax.core.masks import Mask, masked
from aejax.core.optimizers import Numbers
from aejax.core.scaling import Scaler


class Epochs(NamedTuple):
    """What some epochs of one run are fed with; a population maps over its leading axis.

    Attributes:
        order: int32 [epochs, steps, B], which rows make each batch; -1 is padding.
        validation: int32 [tiles, B], which rows are validated on; -1 is padding; or None.
        scaler: fitted on training rows.
        values: the run's numbers.
    """

    order: Any
    validation: Any
    scaler: Scaler
    values: Numbers


def train_epochs(
    program: Program,
    state: TrainState,
    best: Best | None,
    rows: Rows,
    fed: Epochs,
    first_epoch: jax.Array,
    patience: jax.Array,
    *,
    ragged: bool = False,
) -> tuple[TrainState, Best | None, jax.Array, jax.Array]:
    """Whole epochs with validation and early stopping, in one program.

    Args:
        program: what is trained.
        state: before the first step.
        best: before the first epoch; None trains all epochs and keeps the last.
        rows: all rows as stored, [n, ...].
        fed: order, validation rows, scaler and numbers.
        first_epoch: int32 scalar, number of the first epoch here.
        patience: int32 scalar.
        ragged: whether batches may hold padding only.

    Returns:
        The state and the best variables after the last epoch, the loss of every step,
        float32 [epochs, steps], and every epoch's validation loss, float32 [epochs] (0
        where nothing is validated on).
    """

    def epoch(
        carried: tuple[TrainState, Best | None, jax.Array], order: jax.Array
    ) -> tuple[tuple[TrainState, Best | None, jax.Array], tuple[jax.Array, jax.Array]]:
        state, best, number = carried
        state, losses = train_steps(
            program, state, rows, order, fed.scaler, fed.values, ragged=ragged
        )
        loss = jnp.float32(0)
        if fed.validation is not None:
            tiles = pick(rows, fed.validation)
            mask = fed.validation >= 0
            loss = validation_loss(program, state.variables, tiles, mask, fed.scaler, fed.values)
        if best is not None:
            best = keep_best(best, state, loss, number, patience)
        return (state, best, number + 1), (losses, loss)

    (state, best, _), (losses, validation) = jax.lax.scan(
        epoch, (state, best, first_epoch), fed.order
    )
    return state, best, losses, validation


def train_members(
    program: Program,
    states: TrainState,
    best: Best | None,
    rows: Rows,
    fed: Epochs,
    first_epoch: jax.Array,
    patience: jax.Array,
    *,
    shared_order: bool,
    ragged: bool,
) -> tuple[TrainState, Best | None, jax.Array, jax.Array]:
    """`train_epochs` of many members at once: states, best and `fed` have a leading member axis.

    Args:
        program: shared by all members.
        states: [members, ...].
        best: [members, ...], or None.
        rows: shared by all members.
        fed: [members, ...]; with `shared_order` its order has no member axis.
        first_epoch: shared.
        patience: shared.
        shared_order: all members see the same batches, so one product serves them all in
            the first layer.
        ragged: some batches hold padding only, because members have different numbers of
            rows; a step on one changes nothing.
    """
    numbers: Any = 0
    axes = Epochs(order=None if shared_order else 0, validation=0, scaler=numbers, values=numbers)

    def one(state: TrainState, best: Best | None, fed: Epochs) -> Any:
        return train_epochs(program, state, best, rows, fed, first_epoch, patience, ragged=ragged)

    return jax.vmap(one, in_axes=(0, 0, axes))(states, best, fed)


def new_members(
    program: Program, shape: tuple[int, ...], values: Numbers, mask: Mask | None = None
) -> TrainState:
    """Fresh states of many members, [members, ...]; each equals `new_state` of its numbers.

    Args:
        program: shared by all members.
        shape: of one row.
        values: [members].
        mask: what each member has of the model, [members, ...]; None for all of it.
    """

    def one(member: Numbers, mask: Mask | None) -> TrainState:
        state = new_state(program, shape, member)
        return state if mask is None else state._replace(variables=masked(state.variables, mask))

    return jax.vmap(one)(values, mask)

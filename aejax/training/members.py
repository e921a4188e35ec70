"""A population's members: what each trains on, and what its training leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import Config
from aejax.core.masks import Mask
from aejax.core.scaling import Scaler
from aejax.training.course import Orders, course, rows_of_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One model to train.

    Attributes:
        config: all settings; those that a program is compiled for are shared by all members.
        training: positions of its training rows.
        validation: positions of its validation rows; empty for none.
        scaling: positions of the rows that its scaler is fitted on; None takes those that
            it trains on.
        mask: what it has of the model; None for all of it.
    """

    config: Config
    training: np.ndarray
    validation: np.ndarray
    scaling: np.ndarray | None = None
    mask: Mask | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedMember:
    """What a member's training leaves.

    Attributes:
        variables: the parameters (and batch statistics) to use.
        scaler: fitted on its training rows.
        history: one dict an epoch: epoch, loss, and validation_loss where there are
            validation rows.
        best_epoch: the epoch whose variables these are, or None for the last.
        problem: why the member is of no use (its loss was not finite), or None.
        epochs_run: epochs that a program had a place for it, those after it stopped included.
    """

    variables: dict[str, Any]
    scaler: Scaler
    history: list[dict[str, Any]]
    best_epoch: int | None
    problem: str | None
    epochs_run: int = 0


def member_orders(member: Member, epochs: range, per_epoch: int) -> np.ndarray:
    """Positions in all rows, int32 [epochs, per_epoch, B], of the batches it sees alone."""
    train = member.config.train
    orders = np.full((len(epochs), per_epoch, train.batch_size), -1, np.int32)
    order_of = Orders(train=train, rows=len(member.training))
    for at, epoch in enumerate(epochs):
        order = order_of(epoch)
        picked = member.training[np.maximum(order, ~order)]
        orders[at, : len(order)] = np.where(order >= 0, picked, ~picked)
    return orders


def validation_tiles(
    positions: Sequence[np.ndarray], batch_size: int, most: int
) -> np.ndarray | None:
    """Each member's validation rows as int32 [members, tiles, B], padded with -1; or None.

    Args:
        positions: of each member's rows.
        batch_size: most rows in a tile.
        most: rows that there must be room for.
    """
    if not most:
        return None
    size = min(batch_size, most)
    tiles = np.full((len(positions), -(-most // size) * size), -1, np.int32)
    for at, member in enumerate(positions):
        tiles[at, : len(member)] = member
    return tiles.reshape(len(positions), -1, size)


def history_of(loss: np.ndarray, check: np.ndarray | None, member: Member) -> list[dict[str, Any]]:
    """A member's history, as `TrainedMember` has it.

    Args:
        loss: of every step of the epochs that counted, [epochs, steps].
        check: validation loss of every epoch, of at least these, or None.
        member: whose it is.
    """
    epochs, per_epoch = loss.shape
    counts = np.zeros(loss.size)
    steps = min(course(member.config.train, len(member.training)).steps, loss.size)
    counts[:steps] = rows_of_steps(member.config.train, len(member.training), steps)
    history: list[dict[str, Any]] = []
    for epoch, of_epoch in enumerate(counts.reshape(epochs, per_epoch)):
        mean = float(loss[epoch] @ of_epoch / of_epoch.sum())
        row: dict[str, Any] = {"epoch": epoch + 1}
        if member.config.train.unit == "steps":
            row["step"] = min((epoch + 1) * per_epoch, steps)
        row["loss"] = mean
        if check is not None:
            row["validation_loss"] = float(check[epoch])
        history.append(row)
    return history


def problem_of(loss: np.ndarray, variables: object) -> str | None:
    """What isn't finite in a member's losses and parameters, in words, or None.

    Args:
        loss: of every step, [epochs, steps].
        variables: that its training left.
    """
    wrong = np.flatnonzero(~np.isfinite(loss.ravel()))
    if len(wrong):
        return f"the loss became {loss.ravel()[wrong[0]]} at step {wrong[0] + 1}"
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        return "the parameters are not finite after the last step"
    return None

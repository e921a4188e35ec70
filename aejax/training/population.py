"""Many models at once: groups of members in one compiled program each, side by side.

Members of a group share the architecture and everything else that a program is compiled
for; they differ in seed and numbers. A group is as large as fits the cache, because
members side by side cost memory traffic where members one after the other cost dispatch.
Groups run on all devices, or on all cores of a CPU, one single-threaded program a core.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from tqdm import tqdm

from aejax.config import Config, InputError
from aejax.core import optimizers, scaling, steps
from aejax.core.scaling import Scaler
from aejax.data import batches

GROUP = 8
EPOCHS_AT_ONCE = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One model to train.

    Attributes:
        config: all settings; those that a program is compiled for are shared by all members.
        training: positions of its training rows.
        validation: positions of its validation rows; empty for none.
    """

    config: Config
    training: np.ndarray
    validation: np.ndarray


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
    """

    variables: dict[str, Any]
    scaler: Scaler
    history: list[dict[str, Any]]
    best_epoch: int | None
    problem: str | None


def train_population(
    members: Sequence[Member],
    model: nn.Module,
    x: np.ndarray,
    *,
    shape: tuple[int, ...],
    shared_order: bool = False,
    group_size: int = GROUP,
    progress: bool = False,
) -> list[TrainedMember]:
    """Train all members; each ends as it would have alone (float32 rounding aside).

    Args:
        members: what to train; equal in all that a program is compiled for.
        model: built for the members' model settings.
        x: rows as stored, [n, ...], shared by all members.
        shape: of one row.
        shared_order: every member sees the first member's batches, in its order: faster,
            and not what the member would have seen alone. Needs equal training rows.
        group_size: members in one program.
        progress: whether to draw a progress bar on stderr.

    Raises:
        InputError: if there are no members, or they differ in what must be shared.
    """
    if not members:
        raise InputError("members: found 0; allowed: at least 1")
    first = members[0]
    program = _shared_program(members, model)
    if shared_order and any(
        not np.array_equal(member.training, first.training) for member in members
    ):
        raise InputError("shared_order with different training rows; allowed: equal rows")
    rows = jax.device_put(x)
    groups = [
        _Group(list(range(at, min(at + group_size, len(members)))))
        for at in range(0, len(members), group_size)
    ]
    done: dict[int, TrainedMember] = {}
    workers = os.cpu_count() or 1 if jax.default_backend() == "cpu" else jax.local_device_count()
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(members), unit="models", disable=not progress, dynamic_ncols=True) as bar,
    ):

        def train(group: _Group) -> None:
            done.update(_train_group(group, members, program, rows, x, shape, shared_order))
            bar.update(len(group.numbers))

        list(pool.map(train, groups))
    return [done[number] for number in range(len(members))]


@dataclasses.dataclass
class _Group:
    numbers: list[int]


def _shared_program(members: Sequence[Member], model: nn.Module) -> steps.Program:
    first = members[0].config
    program = steps.program_of(first, model)
    for number, member in enumerate(members):
        train = member.config.train
        for name in ("epochs", "batch_size", "patience"):
            found, wanted = getattr(train, name), getattr(first.train, name)
            if found != wanted:
                raise InputError(
                    f"members differ in Train.{name}: {wanted!r} of the first, {found!r} of "
                    f"member {number}; allowed: one value"
                )
        if steps.program_of(member.config, model) != program or member.config.scale != first.scale:
            raise InputError(
                f"member {number} differs from the first in model, scale, loss, optimizer or "
                "schedule, or in whether it has noise or clipping; allowed: one of each"
            )
    return program


def _train_group(
    group: _Group,
    members: Sequence[Member],
    program: steps.Program,
    rows: jax.Array,
    x: np.ndarray,
    shape: tuple[int, ...],
    shared_order: bool,
) -> dict[int, TrainedMember]:
    chosen = [members[number] for number in group.numbers]
    train = chosen[0].config.train
    counts = {-(-len(member.training) // train.batch_size) for member in chosen}
    per_epoch, ragged = max(counts), len(counts) > 1
    scalers = [scaling.fit(member.config.scale, [x[member.training]], x.dtype) for member in chosen]
    values = [
        optimizers.numbers(
            member.config.train, train.epochs * -(-len(member.training) // train.batch_size)
        )
        for member in chosen
    ]
    validation = _validation([member.validation for member in chosen], train.batch_size)
    fed = steps.Epochs(
        order=None, validation=validation, scaler=_stack(scalers), values=_stack(values)
    )
    fed = jax.device_put(fed)
    states = steps.compiled_new_members(program, shape, fed.values)
    best = None
    if train.patience is not None:
        best = steps.compiled_new_best_of_members(states)
    losses, checks = [], []
    orders_of = [members[0]] if shared_order else chosen
    for begin in range(0, train.epochs, EPOCHS_AT_ONCE):
        epochs = range(begin, min(begin + EPOCHS_AT_ONCE, train.epochs))
        orders = np.stack([_orders(member, epochs, per_epoch) for member in orders_of])
        states, best, loss, check = steps.compiled_train_members(
            program,
            states,
            best,
            rows,
            fed._replace(order=jax.device_put(orders[0] if shared_order else orders)),
            jax.device_put(np.int32(begin)),
            jax.device_put(np.int32(train.patience or 0)),
            shared_order=shared_order,
            ragged=ragged,
        )
        losses.append(np.asarray(loss, np.float64))
        checks.append(np.asarray(check))
        if best is not None and np.all(best.stopped):
            break
    loss, check = np.concatenate(losses, axis=1), np.concatenate(checks, axis=1)
    kept = states.variables if best is None else best.variables
    host = jax.device_get(kept)
    epochs_of_best = None if best is None else np.asarray(best.epoch)
    waited = None if best is None else np.asarray(best.waited)
    return {
        number: TrainedMember(
            variables=jax.tree.map(lambda leaf, at=at: leaf[at], host),
            scaler=scalers[at],
            history=_history(
                loss[at],
                None if validation is None else check[at],
                chosen[at],
                None
                if epochs_of_best is None or waited is None
                else int(epochs_of_best[at] + waited[at]) + 1,
            ),
            best_epoch=None if epochs_of_best is None else int(epochs_of_best[at]),
            problem=_problem(loss[at], host, at),
        )
        for at, number in enumerate(group.numbers)
    }


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _orders(member: Member, epochs: range, per_epoch: int) -> np.ndarray:
    """Positions in all rows, int32 [epochs, per_epoch, B], of the batches it sees alone."""
    train = member.config.train
    orders = np.full((len(epochs), per_epoch, train.batch_size), -1, np.int32)
    for at, epoch in enumerate(epochs):
        order = batches.epoch_order(len(member.training), train.batch_size, train.seed, epoch)
        picked = member.training[np.maximum(order, 0)]
        orders[at, : len(order)] = np.where(order >= 0, picked, -1)
    return orders


def _validation(positions: Sequence[np.ndarray], batch_size: int) -> np.ndarray | None:
    most = max(map(len, positions))
    if not most:
        return None
    size = min(batch_size, most)
    tiles = np.full((len(positions), -(-most // size) * size), -1, np.int32)
    for at, member in enumerate(positions):
        tiles[at, : len(member)] = member
    return tiles.reshape(len(positions), -1, size)


def _history(
    loss: np.ndarray, check: np.ndarray | None, member: Member, epochs: int | None
) -> list[dict[str, Any]]:
    rows, size = len(member.training), member.config.train.batch_size
    counts = np.minimum(size, np.maximum(rows - size * np.arange(loss.shape[1]), 0))
    history: list[dict[str, Any]] = []
    for epoch in range(len(loss) if epochs is None else min(epochs, len(loss))):
        row: dict[str, Any] = {"epoch": epoch + 1, "loss": float(loss[epoch] @ counts / rows)}
        if check is not None:
            row["validation_loss"] = float(check[epoch])
        history.append(row)
    return history


def _problem(loss: np.ndarray, host: Any, at: int) -> str | None:
    wrong = np.flatnonzero(~np.isfinite(loss.ravel()))
    if len(wrong):
        return f"the loss became {loss.ravel()[wrong[0]]} at step {wrong[0] + 1}"
    if not all(np.isfinite(leaf[at]).all() for leaf in jax.tree.leaves(host)):
        return "the parameters are not finite after the last step"
    return None

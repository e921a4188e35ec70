"""Many models at once: groups of members in one compiled program each, side by side.

Members of a group share the architecture and everything else that a program is compiled
for; they differ in seed and numbers. A group is as large as fits the cache, because
members side by side cost memory traffic where members one after the other cost dispatch.
Groups take turns on the devices, and run on all cores of a CPU, one single-threaded
program a core.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from tqdm import tqdm

from aejax.config import InputError
from aejax.core import mesh, optimizers, scaling, steps
from aejax.training.members import (
    Member,
    TrainedMember,
    history_of,
    member_orders,
    problem_of,
    validation_tiles,
)

__all__ = ["GROUP", "Member", "TrainedMember", "train_population", "train_populations"]

GROUP = 8
EPOCHS_AT_ONCE = 32
# The kind, the numbers of its members, how many of these are trained elsewhere too, and how.
_Training = tuple[int, list[int], int, Callable[[jax.Array], list[TrainedMember]]]


def train_population(
    members: Sequence[Member],
    model: nn.Module,
    x: np.ndarray,
    *,
    shape: tuple[int, ...],
    shared_order: bool = False,
    group_size: int = GROUP,
    devices: int | None = None,
    progress: bool = False,
) -> list[TrainedMember]:
    """Train members of one kind; see `train_populations`.

    Args:
        members: what to train; equal in all that a program is compiled for.
        model: built for the members' model settings.
        x: rows as stored, [n, ...], shared by all members.
        shape: of one row.
        shared_order: as in `train_populations`.
        group_size: most members in one program.
        devices: as in `train_populations`.
        progress: whether to draw a progress bar on stderr.

    Raises:
        InputError: if there are no members, or they differ in what must be shared.
    """
    (trained,) = train_populations(
        [(members, model)],
        x,
        shape=shape,
        shared_order=shared_order,
        group_size=group_size,
        devices=devices,
        progress=progress,
    )
    return trained


def train_populations(
    populations: Sequence[tuple[Sequence[Member], nn.Module]],
    x: np.ndarray,
    *,
    shape: tuple[int, ...],
    shared_order: bool = False,
    group_size: int = GROUP,
    devices: int | None = None,
    progress: bool = False,
) -> list[list[TrainedMember]]:
    """Train members of several kinds; each ends as it would have alone (float32 rounding aside).

    Groups of all kinds share the cores, so that one kind is compiled while another trains.

    Args:
        populations: members that are equal in all that a program is compiled for, with the
            model that was built for their settings; as often as there are kinds.
        x: rows as stored, [n, ...], shared by all members.
        shape: of one row.
        shared_order: every member sees the first member's batches, in its order: faster,
            and not what the member would have seen alone. Needs equal training rows.
        group_size: most members in one program; a kind's groups are of one size, so that
            they share one compiled program.
        devices: how many of this process's devices train, groups taking turns; None takes all.
        progress: whether to draw a progress bar on stderr.

    Raises:
        InputError: if there are no members, or they differ in what must be shared.
    """
    chosen = mesh.local_devices(devices)
    trainings: list[_Training] = []
    for kind, (members, model) in enumerate(populations):
        if not members:
            raise InputError("members: found 0; allowed: at least 1")
        program = _shared_program(members, model)
        if shared_order and any(
            not np.array_equal(member.training, members[0].training) for member in members
        ):
            raise InputError("shared_order with different training rows; allowed: equal rows")
        leader = members[0] if shared_order else None
        for numbers, again in _groups(len(members), group_size):
            group = [members[number] for number in numbers]
            train = functools.partial(_train_group, group, program, x=x, shape=shape, leader=leader)
            trainings.append((kind, numbers, again, train))
    done: list[dict[int, TrainedMember]] = [{} for _ in populations]
    # A CPU's programs are compiled for one thread; another device works on one at a time.
    on_cpu = chosen[0].platform == "cpu"
    workers = os.cpu_count() or 1 if on_cpu else len(chosen)
    used = chosen[: len(trainings)]
    rows_on = [jax.device_put(x, device) for device in used]
    total = sum(len(members) for members, _ in populations)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=total, unit="models", disable=not progress, dynamic_ncols=True) as bar,
    ):

        def run(turn: int) -> None:
            kind, numbers, again, train = trainings[turn]
            at = turn % len(used)
            # Of this thread: what the group makes lies on its device, and so runs there.
            with jax.default_device(used[at]):
                found = train(rows_on[at])
            done[kind].update(zip(numbers[again:], found[again:], strict=True))
            bar.update(len(numbers) - again)

        list(pool.map(run, range(len(trainings))))
    return [[found[number] for number in range(len(found))] for found in done]


def _groups(members: int, group_size: int) -> list[tuple[list[int], int]]:
    """Numbers of the members of each group; all groups are of one size.

    Where the members don't divide into groups of one size, the last groups begin with some of
    the members before them, as many as the second number says: training a few twice takes
    less time than compiling a program for a group of another size.
    """
    count = -(-members // group_size)
    size = -(-members // count)
    starts = [(min(at * size, members - size), at * size) for at in range(count)]
    return [(list(range(start, start + size)), min(own - start, size)) for start, own in starts]


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
    chosen: Sequence[Member],
    program: steps.Program,
    rows: jax.Array,
    *,
    x: np.ndarray,
    shape: tuple[int, ...],
    leader: Member | None,
) -> list[TrainedMember]:
    """Members of one program, which all see the leader's batches where there is a leader."""
    train = chosen[0].config.train
    counts = {-(-len(member.training) // train.batch_size) for member in chosen}
    per_epoch, ragged = max(counts), len(counts) > 1
    scalers = [
        scaling.fit(
            member.config.scale,
            [x[member.training if member.scaling is None else member.scaling]],
            x.dtype,
        )
        for member in chosen
    ]
    values = [
        optimizers.numbers(
            member.config.train, train.epochs * -(-len(member.training) // train.batch_size)
        )
        for member in chosen
    ]
    validation = validation_tiles([member.validation for member in chosen], train.batch_size)
    fed = steps.Epochs(
        order=None, validation=validation, scaler=_stack(scalers), values=_stack(values)
    )
    fed = jax.device_put(fed)
    # What training begins with is the same for all schedules: one program makes it.
    beginning = dataclasses.replace(program, schedule="constant")
    states = steps.compiled_new_members(beginning, shape, fed.values)
    best = None
    if train.patience is not None:
        best = steps.compiled_new_best_of_members(states)
    losses, checks = [], []
    shared_order = leader is not None
    ordering = chosen if leader is None else [leader]
    for begin in range(0, train.epochs, EPOCHS_AT_ONCE):
        epochs = range(begin, min(begin + EPOCHS_AT_ONCE, train.epochs))
        orders = np.stack([member_orders(member, epochs, per_epoch) for member in ordering])
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
    return [
        TrainedMember(
            variables=jax.tree.map(lambda leaf, at=at: leaf[at], host),
            scaler=scalers[at],
            history=history_of(
                loss[at],
                None if validation is None else check[at],
                chosen[at],
                None
                if epochs_of_best is None or waited is None
                else int(epochs_of_best[at] + waited[at]) + 1,
            ),
            best_epoch=None if epochs_of_best is None else int(epochs_of_best[at]),
            problem=problem_of(loss[at], host, at),
        )
        for at in range(len(chosen))
    ]


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

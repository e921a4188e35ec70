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
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from tqdm import tqdm

from aejax.config import Config, InputError, dropout_of
from aejax.core import mesh, steps
from aejax.models.heads import heads_of_model
from aejax.training import cohorts
from aejax.training.cohorts import Cohort, Kind, Round
from aejax.training.members import Member, TrainedMember, history_of, problem_of

__all__ = ["GROUP", "Member", "TrainedMember", "train_population", "train_populations"]

GROUP = 8
# A kind's number, and what gives the cohort to train.
_Work = tuple[int, Callable[[], Cohort]]


@dataclasses.dataclass(kw_only=True)
class _Record:
    """What is known of a member while it trains."""

    losses: list[np.ndarray] = dataclasses.field(default_factory=list)
    checks: list[np.ndarray] = dataclasses.field(default_factory=list)
    variables: dict[str, Any] | None = None
    best_epoch: int | None = None
    counted: int | None = None


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
    groups = sum(-(-len(members) // group_size) for members, _ in populations)
    rows = {device: jax.device_put(x, device) for device in chosen[:groups]}
    found: list[Kind] = []
    for members, model in populations:
        if not members:
            raise InputError("members: found 0; allowed: at least 1")
        if shared_order and any(
            not np.array_equal(member.training, members[0].training) for member in members
        ):
            raise InputError("shared_order with different training rows; allowed: equal rows")
        found.append(
            Kind(
                program=_shared_program(members, model),
                members=members,
                scalers=cohorts.fit_scalers(members, x, heads_of_model(model)),
                rows=rows,
                shape=shape,
                leader=members[0] if shared_order else None,
            )
        )
    return _train(found, list(rows), group_size, progress)


def _train(
    found: Sequence[Kind], devices: Sequence[jax.Device], group_size: int, progress: bool
) -> list[list[TrainedMember]]:
    """Round after round, until no member of any kind goes on; groups take devices in turn."""
    records: list[list[_Record]] = [[_Record() for _ in kind.members] for kind in found]
    total = sum(len(kind.members) for kind in found)
    with (
        ThreadPoolExecutor(workers(devices)) as pool,
        tqdm(total=total, unit="models", disable=not progress, dynamic_ncols=True) as bar,
    ):

        def one(work: _Work) -> tuple[int, Cohort | None]:
            """A round, or all of them where none can stop early: the cohort, if it goes on."""
            at, make = work
            kind, cohort = found[at], make()
            done = False
            while not done:
                after = cohorts.advance(kind, cohort)
                cohort, done = after.cohort, after.done
                _note(records[at], after)
                if cohort.best is not None:
                    break
            if done:
                _keep(kind, records[at], cohort)
                bar.update(sum(cohort.own))
            return at, None if done else cohort

        turns = itertools.cycle(devices)
        work: list[_Work] = [
            (at, functools.partial(cohorts.begin, kind, device, *planned))
            for at, kind in enumerate(found)
            for planned, device in zip(cohorts.plan(kind, group_size), turns, strict=False)
        ]
        while work:
            left: dict[int, list[Cohort]] = {}
            for at, cohort in pool.map(one, work):
                if cohort is not None:
                    left.setdefault(at, []).append(cohort)
            work = []
            for at, going in left.items():
                after = cohorts.compact(found[at], going)
                for cohort in going if after is not going else ():
                    stopped = _keep(found[at], records[at], cohort, only_stopped=True)
                    bar.update(stopped)
                work += [(at, functools.partial(_given, cohort)) for cohort in after]
    return [
        [_result(kind, number, record) for number, record in enumerate(of_kind)]
        for kind, of_kind in zip(found, records, strict=True)
    ]


def workers(devices: Sequence[jax.Device]) -> int:
    """Programs that run at once: as many as there are cores of a CPU, or devices.

    A CPU's programs are compiled for one thread; another device works on one at a time.
    """
    return os.cpu_count() or 1 if devices[0].platform == "cpu" else len(devices)


def _given(cohort: Cohort) -> Cohort:
    return cohort


def _note(records: list[_Record], after: Round) -> None:
    """Add a round's losses to the records of its members."""
    for at, number in enumerate(after.cohort.numbers):
        if after.cohort.own[at]:
            records[number].losses.append(after.loss[at])
            records[number].checks.append(after.check[at])


def _keep(kind: Kind, records: list[_Record], cohort: Cohort, *, only_stopped: bool = False) -> int:
    """Put what training left into the records of a cohort's members; returns of how many."""
    best = cohort.best
    host = jax.device_get(cohort.states.variables if best is None else best)
    count = 0
    for at, number in enumerate(cohort.numbers):
        if not cohort.own[at] or (only_stopped and not host.stopped[at]):
            continue
        count += 1
        record = records[number]
        # Copies: a member must not keep its whole cohort in memory.
        own = jax.tree.map(lambda leaf, at=at: np.array(leaf[at]), host)
        variables = dict(own if best is None else own.variables)
        variables.pop("mask", None)
        record.variables = variables
        if best is not None:
            record.best_epoch = int(own.epoch)
            record.counted = int(own.epoch + own.waited) + 1
    return count


def _result(kind: Kind, number: int, record: _Record) -> TrainedMember:
    member = kind.members[number]
    own = cohorts.steps_of(member if kind.leader is None else kind.leader)
    loss = np.concatenate([part[:, :own] for part in record.losses])[: record.counted]
    check = np.concatenate(record.checks)
    assert record.variables is not None
    return TrainedMember(
        variables=record.variables,
        scaler=kind.scalers[number],
        history=history_of(loss, check if len(member.validation) else None, member),
        best_epoch=record.best_epoch,
        problem=problem_of(loss, record.variables),
        epochs_run=len(check),
    )


def _shared_program(members: Sequence[Member], model: nn.Module) -> steps.Program:
    first = members[0].config
    # A member that drops nothing costs random bits where another one drops units, and no more.
    drops = any(dropout_of(member.config.model) > 0 for member in members)

    def program_of(config: Config) -> steps.Program:
        program = steps.program_of(config, model)
        objective = dataclasses.replace(program.objective, drops=drops)
        return dataclasses.replace(program, objective=objective)

    program = program_of(first)
    for number, member in enumerate(members):
        train = member.config.train
        for name in ("epochs", "batch_size", "patience"):
            found, wanted = getattr(train, name), getattr(first.train, name)
            if found != wanted:
                raise InputError(
                    f"members differ in Train.{name}: {wanted!r} of the first, {found!r} of "
                    f"member {number}; allowed: one value"
                )
        if program_of(member.config) != program or member.config.scale != first.scale:
            raise InputError(
                f"member {number} differs from the first in model, scale, loss, optimizer or "
                "schedule, or in whether it has noise or clipping; allowed: one of each"
            )
    return program

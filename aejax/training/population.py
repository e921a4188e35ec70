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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError
from aejax.core import mesh, steps
from aejax.data.batches import data_fingerprint
from aejax.models.network import Network
from aejax.training import cohorts
from aejax.training.bar import Bar
from aejax.training.cohorts import MOST_EXACT_STEPS, Cohort, Kind, Round
from aejax.training.identity import members_identity
from aejax.training.loop import Interrupted
from aejax.training.members import Member, TrainedMember, history_of, problem_of
from aejax.training.parts import KeptParts

GROUP, ACCELERATOR_GROUP = 8, 1024
# Programs of each core that train at once where kinds are to be finished one by one.
LEAST_AT_ONCE = 4
# A kind's number, and what gives the cohort to train.
_Work = tuple[int, Callable[[], Cohort]]


@dataclasses.dataclass(kw_only=True)
class Record:
    """What is known of a member while it trains."""

    losses: list[np.ndarray] = dataclasses.field(default_factory=list)
    checks: list[np.ndarray] = dataclasses.field(default_factory=list)
    variables: dict[str, Any] | None = None
    best_epoch: int | None = None
    counted: int | None = None


def note(records: list[Record], after: Round) -> None:
    """Add a round's losses to the records of its members."""
    for at, number in enumerate(after.cohort.numbers):
        if after.cohort.own[at]:
            records[number].losses.append(after.loss[at])
            records[number].checks.append(after.check[at])


def keep(kind: Kind, records: list[Record], cohort: Cohort, *, only_stopped: bool = False) -> int:
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


def result(kind: Kind, number: int, record: Record) -> TrainedMember:
    """What a member's training left, from its record."""
    member = kind.members[number]
    own = cohorts.course_of(member if kind.leader is None else kind.leader)
    loss = np.concatenate([part[:, : own.per_epoch] for part in record.losses])[: record.counted]
    # Behind the last step there is padding only.
    loss.ravel()[own.steps :] = 0
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


__all__ = ["GROUP", "Member", "TrainedMember", "train_populations"]


def train_populations(
    populations: Sequence[tuple[Sequence[Member], Network]],
    x: np.ndarray,
    *,
    shape: tuple[int, ...],
    shared_order: bool = False,
    group_size: int | None = None,
    devices: int | None = None,
    progress: bool = False,
    parts: KeptParts | None = None,
    fingerprint: str | None = None,
    should_stop: Callable[[], bool] = lambda: False,
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
        group_size: most members in one program; None lets the device decide. A kind's groups
            are of one size, so that they share one compiled program.
        devices: how many of this process's devices train, groups taking turns; None takes all.
        progress: whether to draw a progress bar on stderr.
        parts: keeps each of the populations when it is trained, and knows those that are. All
            groups are of `group_size` then, and no population's bits depend on the others.
            Parts of other networks, settings, members or rows than these are refused.
        fingerprint: of the rows, as `batches.data_fingerprint` gives it, where it is known;
            None takes it, where there are parts.
        should_stop: asked between rounds of epochs; True raises `Interrupted`.

    Raises:
        InputError: if there are no members, they differ in what must be shared, or `parts` are
            those of another training.
        Interrupted: when `should_stop` said so.
    """
    chosen = mesh.local_devices(devices)
    group_size = group_size or side_by_side()
    groups = sum(-(-len(members) // group_size) for members, _ in populations)
    rows = {device: jax.device_put(x, device) for device in chosen[:groups]}
    programs = [_shared_program(members, model) for members, model in populations]
    lengths: dict[steps.Program, set[int]] = {}
    for program, (members, _) in zip(programs, populations, strict=True):
        lengths.setdefault(program, set()).update(map(cohorts.steps_of, members))
    if parts is not None:
        parts.claim(
            {
                "rows": fingerprint or data_fingerprint(x),
                "shared_order": shared_order,
                "populations": [
                    members_identity(program, members, x, shape)
                    for program, (members, _) in zip(programs, populations, strict=True)
                ],
            }
        )
    trained: dict[int, list[TrainedMember]] = {}
    kinds: dict[int, Kind] = {}
    for at, (members, model) in enumerate(populations):
        if shared_order and any(
            not np.array_equal(member.training, members[0].training) for member in members
        ):
            raise InputError("shared_order with different training rows; allowed: equal rows")
        before = None if parts is None else parts.read(at, len(members))
        if before is not None:
            trained[at] = before
            continue
        kinds[at] = Kind(
            program=programs[at],
            members=members,
            scalers=cohorts.fit_scalers(members, x, model.heads),
            rows=rows,
            shape=shape,
            leader=members[0] if shared_order else None,
            rounded=len(lengths[programs[at]]) > MOST_EXACT_STEPS,
            fills=parts is not None,
        )
    with Bar(
        sum(len(members) for members, _ in populations),
        unit="models",
        done=sum(map(len, trained.values())),
        shown=progress,
    ) as bar:
        # Rounds of all kinds are in step; if all began at once, none would end before the others.
        in_rounds = any(
            kind.members[0].config.train.patience is not None for kind in kinds.values()
        )
        at_once = LEAST_AT_ONCE * workers(list(rows)) if parts is not None and in_rounds else None
        finished = _train(kinds, list(rows), group_size, at_once, bar.update, should_stop)
        for at, members_of_kind in finished:
            trained[at] = members_of_kind
            if parts is not None:
                parts.write(at, members_of_kind)
    return [trained[at] for at in range(len(populations))]


def _train(
    kinds: Mapping[int, Kind],
    devices: Sequence[jax.Device],
    group_size: int,
    at_once: int | None,
    count: Callable[[int], object],
    should_stop: Callable[[], bool],
) -> Iterator[tuple[int, list[TrainedMember]]]:
    """Round after round, until no member of any kind goes on; groups take devices in turn.

    Args:
        kinds: kinds by number.
        devices: that train.
        group_size: most members in one program.
        at_once: kinds are begun one by one, so that so many groups train; None begins all.
        count: called with how many members were finished.
        should_stop: True raises `Interrupted`.

    Yields:
        The number of a kind that is finished, and what its training left.
    """
    records = {at: [Record() for _ in kind.members] for at, kind in kinds.items()}

    def one(work: _Work) -> Cohort | None:
        """A round, or all of them where none can stop early: the cohort, if it goes on."""
        at, make = work
        kind, cohort = kinds[at], make()
        done = False
        while not done:
            if should_stop():
                raise Interrupted("stopped before all models were trained")
            after = cohorts.advance(kind, cohort)
            cohort, done = after.cohort, after.done
            note(records[at], after)
            if cohort.best is not None:
                break
        if done:
            count(keep(kind, records[at], cohort))
        return None if done else cohort

    turns = itertools.cycle(devices)
    waiting = iter(kinds.items())
    work: list[_Work] = []
    with ThreadPoolExecutor(workers(devices)) as pool:
        while True:
            while at_once is None or len(work) < at_once:
                begun, kind = next(waiting, (-1, None))
                if kind is None:
                    break
                work += [
                    (begun, functools.partial(cohorts.begin, kind, device, *planned))
                    for planned, device in zip(cohorts.plan(kind, group_size), turns, strict=False)
                ]
            if not work:
                return
            due = Counter(at for at, _ in work)
            left: dict[int, list[Cohort]] = {}
            for (at, _), cohort in zip(work, pool.map(one, work), strict=True):
                due[at] -= 1
                if cohort is not None:
                    left.setdefault(at, []).append(cohort)
                elif not due[at] and at not in left:
                    of_kind = records.pop(at)
                    yield at, [result(kinds[at], *known) for known in enumerate(of_kind)]
            work = []
            for at, going in left.items():
                fewer = cohorts.compact(kinds[at], going)
                for cohort in going if fewer is not going else ():
                    count(keep(kinds[at], records[at], cohort, only_stopped=True))
                work += [(at, functools.partial(_given, cohort)) for cohort in fewer]


def side_by_side() -> int:
    """Members of a program where nobody says: as many as a CPU's cache holds, or a device fills."""
    return GROUP if jax.default_backend() == "cpu" else ACCELERATOR_GROUP


def workers(devices: Sequence[jax.Device]) -> int:
    """Programs that run at once: as many as there are cores of a CPU, or devices.

    A CPU's programs are compiled for one thread; another device works on one at a time.
    """
    return os.cpu_count() or 1 if devices[0].platform == "cpu" else len(devices)


def _given(cohort: Cohort) -> Cohort:
    return cohort


def _shared_program(members: Sequence[Member], model: Network) -> steps.Program:
    if not members:
        raise InputError("members: found 0; allowed: at least 1")
    first = members[0].config
    # A member that drops nothing costs random bits where another one drops units, and no more.
    drops = any(member.config.model.dropout > 0 for member in members)

    def program_of(config: Config) -> steps.Program:
        program = steps.program_of(config, model)
        objective = dataclasses.replace(program.objective, drops=drops)
        return dataclasses.replace(program, objective=objective)

    program = program_of(first)
    for number, member in enumerate(members):
        train = member.config.train
        for name in ("epochs", "steps", "batch_size", "patience"):
            own, wanted = getattr(train, name), getattr(first.train, name)
            if own != wanted:
                raise InputError(
                    f"members differ in Train.{name}: {wanted!r} of the first, {own!r} of "
                    f"member {number}; allowed: one value"
                )
        if program_of(member.config) != program or member.config.scale != first.scale:
            raise InputError(
                f"member {number} differs from the first in model, scale, loss, optimizer or "
                "schedule, or in whether it has noise or clipping; allowed: one of each"
            )
    return program

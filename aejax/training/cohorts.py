"""Members that share one compiled program, and how they go on when some of them have stopped.

A cohort trains some epochs at a time. Where members may stop early, those that go on are put
together again between two such rounds, in fewer programs of the same size, and in the end in
one of half the size, and half of that: so what has stopped costs nothing, and few programs
are compiled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.core import optimizers, scaling, steps
from aejax.models.heads import Head
from aejax.training.course import Course, course
from aejax.training.members import Member, member_orders, validation_tiles

EPOCHS_AT_ONCE = 32
# The fewest epochs of a round after which members that stopped are looked for.
LEAST_EPOCHS_AT_ONCE = 8
# Numbers of steps an epoch that members of one kind may have, each in programs of its own.
MOST_EXACT_STEPS = 4
# Members above which one program draws all first values.
MANY = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """Members that one program can train, and what it is compiled for.

    Attributes:
        program: shared by all.
        members: all of them.
        scalers: theirs.
        rows: all rows as stored, on each device that trains.
        shape: of one row.
        leader: whose batches all members see, or None.
        rounded: whether steps are rounded up to few shapes.
        fills: whether a program without enough members is filled up with the last of them, so
            that all have one size whatever the number of members.
    """

    program: steps.Program
    members: Sequence[Member]
    scalers: Sequence[scaling.Scaler]
    rows: Mapping[jax.Device, jax.Array]
    shape: tuple[int, ...]
    leader: Member | None = None
    rounded: bool = False
    fills: bool = False

    @property
    def epochs(self) -> int:
        """Epochs of all rounds, which the members share."""
        return course_of(self.members[0]).epochs

    @property
    def epochs_at_once(self) -> int:
        """Epochs of one round."""
        patience = self.members[0].config.train.patience
        if patience is None:
            # Of like length, so that they share a program.
            return -(-self.epochs // -(-self.epochs // EPOCHS_AT_ONCE))
        return min(EPOCHS_AT_ONCE, max(LEAST_EPOCHS_AT_ONCE, patience))


class Cohort(NamedTuple):
    """Members side by side in one program, between two rounds.

    Attributes:
        device: where it trains.
        numbers: of the members, in the order of the leading axis.
        own: which of them count here; the others fill the program up and are thrown away.
        begin: epochs that are done.
        states: [members, ...].
        best: [members, ...], or None.
        fed: all but the order.
        per_epoch: steps of an epoch.
        ragged: whether some have fewer, of some members or at the end.
    """

    device: jax.Device
    numbers: list[int]
    own: list[bool]
    begin: int
    states: steps.TrainState
    best: steps.Best | None
    fed: steps.Epochs
    per_epoch: int
    ragged: bool


class Round(NamedTuple):
    """What some epochs of a cohort left.

    Attributes:
        cohort: after them.
        loss: of every step, float64 [members, epochs, steps].
        check: validation loss of every epoch, [members, epochs].
        done: whether no member here goes on.
    """

    cohort: Cohort
    loss: np.ndarray
    check: np.ndarray
    done: bool


def course_of(member: Member) -> Course:
    """How long a member trains."""
    return course(member.config.train, len(member.training))


def steps_of(member: Member) -> int:
    """Steps of one of a member's epochs."""
    return course_of(member).per_epoch


def round_up(count: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on: few shapes, and little waste."""
    if count <= 2:
        return count
    power = 1 << ((count - 1).bit_length() - 1)
    return power * 3 // 2 if count <= power * 3 // 2 else power * 2


def plan(kind: Kind, group_size: int) -> list[tuple[list[int], list[bool]]]:
    """Which members train side by side: numbers, and which of them count.

    All cohorts are of one size: where the members don't divide, the last one begins with some
    of those before it, because training a few twice takes less time than compiling a program
    of another size. Members with like numbers of steps stand together, so that few wait for
    others' batches.
    """
    order = np.argsort([steps_of(member) for member in kind.members], kind="stable").tolist()
    count = -(-len(order) // group_size)
    size = group_size if kind.fills else -(-len(order) // count)
    plans = []
    for at in range(count):
        start = max(min(at * size, len(order) - size), 0)
        numbers = order[start : start + size]
        own = [start + place >= at * size for place in range(len(numbers))]
        missing = size - len(numbers)
        plans.append((numbers + numbers[-1:] * missing, own + [False] * missing))
    return plans


def begin(kind: Kind, device: jax.Device, numbers: list[int], own: list[bool]) -> Cohort:
    """A cohort before its first epoch; what it is made of lies on its device, and so runs there."""
    with jax.default_device(device):
        fed, per_epoch, ragged = _feed(kind, numbers)
        # What training begins with is the same for all schedules: one program makes it.
        beginning = dataclasses.replace(kind.program, schedule="constant")
        masks = [kind.members[number].mask for number in numbers]
        mask = None if masks[0] is None else jax.device_put(stack(masks))
        many = len(kind.members) > MANY
        new_members = steps.compiled_many_new_members if many else steps.compiled_new_members
        states = jax.device_put(new_members(beginning, kind.shape, fed.values, mask))
        best = None
        if kind.members[0].config.train.patience is not None:
            best = steps.compiled_new_best_of_members(states)
        return Cohort(device, numbers, own, 0, states, best, fed, per_epoch, ragged)


def _feed(kind: Kind, numbers: list[int]) -> tuple[steps.Epochs, int, bool]:
    """Scalers, numbers and validation rows of some members; their steps, and if these differ."""
    chosen = [kind.members[number] for number in numbers]
    train = chosen[0].config.train
    counts = {steps_of(member) for member in chosen}
    per_epoch = max(counts)
    held = [member.validation for member in chosen]
    most = max(map(len, held))
    if kind.rounded:
        per_epoch, most = round_up(per_epoch), round_up(most)
    scalers = [kind.scalers[number] for number in numbers]
    values = [optimizers.numbers(member.config, course_of(member).steps) for member in chosen]
    fed = steps.Epochs(
        order=None,
        validation=validation_tiles(held, train.batch_size, most),
        scaler=stack(scalers),
        values=stack(values),
    )
    short = any(of.steps < of.epochs * of.per_epoch for of in map(course_of, chosen))
    return jax.device_put(fed), per_epoch, short or counts != {per_epoch}


def fit_scalers(
    members: Sequence[Member], x: np.ndarray, heads: tuple[Head, ...] | None
) -> list[scaling.Scaler]:
    """Every member's scaler; members that share an array of positions share the work.

    Args:
        members: of one kind.
        x: rows of all of them.
        heads: of the columns of a mixed table, or None.
    """
    fitted: dict[int, scaling.Scaler] = {}
    scalers = []
    for member in members:
        picked = member.training if member.scaling is None else member.scaling
        # The members keep the arrays, so an address stands for one of them.
        if id(picked) not in fitted:
            fitted[id(picked)] = scaling.fit(member.config.scale, [x[picked]], x.dtype, heads)
        scalers.append(fitted[id(picked)])
    return scalers


def advance(kind: Kind, cohort: Cohort) -> Round:
    """Train a cohort for one round."""
    train = kind.members[0].config.train
    epochs = range(cohort.begin, min(cohort.begin + kind.epochs_at_once, kind.epochs))
    shared_order = kind.leader is not None
    if kind.leader is not None:
        order = member_orders(kind.leader, epochs, cohort.per_epoch)
    else:
        order = np.stack(
            [
                member_orders(kind.members[number], epochs, cohort.per_epoch)
                for number in cohort.numbers
            ]
        )
    with jax.default_device(cohort.device):
        states, best, loss, check = steps.compiled_train_members(
            kind.program,
            cohort.states,
            cohort.best,
            kind.rows[cohort.device],
            cohort.fed._replace(order=jax.device_put(order)),
            jax.device_put(np.int32(epochs.start)),
            jax.device_put(np.int32(train.patience or 0)),
            shared_order=shared_order,
            ragged=cohort.ragged,
        )
    after = cohort._replace(begin=epochs.stop, states=states, best=best)
    stopped = best is not None and bool(np.all(np.asarray(best.stopped)[cohort.own]))
    done = stopped or epochs.stop >= kind.epochs
    return Round(after, np.asarray(loss, np.float64), np.asarray(check), done)


def compact(kind: Kind, cohorts: list[Cohort]) -> list[Cohort]:
    """The members that go on, in fewer programs where that can be, else as they are.

    Args:
        kind: of the members.
        cohorts: all of the kind that aren't done, after the same number of epochs.
    """
    going = [number for cohort in cohorts for number in _going(cohort)]
    size = max(len(cohort.numbers) for cohort in cohorts)
    if len(going) < size:
        size = min(size, 1 << (len(going) - 1).bit_length())
    needed = -(-len(going) // size)
    if needed * size >= sum(len(cohort.numbers) for cohort in cohorts):
        return cohorts
    places = {
        number: (host, at)
        for cohort in cohorts
        for host in [jax.device_get((cohort.states, cohort.best))]
        for at, number in enumerate(cohort.numbers)
        if cohort.own[at]
    }
    compacted = []
    # Devices as they were: those that held the cohorts before.
    devices = [cohort.device for cohort in cohorts]
    for start, device in zip(range(0, needed * size, size), devices, strict=False):
        picked = [going[min(at, len(going) - 1)] for at in range(start, start + size)]
        own = [at < len(going) for at in range(start, start + size)]
        done = cohorts[0].begin
        with jax.default_device(device):
            fed, per_epoch, ragged = _feed(kind, picked)
            states, best = jax.device_put(stack([member_at(*places[number]) for number in picked]))
        compacted.append(Cohort(device, picked, own, done, states, best, fed, per_epoch, ragged))
    return compacted


def _going(cohort: Cohort) -> Iterable[int]:
    assert cohort.best is not None
    stopped = np.asarray(cohort.best.stopped)
    for at, number in enumerate(cohort.numbers):
        if cohort.own[at] and not stopped[at]:
            yield number


def stack(trees: Sequence[Any]) -> Any:
    """Trees of arrays as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def member_at(tree: Any, at: int) -> Any:
    """One member of a tree of arrays with a leading axis."""
    return jax.tree.map(lambda leaf: leaf[at], tree)

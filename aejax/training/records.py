"""What is known of a population's members while they train."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from aejax.training import cohorts
from aejax.training.cohorts import Cohort, Kind, Round
from aejax.training.members import TrainedMember, history_of, problem_of


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

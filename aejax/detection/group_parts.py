"""The training of groups in parts that are kept, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import Config, to_dict
from aejax.data.schema import Schema
from aejax.models.build import build
from aejax.training.cohorts import steps_of
from aejax.training.members import Member, TrainedMember
from aejax.training.parts import KeptParts
from aejax.training.population import train_populations

FOLDER = "parts"
# What a kill costs is a part; but where members stop early, they make room for others of their
# part, and every part ends with programs of few members.
MOST_PROGRAMS, LEAST_PARTS, MOST_PARTS = 4, 4, 16


def groups_fingerprint(names: Sequence[str], positions: np.ndarray) -> str:
    """SHA-256 of which group each row belongs to, in hexadecimal.

    Args:
        names: of the groups.
        positions: of each row's name among them, int [n].
    """
    total = hashlib.sha256("\x00".join(names).encode())
    total.update(np.ascontiguousarray(positions, np.int64).tobytes())
    return total.hexdigest()


def programs_together(programs: int, stops_early: bool) -> int:
    """How many programs of members make a part.

    Args:
        programs: of all members.
        stops_early: whether members may stop early.
    """
    least = min(MOST_PROGRAMS, -(-programs // LEAST_PARTS)) if stops_early else 1
    return max(least, -(-programs // MOST_PARTS))


def train_in_parts(
    members: Sequence[Member],
    config: Config,
    x: np.ndarray,
    schema: Schema,
    *,
    folder: Path,
    data: Mapping[str, Any],
    group_size: int,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TrainedMember]:
    """Train members of one configuration, some programs' worth at a time, each kept in a folder.

    Args:
        members: what to train.
        config: theirs.
        x: rows of the schema's type, [n, ...].
        schema: of the rows.
        folder: of the run; parts that it holds aren't trained again.
        data: what decides the result besides configuration and schema; "rows" is their
            fingerprint.
        group_size: most members in one program.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True raises `Interrupted`.

    Raises:
        InputError: if the folder holds parts of another training, naming the first difference.
    """
    identity = {"config": to_dict(config), "schema": schema.to_dict(), **data}
    programs = -(-len(members) // group_size)
    together = -(-len(members) // programs)
    parts = KeptParts(
        folder / FOLDER,
        identity,
        group_size=together,
        part_size=together * programs_together(programs, config.train.patience is not None),
    )
    # As in one go, members with like numbers of steps stand together.
    order = np.argsort([steps_of(member) for member in members], kind="stable")
    numbers_of = np.split(order, range(parts.part_size, len(order), parts.part_size))
    model = build(config.model, schema)
    found = train_populations(
        [([members[number] for number in numbers], model) for numbers in numbers_of],
        x,
        shape=schema.shape,
        group_size=parts.group_size,
        progress=progress,
        parts=parts,
        fingerprint=data.get("rows"),
        should_stop=should_stop,
    )
    trained: dict[int, TrainedMember] = {}
    for numbers, of_part in zip(numbers_of, found, strict=True):
        trained.update(zip(numbers.tolist(), of_part, strict=True))
    return [trained[number] for number in range(len(members))]

"""What decides a training's result: what a run that goes on has to share with its beginning.

It is made where the training is, of everything that the training is given, so that nobody who
calls it can leave something out.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import Train
from aejax.core import optimizers, steps
from aejax.core.optimizers import Numbers
from aejax.core.scaling import Scaler
from aejax.training import cohorts
from aejax.training.members import Member

HOUSE = "aejax."
# Fields that Linen adds to a module, which say where it stands and not what it is.
_OF_LINEN = ("parent", "name")


def digest(tree: object) -> str:
    """SHA-256 of a pytree's names, types, shapes and values, in hexadecimal."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(jax.device_get(leaf))
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def training_identity(
    program: steps.Program,
    train: Train,
    scaler: Scaler,
    values: Numbers,
    shape: tuple[int, ...],
) -> dict[str, Any]:
    """What a training computes, but for the values of its rows; JSON-ready.

    A network of the package is described by its settings: these stay what they are in other
    releases of JAX and on other devices, where a run may go on. What a network of somebody's own
    computes no name says, so its train step as it is lowered (StableHLO) stands for it.

    Args:
        program: what is trained.
        train: its settings.
        scaler: fitted on training rows.
        values: the run's numbers.
        shape: of one row.
    """
    parts = (program.objective.loss, program.optimizer, program.schedule)
    own = program.model.is_own or not all(isinstance(part, str) for part in parts)
    batch = (train.batch_size, *shape)
    step = steps.program_text(program, scaler, values, batch) if own else None
    return {
        "program": _described(program),
        "step": None if step is None else hashlib.sha256(step.encode()).hexdigest(),
        "numbers": {name: str(value) for name, value in values._asdict().items()},
        "scaler": digest(scaler),
        **{name: getattr(train, name) for name in ("epochs", "steps", "batch_size", "patience")},
    }


def members_identity(
    program: steps.Program, members: Sequence[Member], x: np.ndarray, shape: tuple[int, ...]
) -> dict[str, Any]:
    """What the training of members of one kind computes, but for the values of rows; JSON-ready.

    Args:
        program: theirs.
        members: what is trained.
        x: rows as stored, [n, ...], of which members name theirs by position.
        shape: of one row.
    """
    first = members[0]
    numbers = [
        optimizers.numbers(member.config, cohorts.course_of(member).steps) for member in members
    ]
    (scaler,) = cohorts.fit_scalers([first], x, program.model.heads)
    held = [(m.training, m.validation, m.scaling, m.mask) for m in members]
    return {
        **training_identity(program, first.config.train, scaler, numbers[0], shape),
        "scale": repr(first.config.scale),
        "members": digest((numbers, held)),
    }


def _described(part: object) -> Any:
    """Names and fields of a part of a program that is the package's, those within it too."""
    if not dataclasses.is_dataclass(part):
        plain = isinstance(part, str | int | float | tuple | type(None))
        # An optax.GradientTransformation is a tuple, too.
        return repr(part) if plain and not hasattr(part, "_fields") else "of one's own"
    if getattr(part, "is_own", False) or not type(part).__module__.startswith(HOUSE):
        return "of one's own"
    fields = (field.name for field in dataclasses.fields(part) if field.name not in _OF_LINEN)
    return {"kind": type(part).__name__} | {n: _described(getattr(part, n)) for n in fields}

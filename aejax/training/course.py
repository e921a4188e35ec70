"""The course of a training: how many steps, which rows are in each, and when it is validated."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from aejax.config import Train
from aejax.data import batches

# Parts of a training that is counted in steps: after each come its history, the validation rows
# and patience. It is the same for any number of rows, so that models of different rows can share a
# compiled program and few rows don't make an epoch of a single step.
PARTS = 50


class Course(NamedTuple):
    """How long a training is.

    Attributes:
        epochs: lines of the history. Each is a pass over the rows, or, where steps are counted, a
            part of these whose length doesn't depend on the rows.
        per_epoch: steps of each; the last may have fewer where steps are counted.
        steps: of all of them.
    """

    epochs: int
    per_epoch: int
    steps: int


def course(train: Train, rows: int) -> Course:
    """The course of a training on so many rows."""
    if train.steps is None:
        assert train.epochs is not None  # `Train` has one of them.
        per_pass = -(-rows // train.batch_size)
        return Course(train.epochs, per_pass, train.epochs * per_pass)
    per_epoch = -(-train.steps // PARTS)
    return Course(-(-train.steps // per_epoch), per_epoch, train.steps)


@dataclasses.dataclass(kw_only=True)
class Orders:
    """Which rows make the batches of each epoch of a course.

    The batches are those of one pass over the rows after the other, each in an order of its own.

    Args:
        train: settings.
        rows: how many there are.
        new: makes an array for numbers that are as many as the rows.
    """

    train: Train
    rows: int
    new: batches.NewNumbers = np.empty

    def __post_init__(self) -> None:
        self._course = course(self.train, self.rows)
        self._last: tuple[int, Any] = (-1, None)

    def __call__(self, epoch: int) -> np.ndarray:
        """Positions of rows, int32 or int64 [steps, B], as `batches.epoch_order` gives them."""
        at = epoch * self._course.per_epoch
        stop = min(at + self._course.per_epoch, self._course.steps)
        per_pass = -(-self.rows // self.train.batch_size)
        parts = []
        while at < stop:
            number, first = divmod(at, per_pass)
            parts.append(self._pass(number)[first : first + stop - at])
            at += len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _pass(self, number: int) -> np.ndarray:
        # Many epochs may lie within one pass over many rows.
        if self._last[0] != number:
            self._last = (-1, None)
            train = self.train
            order = batches.epoch_order(
                self.rows, train.batch_size, train.seed, number, new=self.new
            )
            self._last = (number, order)
        order = self._last[1]
        return order


def rows_of_steps(train: Train, rows: int, steps: int) -> np.ndarray:
    """How many rows are in each of the first steps of a training on so many rows, int [steps]."""
    place = np.arange(steps) % -(-rows // train.batch_size)
    return np.minimum(train.batch_size, rows - train.batch_size * place)

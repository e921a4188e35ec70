"""A system's task, and what it must offer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from benchmarks.cases import Case, Weights

Choice = dict[str, Any]
BATCH_SIZES = (512, 2048, 8192, 32_768)


class NotApplicable(Exception):
    """A system can't run a case; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One system's part in one case.

    Attributes:
        case: the network.
        weights: which it scores with, or starts to train from.
        rows: [n, *case.shape], float32 or uint8.
        precision: of the products.
        platform: "cpu", "gpu" or "tpu".
        batch_size: of training.
        epochs: of training.
        options: of the system's entry.
    """

    case: Case
    weights: Weights
    rows: np.ndarray
    precision: str = "float32"
    platform: str = "cpu"
    batch_size: int = 0
    epochs: int = 0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def batch_sizes(self) -> list[int]:
        """Batch sizes worth trying on these rows, all of them at once being the last."""
        rows = len(self.rows)
        return [size for size in BATCH_SIZES if size < rows] + [rows]


class ScoringSystem(Protocol):
    """A system that scores rows; built from a `Job`.

    Attributes:
        facts: versions, and `same_weights`: whether it has the given ones.
        choices: values to try in warm-up for each setting of `Choice`; the best is kept.
    """

    facts: dict[str, Any]
    choices: dict[str, list[Any]]

    def adapt(self, rows: np.ndarray) -> np.ndarray:
        """The rows in the layout that the library is at home with; not timed."""

    def use(self, choice: Choice) -> None:
        """Take a choice."""

    def score(self, rows: np.ndarray) -> np.ndarray:
        """From an array in host memory to float [n] in host memory."""


class ByBatchSize:
    """What systems share that take rows as they are and choose the size of a batch only."""

    def __init__(self, job: Job) -> None:
        self.choices: dict[str, list[Any]] = {"batch_size": job.batch_sizes}
        self.batch_size = job.batch_sizes[-1]

    def adapt(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def use(self, choice: Choice) -> None:
        self.batch_size = choice["batch_size"]


class TrainingSystem(Protocol):
    """A system that trains; built from a `Job`."""

    facts: dict[str, Any]

    def fit(self) -> None:
        """Train all epochs from fresh weights, and wait until it is done."""

    def loss(self) -> float:
        """Mean squared error of the reconstructed (clean) training rows, after `fit`."""


def slices(rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows."""
    return (slice(first, min(first + size, rows)) for first in range(0, rows, size))

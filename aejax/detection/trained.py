"""What training a detector takes, and what it leaves for the threshold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax import config as settings
from aejax.config import InputError
from aejax.core import steps
from aejax.data.disk_rows import Stored
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.models.backend import shapes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a detector is trained, besides its configuration and rows; see `fit`."""

    folder: Path | None
    tensorboard: Path | None
    progress: bool
    should_stop: Callable[[], bool]
    checkpoint_seconds: float
    initial: Mapping[str, Any] | None
    watch: Callable[[Detector], Mapping[str, float]] | None
    group_size: int | None
    devices: int | None
    fingerprint: str | None


class Rows(NamedTuple):
    """What a detector is trained from; see `fit`."""

    train: Any
    validation: Any
    scale: Any
    calibrate: Any
    labels: Any
    labels_validation: Any
    schema: Schema | None


class Trained(NamedTuple):
    """A detector that was trained and knows its normal rows, and what its threshold is set on.

    Attributes:
        detector: without a threshold.
        calibrating: rows.
        members: positions of their groups, where there are any.
        alarms: what is wrong with rows or training, in sentences that weren't logged yet.
        scores: of these rows, float32 [n], where others than the detector gave them.
    """

    detector: Detector
    calibrating: Stored
    members: np.ndarray | None
    alarms: list[str]
    scores: np.ndarray | None = None


def check_frozen(config: settings.Config, model: Any, schema: Schema) -> None:
    """Refuse a name in `Train.frozen` that no parameter's path begins with."""
    if not config.train.frozen:
        return
    variables = shapes_of(lambda: steps.new_variables(model, schema.shape, 0))
    for name in config.train.frozen:
        if not any(jax.tree.leaves(steps.is_frozen((name,), variables["params"]))):
            paths = jax.tree_util.tree_leaves_with_path(variables["params"])
            layers = {"/".join(str(part.key) for part in path[:-1]) for path, _ in paths}
            raise InputError(f"Train.frozen holds {name!r}; {settings.suggest(name, layers)}")

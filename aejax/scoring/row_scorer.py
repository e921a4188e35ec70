"""What scores rows: a detector, or detectors of groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aejax.config import Config
from aejax.data.schema import Schema
from aejax.detection.feature_drift import UsualValues
from aejax.detection.group_loading import is_groups, load_groups
from aejax.detection.groups import GroupDetector
from aejax.detection.loading import load
from aejax.detection.memory import BatchLimit
from aejax.detection.threshold import Threshold


class Described(Protocol):
    """What is known of anything that scores rows, detectors of groups too."""

    @property
    def config(self) -> Config:
        """All settings of the detector."""

    @property
    def schema(self) -> Schema:
        """The rows it takes."""

    @property
    def threshold(self) -> Threshold | None:
        """Above which a row is flagged."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the detector."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides a score."""


class RowScorer(Described, Protocol):
    """What `score_files` needs of a detector."""

    @property
    def batch_limit(self) -> BatchLimit:
        """What is known of how large a batch the device holds."""

    def score_rows(self, rows: np.ndarray, *, batch_size: int | None = None) -> np.ndarray:
        """Scores, float32 [n]; rows with NaN get NaN."""

    def explain_rows(
        self, rows: np.ndarray, *, top: int, batch_size: int | None = None
    ) -> list[np.ndarray]:
        """Scores float32 [n], feature positions int32 [n, top], their errors float32 [n, top]."""


def load_scorer(folder: str | Path) -> RowScorer | GroupDetector:
    """The detector, or the detectors of groups, in a folder of a run, a detector or an export."""
    folder = Path(folder)
    if is_groups(folder):
        return load_groups(folder)
    return load(folder)


def usual_values_of(detector: Described) -> UsualValues | None:
    """How normal rows' features are spread, if the detector knows; of an ensemble, the first's."""
    found = getattr(detector, "variables", {}).get("normal", {}).get("values")
    if found is None or isinstance(detector, GroupDetector):
        return None
    if getattr(detector, "combine", None) is not None:
        found = {name: leaf[0] for name, leaf in found.items()}
    return UsualValues(**{name: np.asarray(leaf) for name, leaf in found.items()})

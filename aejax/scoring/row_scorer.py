"""What scores rows: a detector, or detectors of groups."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from aejax.config import Config
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.feature_drift import UsualValues
from aejax.detection.groups import Groups
from aejax.detection.memory import BatchLimit
from aejax.detection.threshold import GroupThresholds, Threshold


class Described(Protocol):
    """What is known of anything that scores rows."""

    @property
    def config(self) -> Config:
        """All settings of the detector."""

    @property
    def schema(self) -> Schema:
        """The rows it takes."""

    @property
    def threshold(self) -> Threshold | GroupThresholds | None:
        """Above which a row is flagged; of groups, one for each."""

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


def groups_of(detector: Described) -> Groups | None:
    """The groups of a detector, where it is one of groups."""
    return detector.groups if isinstance(detector, Detector) else None


def usual_values_of(detector: Described) -> UsualValues | None:
    """How normal rows' features are spread, if the detector knows; of an ensemble, the first's.

    Groups have no values in common.
    """
    found = getattr(detector, "variables", {}).get("normal", {}).get("values")
    if found is None or groups_of(detector) is not None:
        return None
    if getattr(detector, "combine", None) is not None:
        found = {name: leaf[0] for name, leaf in found.items()}
    return UsualValues(**{name: np.asarray(leaf) for name, leaf in found.items()})

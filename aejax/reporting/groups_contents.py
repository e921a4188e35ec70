"""What the report of a detector of groups shows: plain data, no drawing and no writing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aejax.config import InputError
from aejax.detection.detector import Detector
from aejax.detection.groups import Group, Groups
from aejax.detection.threshold import GroupThresholds

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupsReport:
    """Everything that the report of a detector of groups shows.

    Args:
        title: of the page.
        subtitle: one sentence on what was done.
        config: settings, nested as in `aejax.config.to_dict`.
        detector: of all groups.
        judged: normal rows of each group that were scored, [groups].
        flagged: how many of them lie above the group's threshold, [groups].
        areas: AUROC of the groups that have labelled anomalies, by name.
        table: name of the file beside the page that has a line for every group.
        seconds: stage -> seconds it took.
        environment: versions, device and whatever else tells runs apart.
    """

    title: str
    subtitle: str
    config: Mapping[str, Any]
    detector: Detector
    judged: Counts
    flagged: Counts
    areas: Mapping[str, float]
    table: str
    seconds: Mapping[str, Any]
    environment: Mapping[str, Any]

    def __post_init__(self) -> None:
        count = self.detector.members
        for name in ("judged", "flagged"):
            if (shape := getattr(self, name).shape) != (count,):
                raise InputError(f"GroupsReport.{name} has shape {shape}; allowed: ({count},)")

    @property
    def known(self) -> Groups:
        """What is known of the groups."""
        return self.detector.grouped[0]

    @property
    def groups(self) -> tuple[Group, ...]:
        """That have a detector."""
        return self.known.each

    @property
    def thresholds(self) -> GroupThresholds:
        """The thresholds of the groups."""
        return self.detector.grouped[1]

    @property
    def rows(self) -> Counts:
        """That each group was trained and calibrated on, [groups]."""
        return np.array([group.rows for group in self.groups])

    @property
    def shares(self) -> Floats:
        """Flagged shares of each group's judged rows, float64 [groups]; NaN without rows."""
        shares = np.full(len(self.judged), np.nan)
        np.divide(self.flagged, self.judged, out=shares, where=self.judged > 0)
        return shares

    def numbers(self, name: str) -> Floats:
        """A number that each `Group` has, [groups]; NaN where it is None."""
        found = [getattr(group, name) for group in self.groups]
        return np.array([np.nan if value is None else value for value in found], np.float64)

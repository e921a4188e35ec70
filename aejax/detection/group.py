"""What is known of one of many groups besides its arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aejax.detection.group_alarms import Alarm
from aejax.detection.threshold import Threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """What is known of one group besides its arrays.

    Attributes:
        name: as in the column that names groups.
        rows: that it was trained and calibrated on.
        threshold: above which its rows are flagged.
        best_epoch: the epoch that its parameters are of, or None for the last.
        loss: of the last epoch, in training.
        validation_loss: likewise, or None.
        error_left: mean error of its normal rows as a share of the untrained network's, or None.
        alarms: what would make its detector fail in silence.
    """

    name: str
    rows: int
    threshold: Threshold
    best_epoch: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    error_left: float | None = None
    alarms: tuple[Alarm, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The group as a JSON-ready dict."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        alarms = [dataclasses.asdict(alarm) for alarm in self.alarms]
        return {**fields, "threshold": self.threshold.to_dict(), "alarms": alarms}

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Group:
        """The group that `to_dict` wrote."""
        alarms = tuple(map(Alarm.from_dict, written.get("alarms", ())))
        threshold = Threshold.from_dict(written["threshold"])
        return Group(**{**written, "threshold": threshold, "alarms": alarms})

"""What is known of one of many groups besides its arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from aejax.config import Config, InputError, Rule
from aejax.data.batches import held_out
from aejax.detection.group_alarms import OF_SCORES, Alarm, alarms_of_scores, renewed
from aejax.detection.threshold import Threshold, fit_threshold


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
        offset: what is subtracted of its rows, as `Schema.offset`.
    """

    name: str
    rows: int
    threshold: Threshold
    best_epoch: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    error_left: float | None = None
    alarms: tuple[Alarm, ...] = ()
    offset: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The group as a JSON-ready dict."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        alarms = [dataclasses.asdict(alarm) for alarm in self.alarms]
        if self.offset is None:
            del fields["offset"]
        return {**fields, "threshold": self.threshold.to_dict(), "alarms": alarms}

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Group:
        """The group that `to_dict` wrote."""
        alarms = tuple(map(Alarm.from_dict, written.get("alarms", ())))
        threshold = Threshold.from_dict(written["threshold"])
        offset = written.get("offset")
        shift = None if offset is None else tuple(map(float, offset))
        return Group(**{**written, "threshold": threshold, "alarms": alarms, "offset": shift})


def calibrated(group: Group, scores: np.ndarray, rule: Rule) -> Group:
    """A group with a threshold found on scores, and with the alarms that these raise.

    Args:
        group: with the threshold before.
        scores: of normal rows of the group, float [n].
        rule: how.

    Raises:
        InputError: naming the group, if the rule can't be used on these.
    """
    try:
        found = fit_threshold(rule, scores)
    except InputError as error:
        raise InputError(f"group {group.name!r}: {error}") from None
    raised = alarms_of_scores(scores, group.threshold)
    alarms = renewed(group.alarms, OF_SCORES, raised)
    return dataclasses.replace(group, threshold=found, alarms=alarms)


def provenance_of(group: Group, of_all: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """What made one group's detector; what is known only of all groups says so.

    Args:
        group: whose.
        of_all: the provenance of all groups.
        config: their settings.
    """
    shared = {"data", "training_rows", "train_seconds", "epochs_run"}
    own = {name: fact for name, fact in of_all.items() if name not in {*shared, "alarms"}}
    alarms = [alarm.text for alarm in group.alarms]
    return {
        **own,
        "group": group.name,
        "training_rows": group.rows - held_out(group.rows, config.train.validation_fraction),
        "best_epoch": group.best_epoch,
        **({"alarms": alarms} if alarms else {}),
        "of_all_groups": {name: of_all[name] for name in sorted(shared & set(of_all))},
    }

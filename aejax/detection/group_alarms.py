"""Alarms of many groups: each kept with its group, and told as one sentence a kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aejax.detection.group_drift import BINS, bins_of, known_deciles, stability_indices
from aejax.detection.stability import constant_scores, least_drift
from aejax.detection.threshold import Threshold

# What is found when a network was trained, and when a threshold is set.
OF_TRAINING, OF_SCORES = ("learnt nothing", "wild value"), ("constant scores", "drift")
# Groups that a sentence names.
MOST_NAMED = 3
# What a kind of alarm says of several groups, and what to do about it.
KINDS = {
    "learnt nothing": ("learnt next to nothing", "try more epochs or another learning rate"),
    "wild value": (
        "had a value so far out that it decided the scale",
        "look at it, or set Scale.clip",
    ),
    "lost values": (
        "have different values that are one in float32",
        "they differ too little beside how far apart others lie",
    ),
    "constant scores": (
        "had one score for all rows that the threshold is set on",
        "the model tells no row from another",
    ),
    "drift": (
        "had scores unlike those that their threshold was set on before",
        "the rows have drifted, or hold many anomalies",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alarm:
    """What would make one group's detector fail in silence.

    Attributes:
        kind: one of `KINDS`.
        size: how bad it is beside others of its kind.
        text: a sentence with the group's own numbers, as `fit` says it of a single detector.
    """

    kind: str
    size: float
    text: str

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Alarm:
        """The alarm that `dataclasses.asdict` described."""
        return Alarm(
            kind=str(written["kind"]), size=float(written["size"]), text=str(written["text"])
        )


def alarms_of_scores(scores: np.ndarray, before: Threshold) -> list[Alarm]:
    """What is wrong with one group's scores that a threshold is set on.

    Args:
        scores: of its normal rows, float [n].
        before: the threshold that it had.
    """
    if constant := constant_scores(scores):
        text = without_advice(constant[0])
        return [Alarm(kind="constant scores", size=float(len(scores)), text=text)]
    deciles = known_deciles(before)
    if deciles is None or not np.isfinite(scores).all():
        return []
    places = bins_of(scores, deciles[None])
    counts = np.bincount(places, minlength=BINS)
    found = drift_alarm(
        float(stability_indices(counts[None])[0]), float(least_drift(len(scores), before.rows))
    )
    return [] if found is None else [found]


def drift_alarm(index: float, least: float) -> Alarm | None:
    """An alarm if a group's population stability index is above what says so."""
    if not index > least:
        return None
    text = f"population stability index {index:.2f}, above {least:.2f}"
    return Alarm(kind="drift", size=index, text=text)


def without_advice(text: str) -> str:
    """What was found, of an alarm's sentence; what to do is said once for all groups."""
    return text.split(":")[0]


def renewed(
    alarms: Sequence[Alarm], kinds: Sequence[str], new: Sequence[Alarm]
) -> tuple[Alarm, ...]:
    """A group's alarms with new ones in place of all of these kinds."""
    return (*(alarm for alarm in alarms if alarm.kind not in kinds), *new)


def in_sentences(alarms: Mapping[str, Sequence[Alarm]], groups: int) -> list[str]:
    """At most a sentence for each kind, which counts the groups and names the worst.

    Args:
        alarms: by group's name.
        groups: how many there are in all.
    """
    told = []
    for kind, (what, advice) in KINDS.items():
        found = [
            (-alarm.size, name, alarm.text)
            for name, own in alarms.items()
            for alarm in own
            if alarm.kind == kind
        ]
        if not found:
            continue
        _, name, text = min(found)
        others = [repr(name) for _, name, _ in sorted(found)[1:MOST_NAMED]]
        more = len(found) - 1 - len(others)
        rest = f"; then {', '.join(others)}" if others else ""
        rest += f" and {more:,} more" if more else ""
        told.append(
            f"{len(found):,} of {groups:,} groups {what}: {advice} (worst: {name!r}, {text}{rest})"
        )
    return told

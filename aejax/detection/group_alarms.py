"""Alarms of many groups: each kept with its group, and told as one sentence a kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aejax.detection.stability import constant_scores, drift, stability_of_scores

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


def alarms_of_scores(scores: np.ndarray, deciles: Sequence[float] | None) -> list[Alarm]:
    """What is wrong with one group's scores that a threshold is set on.

    Args:
        scores: of its normal rows, float [n].
        deciles: of those that its threshold was set on before, nine, if they are known.
    """
    kind, size, told = "constant scores", float(len(scores)), constant_scores(scores)
    if not told and deciles is not None and np.isfinite(scores).all():
        kind, size = "drift", stability_of_scores(scores, deciles)
        told = drift(size, len(scores))
    return [Alarm(kind=kind, size=size, text=without_advice(text)) for text in told]


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

"""Alarms: what would make a detector fail in silence, in plain words and kept with it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aejax.detection.drift import (
    BINS,
    bins_of,
    known_deciles,
    least_drift,
    population_stability,
)

if TYPE_CHECKING:
    from aejax.detection.threshold import Threshold

logger = logging.getLogger("aejax")

# Members that a sentence names.
MOST_NAMED = 3


class Kind(NamedTuple):
    """What a kind of alarm says.

    Attributes:
        alone: of a single network, after its own numbers.
        many: of several; and `advice`, what to do about them.
        of_scores: whether it is found when a threshold is set, and not in training.
    """

    alone: str
    many: str
    advice: str
    of_scores: bool = False


KINDS = {
    "learnt nothing": Kind(
        "it learnt next to nothing; try more epochs or another learning rate",
        "learnt next to nothing",
        "try more epochs or another learning rate",
    ),
    "wild value": Kind(
        "it decides the scale; look at it, or set Scale.clip",
        "had a value so far out that it decided the scale",
        "look at it, or set Scale.clip",
    ),
    "few steps": Kind(
        "hand the rows over as float64, or less a constant",
        "hold a feature of which float32 rounds most away",
        "hand the rows over as float64, or less a constant",
    ),
    "lost values": Kind(
        "they differ too little beside how far apart others lie",
        "have different values that are one in float32",
        "they differ too little beside how far apart others lie",
    ),
    "constant scores": Kind(
        "the model tells no row from another",
        "had one score for all rows that the threshold is set on",
        "the model tells no row from another",
        of_scores=True,
    ),
    "unchecked promise": Kind(
        "give more normal rows, or ask for a higher rate",
        "promise a rate of false alarms that their rows are too few to check",
        "give more normal rows, or ask for a higher rate",
        of_scores=True,
    ),
    "drift": Kind(
        "the rows have drifted, or hold many anomalies",
        "had scores unlike those that their threshold was set on before",
        "the rows have drifted, or hold many anomalies",
        of_scores=True,
    ),
}
OF_SCORES = frozenset(name for name, kind in KINDS.items() if kind.of_scores)
OF_TRAINING = frozenset({"learnt nothing", "wild value", "few steps"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alarm:
    """What would make one network fail in silence.

    Attributes:
        kind: one of `KINDS`.
        size: how bad it is beside others of its kind.
        text: what was found, with its own numbers.
    """

    kind: str
    size: float
    text: str

    @property
    def sentence(self) -> str:
        """What was found, and what to do about it."""
        return f"{self.text}: {KINDS[self.kind].alone}"

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Alarm:
        """The alarm that `dataclasses.asdict` described."""
        return Alarm(
            kind=str(written["kind"]), size=float(written["size"]), text=str(written["text"])
        )


def alarms_of_scores(scores: np.ndarray, before: Threshold | None) -> list[Alarm]:
    """What is wrong with the scores of normal rows that a threshold is set on.

    Args:
        scores: float [n].
        before: the threshold that there was, if any.
    """
    constant = constant_scores(scores)
    deciles = known_deciles(before)
    if constant or deciles is None or before is None or not np.isfinite(scores).all():
        return constant
    counts = np.bincount(bins_of(scores, deciles), minlength=BINS)
    return drift_alarms(counts, before.rows)


def constant_scores(scores: np.ndarray) -> list[Alarm]:
    """An alarm if all of several rows have the same score."""
    if len(scores) < 3 or not np.isfinite(scores).all():
        return []
    if np.ptp(scores) > 1e-6 * max(abs(float(scores.max())), 1e-30):
        return []
    text = f"all {len(scores)} rows that the threshold is set on have the score {scores[0]:.6g}"
    return [Alarm(kind="constant scores", size=float(len(scores)), text=text)]


def drift_alarms(counts: np.ndarray, calibrated: int) -> list[Alarm]:
    """An alarm if the scores of many rows are distributed unlike the calibration rows'.

    Args:
        counts: scores in each of the ten bins between the deciles of calibration scores, [10].
        calibrated: how many those were.
    """
    index = float(population_stability(counts))
    least = float(least_drift(counts.sum(), calibrated))
    if not index > least:
        return []
    text = (
        "the scores are distributed unlike those of the calibration rows (population stability "
        f"index {index:.2f}, above {least:.2g})"
    )
    return [Alarm(kind="drift", size=index, text=text)]


def in_sentences(
    alarms: Mapping[str, Sequence[Alarm]], count: int, what: str = "groups"
) -> list[str]:
    """At most a sentence for each kind, which counts the members and names the worst.

    Args:
        alarms: by a member's name.
        count: how many there are in all.
        what: they are.
    """
    sentences = []
    for name, kind in KINDS.items():
        raised = sorted(
            (-alarm.size, member, alarm.text)
            for member, own in alarms.items()
            for alarm in own
            if alarm.kind == name
        )
        if not raised:
            continue
        _, worst, text = raised[0]
        others = [repr(member) for _, member, _ in raised[1:MOST_NAMED]]
        more = len(raised) - 1 - len(others)
        rest = f"; then {', '.join(others)}" if others else ""
        rest += f" and {more:,} more" if more else ""
        sentences.append(
            f"{len(raised):,} of {count:,} {what} {kind.many}: {kind.advice} "
            f"(worst: {worst!r}, {text}{rest})"
        )
    return sentences


def record(provenance: dict[str, Any], sentences: Sequence[str]) -> dict[str, Any]:
    """A detector's provenance with further alarms, each of which is logged, too."""
    tell(sentences)
    if not sentences:
        return provenance
    return {
        **provenance,
        "alarms": list(dict.fromkeys([*provenance.get("alarms", ()), *sentences])),
    }


def tell(sentences: Sequence[str]) -> None:
    """Warn of each in the log."""
    for sentence in sentences:
        logger.warning("aejax: warning: %s", sentence)

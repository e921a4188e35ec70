"""One dial for network, members, steps and score together."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from aejax.config.checks import InputError
from aejax.config.models import Dense, Model, NoiseConditioned
from aejax.config.own_network import OwnNetwork
from aejax.config.rules import RULES
from aejax.config.scores import DEFAULT
from aejax.config.training import Scale, Train

Effort = Literal["quick", "standard", "best"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What an effort trains.

    Attributes:
        members: networks that score each row together; None is one alone.
        steps: of each.
    """

    members: int | None
    steps: int


EFFORTS: dict[str, Cost] = {
    "quick": Cost(members=None, steps=400),
    "standard": Cost(members=None, steps=1500),
    "best": Cost(members=4, steps=1500),
}
# Chosen on `benchmarks.development_sets`: a network that is given the noise's level needs no rule
# for its width, as noise and not a bottleneck keeps it from copying.
NETWORK = NoiseConditioned()
PLAIN = Dense()
LEVELS = "noise-levels-and-neighbours"
# Rows among which there are anomalies, likewise: more steps learn these by heart, and neighbours
# may be their fellows. More than most tables have of them is left out of every batch.
NORM = "noise-levels-and-norm"
FEW_STEPS, TRIM, DROPOUT, LITTLE_NOISE = 400, 0.3, 0.2, 0.1
USUAL_SHARE = 0.1
# Of a plain network, likewise; the other one draws its noise itself.
NOISE = 0.5


def cost(effort: str) -> Cost:
    """What an effort trains.

    Raises:
        InputError: if it is none.
    """
    if not isinstance(effort, str) or effort not in EFFORTS:
        raise InputError(f"effort is {effort!r}; allowed: {', '.join(map(repr, EFFORTS))}")
    return EFFORTS[effort]


def settings_of(
    effort: str,
    *,
    model: Model | OwnNetwork | None,
    mixed: bool,
    contaminated: bool = False,
) -> dict[str, Any]:
    """The settings of a `Config` that an effort decides.

    Args:
        effort: "quick", "standard" or "best".
        model: the network, where it isn't the effort's.
        mixed: whether columns are of different kinds, which only a plain network takes.
        contaminated: whether there may be anomalies among the rows.

    Raises:
        InputError: if it is no effort.
    """
    steps, noise, trim = cost(effort).steps, NOISE, 0.0
    if contaminated:
        steps, noise, trim = min(steps, FEW_STEPS), LITTLE_NOISE, TRIM
    scale = Scale(clip=20.0) if model is None else Scale()
    if model is None and mixed:
        model = Dense(dropout=DROPOUT) if contaminated else PLAIN
    elif model is None:
        model = NETWORK
    train = Train(
        steps=steps,
        noise=noise if isinstance(model, Dense) else 0.0,
        trim=trim,
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="cosine",
        weight_decay=1e-4,
    )
    decided = {"model": model, "train": train, "scale": scale, "score": score_of(model)}
    if contaminated:
        if model.takes_levels:
            decided["score"] = NORM
        decided["rule"] = RULES["contamination"](rate=USUAL_SHARE)
    return decided


def settings_beside(model: Model | OwnNetwork | None, *, mixed: bool) -> dict[str, Any]:
    """The settings of a `Config` that names no effort: all of "standard", or what suits a network.

    Training, noise and clipping were chosen for the networks of the dial and aren't put on others:
    these are trained by `Train()`.

    Args:
        model: the network that is named, or None.
        mixed: as in `settings_of`.
    """
    if model is None:
        return settings_of("standard", model=None, mixed=mixed)
    return {"model": model, "train": Train(), "score": score_of(model), "scale": Scale()}


def score_of(model: Model | OwnNetwork) -> str:
    """The score that suits a network where none is named."""
    return LEVELS if model.takes_levels else DEFAULT

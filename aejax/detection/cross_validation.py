"""Cross-validation of many configurations, folds as members of a population; what it finds."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from aejax.config import Config
from aejax.config.scores import learns, score_object
from aejax.core import steps
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.members import calibrating_rows, kinds, new_member, train_members
from aejax.detection.metrics import INTERVAL_LEVEL
from aejax.detection.placed import default_batch_size
from aejax.detection.plan import Plan
from aejax.detection.population import detectors_of
from aejax.detection.rows import map_batches
from aejax.training.population import Member, TrainedMember
from aejax.training.search_space import Drawn, SearchSpace

Objective = Literal["reconstruction", "auroc", "average-precision"]
OBJECTIVES: tuple[Objective, ...] = ("reconstruction", "auroc", "average-precision")
# Members scored by one program; they take turns in it.
SCORED_AT_ONCE = 16
Search = Literal["random", "halving", "optuna"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """What cross-validation says of one configuration.

    Attributes:
        folds: the objective on each fold; empty where there is a problem.
        problem: why it is of no use (its loss was not finite on a fold, say), or None.
    """

    folds: tuple[float, ...] = ()
    problem: str | None = None


def fold_interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the mean of a value that was found on each of k folds.

    Folds share training rows, so their values vary less than those of independent sets
    would; the corrected t interval counts that in (Nadeau and Bengio, "Inference for the
    generalization error", Machine Learning 52, 2003), as a rule of thumb: no unbiased
    estimate exists (Bengio and Grandvalet, JMLR 5, 2004).
    """
    from scipy.stats import t

    numbers = np.asarray(values, np.float64)
    k = len(numbers)
    # 1 / k for the mean, and the ratio of held-out to training rows for their overlap.
    spread = float(numbers.std(ddof=1)) * math.sqrt(1 / k + 1 / (k - 1))
    half = float(t.ppf((1 + INTERVAL_LEVEL) / 2, k - 1)) * spread
    return float(numbers.mean()) - half, float(numbers.mean()) + half


def cross_validate(
    configs: Sequence[Config],
    parts: Sequence[np.ndarray],
    x: np.ndarray,
    anomalous: np.ndarray,
    schema: Schema,
    objective: Objective,
    *,
    progress: bool = False,
) -> list[Judged]:
    """Train every configuration without each fold in turn, and judge it by the fold.

    Args:
        configs: what to train.
        parts: positions of each fold's rows, as from `split_folds`.
        x: normal rows of the schema's type, [n, ...].
        anomalous: anomalies that are judged with the normal rows of every fold, [m, ...].
        schema: of the rows.
        objective: what is judged.
        progress: whether to draw a progress bar on stderr.
    """
    everything = np.arange(len(x))
    training = [np.setdiff1d(everything, part) for part in parts]
    members = [
        new_member(config, rows, number)
        for number, config in enumerate(configs)
        for rows in training
    ]
    trained = train_members(members, x, schema, progress=progress)
    values = np.full((len(configs), len(parts)), np.nan)
    for numbers in kinds(configs):
        for fold, part in enumerate(parts):
            chosen = [trained[number * len(parts) + fold] for number in numbers]
            rows = np.concatenate([x[part], anomalous])
            is_anomaly = np.arange(len(rows)) >= len(part)
            if learns(score_object(configs[numbers[0]])):
                own = [members[number * len(parts) + fold] for number in numbers]
                scores = _scores_alone(own, chosen, schema, x, rows)
            else:
                scores = member_scores(configs[numbers[0]], schema, chosen, rows)
            values[numbers, fold] = [objective_of(objective, row, is_anomaly) for row in scores]
    return [
        _judged(trained[at * len(parts) : (at + 1) * len(parts)], values[at])
        for at in range(len(configs))
    ]


def _judged(trained: Sequence[TrainedMember], values: np.ndarray) -> Judged:
    for fold, (member, value) in enumerate(zip(trained, values, strict=True), start=1):
        if member.problem is not None:
            return Judged(problem=f"fold {fold}: {member.problem}")
        if not math.isfinite(value):
            return Judged(problem=f"fold {fold}: a held-out row's score is not finite")
    return Judged(folds=tuple(map(float, values)))


def member_scores(
    config: Config, schema: Schema, members: Sequence[TrainedMember], rows: np.ndarray
) -> np.ndarray:
    """Scores float32 [members, n] of rows, by members that one program can hold.

    Args:
        config: of one of them.
        schema: of the rows.
        members: what training left.
        rows: of the schema's type, [n, ...].
    """
    size = min(SCORED_AT_ONCE, len(members))
    # Folds differ by a row; the next power of two is one shape for all of them.
    most = 1 << (len(rows) - 1).bit_length()
    batch_size = min(default_batch_size(schema, config), most)
    parts = []
    for first in range(0, len(members), size):
        chosen = list(members[first : first + size])
        filled = [*chosen, *[chosen[-1]] * (size - len(chosen))]
        detector = Detector(
            config=config,
            schema=schema,
            scaler=_stack([member.scaler for member in filled]),
            variables=_stack([member.variables for member in filled]),
            combine="mean",
            members=size,
        )
        held = jax.device_put((detector.variables, detector.scaler))
        score = functools.partial(_by_row, detector.scoring, *held)
        (scores,) = map_batches(score, rows, batch_size, schema.device_dtype)
        parts.append(scores.T[: len(chosen)])
    return np.concatenate(parts)


def _scores_alone(
    members: Sequence[Member],
    trained: Sequence[TrainedMember],
    schema: Schema,
    x: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Scores float32 [members, n] that need to know of each member's normal rows."""
    scores = np.full((len(members), len(rows)), np.nan, np.float32)
    normal = [calibrating_rows(member) for member in members]
    plan = Plan(x=x, schema=schema, members=list(members), calibrating=normal)
    detectors = detectors_of(plan, trained, [{}] * len(members), check=False)
    for own, detector in zip(scores, detectors, strict=True):
        if detector is not None:
            own[:] = detector.score_rows(rows)
    return scores


def _by_row(scorer: steps.Scorer, variables: object, scaler: object, batch: jax.Array) -> Any:
    return (steps.compiled_member_scores(scorer, variables, scaler, batch),)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def objective_of(objective: Objective, scores: np.ndarray, is_anomaly: np.ndarray) -> float:
    """The objective of one member's scores on a fold; NaN where a score is not finite."""
    if not np.isfinite(scores).all():
        return math.nan
    if objective == "reconstruction":
        return float(np.mean(scores[~is_anomaly], dtype=np.float64))
    from sklearn.metrics import average_precision_score, roc_auc_score

    judge = roc_auc_score if objective == "auroc" else average_precision_score
    return float(judge(is_anomaly, scores))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration and what cross-validation found.

    Attributes:
        number: its place among the configurations drawn.
        drawn: what sets it apart, and all its settings.
        length: epochs or steps, whichever its settings count, of its last rung.
        rung: its last one, from 0.
        folds: the objective on each fold, at its last rung; empty where it diverged.
        problem: why it was left out (its loss was not finite, say), or None.
    """

    number: int
    drawn: Drawn
    length: int
    rung: int
    folds: tuple[float, ...] = ()
    problem: str | None = None

    @property
    def unit(self) -> str:
        """What its length is counted in."""
        return self.drawn.config.train.unit

    @property
    def config(self) -> Config:
        """All settings, with the length of its last rung."""
        train = self.drawn.config.train.of_length(self.length)
        return dataclasses.replace(self.drawn.config, train=train)

    @property
    def mean(self) -> float:
        """The objective, averaged over the folds; NaN where it diverged."""
        return float(np.mean(self.folds)) if self.folds else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """A 95 % interval of the mean over folds; see `fold_interval`."""
        return fold_interval(self.folds) if self.folds else (math.nan, math.nan)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; numbers that aren't there are None."""
        scored = bool(self.folds)
        return {
            "number": self.number,
            "settings": self.drawn.settings,
            "mean": self.mean if scored else None,
            "low": self.interval[0] if scored else None,
            "high": self.interval[1] if scored else None,
            "folds": list(self.folds),
            self.unit: self.length,
            "rung": self.rung,
            "problem": self.problem,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """What a search found.

    Attributes:
        trials: the best first: by rung, then by mean; those that diverged last.
        objective: what was compared.
        search: how configurations were drawn and dropped.
        folds: of the cross-validation.
        seed: of draws, folds and trainings.
        asked: how many configurations were asked for; a small space may hold fewer.
        programs: how many kinds of training programs it took.
        space: what was searched.

    Example:
        >>> tuning = aejax.tune(space, x)  # doctest: +SKIP
        >>> detector = aejax.fit(tuning.best.drawn.config, x)  # doctest: +SKIP
    """

    trials: tuple[Trial, ...]
    objective: Objective
    search: Search
    folds: int
    seed: int
    asked: int
    programs: int
    space: SearchSpace

    @property
    def best(self) -> Trial:
        """The winner."""
        return self.trials[0]

    @property
    def larger_is_better(self) -> bool:
        """The direction of the objective."""
        return self.objective != "reconstruction"

    @property
    def close(self) -> tuple[Trial, ...]:
        """Trials of the last rung that the folds can't tell from the winner, the winner included.

        All configurations see the same folds, so their differences are compared fold by fold.
        """
        best = np.asarray(self.best.folds)
        near = [self.best]
        for trial in self.trials[1:]:
            if trial.folds and trial.rung == self.best.rung:
                low, high = fold_interval(tuple(np.asarray(trial.folds) - best))
                if low <= 0 <= high:
                    near.append(trial)
        return tuple(near)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        rungs = 1 + max(trial.rung for trial in self.trials)
        return {
            "objective": self.objective,
            "larger_is_better": self.larger_is_better,
            "search": self.search,
            "folds": self.folds,
            "seed": self.seed,
            "asked": self.asked,
            "configurations": len(self.trials),
            "programs": self.programs,
            "space": self.space.to_dict(),
            "rungs": [sum(trial.rung >= rung for trial in self.trials) for rung in range(rungs)],
            "close_to_best": [trial.number for trial in self.close],
            "trials": [trial.to_dict() for trial in self.trials],
        }

"""What a search over settings found."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from aejax.config import Config
from aejax.detection.cross_validation import Objective, fold_interval
from aejax.training.search_space import Drawn, SearchSpace

Search = Literal["random", "halving", "optuna"]


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
        found = bool(self.folds)
        return {
            "number": self.number,
            "settings": self.drawn.settings,
            "mean": self.mean if found else None,
            "low": self.interval[0] if found else None,
            "high": self.interval[1] if found else None,
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

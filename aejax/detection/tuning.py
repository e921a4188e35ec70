"""Tuning: which settings give the best detector, by cross-validation on rows at hand.

Folds are members of a population: all configurations that a program can hold train in it
side by side, each on each fold's training rows, as `fit` would have trained it there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from aejax.config import Columns, InputError
from aejax.config.checks import extra
from aejax.data.schema import Schema
from aejax.detection.alarms import tell
from aejax.detection.cross_validation import (
    OBJECTIVES,
    Objective,
    Search,
    Trial,
    Tuning,
    cross_validate,
)
from aejax.detection.members import kinds, split_folds
from aejax.detection.rows import as_stored, check_finite, stored_array, training_rows
from aejax.training.search_space import Choices, Drawn, Range, SearchSpace, draw

# Asked for together and trained as one population; a larger batch learns less from itself.
BATCH = 16
# Proposals that `Config` refused, before a space is taken to hold nothing else.
MOST_REFUSED = 1000
__all__ = ["OBJECTIVES", "SEARCHES", "Objective", "Search", "Trial", "Tuning", "rungs", "tune"]
SEARCHES: tuple[Search, ...] = ("random", "halving", "optuna")
# Of each rung's configurations one in so many goes on, with so many times the epochs, or steps.
RATE = 3


def ask_and_tell(
    space: SearchSpace,
    configurations: int,
    seed: int,
    judge: Callable[[Sequence[Trial]], list[Trial]],
    *,
    maximise: bool,
) -> list[Trial]:
    """Try configurations that Optuna's tree-structured Parzen estimator proposes.

    Watanabe, "Tree-structured Parzen estimator" (arXiv:2304.11127), says how it works; Akiba
    et al., "Optuna" (KDD 2019), what it is part of. A batch is proposed with the rest of the
    batch taken for bad ("constant liar"), so that its members don't crowd in one place.

    Args:
        space: what is searched.
        configurations: how many to try.
        seed: of the proposals, and of every configuration's training.
        judge: gives trials back with their folds, or with a problem.
        maximise: whether a larger objective is better.

    Raises:
        InputError: if Optuna isn't installed, or no proposal is allowed.
    """
    with extra("optuna"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if maximise else "minimize",
        sampler=optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=True, warn_independent_sampling=False
        ),
    )
    done: list[Trial] = []
    refused = 0
    while len(done) < configurations:
        asked: list[Any] = []
        trials: list[Trial] = []
        while len(trials) < min(BATCH, configurations - len(done)):
            proposal = study.ask()
            settings = {
                name: _suggested(proposal, name, dimension)
                for name, dimension in space.searched.items()
            }
            try:
                config = space.config({**settings, "train.seed": seed})
            except InputError as error:
                study.tell(proposal, state=optuna.trial.TrialState.FAIL)
                refused += 1
                if refused > MOST_REFUSED:
                    raise InputError(
                        f"{space.source}: {refused} proposals were refused, the last with: {error}"
                    ) from None
                continue
            asked.append(proposal)
            trials.append(
                Trial(
                    number=len(done) + len(trials),
                    drawn=Drawn(settings=settings, config=config),
                    length=config.train.length,
                    rung=0,
                )
            )
        judged = judge(trials)
        for proposal, trial in zip(asked, judged, strict=True):
            if trial.problem is None:
                study.tell(proposal, trial.mean)
            else:
                study.tell(proposal, state=optuna.trial.TrialState.FAIL)
        done += judged
    return done


def _suggested(proposal: Any, name: str, dimension: Range | Choices) -> Any:
    """A value of one setting, of the type that the space has."""
    if isinstance(dimension, Choices):
        # Optuna's choices are numbers and text; widths are lists.
        written = [json.dumps(value) for value in dimension.values]
        return dimension.values[written.index(proposal.suggest_categorical(name, written))]
    low, high = dimension.ends()
    if dimension.whole:
        return proposal.suggest_int(name, low, high, log=dimension.log)
    return proposal.suggest_float(name, low, high, log=dimension.log)


def tune(
    space: SearchSpace,
    x: Any,
    *,
    x_anomalous: Any = None,
    configurations: int = 64,
    folds: int = 5,
    search: Search = "random",
    objective: Objective = "reconstruction",
    seed: int = 0,
    schema: Schema | None = None,
    progress: bool = False,
) -> Tuning:
    """Find the best of a space's configurations by k-fold cross-validation.

    Every configuration is trained on each fold's training rows as `fit` would train it on
    them (scaler, early stopping and all), and judged on the fold's rows. A configuration
    that diverges on a fold is left out; the others go on.

    Successive halving (Jamieson and Talwalkar, "Non-stochastic best arm identification and
    hyperparameter optimization", AISTATS 2016) trains all configurations for a few epochs
    (or steps), keeps the best third and gives it three times as many, until the last rung has
    those configured. A rung trains anew instead of going on: what a population's training
    leaves is parameters, not its optimisers' state; and a learning-rate schedule spans its
    rung, so that every rung compares finished trainings. r rungs take r / 3^(r - 1) of the
    epochs of a random search, and at most half more than going on would. Every rung is
    compiled anew, so it pays where training takes longer than compiling.

    Args:
        space: what is searched.
        x: normal rows, [n, ...], as in `fit`.
        x_anomalous: rows known to be anomalous, for "auroc" and "average-precision"; never
            trained on, and judged with the normal rows of every fold.
        configurations: how many to draw; a space that holds fewer gives all that it has.
        folds: parts of the normal rows, each held out once.
        search: "random", "halving" for successive halving, or "optuna" for proposals that
            learn from what was tried, in batches (see `aejax.detection.tuning`).
        objective: "reconstruction" (mean score of held-out normal rows in scaled units, so
            `scale`, `error` and `score` must be fixed; smaller is better), "auroc" or
            "average-precision" (larger is better).
        seed: of draws, folds and trainings.
        schema: of the rows; None infers it.
        progress: whether to draw progress bars on stderr.

    Returns:
        A `Tuning`; `fit(tuning.best.drawn.config, x)` makes the winner.

    Raises:
        InputError: naming the argument that is of no use, or if all configurations diverged.

    Example:
        >>> from aejax.training.search_space import parse_space
        >>> x = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
        >>> space = parse_space({"train.epochs": 3, "model.hidden": {"choices": [[4], [2]]}})
        >>> len(tune(space, x, configurations=2, folds=2).trials)
        2
    """
    _check_choice("search", search, SEARCHES)
    _check_choice("objective", objective, OBJECTIVES)
    _check_comparable(space, objective)
    rows, schema, alarms = training_rows(x, schema, Columns(keep=space.base.columns.keep))
    tell(alarms)
    rows = as_stored(rows, schema)
    check_finite(rows, schema)
    anomalous = rows[:0]
    if objective != "reconstruction":
        if x_anomalous is None or not len(x_anomalous):
            raise InputError(
                f"objective is {objective!r} and there are no anomalies; "
                "allowed: rows known to be anomalous, or objective 'reconstruction'"
            )
        anomalous = stored_array(x_anomalous, schema)
    parts = split_folds(len(rows), folds, seed)

    def judge(trials: Sequence[Trial]) -> list[Trial]:
        results = cross_validate(
            [trial.config for trial in trials],
            parts,
            rows,
            anomalous,
            schema,
            objective,
            progress=progress,
        )
        return [
            dataclasses.replace(trial, folds=one.folds, problem=one.problem)
            for trial, one in zip(trials, results, strict=True)
        ]

    if search == "optuna":
        _check_count(configurations)
        tried = ask_and_tell(
            space, configurations, seed, judge, maximise=objective != "reconstruction"
        )
        trials, lost = _ordered(tried, objective)
        _check_some(trials, lost)
        trials = [*trials, *lost]
        dropped: list[Trial] = []
    else:
        trials, dropped = _in_rungs(space, configurations, seed, search, objective, judge)
    configs = [trial.drawn.config for trial in (*trials, *dropped)]
    return Tuning(
        trials=(*trials, *dropped),
        objective=objective,
        search=search,
        folds=folds,
        seed=seed,
        asked=configurations,
        programs=len(kinds(configs)),
        space=space,
    )


def _in_rungs(
    space: SearchSpace,
    configurations: int,
    seed: int,
    search: Search,
    objective: Objective,
    judge: Callable[[Sequence[Trial]], list[Trial]],
) -> tuple[list[Trial], list[Trial]]:
    """Independent draws, judged in one rung or several: those of the last, and the others."""
    trials = [
        Trial(number=number, drawn=drawn, length=drawn.config.train.length, rung=0)
        for number, drawn in enumerate(draw(space, configurations, seed))
    ]
    dropped: list[Trial] = []
    shares = rungs(trials) if search == "halving" else [1.0]
    for rung, share in enumerate(shares):
        trials = [_for_rung(trial, rung, share) for trial in trials]
        sound, lost = _ordered(judge(trials), objective)
        is_last = rung == len(shares) - 1
        trials = sound if is_last else sound[: -(-len(trials) // RATE)]
        dropped = [*sound[len(trials) :], *_sound(dropped), *_lost(dropped), *lost]
        _check_some(trials, _lost(dropped))
    return trials, dropped


def _ordered(judged: Sequence[Trial], objective: Objective) -> tuple[list[Trial], list[Trial]]:
    """Trials that didn't diverge, the best first, and those that did."""
    sign = 1 if objective == "reconstruction" else -1
    # Ties keep the order of the draws.
    return sorted(_sound(judged), key=lambda trial: sign * trial.mean), _lost(judged)


def _check_some(trials: Sequence[Trial], lost: Sequence[Trial]) -> None:
    if not trials:
        raise InputError(
            f"all {len(lost)} configurations diverged, the first as {lost[0].problem}; "
            "allowed: a space with smaller learning rates, say"
        )


def _check_count(configurations: int) -> None:
    if isinstance(configurations, bool) or configurations < 1:
        raise InputError(f"configurations is {configurations!r}; allowed: at least 1")


def rungs(trials: Sequence[Trial]) -> list[float]:
    """The share of a configuration's length that it gets in each rung of successive halving."""
    least = min(trial.length for trial in trials)
    count = 1 + min(_thirds(len(trials)), _thirds(least))
    return [RATE ** -(count - 1 - rung) for rung in range(count)]


def _thirds(count: int) -> int:
    """How often a count can be divided by the rate and stay at least 1."""
    times = 0
    while count >= RATE ** (times + 1):
        times += 1
    return times


def _sound(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.problem is None]


def _lost(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.problem is not None]


def _for_rung(trial: Trial, rung: int, share: float) -> Trial:
    length = max(1, round(trial.drawn.config.train.length * share))
    return dataclasses.replace(trial, rung=rung, length=length, folds=())


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


def _check_comparable(space: SearchSpace, objective: Objective) -> None:
    if space.base.columns.kinds != "numbers" or "columns.kinds" in space.searched:
        raise InputError(f"{space.source}: columns.kinds is set; allowed in a search: 'numbers'")
    if space.base.model.learns_classes:
        raise InputError(
            f"{space.source}: model is a Classifier; allowed: models that learn without labels"
        )
    for name in space.searched:
        is_unit = name.startswith("scale.") or name in ("error", "score")
        if objective == "reconstruction" and is_unit:
            raise InputError(
                f"{space.source}: {name} is searched with objective 'reconstruction', but errors "
                "in different units can't be compared; allowed: one value of it, or objective "
                "'auroc' or 'average-precision'"
            )

"""A search that learns from what it tried: Optuna proposes settings in batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from aejax.config import InputError
from aejax.config.extras import extra
from aejax.detection.trials import Trial
from aejax.training.search_space import Choices, Drawn, Range, SearchSpace

# Asked for together and trained as one population; a larger batch learns less from itself.
BATCH = 16
# Proposals that `Config` refused, before a space is taken to hold nothing else.
MOST_REFUSED = 1000


def ask_and_tell(
    space: SearchSpace,
    configurations: int,
    seed: int,
    judge: Callable[[Sequence[Trial]], list[Trial]],
    *,
    maximise: bool,
    batch: int = BATCH,
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
        batch: trials that are asked for, trained and reported together.

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
        while len(trials) < min(batch, configurations - len(done)):
            proposal = study.ask()
            settings = {
                name: _suggested(proposal, name, found) for name, found in space.searched.items()
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

"""A detector of several networks that score each row together."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from aejax.config import Combine, Config, InputError, Vary
from aejax.data.batches import Picked, data_fingerprint
from aejax.data.disk_rows import Stored
from aejax.data.series import WindowRows
from aejax.data.training_rows import MEMORY_LIMIT
from aejax.detection.alarms import in_sentences
from aejax.detection.checks import check_training
from aejax.detection.cross_fitting import FOLDS, judge_votes, problem_of
from aejax.detection.members import give_parts, seeds, train_members
from aejax.detection.plan import plan_alike
from aejax.detection.precision import choose_precision
from aejax.detection.rows import stored_rows
from aejax.detection.subsets import random_parts, random_rows
from aejax.detection.trained import Rows, Trained, Training, check_frozen
from aejax.detection.voting import Votes, votes_of, with_ranks
from aejax.models.build import build

MOST_MEMBERS = 1024


def fit_ensemble(
    config: Config, inputs: Rows, members: int, combine: Combine, vary: Vary, how: Training
) -> Trained:
    """Train networks that score each row together; see `fit`."""
    if not 1 <= members <= MOST_MEMBERS:
        raise InputError(f"members is {members}; allowed: 1 to {MOST_MEMBERS}")
    if isinstance(inputs.train, WindowRows):
        inputs = _windows_in_memory(config, inputs, inputs.train)
    plan = plan_alike(
        seeds(config, members),
        inputs.train,
        x_validation=inputs.validation,
        x_scale=inputs.scale,
        x_calibrate=inputs.calibrate,
        schema=inputs.schema,
    )
    schema, seed = plan.schema, config.train.seed
    # All hold out the rows that the first one does, and have its folds.
    first, folds = plan.members[0], plan.folds[0]
    scaled = first.training if first.scaling is None else first.scaling
    parts = None
    if vary.masks:
        parts = random_parts(vary, config.model, schema.features, members, seed)

    def population_of(training: np.ndarray, validation: np.ndarray, scaled: np.ndarray) -> Any:
        drawn = random_rows(vary, training, members, seed)
        population = [
            dataclasses.replace(member, training=own, validation=validation, scaling=scaled)
            for member, own in zip(plan.members, drawn, strict=True)
        ]
        return population if parts is None else give_parts(population, parts, schema)

    population = population_of(first.training, first.validation, scaled)
    check_frozen(config, build(config.model, schema), schema)
    of_folds = [
        member
        for fold in folds
        for member in population_of(
            fold.member.training, fold.member.validation, fold.member.training
        )
    ]
    plan = dataclasses.replace(
        plan, members=population, calibrating=[plan.calibrating[0]] * members
    )
    varied = {} if vary == Vary() else {"vary": dataclasses.asdict(vary)}
    trained = train_members(
        [*population, *of_folds],
        plan.x,
        schema,
        group_size=how.group_size,
        devices=how.devices,
        folder=how.folder,
        data=None
        if how.folder is None
        else {"rows": data_fingerprint(plan.x), "members": members, **varied},
        progress=how.progress,
        should_stop=how.should_stop,
    )
    left = [trained[at::members] for at in range(members)]
    problems = {
        at: problem
        for at, (own, *others) in enumerate(left)
        if (problem := own.problem or problem_of(others)) is not None
    }
    kept = [at for at in range(members) if at not in problems]
    if not kept:
        raise InputError(f"ensemble of 0 members; all diverged: {problems}")
    own_seeds = [population[at].config.train.seed for at in kept]
    trained_on = plan.trained_on(kept)

    def of(number: int, normal: Stored) -> Votes:
        return votes_of(config, schema, [left[at][number] for at in kept], normal, trained_on)

    own = of(0, plan.normal(kept)[0])
    judged = None
    if folds:
        each = [of(number, Picked(plan.x, fold.held)) for number, fold in enumerate(folds, 1)]
        judged = judge_votes(own, each, folds, plan.x, own_seeds)
        own = judged.votes
    alarms, _ = check_training(
        own.apart,
        plan.normal(kept),
        plan.scaled(kept),
        own_seeds,
        means=None if judged is None else judged.means,
    )
    named = {str(at): own for at, own in zip(kept, alarms, strict=True)}
    ensemble = dataclasses.replace(
        own.together(combine),
        history=trained[kept[0]].history,
        devices=how.devices,
        provenance={
            "data": how.fingerprint or data_fingerprint(plan.x[first.training]),
            "training_rows": len(first.training),
            "best_epoch": trained[kept[0]].best_epoch,
            "seeds": own_seeds,
            "diverged": problems,
            **({"folds": FOLDS} if folds else {}),
            **varied,
        },
    )
    rows = plan.x[plan.calibrating[0]]
    ensemble = choose_precision(with_ranks(ensemble, rows), rows)
    if ensemble.config.precision != config.products:
        ensemble = with_ranks(ensemble, rows)
    scores = None
    if judged is not None:
        ensemble, scores = judged.scored(ensemble, plan.x)
    return Trained(
        ensemble,
        rows if plan.set_on is None else plan.set_on,
        None,
        [*plan.lost, *in_sentences(named, len(kept), "members")],
        scores,
    )


def _windows_in_memory(config: Config, inputs: Rows, windows: WindowRows) -> Rows:
    """The same windows as arrays, the last ones held out to set the threshold on."""
    if windows.nbytes > MEMORY_LIMIT:
        raise InputError(
            f"several networks were asked for, and {len(windows):,} windows take "
            f"{windows.nbytes:,} bytes; allowed: {MEMORY_LIMIT:,}, as a larger Window.stride gives"
        )
    held, calibrating = inputs.validation, inputs.calibrate
    if held is None:
        windows, held = windows.split(config.train.validation_fraction)
        calibrating = held if calibrating is None and len(held) else calibrating
    return inputs._replace(
        train=windows.stored()[:],
        validation=stored_rows(held, windows.schema)[:] if len(held) else None,
        calibrate=windows if calibrating is None else calibrating,
        schema=windows.schema,
    )

"""Detectors of several networks: those that score each row together, and one for each group."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from aejax.config import Combine, Config, InputError, Vary
from aejax.data.batches import Picked, data_fingerprint
from aejax.data.disk_rows import Stored
from aejax.data.series import WindowRows
from aejax.data.training_rows import MEMORY_LIMIT
from aejax.detection.alarms import OF_TRAINING, in_sentences
from aejax.detection.checks import check_training, mean_errors
from aejax.detection.cross_fitting import FOLDS, by_network, judge, judge_votes, problem_of
from aejax.detection.detector import Detector
from aejax.detection.groups import Group, Groups, spread_of_losses
from aejax.detection.members import (
    give_parts,
    members_together,
    random_parts,
    random_rows,
    seeds,
    side_by_side,
    train_members,
)
from aejax.detection.normal import learn_normal, stacked
from aejax.detection.plan import (
    Plan,
    Rows,
    Trained,
    Training,
    check_frozen,
    first_of,
    plan_alike,
    plan_groups,
)
from aejax.detection.precision import choose_precision
from aejax.detection.rows import stored_rows
from aejax.detection.voting import Votes, votes_of, with_ranks
from aejax.models.build import build
from aejax.training.members import TrainedMember

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


def fit_groups(
    config: Config,
    inputs: Rows,
    groups: object,
    column: str,
    least_rows: int | None,
    how: Training,
) -> Trained:
    """Train a network for each group of rows; see `fit`."""
    plan = plan_groups(config, inputs.train, groups, least_rows=least_rows, schema=inputs.schema)
    members, schema = plan.members, plan.schema
    check_frozen(config, build(config.model, schema), schema)
    fingerprint = how.fingerprint or data_fingerprint(plan.x)
    folds = plan.folds
    crossed_members = [fold.member for own in folds for fold in own]
    count = len(members) + len(crossed_members)
    trained = train_members(
        [*members, *crossed_members],
        plan.x,
        schema,
        group_size=how.group_size or members_together(config, schema, count),
        devices=how.devices,
        folder=how.folder,
        data={
            "rows": fingerprint,
            "groups": plan.fingerprint,
            "least_rows": least_rows,
            "group_size": how.group_size,
        },
        progress=how.progress,
        should_stop=how.should_stop,
    )
    epochs_run = sum(member.epochs_run for member in trained)
    trained, left_of = trained[: len(members)], by_network(folds, trained[len(members) :])
    problems = {
        plan.names[at]: str(problem)
        for at, (member, left) in enumerate(zip(trained, left_of, strict=True))
        if (problem := member.problem or problem_of(left)) is not None
    }
    kept = [at for at in range(len(trained)) if plan.names[at] not in problems]
    if not kept:
        raise InputError(f"groups: all {len(trained)} diverged; {first_of(problems)}")
    each = []
    for at in kept:
        last = trained[at].history[-1] if trained[at].history else {}
        offset = None
        if plan.offsets is not None and plan.offsets[at].any():
            offset = tuple(plan.offsets[at].ravel().tolist())
        group = Group(
            name=plan.names[at],
            rows=len(members[at].training) + len(members[at].validation),
            best_epoch=trained[at].best_epoch,
            loss=last.get("loss"),
            validation_loss=last.get("validation_loss"),
            alarms=plan.alarms[at],
            offset=offset,
            folds=len(folds[at]) or None,
        )
        each.append(group)
    known = Groups(column=column, each=tuple(each), skipped={**plan.skipped, **problems})
    detector = dataclasses.replace(
        side_by_side(config, schema, [trained[at] for at in kept], known),
        history=spread_of_losses([trained[at].history for at in kept]),
        devices=how.devices,
        provenance={
            "data": fingerprint,
            "training_rows": sum(len(members[at].training) for at in kept),
            "epochs_run": epochs_run,
        },
    )
    normal = plan.normal(kept)
    learnt = learn_normal(detector, normal, plan.trained_on(kept), sharing=len(kept))
    if detector.scoring.reconstructs:
        variables = stacked(
            detector.scoring.score, [{"normal": own} for own in learnt], ensemble=False
        )
        detector = dataclasses.replace(detector, variables={**detector.variables, **variables})
    calibrating = plan.x[np.concatenate([plan.calibrating[at] for at in kept])]
    positions = np.repeat(np.arange(len(kept), dtype=np.int32), list(map(len, normal)))
    detector = choose_precision(detector, calibrating, positions)
    scores = means = None
    if any(folds[at] for at in kept):
        detector, scores, means = _judged_groups(detector, plan, kept, left_of, positions)
    alarms, left = check_training(detector, normal, plan.scaled(kept), means=means)
    if left is not None:
        each = [
            dataclasses.replace(group, error_left=share)
            for group, share in zip(each, left.tolist(), strict=True)
        ]
        known = dataclasses.replace(known, each=tuple(each))
        detector = dataclasses.replace(detector, groups=known)
    detector = detector.with_alarms({at: own for at, own in enumerate(alarms) if own}, OF_TRAINING)
    return Trained(detector, calibrating, positions, plan.lost, scores)


def _judged_groups(
    detector: Detector,
    plan: Plan,
    kept: Sequence[int],
    left_of: Sequence[Sequence[TrainedMember]],
    positions: np.ndarray,
) -> tuple[Detector, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """A detector of groups that knows usual errors of rows that its networks didn't see.

    Args:
        detector: that knows its normal rows.
        plan: of all networks.
        kept: positions of the detector's among them.
        left_of: what training left of the networks of each one's folds.
        positions: of the group of each row that thresholds are set on.

    Returns:
        The detector; scores of those rows, float32 [n], of the groups without folds its own; and
        mean errors, as `check_training` takes them.
    """
    crossed = [number for number, at in enumerate(kept) if plan.folds[at]]
    judged = judge(
        detector,
        [plan.folds[kept[number]] for number in crossed],
        [left_of[kept[number]] for number in crossed],
        plan.x,
        [plan.members[kept[number]].training for number in crossed],
        sharing=len(kept),
    )
    scores = np.empty(len(positions), np.float32)
    for number, own in zip(crossed, judged.scores, strict=True):
        scores[positions == number] = own
    rest = ~np.isin(positions, crossed)
    if rest.any():
        rows = plan.x[np.concatenate([plan.calibrating[at] for at in kept])[rest]]
        scores[rest] = detector.score_rows(rows, members=positions[rest], check=True)
    means = judged.means
    if means is not None and len(crossed) < len(kept):
        of_all = mean_errors(detector, plan.normal(kept))
        for own, judged_mean in zip(of_all, means, strict=True):
            own[crossed] = judged_mean
        means = of_all
    if judged.usual[0] is not None:
        usual = np.array(detector.usual_errors)
        usual[crossed] = judged.usual
        normal = {**detector.variables["normal"], "error": usual}
        detector = dataclasses.replace(detector, variables={**detector.variables, "normal": normal})
    return detector, scores, means

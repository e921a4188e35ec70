"""A detector of a network for each group of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from aejax.config import Config, InputError
from aejax.data.batches import data_fingerprint
from aejax.detection.alarms import OF_TRAINING
from aejax.detection.checks import check_training, mean_errors
from aejax.detection.cross_fitting import by_network, judge, problem_of
from aejax.detection.curves import spread_of_losses
from aejax.detection.detector import Detector
from aejax.detection.groups import Group, Groups
from aejax.detection.members import members_together, side_by_side, train_members
from aejax.detection.normal import learn_normal, stacked
from aejax.detection.plan import Plan, first_of, plan_groups
from aejax.detection.precision import choose_precision
from aejax.detection.trained import Rows, Trained, Training, check_frozen
from aejax.models.build import build
from aejax.training.members import TrainedMember


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

"""Many detectors from one call, each as `fit` would have made it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aejax.config import Combine, Config, InputError
from aejax.data.batches import data_fingerprint
from aejax.data.schema import Schema
from aejax.detection.alarms import Alarm, record
from aejax.detection.calibration import calibrate
from aejax.detection.checks import check_training
from aejax.detection.cross_fitting import FOLDS, by_network, judge, problem_of
from aejax.detection.detector import Detector
from aejax.detection.drift import usual_values
from aejax.detection.members import (
    check_member,
    give_parts,
    kinds_of_members,
    scoring_settings,
    side_by_side,
    train_members,
)
from aejax.detection.normal import learn_normal, with_normal
from aejax.detection.plan import Plan, plan_alike
from aejax.detection.precision import choose_precision, with_precision
from aejax.detection.rows import as_rows
from aejax.detection.voting import vote, with_ranks
from aejax.training.members import Parts, TrainedMember, described


@dataclasses.dataclass(frozen=True, kw_only=True)
class Population:
    """Detectors that were trained together.

    Attributes:
        detectors: one for each configuration, in order; None for a member that diverged.
        problems: why, by the member's number.

    Example:
        >>> population = aejax.Population(detectors=(detector, None), problems={1: "diverged"})
        >>> sum(one is not None for one in population.detectors)
        1
    """

    detectors: tuple[Detector | None, ...]
    problems: dict[int, str]

    def ensemble(self, x_calibrate: Any, *, combine: Combine = "mean") -> Detector:
        """All members that didn't diverge as one detector, scored in one program.

        Averaging the scores of autoencoders that differ in their seeds, features or widths
        lowers the variance that any single one suffers from (Chen et al., "Outlier
        Detection with Autoencoder Ensembles", SDM 2017).

        Where a score looks for neighbours, it does so once, among the first member's rows and
        as its scaler scales them.

        Args:
            x_calibrate: rows that the ensemble's threshold is set on.
            combine: how members' scores become one. "rank" averages each score's rank among
                the same member's scores of the calibration rows, so that a member with large
                errors has no more say than another. `Detector.spread` is then the spread of the
                ranks: near 0 where the members agree.

        Raises:
            InputError: if no member is left, or members differ in what scoring needs.
        """
        kept = [detector for detector in self.detectors if detector is not None]
        if not kept:
            raise InputError(f"ensemble of 0 members; all diverged: {self.problems}")
        measured = all("precision" in detector.provenance for detector in kept)
        if measured and len({detector.config.precision for detector in kept}) > 1:
            # What was fastest alone may differ by chance; all keep the order of rows in float32.
            kept = [with_precision(detector, "float32") for detector in kept]
        first = kept[0]
        for detector in kept:
            if scoring_settings(detector.config) != scoring_settings(first.config):
                raise InputError("members differ in model, error or scale; allowed: one of each")
        rows, _ = as_rows(x_calibrate, first.schema)
        networks = [(detector.scaler, detector.variables) for detector in kept]
        facts = {
            **first.provenance,
            "seeds": [detector.config.train.seed for detector in kept],
            "diverged": self.problems,
        }
        ensemble = with_ranks(
            dataclasses.replace(vote(first, networks, combine), provenance=facts), rows
        )
        return ensemble.calibrate_by(ensemble.score_rows(rows, check=True))


def fit_population(
    configs: Sequence[Config],
    x: Any,
    *,
    rows: Sequence[np.ndarray] | None = None,
    parts: Sequence[Parts] | None = None,
    x_validation: Any = None,
    x_scale: Any = None,
    x_calibrate: Any = None,
    schema: Schema | None = None,
    shared_order: bool = False,
    group_size: int | None = None,
    progress: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Population:
    """Train one detector for each configuration, many in one compiled program.

    Configurations may differ in seed, learning rate, weight decay, noise level, dropout, clip
    norm and validation fraction within one program. Those that differ in architecture, scale,
    loss, optimizer, schedule, epochs, batch size or patience make a program for each kind.

    Each detector is what `fit` would have made of its configuration and rows: with a
    squared loss its parameters agree to 1e-4 relative to the largest; with an absolute
    loss, whose gradient jumps, its losses agree to 1e-2.

    Args:
        configs: one for each member.
        x: normal rows, as in `fit`, in memory.
        rows: for each member the positions of its rows (a bootstrap sample, a fold); None
            gives all rows to all.
        parts: for each member what it has of its model: features, units, connections. It ends
            as the smaller network would, from the same initial values; so members of
            different widths share one program. None gives all of it to all.
        x_validation: as in `fit`, for all members.
        x_scale: likewise.
        x_calibrate: likewise.
        schema: of the rows; None infers it.
        shared_order: members of a program see the same batches in the same order, and hold
            out the same validation rows (those of the first): faster.
        group_size: members in one program; None lets the device decide.
        progress: whether to draw a progress bar on stderr.
        provenance: more facts to keep with every detector.

    Returns:
        A `Population`; each detector has its threshold by its `config.rule`.

    Raises:
        InputError: if there are no configurations, or rows don't fit.

    Example:
        >>> import dataclasses
        >>> x = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
        >>> base = aejax.Config(model=aejax.Dense(hidden=(2,)), calibration="held-out")
        >>> configs = [
        ...     dataclasses.replace(base, train=dataclasses.replace(base.train, seed=seed))
        ...     for seed in range(3)
        ... ]
        >>> detector = fit_population(configs, x).ensemble(x)
        >>> detector.members
        3
    """
    started = time.monotonic()
    if not configs:
        raise InputError("configs: found 0; allowed: at least 1")
    for number, config in enumerate(configs):
        check_member(config, f"member {number}: ")
    if rows is not None and len(rows) != len(configs):
        raise InputError(f"rows has {len(rows)} members; allowed: {len(configs)}, one a config")
    plan = plan_alike(
        configs,
        x,
        x_validation=x_validation,
        x_scale=x_scale,
        rows=rows,
        x_calibrate=x_calibrate,
        schema=schema,
        shared_order=shared_order,
    )
    if parts is not None:
        members = give_parts(plan.members, parts, plan.schema)
        plan = dataclasses.replace(plan, members=members)
    if shared_order:
        plan = _in_one_order(plan)
    of_folds = [
        dataclasses.replace(fold.member, mask=member.mask)
        for member, own in zip(plan.members, plan.folds, strict=True)
        for fold in own
    ]
    trained = train_members(
        [*plan.members, *of_folds],
        plan.x,
        plan.schema,
        shared_order=shared_order,
        group_size=group_size,
        progress=progress,
    )
    trained, left_of = trained[: len(configs)], by_network(plan.folds, trained[len(configs) :])
    trained = [
        dataclasses.replace(member, problem=member.problem or problem_of(left))
        for member, left in zip(trained, left_of, strict=True)
    ]
    seconds = round((time.monotonic() - started) / len(configs), 3)
    facts: list[dict[str, Any]] = [
        {
            "data": data_fingerprint(plan.x),
            "training_rows": len(member.training),
            "train_seconds": seconds,
            "trained_together": len(configs),
            **({"folds": FOLDS} if plan.folds[number] else {}),
            **({} if parts is None else {"parts": described(parts[number])}),
            **(provenance or {}),
        }
        for number, member in enumerate(plan.members)
    ]
    judged: dict[int, np.ndarray] = {}
    detectors = detectors_of(plan, trained, facts, left_of=left_of, judged=judged)
    for number, detector in enumerate(detectors):
        if number in judged and detector is not None:
            detectors[number] = detector.calibrate_by(judged[number])
        elif detector is not None:
            normal = plan.x[plan.calibrating[number]]
            detectors[number] = calibrate(detector, normal if plan.set_on is None else plan.set_on)
    problems = {
        at: member.problem for at, member in enumerate(trained) if member.problem is not None
    }
    return Population(detectors=tuple(detectors), problems=problems)


def _in_one_order(plan: Plan) -> Plan:
    """A plan whose members of one program see the rows of the first of them."""
    members, calibrating = list(plan.members), list(plan.calibrating)
    for numbers in kinds_of_members(plan.members):
        first = numbers[0]
        for number in numbers:
            members[number] = dataclasses.replace(
                members[number],
                training=members[first].training,
                validation=members[first].validation,
            )
            calibrating[number] = calibrating[first]
    return dataclasses.replace(plan, members=members, calibrating=calibrating)


def detectors_of(
    plan: Plan,
    trained: Sequence[TrainedMember],
    facts: Sequence[Mapping[str, Any]],
    *,
    check: bool = True,
    left_of: Sequence[Sequence[TrainedMember]] = (),
    judged: dict[int, np.ndarray] | None = None,
) -> list[Detector | None]:
    """What training left as detectors that know their normal rows, without thresholds.

    Args:
        plan: what was trained.
        trained: what that left.
        facts: of each detector's provenance.
        check: whether to tell what is wrong with them, and to choose their precision.
        left_of: what training left of the networks of each one's folds, where there are any.
        judged: gets the scores of the rows of those that have folds, float32 [n], by number.

    Returns:
        A detector for each member; None for one that diverged.
    """
    detectors: list[Detector | None] = [None] * len(trained)
    alike: dict[Any, list[int]] = {}
    for at, (member, left) in enumerate(zip(plan.members, trained, strict=True)):
        if left.problem is None:
            crossed = bool(left_of and left_of[at])
            key = (scoring_settings(member.config), member.mask is not None, crossed)
            alike.setdefault(key, []).append(at)
    for numbers in alike.values():
        config = plan.members[numbers[0]].config
        together = side_by_side(config, plan.schema, [trained[at] for at in numbers])
        normal = plan.normal(numbers)
        learnt = learn_normal(together, normal, plan.trained_on(numbers))
        means = None
        if left_of and left_of[numbers[0]]:
            found_out = judge(
                together,
                [plan.folds[at] for at in numbers],
                [left_of[at] for at in numbers],
                plan.x,
                [plan.members[at].training for at in numbers],
                check=check,
            )
            means = found_out.means
            for at, known, error, scores in zip(
                numbers, learnt, found_out.usual, found_out.scores, strict=True
            ):
                known.update({} if error is None else {"error": error})
                if judged is not None:
                    judged[at] = scores
        if learnt[0]:
            errors = np.stack([known["error"] for known in learnt])
            variables = {**together.variables, "normal": {"error": errors}}
            together = dataclasses.replace(together, variables=variables)
        alarms: list[list[Alarm]] = [[] for _ in numbers]
        if check:
            alarms, _ = check_training(
                together,
                normal,
                plan.scaled(numbers),
                [plan.members[at].config.train.seed for at in numbers],
                means=means,
            )
        for at, known, rows, own in zip(numbers, learnt, normal, alarms, strict=True):
            sentences = [*plan.lost, *(alarm.sentence for alarm in own)]
            one = Detector(
                config=plan.members[at].config,
                schema=plan.schema,
                scaler=trained[at].scaler,
                variables=trained[at].variables,
                history=trained[at].history,
                provenance=record({**facts[at], "best_epoch": trained[at].best_epoch}, sentences),
            )
            one = with_normal(one, known, usual_values(rows, plan.schema))
            detectors[at] = choose_precision(one, rows) if check else one
    return detectors

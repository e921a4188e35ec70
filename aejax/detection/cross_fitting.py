"""Scores of all training rows, each by a network that didn't see the row, to set thresholds on.

A share that is held out leaves few scores where rows are few, and a threshold that promises 1 %
is the largest of them. So the rows are cut into folds; a network for each trains on the others,
with the same settings, and scores the fold. The network that is kept trains on all rows (compare
"cross-conformal" prediction: Vovk, Annals of Mathematics and Artificial Intelligence 74, 2015;
Barber et al., "Predictive inference with the jackknife+", Annals of Statistics 49, 2021). It saw
a quarter more rows than they did, so that its errors are a little smaller: what is flagged errs on
the side of fewer false alarms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.config import Config, InputError, rule_text
from aejax.config.rules import is_of_normal_rows, least_scores, needs_labels, needs_split
from aejax.config.scores import learns, score_object, score_text
from aejax.data.batches import Picked
from aejax.detection.checks import judged_by_error, mean_errors
from aejax.detection.detector import Detector
from aejax.detection.members import side_by_side, split_folds
from aejax.detection.normal import learn_normal, stacked, usual_error
from aejax.detection.placed import batch_size_for
from aejax.detection.voting import Votes, unranked, with_ranks
from aejax.training.members import Member, TrainedMember

FOLDS = 5
# Of more rows than these, a share that is held out has scores enough.
MOST_ROWS = 2_000


class Fold(NamedTuple):
    """Rows of a network that another one, which is trained on the others, scores.

    Attributes:
        at: positions among the network's rows.
        held: positions of the same rows among all.
        member: that is trained on the others.
    """

    at: np.ndarray
    held: np.ndarray
    member: Member


class Judged(NamedTuple):
    """What networks that didn't see the rows say of them.

    Attributes:
        scores: of each network's rows, in their order, float32 [n].
        usual: each one's features' mean errors, float32 [features]; None of networks that give
            no reconstructions.
        means: mean error of each one's rows after training and before, float64 [networks] each;
            None where training doesn't lower errors.
    """

    scores: list[np.ndarray]
    usual: list[np.ndarray | None]
    means: tuple[np.ndarray, np.ndarray] | None


def cross_fits(config: Config, rows: int, *, on_disk: bool = False, **settings: Any) -> bool:
    """Whether a threshold is set on scores by networks that are trained on other folds.

    Args:
        config: all settings.
        rows: that there are to train on.
        on_disk: whether they are there.
        settings: arguments of `fit` that go with rows held out, by name; None where they weren't.

    Raises:
        InputError: if the configuration asks for it and it can't be done.
    """
    if config.calibration == "held-out":
        return False
    why = _why_not(config, rows, on_disk, settings)
    if config.calibration == "auto":
        return why is None and rows <= MOST_ROWS
    if why is not None:
        raise InputError(f"Config.calibration is 'cross-fitted' and {why}; allowed: 'held-out'")
    return True


def _why_not(config: Config, rows: int, on_disk: bool, settings: Mapping[str, Any]) -> str | None:
    rule, score = config.rule, score_object(config)
    for name, value in settings.items():
        if value is not None:
            return f"{name} is given"
    if config.model.learns_classes:
        return f"the model is a {type(config.model).__name__}"
    if config.train.patience is not None:
        return "Train.patience is set, which needs rows held out"
    if needs_labels(rule) or not is_of_normal_rows(rule) or not least_scores(rule):
        return f"the rule is {rule_text(rule)}, which isn't set on normal rows"
    if needs_split(rule):
        return f"the rule is {rule_text(rule)}, which guarantees nothing without a split"
    if learns(score) and not getattr(score, "of_training_rows", False):
        return f"Config.score is {score_text(score)}, which learns of rows held out"
    if on_disk:
        return "the rows are on disk"
    if jax.process_count() > 1:
        return "several processes train"
    if rows < 2 * FOLDS:
        return f"there are {rows} training rows for {FOLDS} folds, 2 in each"
    return None


def folds_of(config: Config, rows: np.ndarray) -> list[Fold]:
    """The folds of a network.

    Args:
        config: its settings.
        rows: positions of its rows.
    """
    folds = []
    for at in split_folds(len(rows), FOLDS, config.train.seed):
        member = Member(config=config, training=np.delete(rows, at), validation=rows[:0])
        folds.append(Fold(at=at, held=rows[at], member=member))
    return folds


def by_network(
    folds: Sequence[Sequence[Fold]], trained: Sequence[TrainedMember]
) -> list[list[TrainedMember]]:
    """What training left of the networks of all folds, in a row, by the network they are of."""
    ends = np.cumsum([len(own) for own in folds]).tolist()
    starts = [0, *ends]
    return [list(trained[first:last]) for first, last in zip(starts, ends, strict=False)]


def problem_of(trained: Sequence[TrainedMember]) -> str | None:
    """Why one of the networks of a network's folds is of no use, or None."""
    for number, member in enumerate(trained, start=1):
        if member.problem is not None:
            return f"without fold {number}: {member.problem}"
    return None


def judge(
    detector: Detector,
    folds: Sequence[Sequence[Fold]],
    trained: Sequence[Sequence[TrainedMember]],
    x: np.ndarray,
    trained_on: Sequence[np.ndarray],
    *,
    sharing: int = 1,
    check: bool = True,
) -> Judged:
    """Score every row by the network that is trained on the folds it is not in.

    What a score learns of training rows, it learns of those of the network that is kept, as a
    fold's network scales them: neighbours are all rows but the row itself.

    Args:
        detector: a single network, or one of groups; without what it knows of normal rows.
        folds: of each of the networks, or of some of the groups.
        trained: what training left of them.
        x: rows as stored, [n, ...].
        trained_on: of each network the positions of the rows that it is trained on itself.
        sharing: as in `learn_normal`.
        check: whether mean errors are wanted.
    """
    config, schema = detector.config, detector.schema
    counts = [sum(len(fold.at) for fold in own) for own in folds]
    size = batch_size_for(sum(counts), schema, config)
    scores = [np.empty(count, np.float32) for count in counts]
    usual: list[Any] = [None] * len(folds)
    sums = np.zeros((2, len(folds)))
    everything = [Picked(x, rows) for rows in trained_on]
    for number in range(FOLDS):
        of_fold = [own[number] for own in folds]
        shares = [len(fold.at) / count for fold, count in zip(of_fold, counts, strict=True)]
        one = _of_fold(detector, [own[number] for own in trained])
        held = [Picked(x, fold.held) for fold in of_fold]
        learnt = learn_normal(one, held, everything, sharing=sharing)
        one = _with_learnt(one, learnt)
        for at, (known, share) in enumerate(zip(learnt, shares, strict=True)):
            if known:
                before = 0.0 if usual[at] is None else usual[at]
                usual[at] = before + share * known["error"].astype(np.float64)
        if check and judged_by_error(config):
            seeds = None
            if detector.groups is not None:
                seeds = [fold.member.config.train.seed for fold in of_fold]
            sums += np.multiply(mean_errors(one, held, seeds, batch_size=size), shares)
        members = None
        if one.groups is not None:
            members = np.repeat(np.arange(len(held), dtype=np.int32), list(map(len, held)))
        rows = np.concatenate([part[:] for part in held])
        held_scores = one.score_rows(rows, members=members, batch_size=size, check=True)
        ends = np.cumsum(list(map(len, held)))[:-1]
        for own, fold, part in zip(scores, of_fold, np.split(held_scores, ends), strict=True):
            own[fold.at] = part
    return Judged(
        scores=scores,
        usual=[None if error is None else usual_error(error[None]) for error in usual],
        means=(sums[0], sums[1]) if check and judged_by_error(config) else None,
    )


def _of_fold(detector: Detector, left: Sequence[TrainedMember]) -> Detector:
    """A detector of a fold's networks."""
    if detector.groups is None:
        (one,) = left
        return dataclasses.replace(detector, scaler=one.scaler, variables=one.variables)
    together = side_by_side(detector.config, detector.schema, left)
    return dataclasses.replace(together, devices=detector.devices)


def _with_learnt(detector: Detector, learnt: list[dict[str, Any]]) -> Detector:
    if not learnt[0]:
        return detector
    normal = [{"normal": own} for own in learnt]
    if detector.groups is None:
        known: Any = normal[0]
    else:
        known = stacked(detector.scoring.score, normal, ensemble=False)
    return dataclasses.replace(detector, variables={**detector.variables, **known})


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedVotes:
    """What ensembles that didn't see the rows say of them.

    Attributes:
        votes: of the ensemble that is kept, which knows usual errors of rows not seen.
        each: those of the folds.
        folds: likewise.
        means: as `Judged` has them.
    """

    votes: Votes
    each: Sequence[Votes]
    folds: Sequence[Fold]
    means: tuple[np.ndarray, np.ndarray] | None

    def scored(self, ensemble: Detector, x: np.ndarray) -> tuple[Detector, np.ndarray]:
        """The ensemble, with ranks among scores of rows not seen, and those rows' scores [n].

        Args:
            ensemble: of the votes.
            x: all rows as stored, [n, ...].
        """
        assert ensemble.combine is not None
        rows = sum(len(fold.at) for fold in self.folds)
        size = batch_size_for(rows, ensemble.schema, ensemble.config)
        of_folds = [
            dataclasses.replace(
                votes.together(ensemble.combine), config=ensemble.config, devices=ensemble.devices
            )
            for votes in self.each
        ]
        if ensemble.combine == "rank":
            apart = np.empty((rows, ensemble.members), np.float32)
            for fold, one in zip(self.folds, of_folds, strict=True):
                held_votes = unranked(one).member_score_rows(x[fold.held], batch_size=size)
                apart[fold.at] = held_votes
            ensemble = with_ranks(ensemble, x[:0], apart)
            ranks = {"calibration": ensemble.variables["calibration"]}
            of_folds = [
                dataclasses.replace(one, variables={**one.variables, **ranks}) for one in of_folds
            ]
        scores = np.empty(rows, np.float32)
        for fold, one in zip(self.folds, of_folds, strict=True):
            scores[fold.at] = one.score_rows(x[fold.held], batch_size=size, check=True)
        return ensemble, scores


def judge_votes(
    votes: Votes,
    each: Sequence[Votes],
    folds: Sequence[Fold],
    x: np.ndarray,
    seeds: Sequence[int],
) -> JudgedVotes:
    """As `judge`, of an ensemble: every fold has one of its own.

    Args:
        votes: of the ensemble that is kept.
        each: of those of the folds.
        folds: that all of its networks have in common.
        x: rows as stored, [n, ...].
        seeds: of the networks.
    """
    rows = sum(len(fold.at) for fold in folds)
    config = votes.apart.config
    size = batch_size_for(rows, votes.apart.schema, config)
    shares = [len(fold.at) / rows for fold in folds]
    usual: list[np.ndarray | None] = [None] * len(seeds)
    if votes.learnt[0]:
        errors = [[known["error"] for known in one.learnt] for one in each]
        usual = [
            usual_error(np.average(own, axis=0, weights=shares)[None])
            for own in zip(*errors, strict=True)
        ]
    means = None
    if judged_by_error(config):
        apart = [
            mean_errors(one.apart, [Picked(x, fold.held)] * len(seeds), seeds, batch_size=size)
            for one, fold in zip(each, folds, strict=True)
        ]
        trained, untrained = np.average(apart, axis=0, weights=shares)
        means = (trained, untrained)
    return JudgedVotes(votes=votes.with_usual(usual), each=each, folds=folds, means=means)

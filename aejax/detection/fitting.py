"""From normal rows to a detector: plan, train, learn what is normal, check, set a threshold."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Combine, Config, InputError, Vary
from aejax.config.effort import Effort, cost
from aejax.config.scores import check_training_rows, score_object
from aejax.core import scaling, steps
from aejax.data import batches
from aejax.data.batches import Picked, data_fingerprint
from aejax.data.disk_rows import DiskRows, Stored, split_rows
from aejax.data.files import Input
from aejax.data.offsets import heads, with_offset
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.data.series import WindowRows
from aejax.data.sources import is_input
from aejax.data.training_rows import MEMORY_LIMIT, OnBadRow
from aejax.detection.alarms import OF_TRAINING, in_sentences, record
from aejax.detection.calibration import calibrate
from aejax.detection.checks import check_training, mean_errors
from aejax.detection.cross_fitting import (
    FOLDS,
    by_network,
    cross_fits,
    folds_of,
    judge,
    judge_votes,
    problem_of,
)
from aejax.detection.curves import spread_of_losses
from aejax.detection.detector import Detector
from aejax.detection.file_rows import groups_of_files, left_out_alarms, rows_of_files, stopper
from aejax.detection.groups import Group, Groups
from aejax.detection.members import (
    check_member,
    give_parts,
    members_together,
    seeds,
    side_by_side,
    train_members,
)
from aejax.detection.normal import learn_normal, stacked, with_normal
from aejax.detection.plan import Plan, first_of, plan_alike, plan_groups, refuse
from aejax.detection.precision import choose_precision
from aejax.detection.rows import as_stored, check_finite, check_kind, stored_rows, training_rows
from aejax.detection.series import more_windows, training_series
from aejax.detection.subsets import random_parts, random_rows
from aejax.detection.threshold import check_rule
from aejax.detection.voting import Votes, votes_of, with_ranks
from aejax.models.backend import shapes_of
from aejax.models.build import build
from aejax.models.heads import heads_of
from aejax.training.loop import train
from aejax.training.members import TrainedMember

MOST_MEMBERS = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a detector is trained, besides its configuration and rows; see `fit`."""

    folder: Path | None
    tensorboard: Path | None
    progress: bool
    should_stop: Callable[[], bool]
    checkpoint_seconds: float
    initial: Mapping[str, Any] | None
    watch: Callable[[Detector], Mapping[str, float]] | None
    group_size: int | None
    devices: int | None
    fingerprint: str | None


class Trained(NamedTuple):
    """A detector that was trained and knows its normal rows, and what its threshold is set on.

    Attributes:
        detector: without a threshold.
        calibrating: rows.
        members: positions of their groups, where there are any.
        alarms: what is wrong with rows or training, in sentences that weren't logged yet.
        scores: of these rows, float32 [n], where others than the detector gave them.
    """

    detector: Detector
    calibrating: Stored
    members: np.ndarray | None
    alarms: list[str]
    scores: np.ndarray | None = None


class Rows(NamedTuple):
    """What a detector is trained from; see `fit`."""

    train: Any
    validation: Any
    scale: Any
    calibrate: Any
    labels: Any
    labels_validation: Any
    schema: Schema | None


def fit(
    config: Config | Effort,
    x_train: Any,
    *,
    members: int | None = None,
    combine: Combine = "mean",
    vary: Vary | None = None,
    groups: Any = None,
    group_column: str | None = None,
    least_rows: int | None = None,
    x_validation: Any = None,
    x_scale: Any = None,
    x_calibrate: Any = None,
    labels: Any = None,
    labels_validation: Any = None,
    initial: Mapping[str, Any] | None = None,
    watch: Callable[[Detector], Mapping[str, float]] | None = None,
    schema: Schema | None = None,
    selection: Selection | None = None,
    memory_limit: int = MEMORY_LIMIT,
    on_bad_row: OnBadRow = "leave-out",
    keep_rows: bool = False,
    folder: str | Path | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 10.0,
    group_size: int | None = None,
    provenance: Mapping[str, Any] | None = None,
    devices: int | None = None,
) -> Detector:
    """Train a detector on normal rows and set its first threshold.

    One network; or with `members` an ensemble: all train on the same rows and differ in seed
    (and in what `vary` says), and their scores are combined. What varies from run to run
    averages out, which for autoencoders on tables is worth more than another architecture
    (compare Chen, Sathe, Aggarwal and Turaga, "Outlier Detection with Autoencoder Ensembles",
    SDM 2017). Or with `groups` a network for each group of rows, with its own scaler,
    validation rows, early stopping and threshold: what `fit` would have made of its rows alone.
    Several networks are trained side by side in one program and end as they would have alone, to
    the tolerance of `fit_population`.

    Args:
        config: all settings; or "quick", "standard" or "best", which are those of
            `Config.of_effort`, and for "best" four `members` where none are set.
        x_train: normal rows, [n, features], [n, height, width, channels], or a table with named
            columns, as in `Detector.score` (of mixed columns where `config.columns` says so);
            or the path of files that hold them, or several: see `aejax.data.files.open_rows`. Rows
            of more than `memory_limit` bytes stay on disk: a block of rows and a few batches are
            all that is in memory at a time, and the detector is the one of the same rows in
            memory with `Train.feed` "stream", bit for bit.
        members: how many networks score each row together; None for one network.
        combine: how members' scores become one. "rank" averages each score's rank among the same
            member's scores of the calibration rows (compare Lazarevic and Kumar 2005; Aggarwal
            and Sathe, SIGKDD Explorations 2015).
        vary: what members differ in besides the seed.
        groups: each row's group, [n], of text or whole numbers; or the name of the column that
            holds it.
        group_column: what the column of groups is called in files, if `groups` isn't its name.
        least_rows: groups with fewer rows are left out and listed in `groups.skipped`; None
            refuses them if they can't be trained.
        x_validation: rows for the validation loss; None holds out
            `config.train.validation_fraction` of the training rows. Held-out rows are what
            the threshold is set on; where there are none, or rows were given (they may
            hold anomalies), the training rows are. Where `config.calibration` says
            "cross-fitted", none are held out: all rows train, and the threshold is set on all,
            scored by networks that didn't see them.
        x_scale: rows that the scaler is fitted on; None takes the training rows.
        x_calibrate: rows that the threshold is set on instead.
        labels: each training row's class, whole numbers [n], for a `Classifier` only.
        labels_validation: the same of `x_validation`.
        initial: variables to start from instead of fresh ones, as another detector's
            `variables`; see `aejax.detection.transfer`.
        watch: called after every epoch with the detector as it is then, which has no
            threshold; the numbers that it returns join the history.
        schema: of the rows; None infers it.
        selection: of files, which columns are labels and features. Only rows with a normal label
            train.
        memory_limit: of files, most bytes of rows to hold in memory.
        on_bad_row: of files, "leave-out" goes on without rows that hold a missing, infinite or
            unreadable value, and tells how many they were; "error" stops at the first.
        keep_rows: leave rows that were copied from files in `folder` for a later run.
        folder: keeps checkpoints and history, or of several networks those that are trained,
            and continues the run that it holds. None uses the system's folder for temporary
            files (TMPDIR names another) for rows that don't fit in memory.
        tensorboard: folder for TensorBoard event files.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True checkpoints and raises `Interrupted`.
        checkpoint_seconds: least time between two checkpoints.
        group_size: networks in one program; None lets their size decide.
        provenance: more facts to keep with the detector. "data", if given, is what tells these
            training rows from others; otherwise their bytes are hashed for it.
        devices: how many of this process's devices share each batch, in training and in
            scoring by the detector; None takes all.

    Returns:
        A detector with a threshold by `config.rule`; of groups, one for each.

    Raises:
        InputError: if rows are too few, not numbers, not finite or don't fit the model, files
            can't be read, or arguments don't go together.
        Diverged: at the first step whose loss is not finite, of one network.
        Interrupted: when `should_stop` said so.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
        >>> config = Config(train=settings.Train(epochs=2))
        >>> fit(config, x).score(x).shape
        (500,)
        >>> fit(config, x, members=3).members
        3
        >>> stores = np.arange(500) % 4
        >>> fit(config, x, groups=stores).score(x[:2], groups=stores[:2]).shape
        (2,)
    """
    started = time.monotonic()
    if not isinstance(config, Config):
        members = cost(config).members if members is None else members
        config = Config.of_effort(config)
    how = Training(
        folder=None if folder is None else Path(folder),
        tensorboard=None if tensorboard is None else Path(tensorboard),
        progress=progress,
        should_stop=should_stop,
        checkpoint_seconds=checkpoint_seconds,
        initial=initial,
        watch=watch,
        group_size=group_size,
        devices=devices,
        fingerprint=(provenance or {}).get("data"),
    )
    alone = {
        "labels": labels,
        "labels_validation": labels_validation,
        "initial": initial,
        "watch": watch,
        "tensorboard": tensorboard,
    }
    several = groups is not None or members is not None
    if several:
        check_member(config)
        refuse("groups" if groups is not None else f"members={members}", **alone)
    if members is None and (vary is not None or combine != "mean"):
        name = "combine" if vary is None else "vary"
        raise InputError(f"{name} is given without members; allowed: with members")
    if groups is None and least_rows is not None:
        raise InputError("least_rows is given without groups; allowed: with groups")
    if groups is not None:
        refuse(
            "groups",
            members=members,
            x_validation=x_validation,
            x_scale=x_scale,
            x_calibrate=x_calibrate,
        )
    with contextlib.ExitStack() as stack:
        told: list[str] = []
        column = group_column or (groups if isinstance(groups, str) else "group")
        if config.window is not None and not isinstance(x_train, WindowRows):
            for name, value in (("groups", groups), ("x_scale", x_scale), ("labels", labels)):
                if value is not None:
                    raise InputError(f"{name} is given with Config.window; allowed: None")
            x_train, told = training_series(
                config,
                x_train,
                schema,
                selection=selection,
                memory_limit=memory_limit,
                on_bad_row=on_bad_row,
                after_block=stopper(should_stop, x_train),
            )
            if x_validation is not None:
                x_train = x_train.thinned()
                x_validation = more_windows(config, x_validation, x_train.schema)
            if x_calibrate is not None:
                x_calibrate = more_windows(config, x_calibrate, x_train.schema)
            schema = x_train.schema
        elif is_input(x_train):
            x_train, groups, schema, told = stack.enter_context(
                _read(
                    config,
                    x_train,
                    groups,
                    schema=schema,
                    folder=how.folder,
                    selection=selection,
                    memory_limit=memory_limit,
                    on_bad_row=on_bad_row,
                    keep_rows=keep_rows,
                    should_stop=should_stop,
                )
            )
        rows = Rows(x_train, x_validation, x_scale, x_calibrate, labels, labels_validation, schema)
        if groups is not None:
            trained = _fit_groups(config, rows, groups, column, least_rows, how)
        elif members is not None:
            trained = _fit_ensemble(config, rows, members, combine, vary or Vary(), how)
        else:
            trained = _fit_one(config, rows, how)
        detector, alarms = trained.detector, [*told, *trained.alarms]
        detector = dataclasses.replace(detector, provenance=record(detector.provenance, alarms))
        if trained.scores is not None:
            detector = detector.calibrate_by(trained.scores, trained.members)
        elif trained.members is None:
            detector = calibrate(detector, trained.calibrating)
        else:
            scores = detector.score_rows(
                trained.calibrating[:], members=trained.members, check=True
            )
            detector = detector.calibrate_by(scores, trained.members)
    facts = {"train_seconds": round(time.monotonic() - started, 3), **(provenance or {})}
    return dataclasses.replace(detector, provenance={**detector.provenance, **facts})


@contextlib.contextmanager
def _read(
    config: Config,
    path: Input,
    groups: Any,
    *,
    folder: Path | None,
    schema: Schema | None,
    selection: Selection | None,
    should_stop: Callable[[], bool],
    **how: Any,
) -> Iterator[tuple[Stored, Any, Schema, list[str]]]:
    """Normal rows of files, each one's group or None, their schema, and what to say of them."""
    if groups is not None:
        if not isinstance(groups, str):
            raise InputError(
                f"groups is {type(groups).__name__}; allowed with files: the name of a column"
            )
        read = groups_of_files(config, path, groups, selection or Selection(), schema)
        yield read.x[read.normal], read.groups[read.normal], read.schema, []
        return
    with rows_of_files(
        config,
        path,
        folder=folder,
        selection=selection,
        schema=schema,
        should_stop=should_stop,
        **how,
    ) as rows:
        yield rows.normal, None, rows.schema, left_out_alarms(rows.left_out)


def _fit_one(config: Config, given: Rows, how: Training) -> Trained:
    rows, schema, lost = _training_rows(config, given.train, given.schema)
    crossed = cross_fits(
        config,
        len(rows),
        on_disk=isinstance(rows, DiskRows),
        windows=True if isinstance(rows, WindowRows) else None,
        x_validation=given.validation,
        x_calibrate=given.calibrate,
        x_scale=given.scale,
        initial=how.initial,
    )
    least = 2 if given.validation is None and config.train.validation_fraction > 0 else 1
    if len(rows) < least:
        raise InputError(f"training rows: found {len(rows)}; allowed: at least {least}")
    classes = as_labels(config, given.labels, len(rows), "labels")
    held: Stored | None = None
    held_classes, validation = None, None
    if crossed:
        pass
    elif given.validation is None:
        rows, classes, held, held_classes = _hold_out(config.train, rows, classes)
        validation = held
    else:
        validation = stored_rows(given.validation, schema)
        held_classes = as_labels(
            config, given.labels_validation, len(validation), "labels_validation"
        )
    check_training_rows(score_object(config), len(rows))
    normal, of_class = (rows, classes) if held is None else (held, held_classes)
    calibrating = None if given.calibrate is None else stored_rows(given.calibrate, schema)
    scored = normal if calibrating is None else calibrating
    check_rule(config.rule, len(scored), on_disk=isinstance(scored, DiskRows))
    scaled = rows if given.scale is None else stored_rows(given.scale, schema)
    scaler = scaling.fit(config.scale, batches.in_blocks(scaled), scaled.dtype, heads_of(schema))
    fingerprint = how.fingerprint or data_fingerprint(rows)
    model = build(config.model, schema)
    check_frozen(config, model, schema)

    def detector_of(variables: dict[str, Any]) -> Detector:
        return Detector(
            config=config, schema=schema, scaler=scaler, variables=variables, devices=how.devices
        )

    watch = how.watch
    trained = train(
        config,
        model,
        scaler,
        rows,
        validation,
        shape=schema.shape,
        folder=how.folder,
        tensorboard=how.tensorboard,
        progress=how.progress,
        should_stop=how.should_stop,
        checkpoint_seconds=how.checkpoint_seconds,
        fingerprint=fingerprint,
        labels=classes,
        labels_validation=held_classes,
        initial=how.initial,
        watch=None if watch is None else lambda variables: watch(detector_of(variables)),
        devices=how.devices,
    )
    detector = dataclasses.replace(
        detector_of(trained.variables),
        history=trained.history,
        provenance={
            "data": fingerprint,
            "training_rows": len(rows),
            "best_epoch": trained.best_epoch,
            **({"folds": FOLDS} if crossed else {}),
        },
    )
    judged = None
    if crossed:
        assert isinstance(rows, np.ndarray)
        folds = folds_of(config, np.arange(len(rows)))
        left = train_members(
            [fold.member for fold in folds],
            rows,
            schema,
            devices=how.devices,
            progress=how.progress,
            should_stop=how.should_stop,
        )
        if (problem := problem_of(left)) is not None:
            raise InputError(
                f"the networks that set the threshold: {problem}; allowed: finite losses, or "
                "Config.calibration 'held-out'"
            )
        detector = choose_precision(detector, rows)
        judged = judge(detector, [folds], [left], rows, [np.arange(len(rows))])
    if (wanted := getattr(detector.scorer.score, "normal_class", None)) is not None:
        # Thresholds are set on normal rows.
        assert of_class is not None
        normal = normal[of_class == wanted]
    (learnt,) = learn_normal(detector, [normal], [rows])
    if judged is not None and judged.usual[0] is not None:
        learnt = {**learnt, "error": judged.usual[0]}
    detector = choose_precision(with_normal(detector, learnt, normal), normal)
    means = None if judged is None else judged.means
    (alarms,), _ = check_training(detector, [normal], [scaled], means=means)
    return Trained(
        detector,
        normal if calibrating is None else calibrating,
        None,
        [*lost, *(alarm.sentence for alarm in alarms)],
        None if judged is None else judged.scores[0],
    )


def _fit_ensemble(
    config: Config, given: Rows, members: int, combine: Combine, vary: Vary, how: Training
) -> Trained:
    if not 1 <= members <= MOST_MEMBERS:
        raise InputError(f"members is {members}; allowed: 1 to {MOST_MEMBERS}")
    if isinstance(given.train, WindowRows):
        given = _windows_in_memory(config, given, given.train)
    plan = plan_alike(
        seeds(config, members),
        given.train,
        x_validation=given.validation,
        x_scale=given.scale,
        x_calibrate=given.calibrate,
        schema=given.schema,
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
        found = [
            dataclasses.replace(member, training=own, validation=validation, scaling=scaled)
            for member, own in zip(plan.members, drawn, strict=True)
        ]
        return found if parts is None else give_parts(found, parts, schema)

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
    found = train_members(
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
    left = [found[at::members] for at in range(members)]
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
    named = {str(at): told for at, told in zip(kept, alarms, strict=True)}
    ensemble = dataclasses.replace(
        own.together(combine),
        history=found[kept[0]].history,
        devices=how.devices,
        provenance={
            "data": how.fingerprint or data_fingerprint(plan.x[first.training]),
            "training_rows": len(first.training),
            "best_epoch": found[kept[0]].best_epoch,
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


def _windows_in_memory(config: Config, given: Rows, windows: WindowRows) -> Rows:
    """The same windows as arrays, the last ones held out to set the threshold on."""
    if windows.nbytes > MEMORY_LIMIT:
        raise InputError(
            f"several networks were asked for, and {len(windows):,} windows take "
            f"{windows.nbytes:,} bytes; allowed: {MEMORY_LIMIT:,}, as a larger Window.stride gives"
        )
    held = given.validation
    if held is None:
        windows, held = windows.split(config.train.validation_fraction)
    calibrating = given.calibrate
    if calibrating is None:
        calibrating = held if given.validation is None and len(held) else windows
    return given._replace(
        train=windows.stored()[:],
        validation=stored_rows(held, windows.schema)[:] if len(held) else None,
        calibrate=calibrating,
        schema=windows.schema,
    )


def _fit_groups(
    config: Config,
    given: Rows,
    groups: Any,
    column: str,
    least_rows: int | None,
    how: Training,
) -> Trained:
    plan = plan_groups(config, given.train, groups, least_rows=least_rows, schema=given.schema)
    members, schema = plan.members, plan.schema
    check_frozen(config, build(config.model, schema), schema)
    fingerprint = how.fingerprint or data_fingerprint(plan.x)
    folds = plan.folds
    crossed_members = [fold.member for own in folds for fold in own]
    count = len(members) + len(crossed_members)
    found = train_members(
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
    epochs_run = sum(member.epochs_run for member in found)
    found, left_of = found[: len(members)], by_network(folds, found[len(members) :])
    problems = {
        plan.names[at]: str(problem)
        for at, (member, left) in enumerate(zip(found, left_of, strict=True))
        if (problem := member.problem or problem_of(left)) is not None
    }
    kept = [at for at in range(len(found)) if plan.names[at] not in problems]
    if not kept:
        raise InputError(f"groups: all {len(found)} diverged; {first_of(problems)}")
    each = []
    for at in kept:
        last = found[at].history[-1] if found[at].history else {}
        offset = None
        if plan.offsets is not None and plan.offsets[at].any():
            offset = tuple(plan.offsets[at].ravel().tolist())
        group = Group(
            name=plan.names[at],
            rows=len(members[at].training) + len(members[at].validation),
            best_epoch=found[at].best_epoch,
            loss=last.get("loss"),
            validation_loss=last.get("validation_loss"),
            alarms=plan.alarms[at],
            offset=offset,
            folds=len(folds[at]) or None,
        )
        each.append(group)
    known = Groups(column=column, each=tuple(each), skipped={**plan.skipped, **problems})
    detector = dataclasses.replace(
        side_by_side(config, schema, [found[at] for at in kept], known),
        history=spread_of_losses([found[at].history for at in kept]),
        devices=how.devices,
        provenance={
            "data": fingerprint,
            "training_rows": sum(len(members[at].training) for at in kept),
            "epochs_run": epochs_run,
        },
    )
    normal = plan.normal(kept)
    learnt = learn_normal(detector, normal, plan.trained_on(kept), sharing=len(kept))
    if detector.scorer.reconstructs:
        variables = stacked(
            detector.scorer.score, [{"normal": own} for own in learnt], ensemble=False
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
        for own, found in zip(of_all, means, strict=True):
            own[crossed] = found
        means = of_all
    if judged.usual[0] is not None:
        usual = np.array(detector.usual_errors)
        usual[crossed] = judged.usual
        normal = {**detector.variables["normal"], "error": usual}
        detector = dataclasses.replace(detector, variables={**detector.variables, "normal": normal})
    return detector, scores, means


def _hold_out(
    train: settings.Train, rows: Stored, classes: np.ndarray | None
) -> tuple[Stored, np.ndarray | None, Stored | None, np.ndarray | None]:
    """Rows to train on and rows held out, each with their classes; few rows hold none out."""
    if not batches.held_out(len(rows), train.validation_fraction):
        return rows, classes, None, None
    held_classes = None
    if classes is not None:
        picked, left = batches.validation_split(len(rows), train.validation_fraction, train.seed)
        classes, held_classes = classes[picked], classes[left]
    rows, held = split_rows(rows, train.validation_fraction, train.seed)
    return rows, classes, held, held_classes


def _training_rows(
    config: Config, x: Any, schema: Schema | None
) -> tuple[Stored, Schema, list[str]]:
    """Training rows as compiled programs take them, their schema, and what is lost of them."""
    if isinstance(x, WindowRows):
        return x.stored(), x.schema, []
    if not isinstance(x, DiskRows):
        given = training_rows(x, schema, config.columns)
        rows = as_stored(given.rows, given.schema)
        check_finite(rows, given.schema)
        return rows, given.schema, given.alarms
    schema = schema or x.schema
    check_kind(config.columns, schema)
    lost = [] if schema.offset is None else with_offset(schema, heads(x))[1]
    return stored_rows(x, schema), schema, lost


def as_labels(config: settings.Config, labels: Any, rows: int, name: str) -> np.ndarray | None:
    """Classes as int32 [rows] where the model is a classifier, else None.

    Raises:
        InputError: if a classifier has none, another model has some, or one is no class.
    """
    if not config.model.learns_classes:
        if labels is not None:
            raise InputError(
                f"{name} are given for a {type(config.model).__name__} model; "
                "allowed: with a Classifier"
            )
        return None
    if labels is None:
        raise InputError(f"{name} is None; allowed with a Classifier: each row's class")
    classes = np.asarray(labels)
    if classes.shape != (rows,):
        raise InputError(f"{name} has shape {classes.shape}; allowed: ({rows},), one a row")
    most: int = config.model.classes - 1  # type: ignore[union-attr]
    wrong = np.flatnonzero(~((classes >= 0) & (classes <= most) & (classes == classes // 1)))
    if len(wrong):
        raise InputError(
            f"{name}[{wrong[0]}] is {classes[wrong[0]]}; allowed: whole numbers from 0 to {most}"
        )
    return classes.astype(np.int32)


def check_frozen(config: settings.Config, model: Any, schema: Schema) -> None:
    """Refuse a name in `Train.frozen` that no parameter's path begins with."""
    if not config.train.frozen:
        return
    variables = shapes_of(lambda: steps.new_variables(model, schema.shape, 0))
    for name in config.train.frozen:
        if not any(jax.tree.leaves(steps.is_frozen((name,), variables["params"]))):
            paths = jax.tree_util.tree_leaves_with_path(variables["params"])
            layers = {"/".join(str(part.key) for part in path[:-1]) for path, _ in paths}
            raise InputError(f"Train.frozen holds {name!r}; {settings.suggest(name, layers)}")

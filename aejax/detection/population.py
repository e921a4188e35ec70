"""Many detectors from one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aejax.config import Config, InputError
from aejax.config.scores import DEFAULT, check_training_rows, is_mean_error, score_object
from aejax.data import batches
from aejax.data.batches import data_fingerprint
from aejax.data.schema import Schema
from aejax.detection.calibration import calibrate
from aejax.detection.combining import Population, scoring_settings
from aejax.detection.detector import Detector
from aejax.detection.normal import learn_normal
from aejax.detection.rows import check_finite, training_rows
from aejax.detection.stability import tell
from aejax.models.build import build
from aejax.training.masks import Parts, described, mask_of
from aejax.training.population import Member, TrainedMember, train_populations

__all__ = [
    "Population",
    "detector_of",
    "fit_population",
    "give_parts",
    "kinds",
    "new_member",
    "train_kinds",
]


def fit_population(
    configs: Sequence[Config],
    x: Any,
    *,
    rows: Sequence[np.ndarray] | None = None,
    parts: Sequence[Parts] | None = None,
    schema: Schema | None = None,
    shared_order: bool = False,
    group_size: int | None = None,
    progress: bool = False,
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
        x: normal rows, as in `fit`.
        rows: for each member the positions of its rows (a bootstrap sample, a fold); None
            gives all rows to all.
        parts: for each member what it has of its model: features, units, connections. It ends
            as the smaller network would, from the same initial values; so members of
            different widths share one program. None gives all of it to all.
        schema: of the rows; None infers it.
        shared_order: members of a program see the same batches in the same order, and hold
            out the same validation rows (those of the first): faster.
        group_size: members in one program; None lets the device decide.
        progress: whether to draw a progress bar on stderr.

    Returns:
        A `Population`; each detector has its threshold by its `config.rule`.

    Raises:
        InputError: if there are no configurations, or rows don't fit.

    Example:
        >>> import dataclasses
        >>> x = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
        >>> base = Config()
        >>> configs = [
        ...     dataclasses.replace(base, train=dataclasses.replace(base.train, seed=seed))
        ...     for seed in range(4)
        ... ]
        >>> detector = fit_population(configs, x).ensemble(x)
        >>> detector.members
        4
    """
    if not configs:
        raise InputError("configs: found 0; allowed: at least 1")
    for number, config in enumerate(configs):
        check_member(config, f"member {number}: ")
        if config.precision == "fastest":
            raise InputError(
                f"member {number}: Config.precision is 'fastest'; "
                "allowed: 'float32' or another type of products (fit measures one detector)"
            )
    if rows is not None and len(rows) != len(configs):
        raise InputError(f"rows has {len(rows)} members; allowed: {len(configs)}, one a config")
    given, schema, lost = training_rows(x, schema, configs[0].columns)
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(given, schema.device_dtype)
    check_finite(stored, schema)
    everything = np.arange(len(stored))
    members = [
        new_member(config, everything if rows is None else rows[number], number)
        for number, config in enumerate(configs)
    ]
    if parts is not None:
        members = give_parts(members, parts, schema)
    if shared_order:
        for numbers in kinds(configs):
            first = members[numbers[0]]
            for number in numbers:
                members[number] = dataclasses.replace(
                    members[number], training=first.training, validation=first.validation
                )
    trained = train_kinds(
        members,
        stored,
        schema,
        shared_order=shared_order,
        group_size=group_size,
        progress=progress,
    )
    tell(lost)
    fingerprint = data_fingerprint(stored)
    detectors: list[Detector | None] = []
    for member, left in zip(members, trained, strict=True):
        normal = stored[member.validation if len(member.validation) else member.training]
        facts: dict[str, Any] = {"data": fingerprint, "training_rows": len(member.training)}
        facts |= {"alarms": lost} if lost else {}
        if parts is not None:
            facts["parts"] = described(parts[len(detectors)])
        detector = detector_of(member, left, schema, facts, stored, normal)
        detectors.append(None if detector is None else calibrate(detector, normal))
    problems = {
        number: result.problem
        for number, result in enumerate(trained)
        if result.problem is not None
    }
    return Population(detectors=tuple(detectors), problems=problems)


def check_member(config: Config, where: str = "") -> None:
    """Raise InputError for a configuration that can't be one of many that are trained together."""
    if config.model.learns_classes:
        raise InputError(
            f"{where}Config.model is a Classifier; "
            "allowed: models that learn without labels (train classifiers with fit)"
        )


def train_kinds(
    members: Sequence[Member],
    x: np.ndarray,
    schema: Schema,
    *,
    shared_order: bool = False,
    group_size: int | None = None,
    devices: int | None = None,
    progress: bool = False,
) -> list[TrainedMember]:
    """Train members whose configurations may differ in anything, in as few programs as it takes.

    Args:
        members: what to train.
        x: rows of the schema's type, [n, ...]; members name theirs by position.
        schema: of the rows.
        shared_order: as in `fit_population`; members of a kind must have equal rows then.
        group_size: most members in one program.
        devices: as in `train_populations`.
        progress: whether to draw a progress bar on stderr.
    """
    masked = [member.mask is not None for member in members]
    numbers_of = [
        [number for number in numbers if masked[number] == wanted]
        for numbers in kinds([member.config for member in members])
        for wanted in sorted({masked[number] for number in numbers})
    ]
    results = train_populations(
        [
            (
                [members[number] for number in numbers],
                build(members[numbers[0]].config.model, schema),
            )
            for numbers in numbers_of
        ],
        x,
        shape=schema.shape,
        shared_order=shared_order,
        group_size=group_size,
        devices=devices,
        progress=progress,
    )
    trained: dict[int, TrainedMember] = {}
    for numbers, found in zip(numbers_of, results, strict=True):
        trained.update(zip(numbers, found, strict=True))
    return [trained[number] for number in range(len(members))]


def give_parts(members: Sequence[Member], parts: Sequence[Parts], schema: Schema) -> list[Member]:
    """Members that lack what their parts leave out.

    Raises:
        InputError: if there are too few or too many, or a member can't do without.
    """
    if len(parts) != len(members):
        raise InputError(f"parts has {len(parts)} members; allowed: {len(members)}, one a config")
    if schema.columns is not None:
        raise InputError("parts of a model are given with mixed columns; allowed: numbers only")
    found = []
    for member, own in zip(members, parts, strict=True):
        if not is_mean_error(score_object(member.config)):
            raise InputError(
                f"Config.score is {member.config.score!r} with parts of a model; "
                f"allowed: {DEFAULT!r}"
            )
        model = build(member.config.model, schema)
        found.append(dataclasses.replace(member, mask=mask_of(own, model, schema.shape)))
    return found


def kinds(configs: Sequence[Config]) -> list[list[int]]:
    """The numbers of the configurations that one program can train, for each such program."""
    found: dict[Any, list[int]] = {}
    for number, config in enumerate(configs):
        found.setdefault(_kind(config), []).append(number)
    return list(found.values())


def new_member(config: Config, rows: np.ndarray, number: int) -> Member:
    """A member that holds out as many of its rows as `fit` would, and the same ones.

    Args:
        config: all settings.
        rows: positions of its rows.
        number: for messages.

    Raises:
        InputError: if there are too few rows, or none to stop early by.
    """
    rows = np.asarray(rows)
    train = config.train
    least = 2 if train.validation_fraction > 0 else 1
    if len(rows) < least:
        raise InputError(f"member {number} has {len(rows)} rows; allowed: at least {least}")
    picked, held = batches.validation_split(len(rows), train.validation_fraction, train.seed)
    check_training_rows(score_object(config), len(picked))
    if train.patience is not None and not len(held):
        raise InputError(
            f"member {number}: Train.patience is set but validation_fraction is 0; "
            "allowed: a fraction above 0"
        )
    return Member(config=config, training=rows[picked], validation=rows[held])


def _kind(config: Config) -> Any:
    """What members of one program share."""
    train = config.train
    shared = (train.epochs, train.batch_size, train.patience, train.loss, train.optimizer)
    static = (
        train.schedule,
        train.noise > 0,
        train.noise_range,
        train.noise_on,
        train.frozen,
        train.clip_norm is not None,
        train.hide,
        train.trim,
    )
    return (scoring_settings(config), shared, static)


def detector_of(
    member: Member,
    trained: TrainedMember,
    schema: Schema,
    facts: Mapping[str, Any],
    x: np.ndarray,
    normal: np.ndarray,
) -> Detector | None:
    """What a member's training left as a detector without a threshold; None if it diverged.

    Args:
        member: what was trained.
        trained: what that left.
        schema: of the rows.
        facts: of its provenance.
        x: rows that members name theirs by position in, [n, ...].
        normal: rows that reasons and distances are learnt from.
    """
    if trained.problem is not None:
        return None
    detector = Detector(
        config=member.config,
        schema=schema,
        scaler=trained.scaler,
        variables=trained.variables,
        history=trained.history,
        provenance={**facts, "best_epoch": trained.best_epoch},
    )
    return learn_normal(detector, normal, x[member.training])

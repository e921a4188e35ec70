"""Networks that are trained together: on what, without what, and in which programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.config import Config, Dense, InputError, Vary, to_dict
from aejax.config.scores import DEFAULT, check_training_rows, is_mean_error, score_object
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.groups import Group, Groups
from aejax.models.build import build
from aejax.training.cohorts import steps_of
from aejax.training.members import Member, Parts, TrainedMember, mask_of
from aejax.training.parts import KeptParts
from aejax.training.population import GROUP, train_populations, workers

FOLDER = "parts"
# What a kill costs is a part; but where members stop early, they make room for others of their
# part, and every part ends with programs of few members.
MOST_PROGRAMS, LEAST_PARTS, MOST_PARTS = 4, 4, 16
# Values of a batch of all members of a program and what training keeps of it: what fits the
# cache. Members of small models stand side by side in larger numbers than GROUP.
PROGRAM_VALUES = 1 << 20
MOST_TOGETHER = 64
ACCELERATOR_VALUES, MOST_ON_ACCELERATOR = 1 << 28, 1 << 12


def check_member(config: Config, where: str = "") -> None:
    """Refuse a configuration that can't be one of many that are trained together."""
    if config.model.learns_classes:
        raise InputError(
            f"{where}Config.model is a Classifier; "
            "allowed: models that learn without labels (train classifiers with fit)"
        )


def new_member(config: Config, rows: np.ndarray, number: int, *, hold_out: bool = True) -> Member:
    """A member that holds out as many of its rows as `fit` would, and the same ones.

    Args:
        config: all settings.
        rows: positions of its rows.
        number: for messages.
        hold_out: False trains on all of them.

    Raises:
        InputError: if there are too few rows, or none to stop early by.
    """
    rows = np.asarray(rows)
    train = config.train
    fraction = train.validation_fraction if hold_out else 0.0
    least = 2 if fraction > 0 else 1
    if len(rows) < least:
        raise InputError(f"member {number} has {len(rows)} rows; allowed: at least {least}")
    picked, held = batches.validation_split(len(rows), fraction, train.seed)
    check_training_rows(score_object(config), len(picked))
    if train.patience is not None and not len(held):
        raise InputError(
            f"member {number}: Train.patience is set but validation_fraction is 0; "
            "allowed: a fraction above 0"
        )
    return Member(config=config, training=rows[picked], validation=rows[held])


def calibrating_rows(member: Member) -> np.ndarray:
    """Positions of the rows that a member's threshold is found on."""
    return member.validation if len(member.validation) else member.training


def scaled_rows(member: Member) -> np.ndarray:
    """Positions of the rows that a member's scaler is fitted on."""
    return member.training if member.scaling is None else member.scaling


def give_parts(members: Sequence[Member], parts: Sequence[Parts], schema: Schema) -> list[Member]:
    """Members that lack what their parts leave out.

    Raises:
        InputError: if there are too few or too many, or a member can't do without.
    """
    if len(parts) != len(members):
        raise InputError(f"parts has {len(parts)} members; allowed: {len(members)}, one a config")
    if schema.columns is not None:
        raise InputError("parts of a model are given with mixed columns; allowed: numbers only")
    masked = []
    for member, own in zip(members, parts, strict=True):
        if not is_mean_error(score_object(member.config)):
            raise InputError(
                f"Config.score is {member.config.score!r} with parts of a model; "
                f"allowed: {DEFAULT!r}"
            )
        model = build(member.config.model, schema)
        masked.append(dataclasses.replace(member, mask=mask_of(own, model, schema.shape)))
    return masked


def seeds(config: Config, count: int) -> list[Config]:
    """A configuration with its own seed and those after it."""
    first = config.train.seed
    return [
        dataclasses.replace(
            config, train=dataclasses.replace(config.train, seed=(first + number) % (1 << 32))
        )
        for number in range(count)
    ]


def kinds(configs: Sequence[Config]) -> list[list[int]]:
    """The numbers of the configurations that one program can train, for each such program."""
    return _alike(_kinds(configs))


def kinds_of_members(members: Sequence[Member]) -> list[list[int]]:
    """As `kinds`, of members, of which those that lack parts have programs of their own."""
    kinds = _kinds([member.config for member in members])
    return _alike([(kind, one.mask is not None) for kind, one in zip(kinds, members, strict=True)])


def _kinds(configs: Sequence[Config]) -> list[Any]:
    """What tells programs apart, of each configuration."""
    # Thousands of groups have one configuration, and finding its kind takes a millisecond.
    known = {id(config): config for config in configs}
    kinds = {number: _kind(config) for number, config in known.items()}
    return [kinds[id(config)] for config in configs]


def _alike(keys: Sequence[Any]) -> list[list[int]]:
    places: dict[Any, list[int]] = {}
    for number, key in enumerate(keys):
        places.setdefault(key, []).append(number)
    return list(places.values())


def scoring_settings(config: Config) -> Any:
    """What members of an ensemble, or of one scoring program, share."""
    return (
        config.model.without_dropout(),
        config.scale,
        config.error,
        config.score,
        config.precision,
        config.columns,
    )


def _kind(config: Config) -> Any:
    train = config.train
    lengths = (train.epochs, train.steps, train.batch_size, train.patience)
    shared = (*lengths, train.loss, train.optimizer)
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


def train_members(
    members: Sequence[Member],
    x: np.ndarray,
    schema: Schema,
    *,
    shared_order: bool = False,
    group_size: int | None = None,
    devices: int | None = None,
    folder: Path | None = None,
    data: Mapping[str, Any] | None = None,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TrainedMember]:
    """What training leaves of members, in as few programs as it takes.

    Args:
        members: what to train; with a folder, of one configuration but for seeds.
        x: rows of the schema's type, [n, ...]; members name theirs by position.
        schema: of the rows.
        shared_order: as in `fit_population`; members of a kind must have equal rows then.
        group_size: most members in one program; None lets the device decide.
        devices: as in `train_populations`.
        folder: keeps members here that are trained, some programs' worth at a time; those that
            it holds aren't trained again.
        data: of a folder, what decides the result besides configuration and schema; "rows" is
            their fingerprint.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True raises `Interrupted`.

    Raises:
        InputError: if the folder holds parts of another training, naming the first difference.
        Interrupted: when `should_stop` said so.
    """
    parts = None
    numbers_of: list[Any] = kinds_of_members(members)
    if folder is not None:
        config = members[0].config
        together = group_size or members_together(config, schema, len(members))
        programs = -(-len(members) // together)
        together = -(-len(members) // programs)
        parts = KeptParts(
            folder / FOLDER,
            {"config": to_dict(config), "schema": schema.to_dict(), **(data or {})},
            group_size=together,
            part_size=together * programs_together(programs, config.train.patience is not None),
        )
        group_size = together
        # As in one go, members with like numbers of steps stand together.
        order = np.argsort([steps_of(member) for member in members], kind="stable")
        numbers_of = np.split(order, range(parts.part_size, len(order), parts.part_size))
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
        parts=parts,
        fingerprint=None if data is None else data.get("rows"),
        should_stop=should_stop,
    )
    trained: dict[int, TrainedMember] = {}
    for numbers, of_kind in zip(numbers_of, results, strict=True):
        trained.update(zip(map(int, numbers), of_kind, strict=True))
    return [trained[number] for number in range(len(members))]


def programs_together(programs: int, stops_early: bool) -> int:
    """How many programs of members make a part.

    Args:
        programs: of all members.
        stops_early: whether members may stop early.
    """
    least = min(MOST_PROGRAMS, -(-programs // LEAST_PARTS)) if stops_early else 1
    return max(least, -(-programs // MOST_PARTS))


def members_together(config: Config, schema: Schema, members: int) -> int:
    """How many members of a network to train side by side in one program.

    As many as fit a CPU's cache, or a small part of an accelerator's memory, unless some cores or
    programs would have none.
    """
    on_cpu = jax.default_backend() == "cpu"
    values = 3 * config.train.batch_size * schema.features
    fitting = max((PROGRAM_VALUES if on_cpu else ACCELERATOR_VALUES) // values, GROUP)
    most = min(MOST_TOGETHER if on_cpu else MOST_ON_ACCELERATOR, 1 << (fitting.bit_length() - 1))
    return min(most, max(GROUP, -(-members // workers(jax.local_devices()))))


def side_by_side(
    config: Config, schema: Schema, trained: Sequence[TrainedMember], groups: Groups | None = None
) -> Detector:
    """Trained members as a detector of groups, of which each is one; without thresholds.

    Args:
        config: that they share, but for seeds and other numbers of training.
        schema: of the rows.
        trained: none of which diverged.
        groups: what is known of each; None names them by their numbers.
    """

    def stack(*leaves: Any) -> np.ndarray:
        return np.stack([np.asarray(leaf) for leaf in leaves])

    if groups is None:
        each = tuple(Group(name=str(number), rows=0) for number in range(len(trained)))
        groups = Groups(column="member", each=each)
    return Detector(
        config=config,
        schema=schema,
        scaler=jax.tree.map(stack, *[member.scaler for member in trained]),
        variables=jax.tree.map(stack, *[member.variables for member in trained]),
        groups=groups,
        members=len(trained),
    )


def random_parts(vary: Vary, model: object, features: int, members: int, seed: int) -> list[Parts]:
    """What each member has of a fully connected autoencoder.

    Args:
        vary: what members differ in, and how much.
        model: its settings.
        features: of a row.
        members: how many.
        seed: the first members of a larger ensemble are those of a smaller one.

    Raises:
        InputError: if the model is of another kind.

    Example:
        >>> parts = random_parts(Vary(features=0.5), Dense(hidden=(8, 3)), 10, 4, 0)
        >>> all(5 <= one.features.sum() <= 9 for one in parts)
        True
    """
    if not isinstance(model, Dense):
        raise InputError(
            f"Vary asks for parts of a {type(model).__name__}; allowed: of a Dense model"
        )
    parts = []
    for member in range(members):
        random = batches.host_random(seed, "parts", member)
        kept = None
        if vary.features is not None:
            least = max(1, int(np.ceil(vary.features * features)))
            count = int(random.integers(least, max(least, features - 1) + 1))
            kept = np.zeros(features, bool)
            kept[random.choice(features, count, replace=False)] = True
        hidden = decoder = None
        if vary.units is not None:
            hidden = _fewer(random, model.hidden, vary.units)
            if model.decoder is not None:
                decoder = _fewer(random, model.decoder, vary.units)
        parts.append(
            Parts(
                features=kept,
                hidden=hidden,
                decoder=decoder,
                connections=vary.connections,
                seed=int(random.integers(1 << 32)),
            )
        )
    return parts


def _fewer(random: np.random.Generator, widths: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(
        int(random.integers(max(1, int(np.ceil(share * width))), width + 1)) for width in widths
    )


def random_rows(vary: Vary, training: np.ndarray, members: int, seed: int) -> list[np.ndarray]:
    """The rows that each member trains on, in ascending order.

    Args:
        vary: which share of them.
        training: positions of all training rows.
        members: how many.
        seed: as in `random_parts`.
    """
    if vary.rows is None:
        return [training] * members
    count = max(1, round(vary.rows * len(training)))
    return [
        np.sort(batches.host_random(seed, "rows", member).choice(training, count, replace=False))
        for member in range(members)
    ]


def split_folds(rows: int, folds: int, seed: int) -> list[np.ndarray]:
    """Positions of each fold's rows, ascending; sizes differ by at most one.

    Raises:
        InputError: if there are fewer than two folds, or fewer than two rows in each.
    """
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise InputError(f"folds is {folds!r}; allowed: a whole number, at least 2")
    if rows < 2 * folds:
        raise InputError(
            f"{rows} normal rows for {folds} folds; allowed: at least {2 * folds} rows, 2 a fold"
        )
    shuffled = batches.host_random(seed, "folds").permutation(rows)
    return [np.sort(part) for part in np.array_split(shuffled, folds)]

"""Which rows each of several networks trains on, is validated and calibrated on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Config, InputError
from aejax.core import steps
from aejax.data.batches import Picked
from aejax.data.disk_rows import DiskRows, Stored
from aejax.data.frames import named_features
from aejax.data.groups import check_grouped, group_positions, rows_of_groups
from aejax.data.offsets import is_wide, less_each, offsets_of_groups
from aejax.data.schema import Schema
from aejax.detection.alarms import Alarm
from aejax.detection.cross_fitting import Fold, cross_fits, folds_of
from aejax.detection.detector import Detector
from aejax.detection.groups import without_groups
from aejax.detection.members import calibrating_rows, new_member, scaled_rows
from aejax.detection.rows import as_rows, as_stored, check_finite, stored_rows, training_rows
from aejax.detection.threshold import check_rule
from aejax.models.backend import shapes_of
from aejax.training.members import Member

LOST = Alarm(kind="lost values", size=1.0, text="a quarter or more of a feature's")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What networks that are trained together are made of.

    Attributes:
        x: all rows that they see, as compiled programs take them, [n, ...].
        schema: of the rows.
        members: what each trains on, by position.
        calibrating: of each, positions of the rows that its threshold is set on, and what is
            normal is learnt from.
        set_on: other rows, that all thresholds are set on instead; or None.
        lost: sentences about values that float32 doesn't hold.
        folds: of each, where its threshold is cross-fitted; else none.
    """

    x: np.ndarray
    schema: Schema
    members: list[Member]
    calibrating: list[np.ndarray]
    set_on: Stored | None = None
    lost: list[str] = dataclasses.field(default_factory=list)
    folds: list[list[Fold]] = dataclasses.field(default_factory=list)

    def normal(self, at: Sequence[int]) -> list[Picked]:
        """The rows that the thresholds of some networks are set on."""
        return [Picked(self.x, self.calibrating[number]) for number in at]

    def trained_on(self, at: Sequence[int]) -> list[Picked]:
        """The training rows of some networks."""
        return [Picked(self.x, self.members[number].training) for number in at]

    def scaled(self, at: Sequence[int]) -> list[Picked]:
        """The rows that the scalers of some networks are fitted on."""
        return [Picked(self.x, scaled_rows(self.members[number])) for number in at]


def plan_alike(
    configs: Sequence[Config],
    x_train: Any,
    *,
    x_validation: Any = None,
    x_scale: Any = None,
    rows: Sequence[np.ndarray] | None = None,
    x_calibrate: Any = None,
    schema: Schema | None = None,
    shared_order: bool = False,
) -> Plan:
    """A plan of networks that see the same rows.

    Args:
        configs: one for each.
        x_train: as in `fit`, in memory.
        x_validation: likewise, as `x_scale`.
        x_scale: rows that scalers are fitted on.
        x_calibrate: rows that thresholds are set on instead.
        rows: of each the positions of its rows; None gives all rows to all.
        schema: of the rows; None infers it.
        shared_order: whether members of a program are to see the same batches.

    Raises:
        InputError: if rows don't fit or aren't in memory, or there are too few.
    """
    if isinstance(x_train, DiskRows):
        raise InputError(
            f"several networks were asked for, and the rows take {x_train.nbytes:,} bytes; "
            "allowed: rows that fit in memory, or a higher memory_limit (--memory-limit)"
        )
    if configs[0].window is not None and (schema is None or schema.series is None):
        raise InputError(
            "Config.window is set; allowed where several configurations are trained: None"
        )
    read, schema, lost = training_rows(x_train, schema, configs[0].columns)
    stored = [as_stored(read, schema)]
    for more in (x_validation, x_scale):
        none = stored[0][:0]
        stored.append(none if more is None else as_stored(as_rows(more, schema)[0], schema))
    for own in stored:
        check_finite(own, schema)
    x = np.concatenate(stored) if len(stored[1]) or len(stored[2]) else stored[0]
    ends = np.cumsum([len(own) for own in stored])
    everything = np.arange(ends[0])
    set_on = None if x_calibrate is None else stored_rows(x_calibrate, schema)
    members, calibrating = [], []
    folds: list[list[Fold]] = []
    for number, config in enumerate(configs):
        own_rows = everything if rows is None else np.asarray(rows[number])
        more = {"x_validation": x_validation, "x_calibrate": x_calibrate, "x_scale": x_scale}
        more["shared_order"] = shared_order or None
        # A row that is there twice may be in its own fold and in another.
        more["rows with one twice"] = (len(np.unique(own_rows)) < len(own_rows)) or None
        folds.append([])
        if cross_fits(config, len(own_rows), **more):
            member = new_member(config, own_rows, number, hold_out=False)
            folds[-1] = folds_of(config, own_rows)
            calibrating.append(own_rows)
        elif x_validation is None:
            member = new_member(config, own_rows, number)
            calibrating.append(calibrating_rows(member))
        else:
            held = np.arange(ends[0], ends[1])
            member = Member(config=config, training=own_rows, validation=held)
            # Rows that were given may hold anomalies.
            calibrating.append(member.training)
        if x_scale is not None:
            member = dataclasses.replace(member, scaling=np.arange(ends[1], ends[2]))
        scored = calibrating[-1] if set_on is None else set_on
        check_rule(config.rule, len(scored), on_disk=isinstance(scored, DiskRows))
        members.append(member)
    return Plan(
        x=x,
        schema=schema,
        members=members,
        calibrating=calibrating,
        set_on=set_on,
        lost=lost,
        folds=folds,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupPlan(Plan):
    """A plan of networks that see a group's rows each.

    Attributes:
        names: of the groups.
        skipped: groups that can't be trained, and why.
        offsets: what is subtracted of each group's rows, float64 [groups, features], or None.
        alarms: of each group, about its rows.
        fingerprint: SHA-256 of which group each row belongs to, in hexadecimal.
    """

    names: list[str]
    skipped: dict[str, str]
    offsets: np.ndarray | None
    alarms: list[tuple[Alarm, ...]]
    fingerprint: str


def plan_groups(
    config: Config,
    x: Any,
    groups: Any,
    *,
    least_rows: int | None = None,
    schema: Schema | None = None,
) -> GroupPlan:
    """A plan of a network for each group of rows.

    Args:
        config: all settings, the same for all groups.
        x: normal rows of all groups, as in `fit`, in memory.
        groups: each row's group, [n], or the name of the column that holds it.
        least_rows: groups with fewer rows are left out; None refuses them if they can't be
            trained.
        schema: of the rows; None infers it.

    Raises:
        InputError: if rows don't fit, a group has too few, or no group is left.
    """
    if isinstance(x, DiskRows):
        raise InputError(
            f"groups are given, and the rows take {x.nbytes:,} bytes; allowed: rows that fit in "
            "memory, or a higher memory_limit (--memory-limit)"
        )
    x, groups = without_groups(x, groups)
    offsets = None
    sentences: list[str] = []
    if config.columns.kinds == "mixed":
        rows, schema, sentences = training_rows(x, schema, config.columns)
        names, positions = group_positions(groups, len(rows))
        check_grouped(positions)
        there = ~np.isnan(rows).all(axis=1)
        rows, positions = rows[there], positions[there]
        lost = np.zeros(len(names), bool)
    else:
        if schema is None:
            x, schema = named_features(x, config.columns)
        # Each group has an offset of its own.
        rows, schema = as_rows(x, None if schema is None else schema.with_offset(None))
        names, positions = group_positions(groups, len(rows))
        check_grouped(positions)
        lost = np.zeros(len(names), bool)
    if not len(rows):
        raise InputError("training rows: found 0; allowed: at least 1")
    rows_of = rows_of_groups(positions, len(names))
    if schema.columns is None and is_wide(rows.dtype) and schema.dtype != "uint8":
        shifts, lost = offsets_of_groups(rows, rows_of)
        if shifts.any():
            offsets, schema = shifts, dataclasses.replace(schema, dtype="float64")
            rows = less_each(rows, offsets, positions)
    stored = as_stored(rows, schema)
    check_finite(stored, schema)
    members, numbers, skipped = _members(config, names, rows_of, least_rows)
    total = hashlib.sha256("\x00".join(names).encode())
    total.update(np.ascontiguousarray(positions, np.int64).tobytes())
    return GroupPlan(
        x=stored,
        schema=schema,
        members=members,
        calibrating=[calibrating_rows(member) for member in members],
        lost=sentences,
        folds=[
            []
            if len(member.validation) or not cross_fits(config, len(member.training))
            else folds_of(config, member.training)
            for member in members
        ],
        names=[names[number] for number in numbers],
        skipped=skipped,
        offsets=None if offsets is None else offsets[numbers],
        alarms=[(LOST,) if lost[number] else () for number in numbers],
        fingerprint=total.hexdigest(),
    )


def _members(
    config: Config,
    names: Sequence[str],
    rows_of: Sequence[np.ndarray],
    least_rows: int | None,
) -> tuple[list[Member], list[int], dict[str, str]]:
    """Members, the numbers of their groups, and why other groups have none."""
    least = 2 if config.train.validation_fraction > 0 else 1
    if least_rows is not None and least_rows < least:
        raise InputError(f"least_rows is {least_rows}; allowed: at least {least}")
    members, chosen, skipped = [], [], {}
    for number, (name, rows) in enumerate(zip(names, rows_of, strict=True)):
        try:
            if len(rows) < (least_rows or least):
                raise InputError(
                    f"it has {len(rows)} training rows; allowed: at least {least_rows or least}"
                )
            crossed = cross_fits(config, len(rows))
            member = new_member(config, rows, number, hold_out=not crossed)
            check_rule(config.rule, len(calibrating_rows(member)))
        except InputError as error:
            if least_rows is None:
                raise InputError(
                    f"group {name!r}: {error} (least_rows, --least-rows, leaves small ones out)"
                ) from None
            skipped[name] = str(error)
            continue
        members.append(member)
        chosen.append(number)
    if not members:
        raise InputError(f"groups: none of {len(names)} can be trained; {first_of(skipped)}")
    return members, chosen, skipped


def first_of(problems: Mapping[Any, str]) -> str:
    """The first of some problems, in words."""
    name = next(iter(problems))
    return f"the first is {name!r}: {problems[name]}"


def refuse(what: str, **values: Any) -> None:
    """Refuse arguments that have no meaning for several networks.

    Args:
        what: they are.
        values: by name; None where they weren't given.
    """
    for name, value in values.items():
        if value is not None:
            raise InputError(f"{name} is given with {what}; allowed: with one network")


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


class Rows(NamedTuple):
    """What a detector is trained from; see `fit`."""

    train: Any
    validation: Any
    scale: Any
    calibrate: Any
    labels: Any
    labels_validation: Any
    schema: Schema | None


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

"""From normal rows of many groups to a detector for each, trained as one population."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError
from aejax.core import mesh, steps
from aejax.data.batches import data_fingerprint
from aejax.data.frames import named_features
from aejax.data.groups import group_positions, rows_of_groups
from aejax.data.offsets import is_wide, less_each, offsets_of_groups
from aejax.data.schema import Schema
from aejax.detection.group import Group
from aejax.detection.group_alarms import Alarm
from aejax.detection.group_checks import check_groups
from aejax.detection.group_curves import spread_of_losses
from aejax.detection.group_parts import groups_fingerprint, train_in_parts
from aejax.detection.groups import GroupDetector
from aejax.detection.normal import (
    Known,
    most_rows,
    scaled,
    stacked,
    usual_error,
    what_is_learnt,
)
from aejax.detection.population import check_member, new_member, train_kinds
from aejax.detection.rows import as_rows, as_stored, check_finite
from aejax.detection.threshold import Threshold, check_rule
from aejax.training.members import Member, TrainedMember
from aejax.training.population import GROUP, workers

# Values of a batch of all members of a program and what training keeps of it: what fits the
# cache. Members of small models stand side by side in larger numbers than GROUP.
PROGRAM_VALUES = 1 << 20
MOST_TOGETHER = 64
ACCELERATOR_VALUES, MOST_ON_ACCELERATOR = 1 << 28, 1 << 12
# Rows that are reconstructed at once to learn what is normal.
NORMAL_ROWS = 1 << 16
LOST = Alarm(kind="lost values", size=1.0, text="a quarter or more of a feature's")


def fit_groups(
    config: Config,
    x: Any,
    groups: Any,
    *,
    column: str = "group",
    least_rows: int | None = None,
    schema: Schema | None = None,
    group_size: int | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    provenance: dict[str, Any] | None = None,
) -> GroupDetector:
    """Train one detector for each group of rows, all as one population.

    Each group has its own scaler, validation rows, early stopping and threshold: its detector
    is what `fit` would have made of its rows alone, to the tolerance of `fit_population`. Its
    history isn't kept, only its last losses and how those of all groups are spread. What `fit`
    warns of is found for every group, and told as one sentence a kind.

    Args:
        config: all settings, the same for all groups.
        x: normal rows of all groups, as in `fit`.
        groups: each row's group, [n], of text or whole numbers.
        column: what to call the column of groups, in files.
        least_rows: groups with fewer rows are left out and listed in `skipped`; None refuses
            them if they can't be trained.
        schema: of the rows; None infers it.
        group_size: members in one program; None lets the model's size decide.
        folder: keeps groups here that are trained, and continues the training that it holds, to
            the bits of one that was never stopped.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked between rounds of epochs where there is a folder; True raises
            `Interrupted`.
        provenance: more facts to keep.

    Raises:
        InputError: if rows don't fit, a group has too few, no group is left, or the folder holds
            another training.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
        >>> stores = np.arange(400) % 4
        >>> detectors = fit_groups(Config(), x, stores)
        >>> detectors.names
        ('0', '1', '2', '3')
        >>> detectors.score(x[:2], stores[:2]).shape
        (2,)
    """
    started = time.monotonic()
    check_config(config)
    if schema is None:
        x, schema = named_features(x, config.columns)
    # Each group has an offset of its own.
    given, schema = as_rows(x, None if schema is None else schema.with_offset(None))
    names, positions = group_positions(groups, len(given))
    if not names:
        raise InputError("training rows: found 0; allowed: at least 1")
    rows_of = rows_of_groups(positions, len(names))
    offsets, lost = None, np.zeros(len(names), bool)
    if is_wide(given.dtype) and schema.dtype != "uint8":
        found, lost = offsets_of_groups(given, rows_of)
        if found.any():
            offsets, schema = found, dataclasses.replace(schema, dtype="float64")
            given = less_each(given, offsets, positions)
    stored = as_stored(given, schema)
    check_finite(stored, schema)
    members, chosen, skipped = _members(config, names, rows_of, least_rows)
    together = group_size or members_together(config, schema, len(members))
    fingerprint = data_fingerprint(stored)
    if folder is None:
        trained = train_kinds(members, stored, schema, group_size=together, progress=progress)
    else:
        trained = train_in_parts(
            members,
            config,
            stored,
            schema,
            folder=Path(folder),
            data={
                "rows": fingerprint,
                "groups": groups_fingerprint(names, positions),
                "least_rows": least_rows,
                "group_size": group_size,
            },
            group_size=together,
            progress=progress,
            should_stop=should_stop,
        )
    kept = [at for at, found in enumerate(trained) if found.problem is None]
    problems = {
        chosen[at]: found.problem for at, found in enumerate(trained) if found.problem is not None
    }
    if not kept:
        raise InputError(f"groups: all {len(trained)} diverged; {_first(problems)}")

    def stack(*leaves: Any) -> np.ndarray:
        return np.stack([np.asarray(leaf) for leaf in leaves])

    place = {name: number for number, name in enumerate(names)}
    # Until rows were scored, no group has a threshold.
    none = Threshold(value=math.nan, rule=config.rule, rows=0)
    detector = GroupDetector(
        config=config,
        schema=schema,
        column=column,
        groups=tuple(
            dataclasses.replace(
                _group(chosen[at], len(rows), trained[at], none),
                offset=_own(offsets, place[chosen[at]]),
                alarms=(LOST,) if lost[place[chosen[at]]] else (),
            )
            for at in kept
            for rows in [np.concatenate([members[at].training, members[at].validation])]
        ),
        scaler=jax.tree.map(stack, *[trained[at].scaler for at in kept]),
        variables=jax.tree.map(stack, *[trained[at].variables for at in kept]),
        skipped={**skipped, **problems},
        history=spread_of_losses([trained[at].history for at in kept]),
    )
    normal = [calibrating_rows(members[at]) for at in kept]
    detector = _learn_normal(detector, stored, normal, [members[at].training for at in kept])
    detector = detector.calibrate_members(
        stored[np.concatenate(normal)], np.repeat(np.arange(len(normal)), [len(r) for r in normal])
    )
    detector = check_groups(detector, stored, normal, [members[at].training for at in kept])
    facts = {
        **detector.provenance,
        "data": fingerprint,
        "training_rows": sum(len(members[at].training) for at in kept),
        "train_seconds": round(time.monotonic() - started, 3),
        "epochs_run": sum(found.epochs_run for found in trained),
        **(provenance or {}),
    }
    return dataclasses.replace(detector, provenance=facts)


def check_config(config: Config) -> None:
    """Raise InputError for settings that detectors of groups can't have."""
    check_member(config)
    if config.columns.kinds == "mixed":
        raise InputError("Config.columns.kinds is 'mixed'; allowed with groups: 'numbers'")
    if config.precision == "fastest":
        raise InputError(
            "Config.precision is 'fastest'; allowed with groups: 'float32' or 'bfloat16'"
        )


def calibrating_rows(member: Member) -> np.ndarray:
    """Positions of the rows that a member's threshold is found on."""
    return member.validation if len(member.validation) else member.training


def members_together(config: Config, schema: Schema, members: int) -> int:
    """How many members of a model to train side by side in one program.

    As many as fit a CPU's cache, or a small part of an accelerator's memory, unless some cores or
    programs would have none.
    """
    on_cpu = jax.default_backend() == "cpu"
    values = 3 * config.train.batch_size * schema.features
    fitting = max((PROGRAM_VALUES if on_cpu else ACCELERATOR_VALUES) // values, GROUP)
    most = min(MOST_TOGETHER if on_cpu else MOST_ON_ACCELERATOR, 1 << (fitting.bit_length() - 1))
    return min(most, max(GROUP, -(-members // workers(jax.local_devices()))))


def _members(
    config: Config,
    names: tuple[str, ...],
    rows_of: list[np.ndarray],
    least_rows: int | None,
) -> tuple[list[Member], list[str], dict[str, str]]:
    """Members, the names of their groups, and why other groups have none."""
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
            member = new_member(config, rows, number)
            check_rule(config.rule, len(calibrating_rows(member)))
        except InputError as error:
            if least_rows is None:
                raise InputError(
                    f"group {name!r}: {error} (least_rows, --least-rows, leaves small ones out)"
                ) from None
            skipped[name] = str(error)
            continue
        members.append(member)
        chosen.append(name)
    if not members:
        raise InputError(f"groups: none of {len(names)} can be trained; {_first(skipped)}")
    return members, chosen, skipped


def _first(problems: dict[str, str]) -> str:
    name = next(iter(problems))
    return f"the first is {name!r}: {problems[name]}"


def _group(name: str, rows: int, found: TrainedMember, threshold: Threshold) -> Group:
    last = found.history[-1] if found.history else {}
    return Group(
        name=name,
        rows=rows,
        threshold=threshold,
        best_epoch=found.best_epoch,
        loss=last.get("loss"),
        validation_loss=last.get("validation_loss"),
    )


def _own(offsets: np.ndarray | None, group: int) -> tuple[float, ...] | None:
    """One group's offset; None where nothing is subtracted of its rows."""
    if offsets is None or not offsets[group].any():
        return None
    return tuple(offsets[group].ravel().tolist())


def _learn_normal(
    detector: GroupDetector,
    x: np.ndarray,
    normal: list[np.ndarray],
    trained_on: list[np.ndarray],
) -> GroupDetector:
    """`learn_normal` of every group, from its normal rows, some thousand rows at a time."""
    if not detector.scorer.reconstructs:
        return detector
    score = detector.scorer.score
    few = [rows[most_rows(score, len(rows))] for rows in normal]
    learnt: list[dict[str, Any]] = []
    first = 0
    while first < len(few):
        last, count = first, 0
        while last < len(few) and (last == first or count + len(few[last]) <= NORMAL_ROWS):
            count += len(few[last])
            last += 1
        counts = [len(rows) for rows in few[first:last]]
        picked = x[np.concatenate(few[first:last])]
        members = np.repeat(np.arange(first, last, dtype=np.int32), counts)
        x_scaled, found = detector.reconstruct_members(picked, members)
        placed = mesh.ONE_DEVICE.everywhere((x_scaled, found))
        error = jax.device_get(steps.compiled_feature_error(detector.config.error, *placed))
        encode = functools.cache(functools.partial(detector.encode_members, picked, members))
        for at, part in enumerate(np.split(np.arange(count), np.cumsum(counts)[:-1]), start=first):
            known = Known(
                rows=x_scaled[part],
                reconstructions=found[part],
                errors=error[part].reshape(len(part), -1),
                encode=functools.partial(_part_of, encode, part),
                scaled_training=functools.partial(_scaled_of_group, detector, x, trained_on, at),
                sharing=len(few),
            )
            usual = usual_error(known.errors)
            learnt.append({"normal": {"error": usual, **what_is_learnt(score, known)}})
        first = last
    variables = {**detector.variables, **stacked(score, learnt, ensemble=False)}
    return dataclasses.replace(detector, variables=variables)


def _part_of(whole: Callable[[], np.ndarray], part: np.ndarray) -> np.ndarray:
    return whole()[part]


def _scaled_of_group(
    detector: GroupDetector, x: np.ndarray, trained_on: list[np.ndarray], at: int, most: int
) -> np.ndarray:
    scaler = jax.tree.map(operator.itemgetter(at), detector.scaler)
    return scaled(scaler, x[trained_on[at]], most)

"""Many detectors from one call, and ensembles of them as one detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import Classifier, Combine, Config, InputError
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.fitting import data_fingerprint
from aejax.detection.normal import learn_normal
from aejax.detection.rows import as_rows, check_finite
from aejax.models.build import build
from aejax.training.population import GROUP, Member, TrainedMember, train_populations


@dataclasses.dataclass(frozen=True, kw_only=True)
class Population:
    """Detectors that were trained together.

    Attributes:
        detectors: one for each configuration, in order; None for a member that diverged.
        problems: why, by the member's number.
    """

    detectors: tuple[Detector | None, ...]
    problems: dict[int, str]

    def ensemble(self, x_calibrate: Any, *, combine: Combine = "mean") -> Detector:
        """All members that didn't diverge as one detector, scored in one program.

        Averaging the scores of autoencoders that differ in their seeds, features or widths
        lowers the variance that any single one suffers from (Chen et al., "Outlier
        Detection with Autoencoder Ensembles", SDM 2017).

        Args:
            x_calibrate: rows that the ensemble's threshold is set on.
            combine: how members' scores become one.

        Raises:
            InputError: if no member is left, or members differ in what scoring needs.
        """
        kept = [detector for detector in self.detectors if detector is not None]
        if not kept:
            raise InputError(f"ensemble of 0 members; all diverged: {self.problems}")
        first = kept[0]
        for detector in kept:
            if _scoring(detector.config) != _scoring(first.config):
                raise InputError("members differ in model, error or scale; allowed: one of each")

        def stack(*leaves: Any) -> np.ndarray:
            return np.stack([np.asarray(leaf) for leaf in leaves])

        ensemble = dataclasses.replace(
            first,
            scaler=jax.tree.map(stack, *[detector.scaler for detector in kept]),
            variables=jax.tree.map(stack, *[detector.variables for detector in kept]),
            threshold=None,
            thresholds={},
            combine=combine,
            members=len(kept),
            provenance={
                **first.provenance,
                "seeds": [detector.config.train.seed for detector in kept],
                "diverged": self.problems,
            },
        )
        return ensemble.calibrate(x_calibrate)


def fit_population(
    configs: Sequence[Config],
    x: Any,
    *,
    rows: Sequence[np.ndarray] | None = None,
    schema: Schema | None = None,
    shared_order: bool = False,
    group_size: int = GROUP,
    progress: bool = False,
) -> Population:
    """Train one detector for each configuration, many in one compiled program.

    Configurations may differ in seed, learning rate, weight decay, noise level, clip norm
    and validation fraction within one program. Those that differ in architecture, scale,
    loss, optimizer, schedule, epochs, batch size or patience make a program for each kind.

    Each detector is what `fit` would have made of its configuration and rows: with a
    squared loss its parameters agree to 1e-4 relative to the largest; with an absolute
    loss, whose gradient jumps, its losses agree to 1e-2.

    Args:
        configs: one for each member.
        x: normal rows, as in `fit`.
        rows: for each member the positions of its rows (a bootstrap sample, a fold); None
            gives all rows to all.
        schema: of the rows; None infers it.
        shared_order: members of a program see the same batches in the same order, and hold
            out the same validation rows (those of the first): faster.
        group_size: members in one program.
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
        if isinstance(config.model, Classifier):
            raise InputError(
                f"member {number}: Config.model is a Classifier; "
                "allowed: models that learn without labels (train classifiers with fit)"
            )
    if rows is not None and len(rows) != len(configs):
        raise InputError(f"rows has {len(rows)} members; allowed: {len(configs)}, one a config")
    stored, schema = as_rows(x, schema)
    stored = np.ascontiguousarray(stored, schema.dtype)
    check_finite(stored, schema)
    everything = np.arange(len(stored))
    members = [
        new_member(config, everything if rows is None else rows[number], number)
        for number, config in enumerate(configs)
    ]
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
    fingerprint = data_fingerprint(stored)
    detectors = []
    for member, left in zip(members, trained, strict=True):
        normal = stored[member.validation if len(member.validation) else member.training]
        facts = {"data": fingerprint, "training_rows": len(member.training)}
        detector = detector_of(member, left, schema, facts, normal)
        detectors.append(None if detector is None else detector.calibrate(normal))
    problems = {
        number: result.problem
        for number, result in enumerate(trained)
        if result.problem is not None
    }
    return Population(detectors=tuple(detectors), problems=problems)


def train_kinds(
    members: Sequence[Member],
    x: np.ndarray,
    schema: Schema,
    *,
    shared_order: bool = False,
    group_size: int = GROUP,
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
    numbers_of = kinds([member.config for member in members])
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
    if train.patience is not None and not len(held):
        raise InputError(
            f"member {number}: Train.patience is set but validation_fraction is 0; "
            "allowed: a fraction above 0"
        )
    return Member(config=config, training=rows[picked], validation=rows[held])


def _scoring(config: Config) -> Any:
    return (config.model, config.scale, config.error, config.score, config.precision)


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
    )
    return (_scoring(config), shared, static)


def detector_of(
    member: Member,
    trained: TrainedMember,
    schema: Schema,
    facts: Mapping[str, Any],
    normal: np.ndarray,
) -> Detector | None:
    """What a member's training left as a detector without a threshold; None if it diverged.

    Args:
        member: what was trained.
        trained: what that left.
        schema: of the rows.
        facts: of its provenance.
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
    return learn_normal(detector, normal)

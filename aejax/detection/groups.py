"""One detector for each of many groups (stores, sensors, users), as one artifact."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Config, InputError, Rule, score_text
from aejax.config.own import shown
from aejax.config.scores import score_object
from aejax.core import steps
from aejax.core.scaling import Scaler
from aejax.data.groups import group_positions
from aejax.data.offsets import less_each
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.detection.batch_sizes import batch_size_for
from aejax.detection.detector import Detector, Reason, arrays_of
from aejax.detection.group import Group, calibrated, provenance_of
from aejax.detection.group_alarms import OF_SCORES, in_sentences
from aejax.detection.group_drift import BINS
from aejax.detection.group_rows import map_tiles
from aejax.detection.kept_normal import describe_normal
from aejax.detection.own_network import content_digest, own_programs, with_saved_programs
from aejax.detection.rows import as_rows, check_finite
from aejax.detection.stability import tell
from aejax.models.build import build


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupDetector:
    """A detector for each group. Immutable; methods return new ones.

    Attributes:
        config: all settings; each group's seed is the one in it.
        schema: the rows it takes.
        column: that names a row's group, in files.
        groups: that have a detector, in the order of the arrays' leading axis.
        scaler: fitted on each group's training rows, with a leading axis of groups.
        variables: likewise.
        skipped: groups of the training rows that have no detector, and why.
        history: how their losses were spread in each epoch, as `spread_of_losses` says it.
        provenance: what made it.
    """

    config: Config
    schema: Schema
    column: str
    groups: tuple[Group, ...]
    scaler: Scaler
    variables: dict[str, Any]
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Scores of different groups have thresholds of their own: there is none for all rows.
    threshold: None = None

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Of the groups that have a detector."""
        return tuple(group.name for group in self.groups)

    @functools.cached_property
    def scorer(self) -> steps.Scorer:
        """The static part of the scoring program, of one group."""
        model = build(self.config.model, self.schema, precision=self.config.products)
        return steps.Scorer(model=model, error=self.config.error, score=score_object(self.config))

    @functools.cached_property
    def _placed(self) -> tuple[dict[str, Any], Scaler]:
        return jax.device_put((self.variables, self.scaler))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides a score."""
        described = json.dumps(
            [
                settings.to_dict(self.config.model),
                shown(self.config.error),
                score_text(self.config.score),
                self.config.precision,
                self.schema.to_dict(),
                self.names,
                *([] if self.offsets is None else [self.offsets.tolist()]),
            ]
        )
        arrays = content_digest(arrays_of(self.scaler, self.variables), self.programs)
        return hashlib.sha256(f"groups {described} {arrays}".encode()).hexdigest()

    @functools.cached_property
    def thresholds(self) -> np.ndarray:
        """Every group's threshold, float64 [groups]."""
        return np.array([group.threshold.value for group in self.groups])

    @functools.cached_property
    def deciles(self) -> np.ndarray:
        """Of the scores that each threshold was set on, float64 [groups, 9]; NaN where unknown."""
        unknown = (np.nan,) * (BINS - 1)
        return np.array([group.threshold.deciles or unknown for group in self.groups])

    @functools.cached_property
    def offsets(self) -> np.ndarray | None:
        """What is subtracted of each group's rows, float64 [groups, ...]; None where nothing is."""
        if all(group.offset is None for group in self.groups):
            return None
        none = (0.0,) * self.schema.features
        found = np.array([group.offset or none for group in self.groups])
        return found.reshape(-1, *self.schema.shape)

    def prepare_members(self, rows: np.ndarray, members: np.ndarray) -> np.ndarray:
        """Rows [n, ...] less their groups' offsets, by position of the group; -1 stands for any."""
        if self.offsets is None:
            return rows
        return less_each(rows, self.offsets, np.maximum(members, 0))

    def places(self, groups: Any, rows: int) -> np.ndarray:
        """The position of each row's group among those that have a detector, or -1, int32."""
        names, positions = group_positions(groups, rows)
        place = {name: at for at, name in enumerate(self.names)}
        found = np.array([place.get(name, -1) for name in names] or [-1], np.int32)
        return found[positions] if rows else np.zeros(0, np.int32)

    def members(self, groups: Any, rows: int) -> np.ndarray:
        """The position of each row's group among those that have a detector, int32 [rows].

        Raises:
            InputError: naming the first row's group that has none.
        """
        found = self.places(groups, rows)
        if (found < 0).any():
            name = str(np.asarray(groups)[np.argmin(found)])
            raise InputError(
                f"group {self.why_not(name)}; allowed: one of {len(self.names)} that have"
            )
        return found

    def why_not(self, name: str) -> str:
        """Why a group has no detector, in words."""
        reason = self.skipped.get(name, "it was not in the training rows")
        return f"{name!r} has no detector ({reason})"

    def score(self, x: Any, groups: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Score rows, each by its own group's detector; larger is more anomalous.

        Scores of different groups are comparable only beside their thresholds.

        Args:
            x: rows, as in `Detector.score`.
            groups: each row's group, [n].
            batch_size: rows in a compiled batch, about; scores agree to 1e-6 between sizes.

        Returns:
            float32 [n].

        Raises:
            InputError: if rows don't fit the schema, one holds NaN or infinity, or a group has
                no detector.
        """
        rows, members = self._rows(x, groups)
        return self.score_members(rows, members, batch_size=batch_size)

    def _rows(self, x: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
        """Rows as they are scored, and the position of each one's group."""
        rows, _ = as_rows(x, self.schema)
        check_finite(rows, self.schema)
        members = self.members(groups, len(rows))
        return self.prepare_members(rows, members), members

    def predict(self, x: Any, groups: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Which rows are flagged: bool [n], True where the score is above the group's threshold."""
        rows = as_rows(x, self.schema)[0]
        scores = self.score(rows, groups, batch_size=batch_size)
        return np.asarray(scores > self.thresholds[self.members(groups, len(rows))])

    def explain(
        self, x: Any, groups: Any, *, top: int = 3, batch_size: int | None = None
    ) -> list[list[Reason]]:
        """The features that err most next to their usual error in the row's group, most first.

        Args:
            x: rows, as in `score`.
            groups: each row's group, [n].
            top: how many features to name for every row.
            batch_size: rows in a compiled batch, about.
        """
        rows, members = self._rows(x, groups)
        _, features, errors = self.explain_members(rows, members, top=top, batch_size=batch_size)
        known = self.variables.get("normal", {}).get("error")
        usual = (
            np.full((len(self.groups), self.schema.features), np.nan) if known is None else known
        )
        return [
            [
                Reason(self.schema.feature_name(int(i)), float(e), float(usual[member][i]))
                for i, e in zip(*named, strict=True)
            ]
            for member, *named in zip(members, features, errors, strict=True)
        ]

    def score_members(
        self, rows: np.ndarray, members: np.ndarray, *, batch_size: int | None = None
    ) -> np.ndarray:
        """Score rows that were prepared by position of their group; -1 and NaN give NaN."""
        (scores,) = self._run(steps.compiled_score_tiles, rows, members, batch_size)
        return scores

    def explain_members(
        self, rows: np.ndarray, members: np.ndarray, *, top: int, batch_size: int | None = None
    ) -> list[np.ndarray]:
        """Scores float32 [n], feature positions int32 [n, top], their errors float32 [n, top]."""
        if not 1 <= top <= self.schema.features:
            raise InputError(f"top is {top}; allowed: 1 to {self.schema.features} features")
        program = functools.partial(steps.compiled_explain_tiles, top=top)
        return self._run(program, rows, members, batch_size)

    def reconstruct_members(
        self, rows: np.ndarray, members: np.ndarray, *, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scaled rows and their reconstructions, both float32 [n, ...]."""
        x, y = self._run(steps.compiled_reconstruct_tiles, rows, members, batch_size)
        return x, y

    def encode_members(
        self, rows: np.ndarray, members: np.ndarray, *, batch_size: int | None = None
    ) -> np.ndarray:
        """Latent values, float32 [n, ...]."""
        (latent,) = self._run(steps.compiled_encode_tiles, rows, members, batch_size)
        return latent

    def member(self, name: str) -> Detector:
        """One group's detector, to be used, saved or exported by itself.

        Raises:
            InputError: if the group has none.
        """
        if name not in self.names:
            raise InputError(f"group {self.why_not(name)}; {settings.suggest(name, self.names)}")
        at = self.names.index(name)

        def own(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: np.asarray(leaf)[at], tree)

        group = self.groups[at]
        return Detector(
            config=self.config,
            schema=self.schema.with_offset(group.offset),
            scaler=own(self.scaler),
            variables=own(self.variables),
            threshold=group.threshold,
            provenance=provenance_of(group, self.provenance, self.config),
        )

    def calibrate(self, x: Any, groups: Any, *, rule: Rule | None = None) -> GroupDetector:
        """The same detectors with thresholds found on the scores of these rows.

        Groups without rows here keep the threshold that they have.

        Args:
            x: rows taken to be normal, best not seen in training.
            groups: each row's group, [n].
            rule: how: a built-in rule, or any object that is an `aejax.config.Rule`; None takes
                the configuration's.
        """
        return self.calibrate_members(*self._rows(x, groups), rule=rule)

    def calibrate_members(
        self, rows: np.ndarray, members: np.ndarray, *, rule: Rule | None = None
    ) -> GroupDetector:
        """As `calibrate`, with the position of each row's group."""
        rule = self.config.rule if rule is None else rule
        scores = self.score_members(rows, members)
        order = np.argsort(members, kind="stable")
        bounds = np.searchsorted(members[order], np.arange(len(self.groups) + 1))
        changed, new = list(self.groups), {}
        for at, group in enumerate(self.groups):
            own = scores[order[bounds[at] : bounds[at + 1]]]
            if len(own):
                changed[at] = calibrated(group, own, rule)
                new[group.name] = [a for a in changed[at].alarms if a.kind in OF_SCORES]
        tell(in_sentences(new, len(changed)))
        return self.with_groups(changed)

    def with_groups(self, groups: Sequence[Group]) -> GroupDetector:
        """The same detectors with other facts of each, and with what these say of all."""
        alarms = in_sentences({group.name: group.alarms for group in groups}, len(groups))
        kept = {name: fact for name, fact in self.provenance.items() if name != "alarms"}
        told = {**kept, "alarms": alarms} if alarms else kept
        return dataclasses.replace(self, groups=tuple(groups), provenance=told)

    def save(self, folder: str | Path) -> None:
        """Write all detectors to a folder, as one artifact; see `Detector.save`."""
        described = {
            "kind": "groups",
            "config": settings.to_dict(self.config),
            "schema": self.schema.to_dict(),
            "column": self.column,
            "groups": [group.to_dict() for group in self.groups],
            "skipped": self.skipped,
            "history": self.history,
            "provenance": self.provenance,
            **describe_normal(self.variables, stacked=True),
        }
        arrays = jax.device_get(arrays_of(self.scaler, self.variables))
        artifact.write(Path(folder), described, with_saved_programs(arrays, self.programs))

    @functools.cached_property
    def programs(self) -> dict[str, bytes]:
        """As of a `Detector`: those of one group are those of all."""
        one = jax.tree.map(lambda leaf: leaf[0], self.variables)
        return own_programs(self.scorer, one, self.schema.shape, self.config)

    def _run(
        self, program: Any, rows: np.ndarray, members: np.ndarray, batch_size: int | None
    ) -> list[np.ndarray]:
        variables, scaler = self._placed
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; allowed: at least 1")

        def one(x: Any, of: Any) -> Any:
            wide = jax.default_backend() != "cpu" and self.scorer.maps
            return program(self.scorer, variables, scaler, x, of, side_by_side=wide)

        size = batch_size or batch_size_for(len(rows), self.schema, self.config)
        return map_tiles(one, rows, members, batch_size=size, dtype=self.schema.device_dtype)

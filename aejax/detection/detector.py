"""The Python face: fit, calibrate, score, predict, explain, save, load."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Combine, Config, InputError, Rule
from aejax.core import scaling, steps
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection import artifact, conformal
from aejax.detection.rows import as_rows, check_finite, default_batch_size, map_batches
from aejax.detection.threshold import Threshold, fit_threshold
from aejax.models.build import build

MOST_MEMBERS = 1 << 16


class Reason(NamedTuple):
    """One of the features that make up a row's score: its name, and its error in scaled units."""

    feature: str
    error: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """A trained model with everything that scoring needs. Immutable; methods return new ones.

    Attributes:
        config: all settings.
        schema: the rows it takes.
        scaler: fitted on training rows.
        variables: parameters, and batch statistics where the model has any.
        threshold: above which a row is flagged, or None.
        thresholds: others that are kept by name, for `use`.
        provenance: what made it: data fingerprint, versions, rows, seed, seconds.
        history: one dict an epoch; of an ensemble, of its first member.
        combine: how an ensemble's members' scores become one; None for a single model. In an
            ensemble, the arrays of scaler and variables have a leading axis of members.
        members: how many models it holds.
    """

    config: Config
    schema: Schema
    scaler: Scaler
    variables: dict[str, Any]
    threshold: Threshold | None = None
    thresholds: dict[str, Threshold] = dataclasses.field(default_factory=dict)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    combine: Combine | None = None
    members: int = 1

    @functools.cached_property
    def scorer(self) -> steps.Scorer:
        """The static part of the scoring program."""
        model = build(self.config.model, self.schema, precision=self.config.precision)
        return steps.Scorer(model=model, error=self.config.error, combine=self.combine)

    @functools.cached_property
    def _placed(self) -> tuple[dict[str, Any], Scaler]:
        return jax.device_put((self.variables, self.scaler))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides a score: configuration, schema, scaler, parameters."""
        described = f"{settings.to_dict(self.config.model)} {self.config.error} {self.schema}"
        arrays = artifact.digest({"scaler": self.scaler._asdict(), "variables": self.variables})
        described += f" {self.config.precision} {self.combine or ''}"
        return hashlib.sha256(f"{described} {arrays}".encode()).hexdigest()

    def score(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Score rows; larger is more anomalous.

        Args:
            x: rows [n, ...] as the schema says, or a data frame with its columns.
            batch_size: rows in a compiled batch; scores agree to 1e-6 between sizes.

        Returns:
            float32 [n]: each row's mean error over its features, in scaled units.

        Raises:
            InputError: if rows don't fit the schema, or one holds NaN or infinity.
        """
        rows, _ = as_rows(x, self.schema)
        return self.score_rows(rows, batch_size=batch_size, check=True)

    def score_rows(
        self, rows: np.ndarray, *, batch_size: int | None = None, check: bool = False
    ) -> np.ndarray:
        """Score rows that have the schema's type and shape; rows with NaN get NaN."""
        variables, scaler = self._placed
        score = functools.partial(steps.compiled_score, self.scorer, variables, scaler)
        (scores,) = map_batches(
            lambda batch: (score(batch),), rows, self._batch_size(batch_size), self.schema.dtype
        )
        # A wild value shows in its row's score, unless an infinity was clipped: rows are
        # searched only where they have to be.
        if check and (self.config.scale.clip is not None or not np.isfinite(scores).all()):
            check_finite(rows, self.schema)
        if check and not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise InputError(
                f"row {row} has score {scores[row]}; allowed: rows within float32's range"
            )
        return scores

    def predict(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Which rows are flagged: bool [n], True where the score is above the threshold."""
        return self._required_threshold().flags(self.score(x, batch_size=batch_size))

    def spread(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """How far an ensemble's members disagree: standard deviation of their scores, float32 [n].

        Raises:
            InputError: if the detector is a single model, or rows don't fit the schema.
        """
        self._require_ensemble("spread", wanted=True)
        rows, _ = as_rows(x, self.schema)
        variables, scaler = self._placed
        (scores,) = map_batches(
            lambda batch: (steps.compiled_member_scores(self.scorer, variables, scaler, batch).T,),
            rows,
            self._batch_size(batch_size),
            self.schema.dtype,
        )
        spread: np.ndarray = scores.std(axis=1)
        return spread

    def explain(self, x: Any, *, top: int = 3, batch_size: int | None = None) -> list[list[Reason]]:
        """The features with the largest errors of every row, largest first."""
        rows, _ = as_rows(x, self.schema)
        check_finite(rows, self.schema)
        features, errors = self.explain_rows(rows, top=top, batch_size=batch_size)[1:]
        return [
            [Reason(self.schema.feature_name(int(i)), float(e)) for i, e in zip(*row, strict=True)]
            for row in zip(features, errors, strict=True)
        ]

    def explain_rows(
        self, rows: np.ndarray, *, top: int, batch_size: int | None = None
    ) -> list[np.ndarray]:
        """Scores float32 [n], feature positions int32 [n, top], their errors float32 [n, top]."""
        if not 1 <= top <= self.schema.features:
            raise InputError(f"top is {top}; allowed: 1 to {self.schema.features} features")
        variables, scaler = self._placed
        return map_batches(
            lambda batch: steps.compiled_explain(self.scorer, variables, scaler, batch, top=top),
            rows,
            self._batch_size(batch_size),
            self.schema.dtype,
        )

    def reconstruct(
        self, x: Any, *, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scaled rows and their reconstructions, both float32 [n, ...]."""
        rows, _ = as_rows(x, self.schema)
        variables, scaler = self._placed
        scaled, found = map_batches(
            lambda batch: steps.compiled_reconstruct(self.scorer, variables, scaler, batch),
            rows,
            self._batch_size(batch_size),
            self.schema.dtype,
        )
        return scaled, found

    def encode(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Latent values of every row of a single model, float32 [n, ...]."""
        self._require_ensemble("encode", wanted=False)
        rows, _ = as_rows(x, self.schema)
        variables, scaler = self._placed
        (latent,) = map_batches(
            lambda batch: (steps.compiled_encode(self.scorer, variables, scaler, batch),),
            rows,
            self._batch_size(batch_size),
            self.schema.dtype,
        )
        return latent

    def p_values(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """How rare each row's score is among normal rows, float64 [n] in (0, 1].

        Raises:
            InputError: if the threshold's rule gives no p-values; `Conformal` does.
        """
        return self._required_threshold().p_values(self.score(x, batch_size=batch_size))

    def discoveries(self, x: Any, *, rate: float, batch_size: int | None = None) -> np.ndarray:
        """Which rows of this batch to flag so that at most `rate` of the flagged are normal.

        Benjamini and Hochberg's control of the false discovery rate on `p_values`; unlike
        in `predict`, whether a row is flagged depends on the other rows.

        Returns:
            bool [n].
        """
        return conformal.discoveries(self.p_values(x, batch_size=batch_size), rate)

    def calibrate(
        self,
        x: Any,
        *,
        rule: Rule | None = None,
        is_anomaly: Any = None,
        name: str | None = None,
    ) -> Detector:
        """The same detector with a threshold found on the scores of these rows.

        Args:
            x: rows taken to be normal, best not seen in training.
            rule: how; None takes the configuration's.
            is_anomaly: labels of the rows, [n] of 0 and 1, for the rule `BestF1` only.
            name: also keeps the threshold under this name, for `use`.
        """
        found = fit_threshold(rule or self.config.rule, self.score(x), is_anomaly)
        kept = self.thresholds if name is None else {**self.thresholds, name: found}
        return dataclasses.replace(self, threshold=found, thresholds=kept)

    def use(self, name: str) -> Detector:
        """The same detector with one of the thresholds that it keeps by name."""
        if name not in self.thresholds:
            raise InputError(f"threshold is {name!r}; {settings.suggest(name, self.thresholds)}")
        return self.with_threshold(self.thresholds[name])

    def with_threshold(self, threshold: Threshold) -> Detector:
        """The same detector with another threshold."""
        return dataclasses.replace(self, threshold=threshold)

    def save(self, folder: str | Path) -> None:
        """Write the detector to a folder, replacing one that is there only when all is written."""
        artifact.write(Path(folder), *self.to_parts())

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A JSON-ready description and a tree of NumPy arrays, from which `from_parts` makes it.

        What goes to files, and between processes: nothing in them can run code.
        """
        described = {
            "config": settings.to_dict(self.config),
            "schema": self.schema.to_dict(),
            "threshold": None if self.threshold is None else self.threshold.to_dict(),
            "thresholds": {name: kept.to_dict() for name, kept in self.thresholds.items()},
            "provenance": self.provenance,
            "history": self.history,
            "combine": self.combine,
            "members": self.members,
        }
        return described, jax.device_get(_arrays(self.scaler, self.variables))

    def _batch_size(self, asked: int | None) -> int:
        if asked is not None and asked < 1:
            raise InputError(f"batch_size is {asked}; allowed: at least 1")
        return asked or default_batch_size(self.schema, self.config.model)

    def _require_ensemble(self, method: str, *, wanted: bool) -> None:
        if (self.combine is not None) != wanted:
            found, allowed = (
                ("a single model", "an ensemble") if wanted else ("an ensemble", "a single model")
            )
            raise InputError(f"{method}: the detector is {found}; allowed: {allowed}")

    def _required_threshold(self) -> Threshold:
        if self.threshold is None:
            raise InputError("the detector has no threshold; allowed: calibrate it first")
        return self.threshold


def _arrays(scaler: Any, variables: Any) -> dict[str, Any]:
    return {"scaler": scaler._asdict(), "variables": variables}


def load(folder: str | Path) -> Detector:
    """The detector that `Detector.save` or a run wrote.

    Args:
        folder: a detector's folder, or a run's folder that holds one in `detector/`.

    Raises:
        InputError: if there is none, or it is damaged or of a newer format.
    """
    folder = Path(folder)
    if not (folder / artifact.JSON_NAME).is_file() and (folder / "detector").is_dir():
        folder = folder / "detector"
    written = artifact.read_description(folder)
    try:
        fields = _fields(written)
    except InputError as error:
        raise InputError(f"{folder / artifact.JSON_NAME}: {error}") from None
    config, shape = fields["config"], fields["schema"].shape
    model = build(config.model, fields["schema"])
    variables = jax.eval_shape(lambda: steps.new_variables(model, shape, 0))
    like = _arrays(scaling.like(config.scale, shape), variables)
    if fields["combine"] is not None:
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((fields["members"], *leaf.shape), leaf.dtype), like
        )
    arrays = artifact.read_arrays(folder, written["arrays"], like)
    return _detector(fields, arrays)


def from_parts(described: Mapping[str, Any], arrays: Mapping[str, Any]) -> Detector:
    """The detector whose `to_parts` these are.

    Raises:
        InputError: if the description is none of a detector.
    """
    return _detector(_fields(described), arrays)


def _detector(fields: Mapping[str, Any], arrays: Mapping[str, Any]) -> Detector:
    return Detector(scaler=Scaler(**arrays["scaler"]), variables=arrays["variables"], **fields)


def _fields(described: Mapping[str, Any]) -> dict[str, Any]:
    try:
        threshold = described["threshold"]
        return {
            "config": settings.from_dict(described["config"], Config),
            "schema": Schema.from_dict(described["schema"]),
            "threshold": None if threshold is None else Threshold.from_dict(threshold),
            # Detectors written before there were several thresholds have no such field.
            "thresholds": {
                name: Threshold.from_dict(kept)
                for name, kept in dict(described.get("thresholds", {})).items()
            },
            "provenance": dict(described["provenance"]),
            "history": list(described["history"]),
            **_ensemble_fields(described),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(str(error)) from None


def _ensemble_fields(described: Mapping[str, Any]) -> dict[str, Any]:
    # Detectors written before there were ensembles have no such fields.
    combine, members = described.get("combine"), described.get("members", 1)
    if combine not in (None, *typing.get_args(Combine)):
        raise InputError(f"combine is {combine!r}; allowed: {typing.get_args(Combine)}, null")
    if not isinstance(members, int) or not 1 <= members <= MOST_MEMBERS:
        raise InputError(f"members is {members!r}; allowed: 1 to {MOST_MEMBERS}")
    return {"combine": combine, "members": members}

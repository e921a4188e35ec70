"""The Python face: fit, calibrate, score, predict, explain, save, load."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Combine, Config, InputError, Rule, score_text
from aejax.config.scores import DEFAULT
from aejax.core import mesh, steps
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection import artifact, inside
from aejax.detection.artifact import arrays_of
from aejax.detection.kept_normal import describe_normal
from aejax.detection.memory import BatchLimit
from aejax.detection.own_network import code_digest, own_programs, own_score_programs
from aejax.detection.placed import PlacedModel
from aejax.detection.reasons import Reason, named_reasons
from aejax.detection.rows import as_rows, check_scores, finite_rows
from aejax.detection.stability import record, score_alarms
from aejax.detection.threshold import Threshold, fit_threshold
from aejax.detection.wording import Words, in_words
from aejax.rules import p_values
from aejax.training.identity import digest

__all__ = ["Detector", "Reason", "arrays_of"]


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
        devices: how many of this process's devices score, each a batch of its own; None takes
            all, and one for fewer rows than a batch. No score depends on it; it isn't saved.
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
    devices: int | None = dataclasses.field(default=None, compare=False)

    @functools.cached_property
    def _model(self) -> PlacedModel:
        return PlacedModel(
            config=self.config,
            schema=self.schema,
            scaler=self.scaler,
            variables=self.variables,
            combine=self.combine,
            devices=self.devices,
        )

    @property
    def scorer(self) -> steps.Scorer:
        """The static part of the scoring program."""
        return self._model.scorer

    @property
    def batch_limit(self) -> BatchLimit:
        """What is known of how large a batch the device holds."""
        return self._model.batch_limit

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides a score: configuration, schema, scaler, parameters."""
        described = f"{settings.to_dict(self.config.model)} {self.config.error} {self.schema}"
        tree: Any = {"scaler": self.scaler._asdict(), "variables": self.variables}
        if self.scorer.model.is_own or not isinstance(self.config.score, str):
            # Of the same names whether the network's code is here or not.
            tree, described = artifact.named(tree), f"{described} {code_digest(self.programs)}"
        arrays = digest(tree)
        described += f" {self.config.products} {self.combine or ''}"
        if self.config.score != DEFAULT:
            described += f" {score_text(self.config.score)}"
        if self.schema.columns is not None:
            described += f" {self.schema.columns}"
        return hashlib.sha256(f"{described} {arrays}".encode()).hexdigest()

    def score(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Score rows; larger is more anomalous.

        Args:
            x: rows [n, ...] as the schema says, or a data frame with its columns.
            batch_size: rows in a compiled batch; scores agree to 1e-6 between sizes.

        Returns:
            float32 [n]: each row's mean error over its features, in scaled units, unless
            the model or `Config.score` says otherwise.

        Raises:
            InputError: if rows don't fit the schema, or one holds NaN or infinity. In a mixed
                table a missing cell is fine; a row needs one that is there.
        """
        rows, _ = as_rows(x, self.schema)
        return self.score_rows(rows, batch_size=batch_size, check=True)

    def score_rows(
        self, rows: np.ndarray, *, batch_size: int | None = None, check: bool = False
    ) -> np.ndarray:
        """Score rows that have the schema's type and shape; rows with NaN get NaN."""
        (scores,) = self._model.run(steps.compiled_score, rows, batch_size)
        if check:
            check_scores(scores, rows, self.schema, self.config)
        return scores

    def predict(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Which rows are flagged: bool [n], True where the score is above the threshold.

        Raises:
            InputError: as `score` does, and if the detector has no threshold.
        """
        return self._required_threshold().flags(self.score(x, batch_size=batch_size))

    def spread(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """How far an ensemble's members disagree: standard deviation of their scores, float32 [n].

        With ranks combined, of their ranks.

        Raises:
            InputError: if the detector is a single model, or rows don't fit the schema.
        """
        spread: np.ndarray = self.member_scores(x, batch_size=batch_size).std(axis=1)
        return spread

    def member_scores(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Every member's score of every row, float32 [n, members], as they are combined.

        Raises:
            InputError: if the detector is a single model, or rows don't fit the schema.
        """
        self._model.require_ensemble("member_scores", wanted=True)
        rows, _ = as_rows(x, self.schema)

        def by_row(*given: Any) -> Any:
            return steps.compiled_member_scores(*given).T

        (scores,) = self._model.run(by_row, rows, batch_size)
        return scores

    def explain(self, x: Any, *, top: int = 3, batch_size: int | None = None) -> list[list[Reason]]:
        """The features that err most next to their usual error, most first, for every row.

        Raises:
            InputError: if rows don't fit the schema, the model gives no reconstructions, or
                `top` is not from 1 to the number of features.
        """
        rows = finite_rows(x, self.schema)
        _, features, errors = self.explain_rows(rows, top=top, batch_size=batch_size)
        words = self._words(rows, x)
        return named_reasons(self.schema, features, errors, self.usual_errors, words)

    def _words(self, rows: np.ndarray, x: Any) -> Words | None:
        if self.schema.columns is None:
            return None
        from aejax.data.frames import as_table

        return in_words(self, rows, as_table(x, self.schema.sources))

    @property
    def usual_errors(self) -> np.ndarray | None:
        """Each feature's mean error in normal rows, float32 [features], if it is known."""
        found = self.variables.get("normal", {}).get("error")
        if found is None:
            return None
        usual = np.asarray(found)
        return usual if self.combine is None else usual.mean(axis=0)

    def errors_of(self, rows: np.ndarray, *, batch_size: int | None = None) -> np.ndarray:
        """Every feature's error, float32 [n, features], of rows that fit the schema.

        Their mean is the row's error: a member that doesn't see some features
        (`Vary.features`) counts the others more. A missing cell of a mixed table has 0.

        Raises:
            InputError: if the model gives no reconstructions.
        """
        self._model.require_reconstructions("errors_of")
        (found,) = self._model.run(steps.compiled_errors, rows, batch_size)
        return found.reshape(len(rows), -1)

    def feature_errors(self, x: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
        """Every feature's error, float32 [n, features], of what `reconstruct` gave."""
        placed = mesh.ONE_DEVICE.everywhere((x, reconstruction))
        error = jax.device_get(steps.compiled_feature_error(self.config.error, *placed))
        return np.reshape(error, (len(x), -1)).reshape(len(x), -1)

    def explain_rows(
        self, rows: np.ndarray, *, top: int, batch_size: int | None = None
    ) -> list[np.ndarray]:
        """Scores float32 [n], feature positions int32 [n, top], their errors float32 [n, top].

        Raises:
            InputError: as `explain` does, but for rows: they have to fit the schema.
        """
        self._model.require_reconstructions("explain")
        if not 1 <= top <= self.schema.features:
            raise InputError(f"top is {top}; allowed: 1 to {self.schema.features} features")
        return self._model.run(functools.partial(steps.compiled_explain, top=top), rows, batch_size)

    def reconstruct(
        self, x: Any, *, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scaled rows and their reconstructions, both float32 [n, ...].

        Of a mixed table a column's reconstruction is what the model expects there: the code
        of the likeliest category, the probability of true, the value of a cycle.

        Raises:
            InputError: if the model gives no reconstructions, or rows don't fit the schema.
        """
        self._model.require_reconstructions("reconstruct")
        rows, _ = as_rows(x, self.schema)
        scaled, found = self._model.run(steps.compiled_reconstruct, rows, batch_size)
        return scaled, found

    def encode(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Latent values of every row of a single model, float32 [n, ...].

        A variational model's are its posterior's means, a classifier's what its last layer
        sees, a context model's the sum of the neighbours' embeddings.

        Raises:
            InputError: if the detector is an ensemble, rows don't fit the schema, or one holds
                NaN or infinity.
        """
        return inside.encode(self._model, x, batch_size)

    def decode(self, latent: Any) -> np.ndarray:
        """Rows that latent values stand for, in scaled units.

        Args:
            latent: float32 [n, ...], as `encode` gives them.

        Returns:
            float32 [n, ...].

        Raises:
            InputError: if the detector is an ensemble, the model gives no reconstructions, or
                latent values have another shape.
        """
        return inside.decode(self._model, latent)

    def generate(self, count: int, *, seed: int = 0) -> np.ndarray:
        """New rows of a variational model: decoded samples of its prior, in scaled units.

        Returns:
            float32 [count, ...]: the means of the likelihood, as is usual for pictures.

        Raises:
            InputError: if the model is not variational, or `count` isn't positive.
        """
        return inside.generate(self._model, count, seed)

    def classify(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Probabilities of the classes, float32 [n, classes], of a classifier.

        Raises:
            InputError: if the model is another one, rows don't fit the schema, or one holds NaN
                or infinity.
        """
        return inside.classify(self._model, x, batch_size)

    @functools.cached_property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """The layers whose neurons' states can be had, and the shape of one row's."""
        return inside.layers(self._model)

    def states(self, x: Any, layer: str, *, batch_size: int | None = None) -> np.ndarray:
        """The states of one layer's neurons after the activation, float32 [n, ...].

        Args:
            x: rows, as in `score`.
            layer: one of `layers`.
            batch_size: rows in a compiled batch.

        Raises:
            InputError: if there is no such layer, with the nearest name; and as `encode` does.
        """
        self._model.require_ensemble("states", wanted=False)
        if layer not in self.layers:
            raise InputError(f"layer is {layer!r}; {settings.suggest(layer, self.layers)}")
        return self.state_rows(finite_rows(x, self.schema), layer, batch_size=batch_size)

    def state_rows(
        self, rows: np.ndarray, layer: str, *, batch_size: int | None = None
    ) -> np.ndarray:
        """States of a layer, or of "latent" what `encode` gives, of rows that fit the schema."""
        return inside.state_rows(self._model, rows, layer, batch_size)

    def p_values(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """How rare each row's score is among normal rows, float64 [n] in (0, 1].

        Raises:
            InputError: as `predict` does, and if the threshold's rule gives no p-values;
                a conformal one does.
        """
        return self._required_threshold().p_values(self.score(x, batch_size=batch_size))

    def discoveries(self, x: Any, *, rate: float, batch_size: int | None = None) -> np.ndarray:
        """Which rows of this batch to flag so that at most `rate` of the flagged are normal.

        Benjamini and Hochberg's control of the false discovery rate on `p_values`; unlike
        in `predict`, whether a row is flagged depends on the other rows.

        Returns:
            bool [n].

        Raises:
            InputError: as `p_values` does, and if `rate` is not in (0, 1).
        """
        return p_values.discoveries(self.p_values(x, batch_size=batch_size), rate)

    def calibrate(
        self,
        x: Any,
        *,
        rule: Rule | None = None,
        is_anomaly: Any = None,
        name: str | None = None,
    ) -> Detector:
        """The same detector with a threshold found on the scores of these rows.

        Scores that are all the same, and scores distributed unlike those that the threshold
        before was set on, are warned of and noted in `provenance`.

        Args:
            x: rows taken to be normal, best not seen in training.
            rule: how: a built-in rule, or any object that is an `aejax.config.Rule`; None takes
                the configuration's.
            is_anomaly: labels of the rows, [n] of 0 and 1, for a rule that takes labels only.
            name: also keeps the threshold under this name, for `use`.

        Raises:
            InputError: as `score` does, and if the rule can't be fitted: too few rows, or labels
                that are missing or not asked for.
        """
        scores = self.score(x)
        rule = self.config.rule if rule is None else rule
        found = fit_threshold(rule, scores, is_anomaly)
        kept = self.thresholds if name is None else {**self.thresholds, name: found}
        provenance = self.provenance
        if is_anomaly is None:
            provenance = record(provenance, score_alarms(scores, self.threshold))
        return dataclasses.replace(self, threshold=found, thresholds=kept, provenance=provenance)

    def use(self, name: str) -> Detector:
        """The same detector with one of the thresholds that it keeps by name.

        Raises:
            InputError: if there is none of this name, with the nearest one.
        """
        if name not in self.thresholds:
            raise InputError(f"threshold is {name!r}; {settings.suggest(name, self.thresholds)}")
        return self.with_threshold(self.thresholds[name])

    def with_threshold(self, threshold: Threshold) -> Detector:
        """The same detector with another threshold."""
        return dataclasses.replace(self, threshold=threshold)

    def save(self, folder: str | Path) -> None:
        """Write the detector to a folder, replacing one that is there only when all is written.

        Raises:
            InputError: if the disk doesn't take it; the folder then holds what it held.
        """
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
            **describe_normal(self.variables, stacked=self.combine is not None),
            # Whether some features' errors count less than others', or not at all.
            "weighted": "weights" in self.variables,
        }
        arrays = jax.device_get(arrays_of(self.scaler, self.variables))
        if self.programs:
            arrays["programs"] = {
                name: np.frombuffer(content, np.uint8) for name, content in self.programs.items()
            }
        return described, arrays

    @functools.cached_property
    def programs(self) -> dict[str, bytes]:
        """What a network and a score of somebody's own compute, by name; {} of built-in ones."""
        one = self.variables
        if self.combine is not None:
            one = jax.tree.map(lambda leaf: leaf[0], one)
        shape = self.schema.shape
        return {
            **own_programs(self.scorer.model, one, shape, self.config.model),
            **own_score_programs(self.scorer, one, shape),
        }

    def _required_threshold(self) -> Threshold:
        if self.threshold is None:
            raise InputError("the detector has no threshold; allowed: calibrate it first")
        return self.threshold

"""A trained detector: calibrate, score, predict, explain, save."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Combine, Config, InputError, Rule, score_text
from aejax.config.own import describe
from aejax.config.scores import DEFAULT
from aejax.core import mesh, steps
from aejax.core.scaling import Scaler
from aejax.data.frames import as_table
from aejax.data.schema import Schema
from aejax.detection import artifact, inside
from aejax.detection.artifact import arrays_of
from aejax.detection.kept_normal import describe_normal
from aejax.detection.memory import BatchLimit
from aejax.detection.own_network import content_digest, own_programs, with_saved_programs
from aejax.detection.placed import PlacedModel
from aejax.detection.reasons import Reason, named_reasons
from aejax.detection.rows import (
    as_rows,
    check_scores,
    finite_rows,
    prepared_rows,
    without_bad,
)
from aejax.detection.stability import record, score_alarms
from aejax.detection.threshold import Threshold, fit_threshold
from aejax.detection.wording import in_words
from aejax.rules import p_values

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

    @staticmethod
    def of(
        network: Any,
        variables: Any,
        *,
        x_normal: Any,
        scaler: Scaler | settings.Scale | None = None,
        config: Config | None = None,
        schema: Schema | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> Detector:
        """A detector of a network that was trained elsewhere, with a threshold and reasons.

        Args:
            network: as in `Config(model=...)`.
            variables: what it was trained to, {"params": ..., and others that it has}.
            x_normal: normal rows, best not trained on, as `fit` takes them: the threshold, what
                reasons are measured by, and what a score has to learn come from them.
            scaler: a `Scaler`, or `Scale` settings to be fitted on `x_normal`; None scales as
                `config` says, and without one not at all: the network takes rows as they are.
            config: error, score, rule and more; its network is replaced.
            schema: of the rows; None infers it.
            provenance: facts to keep with the detector.

        Raises:
            InputError: if rows don't fit, or the rule needs more of them.

        Example:
            >>> import aejax, jax, numpy as np
            >>> x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
            >>> network = aejax.network(lambda key, shape: {"a": 0.5}, lambda v, x: x * v["a"])
            >>> detector = Detector.of(network, {"params": {"a": np.float32(0.9)}}, x_normal=x)
            >>> detector.predict(10 * x[:2])
            array([ True,  True])
        """
        from aejax.detection.assembling import assemble

        return assemble(
            network,
            variables,
            x_normal=x_normal,
            scaler=scaler,
            config=config,
            schema=schema,
            provenance=provenance,
        )

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
        error = self.config.error
        error = error if isinstance(error, str) else describe(error).own
        described = f"{settings.to_dict(self.config.model)} {error} {self.schema}"
        tree: Any = {"scaler": self.scaler._asdict(), "variables": self.variables}
        arrays = content_digest(tree, self.programs)
        described += f" {self.config.products} {self.combine or ''}"
        if self.config.score != DEFAULT:
            described += f" {score_text(self.config.score)}"
        if self.schema.columns is not None:
            described += f" {self.schema.columns}"
        if self.schema.offset is not None:
            described += f" {self.schema.offset}"
        return hashlib.sha256(f"{described} {arrays}".encode()).hexdigest()

    def prepare(self, x: Any) -> np.ndarray:
        """Rows as compiled programs take them: float32 (uint8 of bytes) [n, ...], less the offset.

        Args:
            x: rows, as in `score`.

        Raises:
            InputError: as `score` does.
        """
        return prepared_rows(x, self.schema)

    def score(
        self,
        x: Any,
        *,
        batch_size: int | None = None,
        on_bad_row: Literal["error", "null"] = "error",
    ) -> np.ndarray:
        """Score rows; larger is more anomalous.

        Args:
            x: rows [n, ...] as the schema says; or whatever has its columns, which are taken by
                name: a data frame, an Arrow table or stream, a dict of columns, a structured
                array.
            batch_size: rows in a compiled batch; scores agree to 1e-6 between sizes.
            on_bad_row: "error" refuses rows of which one can't be scored; "null" gives such a row
                NaN, as files have null there. `bad_rows` says why.

        Returns:
            float32 [n]: each row's mean error over its features, in scaled units, unless
            the model or `Config.score` says otherwise.

        Raises:
            InputError: if rows don't fit the schema, or one holds NaN or infinity. In a mixed
                table a missing cell is fine; a row needs one that is there.
        """
        if on_bad_row == "null":
            return self._tolerant(x, batch_size)[0]
        if on_bad_row != "error":
            raise InputError(f"on_bad_row is {on_bad_row!r}; allowed: 'error', 'null'")
        rows, _ = as_rows(x, self.schema)
        return self.score_rows(rows, batch_size=batch_size, check=True)

    def bad_rows(self, x: Any) -> dict[int, str]:
        """Why rows can't be scored, by position; empty where all can.

        Args:
            x: rows, as in `score`.

        Raises:
            InputError: if the rows don't fit the schema.
        """
        return self._tolerant(x, None)[1]

    def _tolerant(self, x: Any, batch_size: int | None) -> tuple[np.ndarray, dict[int, str]]:
        """Scores, NaN for rows that have none, and why these have none."""
        bad: dict[int, str] = {}
        rows, _ = as_rows(x, self.schema, bad)
        scores = self.score_rows(rows, batch_size=batch_size)
        return without_bad(scores, rows, self.schema, bad), bad

    def score_rows(
        self, rows: np.ndarray, *, batch_size: int | None = None, check: bool = False
    ) -> np.ndarray:
        """Score rows that were prepared (see `prepare`); those with NaN get NaN."""
        (scores,) = self._model.run(steps.compiled_score, rows, batch_size)
        if check:
            check_scores(scores, rows, self.schema, self.config)
        return scores

    def predict(
        self,
        x: Any,
        *,
        batch_size: int | None = None,
        on_bad_row: Literal["error", "null"] = "error",
    ) -> np.ndarray:
        """Which rows are flagged: bool [n], True where the score is above the threshold.

        With `on_bad_row="null"` a masked array, whose mask is where a row has no score.

        Raises:
            InputError: as `score` does, and if the detector has no threshold.
        """
        threshold = self._required_threshold()
        scores = self.score(x, batch_size=batch_size, on_bad_row=on_bad_row)
        flags = threshold.flags(scores)
        return np.ma.MaskedArray(flags, np.isnan(scores)) if on_bad_row == "null" else flags

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
        return self.member_score_rows(as_rows(x, self.schema)[0], batch_size=batch_size)

    def member_score_rows(self, rows: np.ndarray, *, batch_size: int | None = None) -> np.ndarray:
        """As `member_scores`, of rows that were prepared."""
        (scores,) = self._model.run(steps.compiled_member_scores, rows, batch_size)
        return scores

    def explain(self, x: Any, *, top: int = 3, batch_size: int | None = None) -> list[list[Reason]]:
        """The features that err most next to their usual error, most first, for every row.

        Raises:
            InputError: if rows don't fit the schema, the model gives no reconstructions, or
                `top` is not from 1 to the number of features.
        """
        words = table = None
        if self.schema.columns is not None:
            # Once: a stream has its rows only once.
            table = as_table(x, self.schema.sources)
        rows = finite_rows(x if table is None else table, self.schema)
        _, features, errors = self.explain_rows(rows, top=top, batch_size=batch_size)
        if self.schema.columns is not None:
            words = in_words(self, rows, table)
        return named_reasons(self.schema, features, errors, self.usual_errors, words)

    @property
    def usual_errors(self) -> np.ndarray | None:
        """Each feature's mean error in normal rows, float32 [features], if it is known."""
        found = self.variables.get("normal", {}).get("error")
        if found is None:
            return None
        usual = np.asarray(found)
        return usual if self.combine is None else usual.mean(axis=0)

    def errors_of(self, rows: np.ndarray, *, batch_size: int | None = None) -> np.ndarray:
        """Every feature's error, float32 [n, features], of rows that were prepared.

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
            InputError: as `explain` does, but for rows: they have to be prepared.
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
        return self.reconstruct_rows(as_rows(x, self.schema)[0], batch_size=batch_size)

    def reconstruct_rows(
        self, rows: np.ndarray, *, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `reconstruct`, of rows that were prepared."""
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
        """States of a layer, or of "latent" what `encode` gives, of rows that were prepared."""
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
        return self.calibrate_by(self.score(x), rule=rule, is_anomaly=is_anomaly, name=name)

    def calibrate_by(
        self,
        scores: np.ndarray,
        *,
        rule: Rule | None = None,
        is_anomaly: Any = None,
        name: str | None = None,
    ) -> Detector:
        """As `calibrate`, with the rows' scores, float32 [n]."""
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

        It is read back before. Of several processes the first writes, and no other waits for it.

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
        return described, with_saved_programs(arrays, self.programs)

    @functools.cached_property
    def programs(self) -> dict[str, bytes]:
        """What parts of somebody's own compute, as programs by name; {} of built-in ones."""
        one = self.variables
        if self.combine is not None:
            one = jax.tree.map(lambda leaf: leaf[0], one)
        return own_programs(self.scorer, one, self.schema.shape, self.config)

    def _required_threshold(self) -> Threshold:
        if self.threshold is None:
            raise InputError("the detector has no threshold; allowed: calibrate it first")
        return self.threshold


class _Rest:
    """What a detector carries through JAX's trees without being part of a program: equal to all."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rest)

    def __hash__(self) -> int:
        return 0


# What programs are made for; a rule of a person's own need not be hashable, and is no part of it.
_STATIC = ("model", "error", "score", "precision")


def _flatten(detector: Detector) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    config = detector.config
    named = {field.name: getattr(detector, field.name) for field in dataclasses.fields(detector)}
    leaves = (named.pop("scaler"), named.pop("variables"))
    static = (*(getattr(config, name) for name in _STATIC), detector.schema, detector.combine)
    return leaves, (static, _Rest(named))


def _unflatten(aux: tuple[Any, _Rest], leaves: tuple[Any, ...]) -> Detector:
    scaler, variables = leaves
    return Detector(scaler=scaler, variables=variables, **aux[1].fields)


jax.tree_util.register_pytree_node(Detector, _flatten, _unflatten)

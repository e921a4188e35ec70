"""Trained networks that score, explain and encode rows, on every route."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Combine, Config, InputError, score_text
from aejax.config.own import describe
from aejax.config.scores import DEFAULT
from aejax.core import steps
from aejax.core.scaling import Scaler
from aejax.data.frames import as_table
from aejax.data.offsets import centred
from aejax.data.schema import Schema
from aejax.detection import inside
from aejax.detection.feature_drift import UsualValues
from aejax.detection.groups import Groups, without_groups
from aejax.detection.memory import BatchLimit
from aejax.detection.own_network import content_digest, own_programs
from aejax.detection.placed import PlacedModel
from aejax.detection.prepared import prepared_scorer
from aejax.detection.reasons import Reason, named_reasons
from aejax.detection.rows import as_rows, check_finite, check_scores, without_bad
from aejax.detection.series import (
    SeriesState,
    is_windows,
    score_next,
    score_series,
    whole_windows,
)
from aejax.detection.wording import in_units


@dataclasses.dataclass(frozen=True, kw_only=True)
class FittedModel:
    """Trained networks with everything that scoring needs; `Detector` adds thresholds.

    Attributes:
        config: all settings.
        schema: the rows it takes.
        scaler: fitted on training rows.
        variables: parameters, and batch statistics where the network has any.
        combine: how an ensemble's members' scores become one; else None.
        members: how many networks it holds.
        groups: what is known of each group, in the order of the arrays; else None.
        devices: how many of this process's devices score, each a batch of its own; None takes
            all, and one for fewer rows than a batch. No score depends on it; it isn't saved.
    """

    config: Config
    schema: Schema
    scaler: Scaler
    variables: dict[str, Any]
    combine: Combine | None = None
    members: int = 1
    groups: Groups | None = None
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
            parted=None if self.groups is None else self.groups.column,
        )

    @property
    def scoring(self) -> steps.Scorer:
        """The static part of the scoring program."""
        return self._model.scoring

    @property
    def scores_tell(self) -> bool:
        """Whether a row that holds NaN or infinity is known by a score that isn't finite.

        It is where every feature's error counts, and nothing is clipped or ranked before.
        """
        counts_all = self.scoring.is_mean_error and "weights" not in self.variables
        clips = self.scaler.limit is not None or self.scaler.knots is not None
        return counts_all and self.scoring.reconstructs and self.scoring.heads is None and not clips

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
        if self.schema.series is not None:
            described += f" {self.schema.series} {self.schema.series.points}"
        if self.groups is not None:
            offsets = [group.offset for group in self.groups.each]
            described += f" {self.groups.names} {offsets}"
        return hashlib.sha256(f"{described} {arrays}".encode()).hexdigest()

    def prepare(self, x: Any, *, groups: Any = None) -> np.ndarray:
        """Rows as compiled programs take them: float32 (uint8 of bytes) [n, ...], less the offset.

        Args:
            x: rows, as in `score`.
            groups: of a detector of groups.

        Raises:
            InputError: as `score` does.
        """
        rows, _ = self._rows(x, groups)
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(rows, self.schema.device_dtype)
        check_finite(rows, self.schema)
        return rows

    def _with_members(self, x: Any, groups: Any) -> tuple[Any, Any]:
        """Rows and each row's group, as they were given; None where there are no groups."""
        if self.groups is None:
            if groups is not None:
                raise InputError("groups are given; allowed with a detector without groups: None")
            return x, None
        if groups is None:
            raise InputError(
                f"groups is None; allowed with a detector of {len(self.groups)} groups: each row's "
                f"{self.groups.column}, [n], or the name of a column"
            )
        return without_groups(x, groups)

    def _positions(self, groups: Any, rows: int) -> np.ndarray:
        assert self.groups is not None
        return self.groups.members(groups, rows)

    def less_group_offset(self, rows: np.ndarray, members: np.ndarray) -> np.ndarray:
        """Rows less the offsets of their groups, by the groups' positions, int32 [n]."""
        return rows if self.groups is None else self.groups.less_offset(rows, members)

    def less_offset(self, rows: np.ndarray, members: np.ndarray | None = None) -> np.ndarray:
        """Rows as they were given, [n, ...], less the offset; of groups each less its group's."""
        rows = centred(rows, self.schema)
        return rows if members is None else self.less_group_offset(rows, members)

    def _rows(self, x: Any, groups: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows as they are scored, and the position of each row's group, if there are any."""
        if self._takes_points(x):
            raise InputError(
                f"rows are a series; allowed here: windows, [n, {self.schema.shape[0]}, "
                f"{self.schema.shape[1]}], as detector.windows(series) gives them"
            )
        if self.groups is None and groups is None:
            return as_rows(x, self.schema)[0], None
        x, given = self._with_members(x, groups)
        rows = as_rows(x, self.schema)[0]
        members = self._positions(given, len(rows))
        return self.less_group_offset(rows, members), members

    def _finite_rows(self, x: Any, groups: Any) -> tuple[np.ndarray, np.ndarray | None]:
        rows, members = self._rows(x, groups)
        check_finite(rows, self.schema)
        return rows, members

    def score(
        self,
        x: Any,
        *,
        groups: Any = None,
        batch_size: int | None = None,
        on_bad_row: Literal["error", "null"] = "error",
    ) -> np.ndarray:
        """Score rows, or the points of a series; larger is more anomalous.

        Args:
            x: rows [n, ...] as the schema says; or whatever has its columns, which are taken by
                name: a data frame, an Arrow table or stream, a dict of columns, a structured
                array. With `Config.window` the points of a series, [n] of one channel or [n,
                channels], and the column of times where there is one; or windows, [n, length,
                channels].
            groups: of a detector of groups, each row's, [n], or a column's name. Scores of
                different groups compare only beside their thresholds.
            batch_size: rows in a compiled batch; scores agree to 1e-6 between sizes.
            on_bad_row: "error" refuses rows of which one can't be scored; "null" gives such a row
                NaN, as files have null there. `bad_rows` says why.

        Returns:
            float32 [n]: each row's mean error over its features, in scaled units, unless
            the model or `Config.score` says otherwise. A point of a series that no whole window
            tells of has NaN; `bad_rows` says why.

        Raises:
            InputError: if rows don't fit the schema, one holds NaN or infinity, or its group has
                no network. In a mixed table a missing cell is fine; a row needs one that is there.
        """
        if on_bad_row != "error" or self._takes_points(x):
            return self._tolerant(x, groups, batch_size, on_bad_row)[0]
        rows, members = self._rows(x, groups)
        (scores,) = self._model.run(steps.compiled_score, rows, batch_size, members)
        check_scores(scores, rows, self.schema, self.config)
        return scores

    def scorer(self, *, batch: int = 1) -> Callable[[np.ndarray], np.ndarray]:
        """A function that scores exactly so many rows a call, compiled and placed ahead.

        For servers that score a row as it comes: it checks shape and type only, and may be called
        from several threads. Scores agree with `score`'s to 1e-6; a row with NaN or infinity,
        which `score` refuses, gets whatever the arithmetic makes of it.

        Args:
            batch: rows of every call.

        Returns:
            A function of rows [batch, ...], of type float32 (uint8 of bytes, float64 where the
            schema has an offset), that gives float32 [batch]. Rows of a mixed table have to be
            prepared, as `prepare` does.

        Raises:
            InputError: if the detector has groups (a group's own is `member(NAME).scorer()`), or
                `batch` is below 1; the function, if rows have another shape or type.

        Example:
            >>> score = detector.scorer()  # doctest: +SKIP
            >>> score(row[None])  # doctest: +SKIP
            array([0.013], dtype=float32)
        """
        return prepared_scorer(self._model, batch)

    def bad_rows(self, x: Any, *, groups: Any = None) -> dict[int, str]:
        """Why rows can't be scored, by position; empty where all can.

        Args:
            x: rows, as in `score`.
            groups: likewise; a group without a network is a reason, too.

        Raises:
            InputError: if the rows don't fit the schema.
        """
        return self._tolerant(x, groups, None, "null")[2]

    def _tolerant(
        self, x: Any, groups: Any, batch_size: int | None, on_bad_row: str
    ) -> tuple[np.ndarray, np.ndarray | None, dict[int, str]]:
        """Scores, NaN for rows that have none, positions of groups, and why rows have no score."""
        if on_bad_row not in ("error", "null"):
            raise InputError(f"on_bad_row is {on_bad_row!r}; allowed: 'error', 'null'")
        if self._takes_points(x):
            self._with_members(x, groups)
            tolerant = on_bad_row == "null"
            scores, reasons = score_series(self, x, batch_size=batch_size, tolerant=tolerant)
            return scores, None, reasons
        bad: dict[int, str] = {}
        x, given = self._with_members(x, groups)
        rows, _ = as_rows(x, self.schema, bad)
        members = None
        if self.groups is not None:
            members = self.groups.places(given, len(rows), bad)
            rows = self.less_group_offset(rows, members)
        scores = self.score_rows(rows, members=members, batch_size=batch_size)
        return without_bad(scores, rows, self.schema, bad), members, bad

    def _takes_points(self, x: Any) -> bool:
        """Whether something that is to be scored is a series of points."""
        return self.schema.series is not None and not is_windows(x, self.schema)

    def windows(self, x: Any) -> np.ndarray:
        """All whole windows of a series, in its order, as the methods that explain rows take them.

        Args:
            x: points, as in `score`.

        Returns:
            Numbers [n, length, channels].

        Raises:
            InputError: if the detector has no windows, or points can't be used.

        Example:
            >>> detector.explain(detector.windows(series)[-1:])  # doctest: +SKIP
        """
        return whole_windows(self, x)

    def score_next(
        self, state: SeriesState | None, x: Any, *, batch_size: int | None = None
    ) -> tuple[SeriesState, np.ndarray]:
        """Score points as they arrive: each by the window that ends with it.

        Args:
            state: what the call before returned; None at the beginning of a series.
            x: the next points of one series, one or more, as in `score`.
            batch_size: windows in a compiled batch.

        Returns:
            The state, of at most a window's points; and float32 [n], NaN where no whole window
            ends: the scores that `score` gives of all points at once, to 1e-6.

        Raises:
            InputError: if the detector has no causal windows, or points don't fit the schema.

        Example:
            >>> state, scores = detector.score_next(None, first)  # doctest: +SKIP
            >>> state, scores = detector.score_next(state, second)  # doctest: +SKIP
        """
        return score_next(self, state, x, batch_size=batch_size)

    def score_rows(
        self,
        rows: np.ndarray,
        *,
        members: np.ndarray | None = None,
        batch_size: int | None = None,
        check: bool = False,
        by_column: bool = False,
    ) -> np.ndarray:
        """Score rows that were prepared (see `prepare`); those with NaN get NaN.

        Args:
            rows: [n, ...].
            members: position of each row's group, int32 [n], as `groups.places` gives them; rows
                of -1 get NaN.
            batch_size: as in `score`.
            check: refuse rows without a score.
            by_column: whether rows lie in memory column by column, and `scoring.takes_columns`;
                scores are those of other rows to 1e-6.
        """
        program = steps.compiled_score_columns if by_column else steps.compiled_score
        (scores,) = self._model.run(program, rows, batch_size, members)
        if check:
            check_scores(scores, rows, self.schema, self.config)
        return scores

    def _scored(
        self, x: Any, groups: Any, batch_size: int | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        if self._takes_points(x):
            return self._tolerant(x, groups, batch_size, "error")[0], None
        rows, members = self._rows(x, groups)
        return self.score_rows(rows, members=members, batch_size=batch_size, check=True), members

    def spread(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """How far an ensemble's members disagree: standard deviation of their scores, float32 [n].

        With ranks combined, of their ranks.

        Raises:
            InputError: if the detector is no ensemble, or rows don't fit the schema.
        """
        spread: np.ndarray = self.member_scores(x, batch_size=batch_size).std(axis=1)
        return spread

    def member_scores(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Every member's score of every row, float32 [n, members], as they are combined.

        Raises:
            InputError: if the detector is no ensemble, or rows don't fit the schema.
        """
        self._model.require("member_scores", allowed="an ensemble")
        return self.member_score_rows(as_rows(x, self.schema)[0], batch_size=batch_size)

    def member_score_rows(self, rows: np.ndarray, *, batch_size: int | None = None) -> np.ndarray:
        """As `member_scores`, of rows that were prepared."""
        (scores,) = self._model.run(steps.compiled_member_scores, rows, batch_size)
        return scores

    def explain(
        self, x: Any, *, groups: Any = None, top: int = 3, batch_size: int | None = None
    ) -> list[list[Reason]]:
        """The features that err most next to their usual error, most first, for every row.

        What was found and expected is in the rows' own units; errors are in scaled ones, in which
        features compare.

        Raises:
            InputError: if rows don't fit the schema, the network gives no reconstructions, or
                `top` is not from 1 to the number of features.
        """
        table = None
        x, given = self._with_members(x, groups)
        if self.schema.columns is not None:
            # Once: a stream has its rows only once.
            table = as_table(x, self.schema.sources)
        rows, members = self._finite_rows(x if table is None else table, given)
        _, features, errors = self.explain_rows(
            rows, members=members, top=top, batch_size=batch_size
        )
        usual = self.usual_errors
        if usual is not None and members is not None:
            usual = usual[members]
        cells = in_units(self, rows, table, members)
        return named_reasons(self.schema, features, errors, usual, cells)

    @property
    def usual_errors(self) -> np.ndarray | None:
        """Each feature's mean error in normal rows, float32 [features], if it is known.

        Of groups, [groups, features].
        """
        known = self.variables.get("normal", {}).get("error")
        if known is None:
            return None
        usual = np.asarray(known)
        return usual if self.combine is None else usual.mean(axis=0)

    @property
    def usual_channel_errors(self) -> np.ndarray | None:
        """Each channel's mean error in windows of normal rows, float32 [channels], if known."""
        usual, series = self.usual_errors, self.schema.series
        if usual is None or series is None:
            return None
        errors: np.ndarray = usual.reshape(series.length, -1).mean(axis=0)
        return errors

    @property
    def usual_values(self) -> UsualValues | None:
        """How normal rows' features are spread, if it is known; of an ensemble, the first's."""
        known = self.variables.get("normal", {}).get("values")
        # Groups have no values in common.
        if known is None or self.groups is not None:
            return None
        if self.combine is not None:
            known = {name: leaf[0] for name, leaf in known.items()}
        return UsualValues(**{name: np.asarray(leaf) for name, leaf in known.items()})

    @property
    def usual_point_values(self) -> UsualValues | None:
        """How normal rows of the input are spread: of windows, how the channels' newest are."""
        known, channels = self.usual_values, self.schema.table.features
        if known is None or self.schema.series is None:
            return known
        return UsualValues(known.edges[:, -channels:], known.shares[:, -channels:])

    def errors_of(
        self,
        rows: np.ndarray,
        *,
        members: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Every feature's error, float32 [n, features], of rows that were prepared.

        Their mean is the row's error: a member that doesn't see some features
        (`Vary.features`) counts the others more. A missing cell of a mixed table has 0.

        Raises:
            InputError: if the network gives no reconstructions.
        """
        self._model.require_reconstructions("errors_of")
        (errors,) = self._model.run(steps.compiled_errors, rows, batch_size, members)
        return errors.reshape(len(rows), -1)

    def feature_errors(self, x: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
        """Every feature's error, float32 [n, features], of what `reconstruct` gave."""
        return inside.feature_errors(self.config, x, reconstruction)

    def explain_rows(
        self,
        rows: np.ndarray,
        *,
        members: np.ndarray | None = None,
        top: int,
        batch_size: int | None = None,
    ) -> list[np.ndarray]:
        """Scores float32 [n], feature positions int32 [n, top], their errors float32 [n, top].

        Raises:
            InputError: as `explain` does, but for rows: they have to be prepared.
        """
        self._model.require_reconstructions("explain")
        if not 1 <= top <= self.schema.features:
            raise InputError(f"top is {top}; allowed: 1 to {self.schema.features} features")
        return self._model.run(steps.compiled_explain, rows, batch_size, members, top=top)

    def reconstruct(
        self, x: Any, *, groups: Any = None, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scaled rows and their reconstructions, both float32 [n, ...].

        Of a mixed table a column's reconstruction is what the network expects there: the code
        of the likeliest category, the probability of true, the value of a cycle.

        Raises:
            InputError: if the network gives no reconstructions, or rows don't fit the schema.
        """
        self._model.require_reconstructions("reconstruct")
        rows, members = self._rows(x, groups)
        return self.reconstruct_rows(rows, members=members, batch_size=batch_size)

    def reconstruct_rows(
        self,
        rows: np.ndarray,
        *,
        members: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `reconstruct`, of rows that were prepared."""
        scaled, y = self._model.run(steps.compiled_reconstruct, rows, batch_size, members)
        return scaled, y

    def encode(self, x: Any, *, groups: Any = None, batch_size: int | None = None) -> np.ndarray:
        """Latent values of every row, float32 [n, ...].

        A variational model's are its posterior's means, a classifier's what its last layer
        sees, a context model's the sum of the neighbours' embeddings.

        Raises:
            InputError: if the detector is an ensemble, rows don't fit the schema, or one holds
                NaN or infinity.
        """
        self._model.require("encode", allowed="no ensemble")
        rows, members = self._finite_rows(x, groups)
        return self.state_rows(rows, inside.LATENT, members=members, batch_size=batch_size)

    def decode(self, latent: Any) -> np.ndarray:
        """Rows that latent values stand for, in scaled units.

        Args:
            latent: float32 [n, ...], as `encode` gives them.

        Returns:
            float32 [n, ...].

        Raises:
            InputError: if the detector is no single model, it gives no reconstructions, or
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

    def states(
        self, x: Any, layer: str, *, groups: Any = None, batch_size: int | None = None
    ) -> np.ndarray:
        """The states of one layer's neurons after the activation, float32 [n, ...].

        Args:
            x: rows, as in `score`.
            layer: one of `layers`.
            groups: as in `score`.
            batch_size: rows in a compiled batch.

        Raises:
            InputError: if there is no such layer, with the nearest name; and as `encode` does.
        """
        self._model.require("states", allowed="no ensemble")
        if layer not in self.layers:
            raise InputError(f"layer is {layer!r}; {settings.suggest(layer, self.layers)}")
        rows, members = self._finite_rows(x, groups)
        return self.state_rows(rows, layer, members=members, batch_size=batch_size)

    def state_rows(
        self,
        rows: np.ndarray,
        layer: str,
        *,
        members: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """States of a layer, or of "latent" what `encode` gives, of rows that were prepared."""
        program, how = steps.compiled_layer_state, {"layer": layer}
        if layer == inside.LATENT:
            program, how = steps.compiled_encode, {}
        (states,) = self._model.run(program, rows, batch_size, members, **how)
        return states

    @functools.cached_property
    def programs(self) -> dict[str, bytes]:
        """What parts of somebody's own compute, as programs by name; {} of built-in ones."""
        one = self.variables
        if self.is_stacked:
            one = jax.tree.map(lambda leaf: leaf[0], one)
        return own_programs(self.scoring, one, self.schema.shape, self.config)

    @property
    def is_stacked(self) -> bool:
        """Whether arrays have a leading axis of networks."""
        return self.combine is not None or self.groups is not None

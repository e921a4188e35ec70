"""Trained networks that score rows, on every route."""

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
from aejax.data.offsets import centred
from aejax.data.schema import Schema
from aejax.detection.groups import Groups, without_groups
from aejax.detection.own_network import content_digest, own_programs
from aejax.detection.placed import BatchLimit, PlacedModel, prepared_scorer
from aejax.detection.rows import as_rows, check_finite, check_scores, without_bad
from aejax.detection.series import (
    SeriesState,
    is_windows,
    score_next,
    score_series,
    whole_windows,
)


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
        x, names = self._with_members(x, groups)
        rows = as_rows(x, self.schema)[0]
        members = self._positions(names, len(rows))
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
        x, names = self._with_members(x, groups)
        rows, _ = as_rows(x, self.schema, bad)
        members = None
        if self.groups is not None:
            members = self.groups.places(names, len(rows), bad)
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

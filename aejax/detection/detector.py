"""A trained detector: calibrate, score, predict, explain, save."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Config, InputError, Rule
from aejax.core.scaling import Scaler
from aejax.data.frames import check_order
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.detection.alarms import OF_SCORES, Alarm, alarms_of_scores, in_sentences, record, tell
from aejax.detection.artifact import arrays_of, describe_normal
from aejax.detection.events import Event
from aejax.detection.explained import ExplainedModel
from aejax.detection.groups import Groups, provenance_of
from aejax.detection.own_network import with_saved_programs
from aejax.detection.promise import unchecked
from aejax.detection.series import series_events
from aejax.detection.threshold import GroupThresholds, Threshold, fit_threshold
from aejax.rules import p_values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector(ExplainedModel):
    """Trained networks with everything that scoring needs. Immutable; methods return new ones.

    One network scores all rows; or several of them, an ensemble, score each row and decide
    together; or every group of rows (a store, a sensor) has a network of its own. In an ensemble
    and in groups, the arrays of scaler and variables have a leading axis of networks. Methods
    take `groups` where there are any: each row's group, [n], or the name of the column that
    holds it.

    Attributes:
        config: all settings.
        schema: the rows it takes.
        scaler: fitted on training rows.
        variables: parameters, and batch statistics where the network has any.
        threshold: above which a row is flagged, or None; of groups, one for each.
        thresholds: others that are kept by name, for `use`.
        provenance: what made it: data fingerprint, versions, rows, seed, seconds.
        history: one dict an epoch; of an ensemble, of its first member; of groups, how their
            losses are spread, as `spread_of_losses` says it.
        combine: how an ensemble's members' scores become one; else None.
        members: how many networks it holds.
        groups: what is known of each group, in the order of the arrays; else None.
        devices: how many of this process's devices score, each a batch of its own; None takes
            all, and one for fewer rows than a batch. No score depends on it; it isn't saved.

    Example:
        >>> detector = aejax.load("runs/pumps")
        >>> detector.score(rows).shape, detector.predict(rows).dtype
        ((300,), dtype('bool'))
        >>> len(detector.explain(rows[:1], top=2)[0])
        2
        >>> detector.calibrate(rows, rule=aejax.Quantile(q=0.995)).save("runs/strict")
    """

    threshold: Threshold | GroupThresholds | None = None
    thresholds: dict[str, Threshold | GroupThresholds] = dataclasses.field(default_factory=dict)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

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

    def predict(
        self,
        x: Any,
        *,
        groups: Any = None,
        batch_size: int | None = None,
        on_bad_row: Literal["error", "null"] = "error",
    ) -> np.ndarray:
        """Which rows are flagged: bool [n], True where the score is above the threshold.

        With `on_bad_row="null"` a masked array, whose mask is where a row has no score.

        Raises:
            InputError: as `score` does, and if the detector has no threshold.
        """
        threshold = self._required_threshold()
        if on_bad_row != "error" or self._takes_points(x):
            scores, members, _ = self._tolerant(x, groups, batch_size, on_bad_row)
            return np.ma.MaskedArray(threshold.flags(scores, members), np.isnan(scores))
        scores, members = self._scored(x, groups, batch_size)
        return threshold.flags(scores, members)

    def member(self, which: str | int) -> Detector:
        """One network as a detector of its own, to be used, saved or exported by itself.

        Args:
            which: a group's name; of an ensemble, a member's number, whose detector has no
                threshold.

        Raises:
            InputError: if there is none.
        """
        schema, threshold = self.schema, self.threshold
        provenance = self.provenance
        if self.groups is not None:
            at = self.groups.place(str(which))
            group = self.groups.each[at]
            schema = schema.with_offset(group.offset)
            provenance = provenance_of(group, provenance, self.config)
            thresholds: dict[str, Threshold | GroupThresholds] = {
                name: kept.each[at] for name, kept in self.thresholds.items()
            }
            threshold = None if threshold is None else threshold.each[at]
        else:
            self._model.require("member", allowed="an ensemble")
            if not (isinstance(which, int) and 0 <= which < self.members):
                raise InputError(f"member is {which!r}; allowed: 0 to {self.members - 1}")
            at, threshold, thresholds = which, None, {}
            if self.config.train.seed is not None and "seeds" in provenance:
                provenance = {**provenance, "seed": provenance["seeds"][at]}
        scaler, variables = jax.tree.map(
            lambda leaf: np.asarray(leaf)[at], (self.scaler, self.variables)
        )
        variables = {name: tree for name, tree in variables.items() if name != "calibration"}
        return dataclasses.replace(
            self,
            schema=schema,
            scaler=scaler,
            variables=variables,
            threshold=threshold,
            thresholds=thresholds,
            provenance=provenance,
            history=[],
            combine=None,
            members=1,
            groups=None,
        )

    def p_values(self, x: Any, *, groups: Any = None, batch_size: int | None = None) -> np.ndarray:
        """How rare each row's score is among normal rows, float64 [n] in (0, 1].

        Raises:
            InputError: as `predict` does, and if the threshold's rule gives no p-values;
                a conformal one does.
        """
        threshold = self._required_threshold()
        return threshold.p_values(*self._scored(x, groups, batch_size))

    def events(
        self, x: Any, *, merge_gap: int = 0, least_length: int = 1, top: int = 1
    ) -> list[Event]:
        """The events of a series: consecutive flags, with the channels that err most at the peak.

        Args:
            x: points, as in `score`; those that can't be used are in no event.
            merge_gap: so many points that aren't flagged, at most, lie between two flags of one.
            least_length: events of fewer points, from the first flag to the last, are none.
            top: how many channels to name; 0 for none, as networks without reconstructions need it.

        Raises:
            InputError: if the detector has no windows or no threshold, or points don't fit it.

        Example:
            >>> for event in detector.events(series, merge_gap=12):  # doctest: +SKIP
            ...     print(event.start, event.end, event.score, event.channels)
        """
        return series_events(self, x, merge_gap=merge_gap, least_length=least_length, top=top)

    def discoveries(
        self, x: Any, *, rate: float, groups: Any = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Which rows of this batch to flag so that at most `rate` of the flagged are normal.

        Benjamini and Hochberg's control of the false discovery rate on `p_values`; unlike
        in `predict`, whether a row is flagged depends on the other rows.

        Returns:
            bool [n].

        Raises:
            InputError: as `p_values` does, and if `rate` is not in (0, 1).
        """
        p = self.p_values(x, groups=groups, batch_size=batch_size)
        return p_values.discoveries(p, rate)

    def calibrate(
        self,
        x: Any,
        *,
        groups: Any = None,
        rule: Rule | None = None,
        is_anomaly: Any = None,
        name: str | None = None,
    ) -> Detector:
        """The same detector with a threshold found on the scores of these rows.

        Scores that are all the same, and scores distributed unlike those that the threshold
        before was set on, are warned of and noted in `provenance`.

        Args:
            x: rows taken to be normal, best not seen in training.
            groups: as in `score`; groups without rows here keep the threshold that they have.
            rule: how: a built-in rule, or any object that is an `aejax.config.Rule`; None takes
                the configuration's.
            is_anomaly: labels of the rows, [n] of 0 and 1, for a rule that takes labels only.
            name: also keeps the threshold under this name, for `use`.

        Raises:
            InputError: as `score` does, and if the rule can't be fitted: too few rows, or labels
                that are missing or not asked for.
        """
        check_order(x, is_anomaly, "rows and is_anomaly")
        scores, members = self._scored(x, groups, None)
        if self._takes_points(x):
            there = ~np.isnan(scores)
            is_anomaly = None if is_anomaly is None else np.asarray(is_anomaly)[there]
            scores = scores[there]
        return self.calibrate_by(scores, members, rule=rule, is_anomaly=is_anomaly, name=name)

    def calibrate_by(
        self,
        scores: np.ndarray,
        members: np.ndarray | None = None,
        *,
        rule: Rule | None = None,
        is_anomaly: Any = None,
        name: str | None = None,
    ) -> Detector:
        """As `calibrate`, with the rows' scores, float32 [n], and their groups' positions."""
        rule = self.config.rule if rule is None else rule
        if self.groups is not None and members is not None:
            return self._calibrate_groups(scores, members, rule, is_anomaly, name)
        changed = self.with_threshold(fit_threshold(rule, scores, is_anomaly), name=name)
        alarms = []
        if is_anomaly is None:
            before = None if self.threshold is None else self.threshold.each[0]
            raised = [*alarms_of_scores(scores, before), *unchecked(rule, len(scores))]
            alarms = [alarm.sentence for alarm in raised]
        return dataclasses.replace(changed, provenance=record(self.provenance, alarms))

    def _calibrate_groups(
        self,
        scores: np.ndarray,
        members: np.ndarray,
        rule: Rule,
        is_anomaly: Any,
        name: str | None,
    ) -> Detector:
        assert self.groups is not None
        order = np.argsort(members, kind="stable")
        bounds = np.searchsorted(members[order], np.arange(len(self.groups) + 1))
        before = None if self.threshold is None else self.threshold.each
        labels = None if is_anomaly is None else np.asarray(is_anomaly).ravel()
        if labels is not None and len(labels) != len(scores):
            raise InputError(
                f"is_anomaly has {len(labels)} values; allowed: {len(scores)}, one a row"
            )
        each, alarms = [], {}
        for at, group in enumerate(self.groups.each):
            own = order[bounds[at] : bounds[at + 1]]
            old = None if before is None else before[at]
            if not len(own) and old is not None:
                each.append(old)
                continue
            try:
                flags = None if labels is None else labels[own]
                each.append(fit_threshold(rule, scores[own], flags))
            except InputError as error:
                raise InputError(f"group {group.name!r}: {error}") from None
            if labels is None:
                alarms[at] = [*alarms_of_scores(scores[own], old), *unchecked(rule, len(own))]
        changed = self.with_threshold(GroupThresholds(each=tuple(each)), name=name)
        return changed.with_alarms(alarms, OF_SCORES)

    def with_alarms(
        self, alarms: Mapping[int, Sequence[Alarm]], kinds: Collection[str]
    ) -> Detector:
        """The same detector of groups with other alarms of some kinds, logged and kept.

        Args:
            alarms: by a group's position; groups that aren't named keep theirs.
            kinds: that these are all of.
        """
        assert self.groups is not None
        each = list(self.groups.each)
        for at, new in alarms.items():
            old = [alarm for alarm in each[at].alarms if alarm.kind not in kinds]
            each[at] = dataclasses.replace(each[at], alarms=(*old, *new))
        tell(in_sentences({each[at].name: new for at, new in alarms.items()}, len(each)))
        sentences = in_sentences({group.name: group.alarms for group in each}, len(each))
        kept = {fact: value for fact, value in self.provenance.items() if fact != "alarms"}
        return dataclasses.replace(
            self,
            groups=dataclasses.replace(self.groups, each=tuple(each)),
            provenance={**kept, "alarms": sentences} if sentences else kept,
        )

    def use(self, name: str) -> Detector:
        """The same detector with one of the thresholds that it keeps by name.

        Raises:
            InputError: if there is none of this name, with the nearest one.
        """
        if name not in self.thresholds:
            raise InputError(f"threshold is {name!r}; {settings.suggest(name, self.thresholds)}")
        return self.with_threshold(self.thresholds[name])

    def with_threshold(
        self, threshold: Threshold | GroupThresholds, *, name: str | None = None
    ) -> Detector:
        """The same detector with another threshold, which it also keeps under a name if asked."""
        kept = self.thresholds if name is None else {**self.thresholds, name: threshold}
        return dataclasses.replace(self, threshold=threshold, thresholds=kept)

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
            "groups": None if self.groups is None else self.groups.to_dict(),
            **describe_normal(self.variables, stacked=self.is_stacked),
            # Whether some features' errors count less than others', or not at all.
            "weighted": "weights" in self.variables,
        }
        arrays = jax.device_get(arrays_of(self.scaler, self.variables))
        return described, with_saved_programs(arrays, self.programs)

    @property
    def threshold_value(self) -> float | None:
        """Above which any row is flagged; None without a threshold, or where each group has one."""
        return None if self.threshold is None else self.threshold.value

    @property
    def grouped(self) -> tuple[Groups, GroupThresholds]:
        """Groups and their thresholds.

        Raises:
            InputError: if the detector is none of groups, or has no thresholds.
        """
        if self.groups is None or self.threshold is None:
            lack = "has no groups" if self.groups is None else "has no thresholds"
            raise InputError(f"the detector {lack}; allowed: one of groups that was calibrated")
        return self.groups, typing.cast(GroupThresholds, self.threshold)

    def _required_threshold(self) -> Threshold | GroupThresholds:
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
    grouped = detector.groups is not None
    static = (*(getattr(config, name) for name in _STATIC), detector.schema, detector.combine)
    return leaves, ((*static, grouped), _Rest(named))


def _unflatten(aux: tuple[Any, _Rest], leaves: tuple[Any, ...]) -> Detector:
    scaler, variables = leaves
    return Detector(scaler=scaler, variables=variables, **aux[1].fields)


jax.tree_util.register_pytree_node(Detector, _flatten, _unflatten)

"""Networks that score the same rows and decide together, as one detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import Combine, Config
from aejax.data.disk_rows import Stored
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.drift import usual_values
from aejax.detection.loading import RANK_QUANTILES
from aejax.detection.members import side_by_side
from aejax.detection.normal import learn_normal, stacked, with_normal
from aejax.training.members import TrainedMember


def vote(
    one: Detector, networks: Sequence[tuple[Any, Mapping[str, Any]]], combine: Combine
) -> Detector:
    """An ensemble, without a threshold; with "rank" it lacks what `with_ranks` adds.

    Args:
        one: a detector of one of the networks, for all that they share.
        networks: scaler and variables of each, what is known of normal rows among them.
        combine: how their scores become one.
    """
    scalers, variables = zip(*networks, strict=True)
    return dataclasses.replace(
        one,
        scaler=jax.tree.map(lambda *leaves: np.stack(list(map(np.asarray, leaves))), *scalers),
        variables=stacked(one.scoring.score, variables, ensemble=True),
        threshold=None,
        thresholds={},
        combine=combine,
        members=len(networks),
        groups=None,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Votes:
    """An ensemble's networks that know their normal rows, before they decide together.

    Attributes:
        apart: as groups, each one; with usual errors, and nothing else that is learnt.
        learnt: what each knows of its normal rows.
        normal: these rows.
    """

    apart: Detector
    learnt: list[dict[str, Any]]
    normal: Stored

    def together(self, combine: Combine) -> Detector:
        """The ensemble; see `vote`."""
        config, schema = self.apart.config, self.apart.schema
        networks = []
        values = usual_values(self.normal, schema)
        for at, known in enumerate(self.learnt):
            scaler, variables = jax.tree.map(
                lambda leaf, at=at: np.asarray(leaf)[at],
                (self.apart.scaler, self.apart.variables),
            )
            variables.pop("normal", None)
            one = Detector(config=config, schema=schema, scaler=scaler, variables=variables)
            one = with_normal(one, known, values)
            networks.append((one.scaler, one.variables))
        return vote(one, networks, combine)

    def with_usual(self, errors: Sequence[np.ndarray | None]) -> Votes:
        """The same with other usual errors, where each has any."""
        learnt = [
            known if error is None else {**known, "error": error}
            for known, error in zip(self.learnt, errors, strict=True)
        ]
        return Votes(apart=_with_errors(self.apart, learnt), learnt=learnt, normal=self.normal)


def votes_of(
    config: Config,
    schema: Schema,
    trained: Sequence[TrainedMember],
    normal: Stored,
    trained_on: Sequence[Stored],
) -> Votes:
    """What training left of an ensemble's networks, which learn what is normal.

    Args:
        config: of the ensemble.
        schema: of the rows.
        trained: none of which diverged.
        normal: rows, best not trained on.
        trained_on: of each the rows that it was trained on.
    """
    apart = side_by_side(config, schema, trained)
    learnt = learn_normal(apart, [normal] * len(trained), trained_on)
    return Votes(apart=_with_errors(apart, learnt), learnt=learnt, normal=normal)


def _with_errors(detector: Detector, learnt: list[dict[str, Any]]) -> Detector:
    """With usual errors, which programs that score by errors take beside variables."""
    if not learnt[0]:
        return detector
    errors = np.stack([known["error"] for known in learnt])
    return dataclasses.replace(
        detector, variables={**detector.variables, "normal": {"error": errors}}
    )


def with_ranks(ensemble: Detector, rows: np.ndarray, scores: np.ndarray | None = None) -> Detector:
    """An ensemble with what it needs where it combines ranks; any other as it is.

    These are quantiles of every member's scores of normal rows.

    Args:
        ensemble: of members.
        rows: normal rows that were prepared.
        scores: every member's of them, [n, members], if they aren't its own.
    """
    if ensemble.combine != "rank":
        return ensemble
    if scores is None:
        scores = unranked(ensemble).member_score_rows(rows)
    grid = np.quantile(scores.astype(np.float64), np.linspace(0, 1, RANK_QUANTILES), axis=0)
    kept = {"calibration": {"scores": np.ascontiguousarray(grid.T, np.float32)}}
    return dataclasses.replace(ensemble, variables={**ensemble.variables, **kept})


def unranked(ensemble: Detector) -> Detector:
    """The same ensemble, whose members' scores are what they are and not ranks."""
    return dataclasses.replace(ensemble, combine="mean")

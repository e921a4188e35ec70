"""Networks that score the same rows and decide together, as one detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import Combine
from aejax.detection.detector import Detector
from aejax.detection.loading import RANK_QUANTILES
from aejax.detection.normal import stacked


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
        variables=stacked(one.scorer.score, variables, ensemble=True),
        threshold=None,
        thresholds={},
        combine=combine,
        members=len(networks),
        groups=None,
    )


def with_ranks(ensemble: Detector, rows: np.ndarray) -> Detector:
    """An ensemble with what it needs where it combines ranks; any other as it is.

    These are quantiles of every member's scores of normal rows.

    Args:
        ensemble: of members.
        rows: normal rows that were prepared.
    """
    if ensemble.combine != "rank":
        return ensemble
    scores = dataclasses.replace(ensemble, combine="mean").member_score_rows(rows)
    grid = np.quantile(scores.astype(np.float64), np.linspace(0, 1, RANK_QUANTILES), axis=0)
    kept = {"calibration": {"scores": np.ascontiguousarray(grid.T, np.float32)}}
    return dataclasses.replace(ensemble, variables={**ensemble.variables, **kept})

"""Detectors that were trained together, and an ensemble of them as one detector."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from aejax.config import Combine, Config, InputError
from aejax.detection.detector import Detector
from aejax.detection.loading import RANK_QUANTILES
from aejax.detection.normal import stacked
from aejax.detection.rows import as_rows


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

        Where a score looks for neighbours, it does so once, among the first member's rows and
        as its scaler scales them.

        Args:
            x_calibrate: rows that the ensemble's threshold is set on.
            combine: how members' scores become one. "rank" averages each score's rank among
                the same member's scores of the calibration rows, so that a member with large
                errors has no more say than another (compare Lazarevic and Kumar 2005, who
                merge ranks, and Aggarwal and Sathe, "Theoretical foundations and algorithms
                for outlier ensembles", SIGKDD Explorations 2015). `Detector.spread` is then
                the spread of the ranks: near 0 where the members agree.

        Raises:
            InputError: if no member is left, or members differ in what scoring needs.
        """
        rows, _ = as_rows(x_calibrate, self._first.schema)
        return self.ensemble_by(rows, combine=combine)

    @property
    def _first(self) -> Detector:
        for detector in self.detectors:
            if detector is not None:
                return detector
        raise InputError(f"ensemble of 0 members; all diverged: {self.problems}")

    def ensemble_by(self, rows: np.ndarray, *, combine: Combine = "mean") -> Detector:
        """As `ensemble`, by rows that were prepared."""
        first = self._first
        kept = [detector for detector in self.detectors if detector is not None]
        for detector in kept:
            if scoring_settings(detector.config) != scoring_settings(first.config):
                raise InputError("members differ in model, error or scale; allowed: one of each")

        def stack(*leaves: Any) -> np.ndarray:
            return np.stack([np.asarray(leaf) for leaf in leaves])

        ensemble = dataclasses.replace(
            first,
            scaler=jax.tree.map(stack, *[detector.scaler for detector in kept]),
            variables=stacked(
                first.scorer.score, [detector.variables for detector in kept], ensemble=True
            ),
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
        if combine == "rank":
            ensemble = with_ranks(ensemble, rows)
        return ensemble.calibrate_by(ensemble.score_rows(rows, check=True))


def with_ranks(ensemble: Detector, rows: np.ndarray) -> Detector:
    """An ensemble with what ranks need: quantiles of every member's scores of normal rows.

    Args:
        ensemble: of members.
        rows: normal rows that were prepared.
    """
    scores = dataclasses.replace(ensemble, combine="mean").member_score_rows(rows)
    grid = np.quantile(scores.astype(np.float64), np.linspace(0, 1, RANK_QUANTILES), axis=0)
    kept = {"calibration": {"scores": np.ascontiguousarray(grid.T, np.float32)}}
    return dataclasses.replace(ensemble, variables={**ensemble.variables, **kept})


def scoring_settings(config: Config) -> Any:
    """What members of an ensemble share."""
    return (
        config.model.without_dropout(),
        config.scale,
        config.error,
        config.score,
        config.precision,
        config.columns,
    )

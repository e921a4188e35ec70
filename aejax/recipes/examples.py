"""Single rows of a report: as the model sees them, and in words why they are flagged."""

from __future__ import annotations

import numpy as np

from aejax.detection.detector import Detector
from aejax.recipes.recipe import Experiment
from aejax.reporting.contents import Examples


def examples(
    detector: Detector, experiment: Experiment, scores: np.ndarray, rows: np.ndarray
) -> Examples:
    """Rows with their reconstructions and errors, to be drawn."""
    scaled, found = detector.reconstruct(experiment.x_test[rows])
    error = detector.feature_errors(scaled, found).reshape(scaled.shape)
    anomalous = experiment.is_anomaly
    return Examples(
        x=scaled,
        reconstruction=found,
        error=error,
        score=scores[rows],
        is_anomaly=None if anomalous is None else anomalous[rows],
        row=rows,
    )


def reasons(detector: Detector, experiment: Experiment, rows: np.ndarray) -> dict[int, str]:
    """Of some rows in words which features make up their scores."""
    if not detector.scorer.reconstructs or not len(rows):
        return {}
    top = min(3, detector.schema.features)
    named = detector.explain(experiment.x_test[rows], top=top)
    return {
        int(row): ", ".join(f"{reason.feature} (error {reason.error:.3g})" for reason in found)
        for row, found in zip(rows, named, strict=True)
    }

"""Single rows of a report: as the model sees them, and in words why they are flagged."""

from __future__ import annotations

import numpy as np

from aejax.detection.detector import Detector
from aejax.detection.reasons import Reason
from aejax.detection.wording import in_words
from aejax.recipes.recipe import Experiment
from aejax.reporting.contents import Examples


def examples(
    detector: Detector, experiment: Experiment, scores: np.ndarray, rows: np.ndarray
) -> Examples:
    """Rows with their reconstructions and errors, to be drawn."""
    x = detector.prepare(experiment.x_test[rows])
    scaled, found = detector.reconstruct_rows(x)
    words = None
    if detector.schema.columns is None:
        error = detector.feature_errors(scaled, found).reshape(scaled.shape)
    else:
        error = detector.errors_of(x)
        words = in_words(detector, x)
        # Only numbers have a length; of other cells, and of missing ones, the words say enough.
        numbers = np.array([column.kind == "number" for column in detector.schema.columns])
        found = np.where(numbers, found, 0)
        scaled = np.where(numbers & ~np.isnan(scaled), scaled, 0)
    anomalous = experiment.is_anomaly
    return Examples(
        x=scaled,
        reconstruction=found,
        error=error,
        score=scores[rows],
        is_anomaly=None if anomalous is None else anomalous[rows],
        row=rows,
        words=words,
    )


def reasons(detector: Detector, experiment: Experiment, rows: np.ndarray) -> dict[int, str]:
    """The features that make up some rows' scores, in words, by row."""
    if not detector.scorer.reconstructs or not len(rows):
        return {}
    top = min(3, detector.schema.features)
    named = detector.explain(experiment.x_test[rows], top=top)
    return {
        int(row): ", ".join(map(_in_words, each)) for row, each in zip(rows, named, strict=True)
    }


def _in_words(reason: Reason) -> str:
    if reason.found is None:
        return f"{reason.feature} (error {reason.error:.3g})"
    return f"{reason.feature} (expected {reason.expected}, found {reason.found})"

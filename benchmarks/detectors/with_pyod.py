"""PyOD's detectors with their own defaults, on the rows as `Split.scaled` gives them."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.pca import PCA

from benchmarks.detectors.protocol import Scored, Split


def scores_of(detector: Any, split: Split) -> Scored:
    """Scores [m] of the test rows by a detector that is not fitted yet."""
    train, test = split.scaled
    # They print and warn about their own internals.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(train)
        if split.protocol != "all":
            return Scored(np.asarray(detector.decision_function(test)))
        # Scores of training rows are the detector's own: a row isn't its own neighbour there.
        rest = test[len(train) :]
        more = [np.asarray(detector.decision_function(rest))] if len(rest) else []
        return Scored(np.concatenate([np.asarray(detector.decision_scores_), *more]))


def neighbours(split: Split, seed: int, quick: bool = False) -> Scored:
    """Distance to the fifth nearest training row."""
    return scores_of(KNN(), split)


def components(split: Split, seed: int, quick: bool = False) -> Scored:
    """Distances along the principal components, weighted by their inverse variances."""
    return scores_of(PCA(random_state=seed), split)


def forest(split: Split, seed: int, quick: bool = False) -> Scored:
    """An isolation forest of 100 trees."""
    return scores_of(IForest(random_state=seed), split)

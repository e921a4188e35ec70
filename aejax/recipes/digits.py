"""Handwritten digits, one of them never seen in training: the first thing to run.

    aejax run digits --out runs/digits

Data: scikit-learn's 1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998), embedded in
that package, so nothing is downloaded. Zeros are the anomaly. Two thirds of the other
digits train the autoencoder; the last third and all zeros are scored. Nothing is
published for this split; the report compares with nothing. It takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Config, Dense, Scale, Train
from aejax.data import datasets
from aejax.recipes.recipe import Experiment, Recipe
from aejax.rules.quantile import Quantile

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

ANOMALY = 0


def prepare(quick: bool) -> Experiment:
    """Digits other than zero to train on; the rest of them and all zeros to score."""
    from sklearn.model_selection import train_test_split

    digits = datasets.load("digits", "all")
    normal = digits.x[digits.y != ANOMALY]
    x_train, x_normal = train_test_split(normal, test_size=1 / 3, random_state=0)
    x_anomalous = digits.x[digits.y == ANOMALY]
    return Experiment(
        x_train=x_train[:256] if quick else x_train,
        x_test=np.concatenate([x_normal, x_anomalous]),
        is_anomaly=np.arange(len(x_normal) + len(x_anomalous)) >= len(x_normal),
        schema=digits.schema,
    )


def measure(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """AUROC and average precision."""
    return {name: metrics[name]["value"] for name in ("auroc", "average_precision")}


RECIPE = Recipe(
    name="digits",
    title="Handwritten digits: zeros were never seen",
    summary="An autoencoder trained on the digits 1 to 9 meets zeros for the first time.",
    source="scikit-learn's digits (Alpaydin and Kaynak 1998)",
    time="seconds",
    published={},
    config=Config(
        model=Dense(hidden=(32, 16), output="sigmoid"),
        scale=Scale(kind="none"),
        train=Train(epochs=200, batch_size=64, learning_rate=2e-3, schedule="cosine"),
        rule=Quantile(q=0.95),
    ),
    prepare=prepare,
    measure=measure,
)

"""Handwritten digits, one of them never seen in training: the first thing to run.

    aejax run digits --out runs/digits

Data: scikit-learn's 1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998), embedded in
that package, so nothing is downloaded. Zeros are the anomaly. Two thirds of the other
digits train the autoencoder; the last third and all zeros are scored. Nothing is
published for this split; the report compares with the distance to the fifth nearest training
image, and with the mean distance to the nearest five. The threshold promises that one in
twenty new images of the digits 1 to 9 is flagged; it is set on all training images, each scored by
a network that was trained without it. It takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Config, Dense, NoiseConditioned, Scale, Train
from aejax.data import datasets
from aejax.recipes.recipe import Experiment, Recipe
from aejax.rules.false_alarms import FalseAlarms

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

ANOMALY = 0
PROMISED = 0.05


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
    """What it finds and falsely flags, and what distances to 5 training rows find."""
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import NearestNeighbors

    assert experiment.is_anomaly is not None
    train, test = (
        np.reshape(rows[:], (len(rows), -1)) for rows in (experiment.x_train, experiment.x_test)
    )
    apart, _ = NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)
    flagged = detector.predict(experiment.x_test)
    return {
        "auroc": metrics["auroc"]["value"],
        "auroc_of_the_fifth_neighbour": float(roc_auc_score(experiment.is_anomaly, apart[:, -1])),
        "auroc_of_five_neighbours": float(roc_auc_score(experiment.is_anomaly, apart.mean(axis=1))),
        "average_precision": metrics["average_precision"]["value"],
        "false_alarms_promised": PROMISED,
        "false_alarms": float(flagged[~experiment.is_anomaly].mean()),
    }


RECIPE = Recipe(
    name="digits",
    title="Handwritten digits: zeros were never seen",
    summary="An autoencoder trained on the digits 1 to 9 meets zeros for the first time.",
    source="scikit-learn's digits (Alpaydin and Kaynak 1998)",
    time="seconds",
    published={},
    config=Config(
        model=NoiseConditioned(
            network=Dense(hidden=(256, 256), decoder=(256,), activation="gelu"),
            lowest=0.3,
            highest=0.6,
            levels=16,
        ),
        scale=Scale(kind="none"),
        train=Train(
            steps=1000,
            optimizer="adamw",
            learning_rate=2e-3,
            schedule="cosine",
            weight_decay=1e-4,
        ),
        score="noise-levels-and-neighbours",
        rule=FalseAlarms(rate=PROMISED),
        calibration="cross-fitted",
    ),
    prepare=prepare,
    measure=measure,
)

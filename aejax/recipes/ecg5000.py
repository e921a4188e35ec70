"""Anomalous heartbeats: the third example of the TensorFlow autoencoder tutorial.

    aejax run ecg5000 --out runs/ecg5000

Published (tensorflow.org/tutorials/generative/autoencoder, "Third example: Anomaly
detection"): accuracy 0.944, precision 0.9921875, recall 0.9071428 with *normal* as the
positive class; loss 0.0206, validation loss 0.0327, threshold 0.0324.

As published: scikit-learn's split (test_size=0.2, random_state=21); one minimum and
maximum over the whole training part; Dense 140-32-16-8-16-32-140, ReLU, sigmoid out;
mean absolute error; Adam 1e-3; 20 epochs of batch 512 on the normal training rows;
validation on all test rows; threshold = mean + 1 standard deviation of the training
rows' errors. It takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aejax.config import Config, Dense, Scale, Train
from aejax.data import datasets
from aejax.recipes.recipe import Experiment, Recipe, final_losses
from aejax.rules.mean_std import MeanStd

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

NORMAL = 1


def prepare(quick: bool) -> Experiment:
    """The tutorial's split: normal training rows to train on, all test rows to score."""
    from sklearn.model_selection import train_test_split

    ecg = datasets.load("ecg5000", "all")
    x_train, x_test, y_train, y_test = train_test_split(
        ecg.x, ecg.y, test_size=0.2, random_state=21
    )
    normal = x_train[y_train == NORMAL]
    if quick:
        normal = normal[:512]
    return Experiment(
        x_train=normal,
        x_test=x_test,
        is_anomaly=y_test != NORMAL,
        x_validation=x_test,
        x_scale=x_train,
        x_calibrate=normal,
        schema=ecg.schema,
    )


def measure(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """The tutorial's numbers, with normal as the positive class, and AUROC."""
    positive = metrics["normal_positive"]
    return {
        "accuracy": metrics["accuracy"],
        "precision": positive["precision"],
        "recall": positive["recall"],
        **final_losses(detector),
        "threshold": metrics["threshold"],
        "auroc": metrics["auroc"]["value"],
    }


RECIPE = Recipe(
    name="ecg5000",
    title="Anomalous heartbeats (ECG5000)",
    summary="An autoencoder trained on normal heartbeats flags those that it can't reconstruct; "
    "accuracy, precision and recall count normal as the positive class, as published.",
    source="TensorFlow tutorial, Intro to Autoencoders, third example",
    time="seconds",
    published={
        "accuracy": 0.944,
        "precision": 0.9921875,
        "recall": 0.9071428,
        "loss": 0.0206,
        "validation_loss": 0.0327,
        "threshold": 0.0324,
    },
    config=Config(
        model=Dense(hidden=(32, 16, 8), output="sigmoid"),
        scale=Scale(kind="min-max-all"),
        train=Train(epochs=20, batch_size=512, loss="absolute"),
        error="absolute",
        rule=MeanStd(k=1),
    ),
    prepare=prepare,
    measure=measure,
)

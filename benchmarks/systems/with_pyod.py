"""PyOD's AutoEncoder: its own network with the same hidden widths (its output is linear)."""

from __future__ import annotations

import contextlib
import io
from importlib.metadata import version

import numpy as np
import torch
from pyod.models.auto_encoder import AutoEncoder

from aejax import Dense, Variational
from benchmarks.systems.job import ByBatchSize, Job, NotApplicable


def _detector(job: Job, epochs: int, batch_size: int) -> AutoEncoder:
    model = job.case.model
    if isinstance(model, Variational):
        # Its `VAE` class: loss and score are other quantities, so no rate compares.
        raise NotApplicable(
            "not comparable: its VAE minimises a squared error instead of a Bernoulli likelihood "
            "and scores the distance to a random sample's reconstruction, not the mean's"
        )
    if not isinstance(model, Dense):
        raise NotApplicable("no convolutions")
    if job.platform == "tpu":
        raise NotApplicable("no TPU")
    return AutoEncoder(
        hidden_neuron_list=list(model.hidden),
        batch_norm=model.batch_norm,
        dropout_rate=0.0,
        preprocessing=False,
        epoch_num=epochs,
        batch_size=batch_size,
        verbose=0,
        device=torch.device("cuda" if job.platform == "gpu" else "cpu"),
    )


def _fit(detector: AutoEncoder, rows: np.ndarray) -> AutoEncoder:
    with contextlib.redirect_stdout(io.StringIO()):
        return detector.fit(rows)


class Scoring(ByBatchSize):
    """`decision_function`; its scores are distances, of weights of its own."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        few = job.rows[: min(len(job.rows), 512)]
        self.detector = _fit(_detector(job, 1, min(128, len(few))), few)
        self.facts = {
            "same_weights": False,
            "note": "own weights, linear output",
            "pyod": version("pyod"),
            "torch": torch.__version__,
        }

    def score(self, rows: np.ndarray) -> np.ndarray:
        return self.detector.decision_function(rows, batch_size=self.batch_size)


class Training:
    """`fit`, which also scores the training rows for its threshold, as `aejax.fit` does."""

    def __init__(self, job: Job) -> None:
        self.job = job
        _detector(job, 1, 1)
        self.facts = {"pyod": version("pyod"), "torch": torch.__version__}
        if job.case.in_unit_range:
            self.facts["note"] = "linear output"

    def fit(self) -> None:
        job = self.job
        # It drops a ragged last batch, and so trains nothing on fewer rows than one.
        size = min(job.batch_size, len(job.rows))
        self.detector = _fit(_detector(job, job.epochs, size), job.rows)

    def loss(self) -> float:
        distances = np.asarray(self.detector.decision_scores_, np.float64)
        return float(np.mean(np.square(distances)) / self.job.rows.shape[1])

"""scikit-learn's MLPRegressor, trained to predict its input."""

from __future__ import annotations

import warnings

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from aejax import Dense
from benchmarks.systems.job import ByBatchSize, Job, NotApplicable, slices
from benchmarks.systems.with_numpy import affine_layers, row_errors

_FUNCTIONS = {"linear": "identity", "sigmoid": "logistic"}


def _regressor(job: Job, epochs: int) -> MLPRegressor:
    layers = affine_layers(job)
    if any(function != "relu" for _, _, function in layers[:-1]):
        raise NotApplicable("all its hidden layers share one activation; a latent mean has none")
    hidden = tuple(len(bias) for _, bias, _ in layers[:-1])
    return MLPRegressor(
        hidden_layer_sizes=hidden,
        activation="relu",
        alpha=0.0,
        batch_size=job.batch_size or "auto",
        max_iter=epochs,
    )


def _fit(model: MLPRegressor, rows: np.ndarray) -> MLPRegressor:
    with warnings.catch_warnings():
        # So few epochs are not meant to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, rows)


class Scoring(ByBatchSize):
    """`predict`, and the error in NumPy."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        layers = affine_layers(job)
        self.model = _fit(_regressor(job, 1), job.rows[:64])
        self.model.coefs_ = [kernel for kernel, _, _ in layers]
        self.model.intercepts_ = [bias for _, bias, _ in layers]
        self.model.out_activation_ = _FUNCTIONS[layers[-1][2]]
        self.facts = {"same_weights": True, "scikit-learn": sklearn.__version__}

    def score(self, rows: np.ndarray) -> np.ndarray:
        parts = (rows[s] for s in slices(len(rows), self.batch_size))
        return np.concatenate([row_errors(part, self.model.predict(part)) for part in parts])


class Training:
    """`fit`; its output is linear and it has no batch normalisation."""

    def __init__(self, job: Job) -> None:
        case = job.case
        if case.is_image:
            raise NotApplicable("no convolutions")
        if not isinstance(case.model, Dense):
            raise NotApplicable("no variational autoencoder")
        if case.model.batch_norm:
            raise NotApplicable("no batch normalisation")
        self.job = job
        self.facts = {"scikit-learn": sklearn.__version__}
        if case.in_unit_range:
            self.facts["note"] = "linear output"

    def fit(self) -> None:
        self.model = _fit(_regressor(self.job, self.job.epochs), self.job.rows)

    def loss(self) -> float:
        rows = self.job.rows
        return float(np.mean(row_errors(rows, self.model.predict(rows)), dtype=np.float64))

"""The detector in PyOD's convention, with PyOD's names of parameters."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from aejax.config import (
    Activation,
    Columns,
    Config,
    Effort,
    ErrorName,
    InputError,
    Precision,
    Rule,
    Scale,
    Score,
)
from aejax.detection.detector import Detector
from aejax.estimator import core
from aejax.estimator.core import EstimatorCore, Floats, ProbabilityMethod, Whole, Widths

OPTIMIZERS = ("adam", "adamw", "sgd")
# What `AutoEncoder` takes where nothing is named.
USUAL = {name: one.default for name, one in inspect.signature(EstimatorCore).parameters.items()}


class PyODNames(EstimatorCore):
    """Takes PyOD's parameters; `PyODAutoEncoder` says what each of them is."""

    def __init__(
        self,
        contamination: float = 0.1,
        preprocessing: bool = True,
        lr: float = USUAL["learning_rate"],
        epoch_num: int | None = None,
        batch_size: int = USUAL["batch_size"],
        optimizer_name: str | None = None,
        device: str | None = None,
        random_state: Any = 0,
        use_compile: bool = False,
        compile_mode: str = "default",
        verbose: int = 0,
        optimizer_params: Mapping[str, Any] | None = None,
        hidden_neuron_list: Widths | None = None,
        hidden_activation_name: Activation = "relu",
        batch_norm: bool = False,
        dropout_rate: float | None = None,
        *,
        effort: Effort = USUAL["effort"],
        steps: int | None = None,
        rule: Rule | None = None,
        scale: str = USUAL["scale"],
        clip: float | None = USUAL["clip"],
        noise: float | None = None,
        hide: float = 0.0,
        trim: float | None = None,
        schedule: str = USUAL["schedule"],
        error: ErrorName = "squared",
        row_score: Score | str | None = None,
        precision: Precision = "float32",
        feed: str = "auto",
        columns: str | Columns = "numbers",
    ) -> None:
        self.contamination = contamination
        self.preprocessing = preprocessing
        self.lr = lr
        self.epoch_num = epoch_num
        self.batch_size = batch_size
        self.optimizer_name = optimizer_name
        self.device = device
        self.random_state = random_state
        self.use_compile = use_compile
        self.compile_mode = compile_mode
        self.verbose = verbose
        self.optimizer_params = optimizer_params
        self.hidden_neuron_list = hidden_neuron_list
        self.hidden_activation_name = hidden_activation_name
        self.batch_norm = batch_norm
        self.dropout_rate = dropout_rate
        self.effort = effort
        self.steps = steps
        self.rule = rule
        self.scale = scale
        self.clip = clip
        self.noise = noise
        self.hide = hide
        self.trim = trim
        self.schedule = schedule
        self.error = error
        self.row_score = row_score
        self.precision = precision
        self.feed = feed
        self.columns = columns

    @property
    def hidden(self) -> Widths | None:  # type: ignore[override]
        """Widths of the layers, under the name that they have in `AutoEncoder`."""
        return self.hidden_neuron_list

    @property
    def activation(self) -> Activation:  # type: ignore[override]
        """Likewise."""
        return self.hidden_activation_name

    @property
    def dropout(self) -> float | None:  # type: ignore[override]
        """Likewise."""
        return self.dropout_rate

    @property
    def learning_rate(self) -> float:  # type: ignore[override]
        """Likewise."""
        return self.lr

    def _config(self) -> Config:
        self._check_device()
        config = super()._config()
        train = config.train
        if self.epoch_num is not None:
            if not isinstance(self.epoch_num, (int, np.integer)) or self.epoch_num < 1:
                raise InputError(
                    f"epoch_num is {self.epoch_num!r}; allowed: a whole number, at least 1, or None"
                )
            train = dataclasses.replace(train, epochs=int(self.epoch_num), steps=None)
        train = dataclasses.replace(train, **self._optimizer())
        scale = config.scale if self.preprocessing else Scale(kind="none", clip=None)
        return dataclasses.replace(config, train=train, scale=scale)

    def _optimizer(self) -> dict[str, Any]:
        """What of `Train` the names of PyOD's optimizers and their parameters say."""
        params = dict(self.optimizer_params or {})
        decay = params.pop("weight_decay", None)
        if params:
            raise InputError(
                f"optimizer_params holds {next(iter(params))!r}; allowed: 'weight_decay'"
            )
        name = self.optimizer_name
        if name not in (None, *OPTIMIZERS):
            raise InputError(
                f"optimizer_name is {name!r}; allowed: {', '.join(map(repr, OPTIMIZERS))}, or None"
            )
        if decay is None:
            return {} if name is None else {"optimizer": name, "weight_decay": 0.0}
        name = "adamw" if decay and name in (None, "adam") else name or "adam"
        return {"optimizer": name, "weight_decay": decay}

    def _check_device(self) -> None:
        """Refuse a device that JAX doesn't compute on here."""
        if self.device is None:
            return
        here = jax.default_backend()
        names = {"cpu": ("cpu",), "gpu": ("gpu", "cuda", "rocm")}.get(here, (here,))
        if str(self.device).partition(":")[0] not in names:
            raise InputError(
                f"device is {self.device!r}; allowed: None, "
                f"{', '.join(map(repr, names))}, on which JAX computes here (JAX_PLATFORMS says so)"
            )


class UnknownScoring(InputError, NotImplementedError):
    """A scoring that there is none of; PyOD raises a NotImplementedError for it."""


class PyODAutoEncoder(PyODNames):
    """An autoencoder as a PyOD detector.

    In PyOD's convention scores are larger for anomalies, and `predict` gives 0 for normal
    rows and 1 for anomalies. Parameters have the names that they have in PyOD's `AutoEncoder`, so
    that a script changes its import only; `AutoEncoder`, in scikit-learn's convention, is the same
    detector. What is None is chosen as there, and not as in PyOD.

    Args:
        contamination: share of the training rows that the threshold flags, in [0, 1).
        preprocessing: whether features are scaled to mean 0 and standard deviation 1; or not at
            all.
        lr: the schedule's highest learning rate.
        epoch_num: passes over the rows; None takes `steps`.
        batch_size: rows in one step.
        optimizer_name: "adam", "adamw" or "sgd"; None takes `AutoEncoder`'s.
        device: None, or what JAX computes on: "cpu", "gpu" (or "cuda", "cuda:0"), "tpu".
        random_state: seed; an int gives the same detector every time.
        use_compile: everything is compiled, whether it is asked for or not.
        compile_mode: as `use_compile`.
        verbose: above 0 draws a progress bar on stderr.
        optimizer_params: {"weight_decay": 1e-5}, decoupled as AdamW's, or None.
        hidden_neuron_list: widths of the layers from the input to the latent one, mirrored going
            back; a single number is one layer's.
        hidden_activation_name: after every hidden layer.
        batch_norm: whether hidden layers are normalised over the batch.
        dropout_rate: share of hidden units dropped while training.
        effort: "quick", "standard" or "best", as in `AutoEncoder`.
        steps: steps of gradient descent, where `epoch_num` is None; None takes the effort's.
        rule: as in `AutoEncoder`, as are all that follow.
        scale: how features are scaled with `preprocessing`.
        clip: largest absolute value after scaling, or None.
        noise: standard deviation of the noise added to scaled rows in training.
        hide: share of the cells that the network is not shown while it has to restore them.
        trim: share of every batch's rows, those with the largest losses, that are not learnt from.
        schedule: "constant", "cosine", "warmup-cosine" or "linear".
        error: "squared" or "absolute".
        row_score: what a row's score is.
        precision: of the products when scoring.
        feed: "device", "stream" or "auto".
        columns: "numbers" or "mixed".

    Attributes:
        detector_: the trained `aejax.Detector`, which explains, calibrates and saves.
        left_out_: columns of a data frame that are no features, each with the reason.
        decision_scores_: scores of the training rows, float64 [n].
        threshold_: scores above it are anomalies.
        labels_: of the training rows, 0 or 1, [n].
        history_: {"loss": one number an epoch}.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(200, 4))
        >>> found = PyODAutoEncoder(0.05, hidden_neuron_list=[8, 2], epoch_num=2).fit(x)
        >>> int(found.labels_.sum())
        10
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on rows, of which `contamination` are taken to be anomalies; see `AutoEncoder`."""
        self.decision_scores_ = self._fit(X)
        self.threshold_ = self._threshold
        self.labels_ = self._flagged(self.decision_scores_)
        return self

    def fit_predict(self, X: Any, y: Any = None) -> Whole:
        """Train, and say which of the training rows are anomalies: 0 or 1, [n]."""
        return self.fit(X).labels_

    def fit_predict_score(self, X: Any, y: Any, scoring: str = "roc_auc_score") -> float:
        """Train, and judge the training rows' scores by their labels.

        Args:
            X: rows [n, features].
            y: labels [n], 0 normal and 1 anomaly.
            scoring: "roc_auc_score", or "prc_n_score", the precision among as many rows of
                the highest scores as there are anomalies.

        Raises:
            InputError: if `scoring` is another one.
        """
        scores, labels = self.fit(X).decision_scores_, np.asarray(y)
        if scoring == "roc_auc_score":
            from sklearn.metrics import roc_auc_score

            return float(roc_auc_score(labels, scores))
        if scoring == "prc_n_score":
            from sklearn.metrics import precision_score

            cut = np.percentile(scores, 100 * (1 - labels.sum() / len(labels)))
            return float(precision_score(labels, scores > cut))
        raise UnknownScoring(f"scoring is {scoring!r}; allowed: 'roc_auc_score', 'prc_n_score'")

    def decision_function(self, X: Any) -> Floats:
        """Scores of rows, float64 [n]; larger is more anomalous."""
        return self._scores(X)

    def predict(self, X: Any, return_confidence: bool = False) -> Any:
        """0 for normal rows, 1 for anomalies, [n]; with confidences [n] where asked."""
        scores = self._scores(X)
        flagged = self._flagged(scores)
        return (flagged, self._confidence(scores)) if return_confidence else flagged

    def predict_proba(
        self, X: Any, method: ProbabilityMethod = "linear", return_confidence: bool = False
    ) -> Any:
        """Probabilities of being normal and of being an anomaly, float64 [n, 2].

        Args:
            X: rows [n, features].
            method: "linear" (the training scores' range to [0, 1]) or "unify" (the normal
                distribution's error function of the standardised score).
            return_confidence: whether to give confidences [n] too.

        Raises:
            InputError: if `method` is another one.
        """
        scores = self._scores(X)
        proba = core.probabilities(self.decision_scores_, scores, method)
        return (proba, self._confidence(scores)) if return_confidence else proba

    def predict_confidence(self, X: Any) -> Floats:
        """Probability that other training rows would lead to the same prediction, [n]."""
        return self._confidence(self._scores(X))

    def predict_with_rejection(
        self,
        X: Any,
        T: float = 32,
        return_stats: bool = False,
        delta: float = 0.1,
        c_fp: float = 1,
        c_fn: float = 1,
        c_r: float = -1,
    ) -> Any:
        """0 for normal rows, 1 for anomalies, -2 for those too unsure to say, [n].

        Args:
            X: rows [n, features].
            T: what is surer than 1 - 2 exp(-T) is predicted.
            return_stats: whether to give expected and highest rate of rejection and highest
                cost too, as a list.
            delta: probability that the highest rate is passed.
            c_fp: cost of a false alarm.
            c_fn: cost of a missed anomaly.
            c_r: cost of a rejection; below 0 stands for the contamination.
        """
        flagged, confidence = self.predict(X, return_confidence=True)
        unsure = 2 * np.abs(confidence - 0.5) <= 1 - 2 * np.exp(-T)
        predicted = np.where(unsure, -2, flagged)
        if not return_stats:
            return predicted
        return predicted, self.compute_rejection_stats(T, delta, c_fp, c_fn, c_r)

    def compute_rejection_stats(
        self,
        T: float = 32,
        delta: float = 0.1,
        c_fp: float = 1,
        c_fn: float = 1,
        c_r: float = -1,
    ) -> list[float]:
        """Expected rate of rejection, its bound, and the bound of the cost of a row."""
        check_is_fitted(self)
        statistics = core.rejection_statistics(
            len(self.decision_scores_),
            self._share,
            strictness=T,
            delta=delta,
            cost_false_alarm=c_fp,
            cost_miss=c_fn,
            cost_rejection=self._share if c_r < 0 else c_r,
        )
        return list(statistics)

    @property
    def history_(self) -> dict[str, list[float]]:
        """Losses of training, one an epoch; of `steps`, one a fiftieth of them."""
        return {"loss": [epoch["loss"] for epoch in self.detector_.history]}

    @property
    def model(self) -> Detector:
        """The trained detector, under PyOD's name for its network."""
        detector: Detector = self.detector_
        return detector

    @property
    def _mu(self) -> Floats:
        """What is subtracted of the features, [features], as PyOD calls it."""
        scaler, offset = self.detector_.scaler, self.detector_.schema.offset
        shift = 0.0 if scaler.shift is None else np.asarray(scaler.shift, np.float64)
        return np.zeros(self.detector_.schema.features) + shift + np.asarray(offset or 0.0)

    @property
    def _sigma(self) -> Floats:
        """What features are divided by then, [features]."""
        factor = self.detector_.scaler.factor
        one = np.ones(self.detector_.schema.features)
        return one if factor is None else one / np.asarray(factor, np.float64)

    def _anomalies(self, y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return y != 0

    @property
    def _share(self) -> float:
        """The share of the training rows that are taken to be anomalies."""
        return self.contamination if self.rule is None else float(self.labels_.mean())

    def _flagged(self, scores: Floats) -> Whole:
        return (scores > self.threshold_).astype(np.int64)

    def _confidence(self, scores: Floats) -> Floats:
        confidence = core.outlier_confidence(self.decision_scores_, scores, self._share)
        return np.where(self._flagged(scores) == 1, confidence, 1 - confidence)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        return tags

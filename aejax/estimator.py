"""The detector as scikit-learn and PyOD know detectors.

One core, `_Core`, trains and scores; two thin classes say its scores in two conventions:

|                       | `AutoEncoder` (scikit-learn) | `PyODAutoEncoder` (PyOD)  |
| --------------------- | ---------------------------- | ------------------------- |
| `predict`             | 1 normal, -1 anomaly         | 0 normal, 1 anomaly       |
| `decision_function`   | larger is more normal        | larger is more anomalous  |
| zero or threshold     | below 0 is an anomaly        | above `threshold_` is one |
"""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from aejax.config import (
    Activation,
    Columns,
    Config,
    Contamination,
    Dense,
    ErrorName,
    InputError,
    Precision,
    Scale,
    Train,
)
from aejax.data.schema import Schema
from aejax.detection import fitting, loading, probability
from aejax.detection.probability import ProbabilityMethod

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


class _Core(BaseEstimator):
    """A dense autoencoder behind flat parameters; both conventions are made of `_scores`."""

    def __init__(
        self,
        *,
        contamination: float = 0.1,
        hidden: tuple[int, ...] = (128, 64),
        activation: Activation = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        scale: str = "standard",
        clip: float | None = 20.0,
        noise: float = 0.1,
        steps: int = 1500,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        schedule: str = "cosine",
        error: ErrorName = "squared",
        precision: Precision = "float32",
        feed: str = "auto",
        columns: str | Columns = "numbers",
        random_state: Any = 0,
    ) -> None:
        self.contamination = contamination
        self.hidden = hidden
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.scale = scale
        self.clip = clip
        self.noise = noise
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.error = error
        self.precision = precision
        self.feed = feed
        self.columns = columns
        self.random_state = random_state

    def _fit(self, X: Any) -> Floats:
        """Train, set the threshold that `contamination` of the rows pass, and score the rows."""
        x = self._validated(X, reset=True)
        names, schema = getattr(self, "feature_names_in_", None), None
        if not self._mixed:
            schema = Schema(shape=x.shape[1:], names=None if names is None else tuple(names))
        self.detector_ = fitting.fit(self._config(len(x)), x, schema=schema)
        return self.detector_.score(x).astype(np.float64)

    @property
    def _columns(self) -> Columns:
        if isinstance(self.columns, Columns):
            return self.columns
        return Columns(kinds=self.columns)  # type: ignore[arg-type]

    @property
    def _mixed(self) -> bool:
        return self._columns.kinds == "mixed"

    def _validated(self, X: Any, *, reset: bool) -> Any:
        """Rows as an array of float32; a mixed table as it is, but for the names of its columns."""
        if self._mixed:
            return validate_data(self, X, reset=reset, skip_check_array=True)
        least = 2 if reset else 1
        return validate_data(self, X, dtype=np.float32, ensure_min_samples=least, reset=reset)

    def _config(self, rows: int) -> Config:
        if not isinstance(self.steps, (int, np.integer)) or self.steps < 1:
            raise InputError(f"steps is {self.steps!r}; allowed: a whole number, at least 1")
        train = Train(
            batch_size=self.batch_size,
            loss=self.error,
            noise=self.noise,
            learning_rate=self.learning_rate,
            schedule=self.schedule,  # type: ignore[arg-type]
            validation_fraction=0.0,
            seed=self._seed(),
            feed=self.feed,  # type: ignore[arg-type]
        )
        per_epoch = -(-rows // train.batch_size)
        return Config(
            model=Dense(
                hidden=tuple(self.hidden),
                activation=self.activation,
                batch_norm=self.batch_norm,
                dropout=self.dropout,
            ),
            scale=Scale(kind=self.scale, clip=self.clip),  # type: ignore[arg-type]
            train=dataclasses.replace(train, epochs=-(-int(self.steps) // per_epoch)),
            error=self.error,
            rule=Contamination(rate=self.contamination),
            precision=self.precision,
            columns=self._columns,
        )

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _scores(self, X: Any) -> Floats:
        """Reconstruction errors, larger is more anomalous."""
        check_is_fitted(self)
        return self.detector_.score(self._validated(X, reset=False)).astype(np.float64)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "detector_" in state:
            # As JSON-ready dicts and NumPy arrays: nothing of JAX has to travel.
            state["detector_"] = state["detector_"].to_parts()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "detector_" in state:
            state = {**state, "detector_": loading.from_parts(*state["detector_"])}
        super().__setstate__(state)

    @property
    def _threshold(self) -> float:
        threshold = self.detector_.threshold
        assert threshold is not None  # `_fit` set it.
        return threshold.value


class AutoEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, OutlierMixin, _Core):
    """An autoencoder as a scikit-learn outlier detector and transformer.

    In scikit-learn's convention scores are larger for normal rows, and `predict` gives 1 for
    normal rows and -1 for anomalies. `transform` gives the latent values. `PyODAutoEncoder`
    is the same detector in PyOD's convention.

    Args:
        contamination: share of the training rows that the threshold flags, in [0, 1); 0 flags
            only what is beyond all of them.
        hidden: widths of the layers from the input to the latent one; mirrored going back.
        activation: after every hidden layer.
        batch_norm: whether hidden layers are normalised over the batch.
        dropout: share of hidden units dropped while training.
        scale: how features are scaled: "standard", "min-max", "min-max-all", "robust",
            "quantile" or "none".
        clip: largest absolute value after scaling, or None.
        noise: standard deviation of the noise added to scaled rows in training.
        steps: steps of gradient descent, rounded up to whole passes over the rows.
        batch_size: rows in one step.
        learning_rate: the schedule's highest value.
        schedule: "constant", "cosine", "warmup-cosine" or "linear".
        error: "squared" or "absolute", in training and scoring.
        precision: of the products when scoring: "float32" or "bfloat16".
        feed: "device", "stream" or "auto", as `aejax.Train.feed`. "stream" compiles nothing
            anew for another number of rows.
        columns: "numbers"; or "mixed" (or an `aejax.Columns` that says so) for data frames
            with text, booleans, dates or missing cells.
        random_state: seed; an int gives the same detector every time.

    Attributes:
        detector_: the trained `aejax.Detector`, which explains, calibrates and saves.
        offset_: `score_samples` below it are anomalies.
        n_features_in_: number of features.
        feature_names_in_: names of the features, where rows came as a data frame.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(200, 4))
        >>> found = AutoEncoder(contamination=0.05, steps=10).fit(x)
        >>> int((found.predict(x) == -1).sum())
        10
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on rows, of which `contamination` are taken to be anomalies.

        Args:
            X: finite numbers [n, features], n at least 2: an array, or a data frame, whose
                column names are then asked of every later one.
            y: ignored.

        Raises:
            ValueError: where rows or a parameter can't be used; an `InputError` is one.
        """
        self._fit(X)
        self.offset_ = -self._threshold
        return self

    def score_samples(self, X: Any) -> Floats:
        """Negated reconstruction errors, float64 [n]; larger is more normal."""
        return -self._scores(X)

    def decision_function(self, X: Any) -> Floats:
        """`score_samples` less `offset_`, float64 [n]; below 0 is an anomaly."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Whole:
        """1 for normal rows, -1 for anomalies, [n]."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Latent values, float32 [n, width of the last hidden layer]."""
        check_is_fitted(self)
        return self.detector_.encode(self._validated(X, reset=False))

    @property
    def _n_features_out(self) -> int:
        return int(self.hidden[-1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class PyODAutoEncoder(_Core):
    """An autoencoder as a PyOD detector.

    In PyOD's convention scores are larger for anomalies, and `predict` gives 0 for normal
    rows and 1 for anomalies. `AutoEncoder`, where the parameters are explained, is the same
    detector in scikit-learn's convention.

    Attributes:
        detector_: the trained `aejax.Detector`.
        decision_scores_: scores of the training rows, float64 [n].
        threshold_: scores above it are anomalies.
        labels_: of the training rows, 0 or 1, [n].

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(200, 4))
        >>> found = PyODAutoEncoder(contamination=0.05, steps=10).fit(x)
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
        """
        scores, labels = self.fit(X).decision_scores_, np.asarray(y)
        if scoring == "roc_auc_score":
            from sklearn.metrics import roc_auc_score

            return float(roc_auc_score(labels, scores))
        if scoring == "prc_n_score":
            from sklearn.metrics import precision_score

            cut = np.percentile(scores, 100 * (1 - labels.sum() / len(labels)))
            return float(precision_score(labels, scores > cut))
        raise InputError(f"scoring is {scoring!r}; allowed: 'roc_auc_score', 'prc_n_score'")

    def decision_function(self, X: Any) -> Floats:
        """Reconstruction errors, float64 [n]; larger is more anomalous."""
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
        """
        scores = self._scores(X)
        found = probability.probabilities(self.decision_scores_, scores, method)
        return (found, self._confidence(scores)) if return_confidence else found

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
        found = probability.rejection_statistics(
            len(self.decision_scores_),
            self.contamination,
            strictness=T,
            delta=delta,
            cost_false_alarm=c_fp,
            cost_miss=c_fn,
            cost_rejection=self.contamination if c_r < 0 else c_r,
        )
        return list(found)

    def _flagged(self, scores: Floats) -> Whole:
        return (scores > self.threshold_).astype(np.int64)

    def _confidence(self, scores: Floats) -> Floats:
        found = probability.outlier_confidence(self.decision_scores_, scores, self.contamination)
        return np.where(self._flagged(scores) == 1, found, 1 - found)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        return tags

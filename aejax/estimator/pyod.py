"""The detector in PyOD's convention."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from aejax.config import InputError
from aejax.detection import probability
from aejax.detection.detector import Detector
from aejax.detection.probability import ProbabilityMethod
from aejax.estimator.core import Floats, Whole
from aejax.estimator.pyod_names import PyODNames


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
            self._share,
            strictness=T,
            delta=delta,
            cost_false_alarm=c_fp,
            cost_miss=c_fn,
            cost_rejection=self._share if c_r < 0 else c_r,
        )
        return list(found)

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
        found = probability.outlier_confidence(self.decision_scores_, scores, self._share)
        return np.where(self._flagged(scores) == 1, found, 1 - found)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        return tags

"""The detector in PyOD's convention."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from aejax.config import InputError
from aejax.detection import probability
from aejax.detection.probability import ProbabilityMethod
from aejax.estimator.core import EstimatorCore, Floats, Whole


class PyODAutoEncoder(EstimatorCore):
    """An autoencoder as a PyOD detector.

    In PyOD's convention scores are larger for anomalies, and `predict` gives 0 for normal
    rows and 1 for anomalies. `AutoEncoder`, where the parameters are explained, is the same
    detector in scikit-learn's convention.

    Attributes:
        detector_: the trained `aejax.Detector`.
        left_out_: columns of a data frame that are no features, each with the reason.
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
        raise InputError(f"scoring is {scoring!r}; allowed: 'roc_auc_score', 'prc_n_score'")

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

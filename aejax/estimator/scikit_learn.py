"""The detector in scikit-learn's convention."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from aejax.config import NoiseConditioned
from aejax.estimator.core import EstimatorCore, Floats, Whole


class AutoEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, OutlierMixin, EstimatorCore):
    """An autoencoder as a scikit-learn outlier detector and transformer.

    In scikit-learn's convention scores are larger for normal rows, and `predict` gives 1 for
    normal rows and -1 for anomalies. `transform` gives the latent values. `PyODAutoEncoder`
    is the same detector in PyOD's convention.

    The defaults expect anomalies among the training rows, and keep the network from learning them
    by heart: they are `Config.of_effort(effort, contaminated=True)`, few steps without the rows
    with the largest losses. For rows known to be normal take
    `trim=0, steps=1500, row_score="noise-levels-and-neighbours"`, which tells subtler anomalies
    apart. Where `hidden` is named, or columns are mixed, the network is a plain one, which is
    scored by its error.

    Args:
        contamination: share of the training rows that the threshold flags, in [0, 1); 0 flags
            only what is beyond all of them.
        rule: how the threshold is found on the training rows' scores instead: an `aejax` rule,
            as `aejax.MeanStd(k=3)`, or an object of your own with `fit(scores)`.
        effort: "quick", "standard" or "best", which is four networks that score together; they
            differ in nothing else, as more steps would learn the anomalies.
        hidden: widths of a plain network's layers from the input to the latent one; mirrored
            going back; a single number is one layer's. None takes the effort's network, which is
            given its noise's level.
        activation: after every hidden layer.
        batch_norm: whether hidden layers are normalised over the batch.
        dropout: share of hidden units dropped while training; None takes 0.2 of a plain network,
            and 0 of the other.
        scale: how features are scaled: "auto", which is "standard", "min-max", "min-max-all",
            "robust", "quantile" or "none".
        clip: largest absolute value after scaling, or None.
        noise: standard deviation of the noise added to scaled rows in training; None takes 0.1
            for a plain network, and 0 for the other, which draws its own.
        hide: share of the cells that the network is not shown while it has to restore them, in
            [0, 1): what is rare can't be restored from the other features.
        trim: share of every batch's rows, those with the largest losses, that are not learnt
            from, in [0, 0.5]; None takes `contamination`, but at least 0.3 and at most 0.5.
        steps: steps of gradient descent, whatever the number of rows; None takes the effort's.
        batch_size: rows in one step.
        learning_rate: the schedule's highest value.
        schedule: "constant", "cosine", "warmup-cosine" or "linear".
        error: "squared" or "absolute", in training and scoring.
        row_score: what a row's score is: one of `aejax.Config.score`; None takes
            "noise-levels-and-norm", and the error of a plain network.
        precision: of the products when scoring: "float32" or "bfloat16".
        feed: "device", "stream" or "auto", as `aejax.Train.feed`. "stream" compiles nothing
            anew for another number of rows.
        columns: "numbers"; or "mixed" (or an `aejax.Columns` that says so) for data frames
            with text, booleans, dates or missing cells.
        random_state: seed; an int gives the same detector every time.

    Attributes:
        detector_: the trained `aejax.Detector`, which explains, calibrates and saves.
        left_out_: columns of a data frame that are no features (they never change or identify
            rows, see `aejax.Columns.keep`), each with the reason.
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
        """Negated scores, float64 [n]; larger is more normal."""
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
        return self.detector_.encode(self._features(self._validated(X, reset=False)))

    def _anomalies(self, y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return y != 1

    @property
    def _n_features_out(self) -> int:
        model = self._model()
        network = model.network if isinstance(model, NoiseConditioned) else model
        return int(network.hidden[-1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

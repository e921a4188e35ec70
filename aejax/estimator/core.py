"""What both conventions share: flat parameters, training, scores, and what a pickle holds.

The probabilities' formulas are PyOD's (Zhao, Nasrullah and Li, JMLR 20, 2019), so that its users
find the same numbers; each depends on the training scores and the scores alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from aejax.config import (
    Activation,
    Columns,
    Config,
    Dense,
    Effort,
    ErrorName,
    InputError,
    NoiseConditioned,
    Precision,
    Rule,
    Scale,
    Score,
    Train,
)
from aejax.config.effort import DROPOUT, NETWORK, PLAIN, TRIM, cost, settings_of
from aejax.data.frames import as_table, unmasked
from aejax.data.schema import Schema, check_once
from aejax.detection import fitting, loading
from aejax.rules.contamination import Contamination

ProbabilityMethod = Literal["linear", "unify"]
Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
# One layer's width, or several.
Widths = int | Sequence[int]


class RejectionStatistics(NamedTuple):
    """What rejecting unsure predictions costs.

    Attributes:
        expected_rate: estimated share of rows rejected.
        highest_rate: bound on that share.
        highest_cost: bound on the expected cost of a row.
    """

    expected_rate: float
    highest_rate: float
    highest_cost: float


def probabilities(training: Floats, scores: Floats, method: ProbabilityMethod) -> Floats:
    """Probability of being normal and of being an anomaly.

    Args:
        training: scores of the training rows, float64 [n].
        scores: float64 [m].
        method: "linear" maps the range of the training scores to [0, 1]; "unify" is the
            normal distribution's error function of the standardised score (Kriegel et al.,
            "Interpreting and unifying outlier scores", SDM 2011).

    Returns:
        float64 [m, 2], each row of sum 1.

    Raises:
        InputError: if the method is another one.
    """
    if method == "linear":
        low, high = training.min(), training.max()
        anomalous = (scores - low) / (high - low if high > low else 1.0)
    elif method == "unify":
        deviation = training.std()
        anomalous = special.erf(
            (scores - training.mean()) / (np.sqrt(2) * (deviation if deviation > 0 else 1.0))
        )
    else:
        raise InputError(f"method is {method!r}; allowed: 'linear', 'unify'")
    anomalous = np.clip(anomalous, 0, 1)
    return np.stack([1 - anomalous, anomalous], axis=1)


def outlier_confidence(training: Floats, scores: Floats, contamination: float) -> Floats:
    """Probability that a row would be flagged if the training rows were drawn anew.

    Perini, Vercruyssen and Davis, "Quantifying the confidence of anomaly detectors in their
    example-wise predictions", ECML PKDD 2020.

    Args:
        training: scores of the training rows, float64 [n].
        scores: float64 [m].
        contamination: share of training rows that is flagged.

    Returns:
        float64 [m], in [0, 1].
    """
    rows = len(training)
    below = np.searchsorted(np.sort(training), scores, side="right")
    posterior = (1 + below) / (2 + rows)
    return stats.binom.sf(rows - int(rows * contamination), rows, posterior)


def rejection_statistics(
    rows: int,
    contamination: float,
    *,
    strictness: float,
    delta: float,
    cost_false_alarm: float,
    cost_miss: float,
    cost_rejection: float,
) -> RejectionStatistics:
    """Rates and cost of rejecting predictions with confidence below 1 - 2 exp(-strictness).

    Perini and Davis, "Unsupervised anomaly detection with rejection", NeurIPS 2023.

    Args:
        rows: number of training rows.
        contamination: share of them that is flagged.
        strictness: the paper's T; more is rejected where it is higher.
        delta: the bound on the rate fails with at most this probability.
        cost_false_alarm: of a normal row flagged.
        cost_miss: of an anomaly passed.
        cost_rejection: of a row rejected.

    Raises:
        InputError: if `delta` is not in (0, 1), or the contamination flags no row.
    """
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta!r}; allowed: a number in (0, 1)")
    flagged = int(rows * contamination)
    if flagged < 1:
        raise InputError(
            f"contamination is {contamination} of {rows} rows; allowed: at least one row"
        )
    unsure = np.exp(-strictness)
    low, high = special.bdtri(flagged - 1, rows, [1 - unsure, unsure])
    n, normal = float(rows), 1 - contamination
    right = (-contamination * (n + 2) + n + 1) / n
    right += strictness * (n + 2) / np.sqrt(2 * n**3 * strictness)
    inside = 2 * n * (-3 * contamination**2 - 2 * n * normal**2 + 4 * contamination - 3)
    inside += strictness * (n + 2) ** 2 - 8
    # Negative for few rows or low strictness: the bound is then the trivial one.
    left = 0.0
    if inside >= 0:
        left = (2 + n * normal * (n + 1)) / n**2 - np.sqrt(0.5 * n**5 * inside) / n**4
    margin = 2 * np.sqrt(np.log(2 / delta) / (2 * n))
    cost = min(contamination, low) * cost_false_alarm
    cost += min(1 - high, contamination) * cost_miss + (high - low) * cost_rejection
    return RejectionStatistics(
        expected_rate=float(high - low),
        highest_rate=float(min(1.0, right) - max(0.0, left) + margin),
        highest_cost=float(cost),
    )


def widths(hidden: Widths) -> tuple[int, ...]:
    """Widths of the layers from the input to the latent one."""
    return (int(hidden),) if isinstance(hidden, (int, np.integer)) else tuple(hidden)


class EstimatorCore(BaseEstimator):
    """An autoencoder behind flat parameters; both conventions are made of `_scores`."""

    def __init__(
        self,
        *,
        contamination: float = 0.1,
        rule: Rule | None = None,
        effort: Effort = "standard",
        hidden: Widths | None = None,
        activation: Activation = "relu",
        batch_norm: bool = False,
        dropout: float | None = None,
        scale: str = "auto",
        clip: float | None = 20.0,
        noise: float | None = None,
        hide: float = 0.0,
        trim: float | None = None,
        steps: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        schedule: str = "cosine",
        error: ErrorName = "squared",
        row_score: Score | str | None = None,
        precision: Precision = "float32",
        feed: str = "auto",
        columns: str | Columns = "numbers",
        random_state: Any = 0,
    ) -> None:
        self.contamination = contamination
        self.rule = rule
        self.effort = effort
        self.hidden = hidden
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.scale = scale
        self.clip = clip
        self.noise = noise
        self.hide = hide
        self.trim = trim
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.error = error
        self.row_score = row_score
        self.precision = precision
        self.feed = feed
        self.columns = columns
        self.random_state = random_state

    def _fit(self, X: Any) -> Floats:
        """Train, set the threshold on the rows by `contamination` or `rule`, and score the rows."""
        x = self._validated(X, reset=True)
        schema = None if self._mixed else self._named(x)
        named = x if schema is None else self._features(x, schema)
        self.detector_ = fitting.fit(
            self._config(),
            named,
            schema=schema,
            members=cost(self.effort).members,
            progress=getattr(self, "verbose", 0) > 0,
        )
        self.left_out_ = dict(self.detector_.schema.dropped)
        return self.detector_.score(self._features(x)).astype(np.float64)

    def _named(self, x: npt.NDArray[Any]) -> Schema | None:
        """The schema of rows [n, features] whose columns have names, else None."""
        if not hasattr(self, "feature_names_in_"):
            return None
        from aejax.data.frames import schema_of_arrays

        return schema_of_arrays(x, tuple(map(str, self.feature_names_in_)), self._columns)

    def _features(self, x: Any, schema: Schema | None = None) -> Any:
        """Validated rows with the columns that are features only."""
        if self._mixed:
            return x
        schema = schema or self.detector_.schema
        if not schema.dropped:
            return x
        names = list(map(str, self.feature_names_in_))
        return x[:, [names.index(name) for name in schema.names or ()]]

    @property
    def _columns(self) -> Columns:
        if isinstance(self.columns, Columns):
            return self.columns
        return Columns(kinds=self.columns)  # type: ignore[arg-type]

    @property
    def _mixed(self) -> bool:
        return self._columns.kinds == "mixed"

    def _validated(self, X: Any, *, reset: bool) -> Any:
        """Rows as an array of floats; a mixed table as it is, but for the names of its columns."""
        if isinstance(X, np.ma.MaskedArray):
            X = unmasked(X)
        elif not hasattr(X, "to_numpy"):
            # Of other tables with names scikit-learn sees those of Arrow's.
            table = as_table(X)
            X = X if table is None else table
        elif hasattr(X, "columns"):
            check_once([str(name) for name in X.columns], "X has")
        if self._mixed:
            return validate_data(self, X, reset=reset, skip_check_array=True)
        # What float32 would round has to reach the detector, which subtracts its offset.
        return validate_data(
            self,
            X,
            dtype=[np.float64, np.float32],
            ensure_min_samples=2 if reset else 1,
            reset=reset,
        )

    def _config(self) -> Config:
        steps = self.steps
        if steps is not None and (not isinstance(steps, (int, np.integer)) or steps < 1):
            raise InputError(f"steps is {steps!r}; allowed: a whole number, at least 1, or None")
        # It is checked, whether it sets the threshold or not.
        share = Contamination(rate=self.contamination)
        model = self._model()
        decided = settings_of(self.effort, model=model, mixed=self._mixed, contaminated=True)
        usual: Train = decided["train"]
        train = dataclasses.replace(
            usual,
            steps=usual.steps if steps is None else int(steps),
            batch_size=self.batch_size,
            loss=self.error,
            noise=usual.noise if self.noise is None else self.noise,
            hide=self.hide,
            trim=self._trim,
            learning_rate=self.learning_rate,
            schedule=self.schedule,  # type: ignore[arg-type]
            validation_fraction=0.0,
            seed=self._seed(),
            feed=self.feed,  # type: ignore[arg-type]
        )
        return Config(
            model=model,
            scale=Scale(kind=self.scale, clip=self.clip),  # type: ignore[arg-type]
            train=train,
            error=self.error,
            score=decided["score"] if self.row_score is None else self.row_score,
            rule=share if self.rule is None else self.rule,
            # Thresholds are set on the scores of the training rows, as both conventions have it.
            calibration="held-out",
            precision=self.precision,
            columns=self._columns,
        )

    def _model(self) -> Dense | NoiseConditioned:
        """A plain network where its widths are named, or columns are of different kinds."""
        layers: dict[str, Any] = {"activation": self.activation, "batch_norm": self.batch_norm}
        if self.hidden is None and not self._mixed:
            inner = NETWORK.network
            dropout = inner.dropout if self.dropout is None else self.dropout
            inner = dataclasses.replace(inner, dropout=dropout, **layers)
            return dataclasses.replace(NETWORK, network=inner)
        dropout = DROPOUT if self.dropout is None else self.dropout
        hidden = PLAIN.hidden if self.hidden is None else widths(self.hidden)
        return Dense(hidden=hidden, dropout=dropout, **layers)

    @property
    def _trim(self) -> float:
        if self.trim is not None:
            return self.trim
        return min(max(self.contamination, TRIM), 0.5)

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _scores(self, X: Any) -> Floats:
        """Scores of rows, larger is more anomalous."""
        check_is_fitted(self)
        x = self._features(self._validated(X, reset=False))
        return self.detector_.score(x).astype(np.float64)

    def score(self, X: Any, y: Any = None) -> float:
        """How well rows are scored; larger is better, as searches over parameters want it.

        Args:
            X: rows, best not trained on.
            y: labels [n] as `predict` gives them; the area under the ROC curve is given. None
                gives the mean reconstruction error, negated.

        Raises:
            InputError: if labels are of one kind only.
        """
        check_is_fitted(self)
        if y is None:
            rows = self._features(self._validated(X, reset=False))
            errors = self.detector_.errors_of(self.detector_.prepare(rows))
            return -float(errors.mean(dtype=np.float64))
        from sklearn.metrics import roc_auc_score

        scores, is_anomaly = self._scores(X), self._anomalies(np.asarray(y))
        if is_anomaly.all() or not is_anomaly.any():
            raise InputError("y holds labels of one kind; allowed: normal rows and anomalies")
        return float(roc_auc_score(is_anomaly, scores))

    def _anomalies(self, y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which labels are those of anomalies, bool [n]."""
        raise NotImplementedError

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
        (one,) = threshold.each
        return one.value

"""What PyOD reads from scores beside flags: probabilities, confidence, rejection.

The formulas are PyOD's (Zhao, Nasrullah and Li, JMLR 20, 2019), so that its users find the
same numbers; each depends on the training scores and the scores alone.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from aejax.config import InputError

Floats = npt.NDArray[np.float64]
ProbabilityMethod = Literal["linear", "unify"]


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

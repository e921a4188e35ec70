"""The threshold with the best F1."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from aejax.config.checks import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestF1:
    """Threshold with the best F1 on calibration scores whose labels are known.

    Example:
        >>> detector = detector.calibrate(rows, rule=aejax.BestF1(), is_anomaly=np.arange(300) < 9)
    """

    needs_labels = True

    def fit(self, scores: npt.NDArray[np.float64], is_anomaly: npt.NDArray[np.bool_]) -> float:
        """The threshold, halfway between two scores, with anomalies as positives.

        Args:
            scores: float64 [n].
            is_anomaly: bool [n].

        Raises:
            InputError: if labels are of one class only.
        """
        import numpy as np
        from sklearn.metrics import precision_recall_curve

        if is_anomaly.all() or not is_anomaly.any():
            raise InputError(f"is_anomaly holds {int(is_anomaly[0])} only; allowed: both classes")
        precision, recall, cuts = precision_recall_curve(is_anomaly, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
        # The highest of the best cuts: of two equal choices, the one with fewer alarms.
        best = len(cuts) - 1 - int(np.argmax(f1[-2::-1]))
        if best == 0:
            return float(np.nextafter(cuts[0], -np.inf))
        upper, lower = cuts[best], cuts[best - 1]
        halfway = lower + (upper - lower) / 2
        return float(halfway if halfway < upper else lower)

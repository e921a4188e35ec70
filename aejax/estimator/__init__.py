"""The detector as scikit-learn and PyOD know detectors.

`core.py` trains and scores; two thin classes say its scores in two conventions:

|                       | `AutoEncoder` (scikit-learn) | `PyODAutoEncoder` (PyOD)  |
| --------------------- | ---------------------------- | ------------------------- |
| `predict`             | 1 normal, -1 anomaly         | 0 normal, 1 anomaly       |
| `decision_function`   | larger is more normal        | larger is more anomalous  |
| zero or threshold     | below 0 is an anomaly        | above `threshold_` is one |
"""

from __future__ import annotations

from aejax.estimator.pyod import PyODAutoEncoder
from aejax.estimator.scikit_learn import AutoEncoder

__all__ = ["AutoEncoder", "PyODAutoEncoder"]

# Pickles name this module, as they did when the classes stood in it.
AutoEncoder.__module__ = PyODAutoEncoder.__module__ = __name__

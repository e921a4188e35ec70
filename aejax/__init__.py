"""Autoencoders in JAX: train on normal rows, score any number of rows by reconstruction error.

Importing this package starts no JAX backend and loads no heavy library: settings
come at once, everything else is loaded when its name is first used.

Example:
    >>> import aejax
    >>> config = aejax.Config(model=aejax.Dense(hidden=(32, 16, 8)))
    >>> detector = aejax.fit(config, x_train)  # doctest: +SKIP
    >>> scores = detector.score(x)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aejax.config import (
    RULES,
    Classifier,
    Columns,
    Config,
    Context,
    Conv,
    Dense,
    Dialect,
    InputError,
    NoiseConditioned,
    Rule,
    Scale,
    Score,
    SuperResolution,
    Temporal,
    Train,
    Variational,
    Vary,
    Window,
    network,
)

if TYPE_CHECKING:
    from aejax import estimator
    from aejax.core.functions import TrainingState, train_state, train_step
    from aejax.core.scaling import Scaler
    from aejax.data.rows import Selection
    from aejax.data.schema import Schema
    from aejax.detection.detector import Detector
    from aejax.detection.events import Event, events
    from aejax.detection.fitting import fit
    from aejax.detection.loading import load
    from aejax.detection.population import Population, fit_population
    from aejax.detection.reasons import Reason
    from aejax.detection.score_functions import score_fn, scores
    from aejax.detection.threshold import GroupThresholds, Threshold
    from aejax.detection.tuning import Tuning, tune
    from aejax.exporting.export import export
    from aejax.reporting.make import report
    from aejax.rules.best_f1 import BestF1 as BestF1
    from aejax.rules.conformal import Conformal as Conformal
    from aejax.rules.contamination import Contamination as Contamination
    from aejax.rules.false_alarms import FalseAlarms as FalseAlarms
    from aejax.rules.fixed import Fixed as Fixed
    from aejax.rules.mean_std import MeanStd as MeanStd
    from aejax.rules.p_values import Calibration
    from aejax.rules.peaks_over_threshold import PeaksOverThreshold as PeaksOverThreshold
    from aejax.rules.quantile import Quantile as Quantile
    from aejax.scoring.evaluation import evaluate
    from aejax.scoring.stream import score_files
    from aejax.training.loop import Diverged, Interrupted
    from aejax.training.search_space import read_space

    __version__: str
else:
    # Hidden from type checkers: to them a module `__getattr__` would make every
    # misspelt name valid.
    _HOMES = {
        "Event": "aejax.detection.events",
        "events": "aejax.detection.events",
        "Schema": "aejax.data.schema",
        "Selection": "aejax.data.rows",
        "Reason": "aejax.detection.reasons",
        "Threshold": "aejax.detection.threshold",
        "GroupThresholds": "aejax.detection.threshold",
        "Diverged": "aejax.training.loop",
        "Interrupted": "aejax.training.loop",
        "evaluate": "aejax.scoring.evaluation",
        "report": "aejax.reporting.make",
        "Detector": "aejax.detection.detector",
        "fit": "aejax.detection.fitting",
        "load": "aejax.detection.loading",
        "Population": "aejax.detection.population",
        "fit_population": "aejax.detection.population",
        "Tuning": "aejax.detection.tuning",
        "tune": "aejax.detection.tuning",
        "read_space": "aejax.training.search_space",
        "export": "aejax.exporting.export",
        "score_files": "aejax.scoring.stream",
        "score_fn": "aejax.detection.score_functions",
        "scores": "aejax.detection.score_functions",
        "TrainingState": "aejax.core.functions",
        "train_state": "aejax.core.functions",
        "train_step": "aejax.core.functions",
        "Scaler": "aejax.core.scaling",
        "Calibration": "aejax.rules.p_values",
        **RULES.attributes,
    }

    def __getattr__(name: str) -> object:
        import importlib
        import importlib.metadata

        if name == "__version__":
            value = importlib.metadata.version("aejax")
        elif name == "estimator":
            value = importlib.import_module("aejax.estimator")
        elif name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'aejax' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Calibration",
    "Classifier",
    "Columns",
    "Config",
    "Context",
    "Conv",
    "Dense",
    "Detector",
    "Dialect",
    "Diverged",
    "Event",
    "GroupThresholds",
    "InputError",
    "Interrupted",
    "NoiseConditioned",
    "Population",
    "Reason",
    "Rule",
    "Scale",
    "Scaler",
    "Schema",
    "Score",
    "Selection",
    "SuperResolution",
    "Temporal",
    "Threshold",
    "Train",
    "TrainingState",
    "Tuning",
    "Variational",
    "Vary",
    "Window",
    "__version__",
    "estimator",
    "evaluate",
    "events",
    "export",
    "fit",
    "fit_population",
    "load",
    "network",
    "read_space",
    "report",
    "score_files",
    "score_fn",
    "scores",
    "train_state",
    "train_step",
    "tune",
]
# Type checkers know these from above.
__all__.extend(RULES.attributes)

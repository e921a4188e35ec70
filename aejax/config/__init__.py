"""Every setting of a run, as frozen dataclasses that validate themselves and travel as JSON.

This file imports neither JAX nor NumPy: a configuration can be read, checked and
written on a machine that will never train.

Example:
    >>> config = Config(model=Dense(hidden=(32, 16, 8)), train=Train(epochs=20, batch_size=512))
    >>> config == from_dict(to_dict(config))
    True
"""

from __future__ import annotations

from aejax.config.checks import InputError, suggest
from aejax.config.columns import Columns, Dialect
from aejax.config.detector import (
    Calibration,
    Combine,
    Config,
    Precision,
    PrecisionSetting,
    Vary,
    Window,
)
from aejax.config.effort import EFFORTS, Effort
from aejax.config.models import (
    MODELS,
    Activation,
    Classifier,
    Context,
    Conv,
    Dense,
    Model,
    NetworkSettings,
    NoiseConditioned,
    SuperResolution,
    Temporal,
    Variational,
)
from aejax.config.own_network import Functions, OwnNetwork, network
from aejax.config.rules import RULES, Rule, parse_rule, rule_text
from aejax.config.scores import SCORES, Score, parse_score, score_text
from aejax.config.training import ErrorName, Scale, Train
from aejax.config.written import (
    FORMAT_VERSION,
    MAX_JSON_BYTES,
    from_dict,
    part_from_dict,
    part_to_dict,
    read_config,
    read_json,
    to_dict,
    write_config,
)

__all__ = [
    "EFFORTS",
    "FORMAT_VERSION",
    "MAX_JSON_BYTES",
    "MODELS",
    "RULES",
    "SCORES",
    "Activation",
    "Calibration",
    "Classifier",
    "Columns",
    "Combine",
    "Config",
    "Context",
    "Conv",
    "Dense",
    "Dialect",
    "Effort",
    "ErrorName",
    "Functions",
    "InputError",
    "Model",
    "NetworkSettings",
    "NoiseConditioned",
    "OwnNetwork",
    "Precision",
    "PrecisionSetting",
    "Rule",
    "Scale",
    "Score",
    "SuperResolution",
    "Temporal",
    "Train",
    "Variational",
    "Vary",
    "Window",
    "from_dict",
    "network",
    "parse_rule",
    "parse_score",
    "part_from_dict",
    "part_to_dict",
    "read_config",
    "read_json",
    "rule_text",
    "score_text",
    "suggest",
    "to_dict",
    "write_config",
]

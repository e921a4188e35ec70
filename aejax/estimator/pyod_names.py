"""The names that PyOD's `AutoEncoder` gives its parameters, and what they set here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from aejax.config import (
    Activation,
    Columns,
    Config,
    Effort,
    ErrorName,
    InputError,
    Precision,
    Rule,
    Scale,
    Score,
)
from aejax.estimator.core import EstimatorCore, Widths

OPTIMIZERS = ("adam", "adamw", "sgd")
# What `AutoEncoder` takes where nothing is named.
USUAL = {name: one.default for name, one in inspect.signature(EstimatorCore).parameters.items()}


class PyODNames(EstimatorCore):
    """Takes PyOD's parameters; `PyODAutoEncoder` says what each of them is."""

    def __init__(
        self,
        contamination: float = 0.1,
        preprocessing: bool = True,
        lr: float = USUAL["learning_rate"],
        epoch_num: int | None = None,
        batch_size: int = USUAL["batch_size"],
        optimizer_name: str | None = None,
        device: str | None = None,
        random_state: Any = 0,
        use_compile: bool = False,
        compile_mode: str = "default",
        verbose: int = 0,
        optimizer_params: Mapping[str, Any] | None = None,
        hidden_neuron_list: Widths | None = None,
        hidden_activation_name: Activation = "relu",
        batch_norm: bool = False,
        dropout_rate: float | None = None,
        *,
        effort: Effort = USUAL["effort"],
        steps: int | None = None,
        rule: Rule | None = None,
        scale: str = USUAL["scale"],
        clip: float | None = USUAL["clip"],
        noise: float | None = None,
        hide: float = 0.0,
        trim: float | None = None,
        schedule: str = USUAL["schedule"],
        error: ErrorName = "squared",
        row_score: Score | str | None = None,
        precision: Precision = "float32",
        feed: str = "auto",
        columns: str | Columns = "numbers",
    ) -> None:
        self.contamination = contamination
        self.preprocessing = preprocessing
        self.lr = lr
        self.epoch_num = epoch_num
        self.batch_size = batch_size
        self.optimizer_name = optimizer_name
        self.device = device
        self.random_state = random_state
        self.use_compile = use_compile
        self.compile_mode = compile_mode
        self.verbose = verbose
        self.optimizer_params = optimizer_params
        self.hidden_neuron_list = hidden_neuron_list
        self.hidden_activation_name = hidden_activation_name
        self.batch_norm = batch_norm
        self.dropout_rate = dropout_rate
        self.effort = effort
        self.steps = steps
        self.rule = rule
        self.scale = scale
        self.clip = clip
        self.noise = noise
        self.hide = hide
        self.trim = trim
        self.schedule = schedule
        self.error = error
        self.row_score = row_score
        self.precision = precision
        self.feed = feed
        self.columns = columns

    @property
    def hidden(self) -> Widths | None:  # type: ignore[override]
        """Widths of the layers, under the name that they have in `AutoEncoder`."""
        return self.hidden_neuron_list

    @property
    def activation(self) -> Activation:  # type: ignore[override]
        """Likewise."""
        return self.hidden_activation_name

    @property
    def dropout(self) -> float | None:  # type: ignore[override]
        """Likewise."""
        return self.dropout_rate

    @property
    def learning_rate(self) -> float:  # type: ignore[override]
        """Likewise."""
        return self.lr

    def _config(self) -> Config:
        self._check_device()
        config = super()._config()
        train = config.train
        if self.epoch_num is not None:
            if not isinstance(self.epoch_num, (int, np.integer)) or self.epoch_num < 1:
                raise InputError(
                    f"epoch_num is {self.epoch_num!r}; allowed: a whole number, at least 1, or None"
                )
            train = dataclasses.replace(train, epochs=int(self.epoch_num), steps=None)
        train = dataclasses.replace(train, **self._optimizer())
        scale = config.scale if self.preprocessing else Scale(kind="none", clip=None)
        return dataclasses.replace(config, train=train, scale=scale)

    def _optimizer(self) -> dict[str, Any]:
        """What of `Train` the names of PyOD's optimizers and their parameters say."""
        params = dict(self.optimizer_params or {})
        decay = params.pop("weight_decay", None)
        if params:
            raise InputError(
                f"optimizer_params holds {next(iter(params))!r}; allowed: 'weight_decay'"
            )
        name = self.optimizer_name
        if name not in (None, *OPTIMIZERS):
            raise InputError(
                f"optimizer_name is {name!r}; allowed: {', '.join(map(repr, OPTIMIZERS))}, or None"
            )
        if decay is None:
            return {} if name is None else {"optimizer": name, "weight_decay": 0.0}
        name = "adamw" if decay and name in (None, "adam") else name or "adam"
        return {"optimizer": name, "weight_decay": decay}

    def _check_device(self) -> None:
        """Refuse a device that JAX doesn't compute on here."""
        if self.device is None:
            return
        here = jax.default_backend()
        names = {"cpu": ("cpu",), "gpu": ("gpu", "cuda", "rocm")}.get(here, (here,))
        if str(self.device).partition(":")[0] not in names:
            raise InputError(
                f"device is {self.device!r}; allowed: None, "
                f"{', '.join(map(repr, names))}, on which JAX computes here (JAX_PLATFORMS says so)"
            )

"""aejax, through its public functions."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from aejax.config import Config, Conv, Dense, Scale, Train, Variational
from aejax.core import scaling, steps
from aejax.data.schema import Schema
from aejax.detection import detector as detection
from aejax.detection import fitting
from aejax.detection.placed import batch_size_for
from aejax.models.build import build
from aejax.training.loop import train
from benchmarks.systems.job import Choice, Job


def nested_weights(job: Job) -> dict[str, Any]:
    """The given weights under aejax's names."""
    model = job.case.model
    if isinstance(model, Variational):
        return {"params": _variational_weights(job)}
    encoders = len(model.hidden) if isinstance(model, Dense) else 0
    if isinstance(model, Conv):
        encoders = len(model.channels)
    layers = job.case.layers
    products = sum(bool(layer.flops) for layer in layers)
    params: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    seen = -1
    for layer, arrays in zip(layers, job.weights, strict=True):
        seen += bool(layer.flops)
        part, index = ("encoder", seen) if seen < encoders else ("decoder", seen - encoders)
        if layer.kind == "batch_norm":
            name = f"{part}_norms_{index}"
            params[name] = {key: arrays[key] for key in ("scale", "bias")}
            statistics[name] = {key: arrays[key] for key in ("mean", "var")}
        elif layer.flops:
            params[f"{part}_layers_{index}" if seen + 1 < products else "output_layer"] = arrays
    return {"params": params, **({"batch_stats": statistics} if statistics else {})}


def _variational_weights(job: Job) -> dict[str, Any]:
    place = job.case.posterior
    assert place is not None
    posterior, expand, *decoder = filter(None, job.weights[place:])
    encoder = list(filter(None, job.weights[:place]))
    network = {f"encoder_layers_{index}": arrays for index, arrays in enumerate(encoder)}
    network |= {f"decoder_layers_{index}": arrays for index, arrays in enumerate(decoder[:-1])}
    names = ("kernel", "bias")
    return {
        "network": {**network, "output_layer": decoder[-1]},
        "mean_layer": {name: posterior[name] for name in names},
        "log_variance_layer": {name: posterior[f"log_variance_{name}"] for name in names},
        "expand_layer": expand,
    }


def _schema(job: Job) -> Schema:
    kind = "image" if job.case.is_image else "table"
    return Schema(shape=job.case.shape, dtype=str(job.rows.dtype), kind=kind)  # type: ignore[arg-type]


def _config(job: Job) -> Config:
    scale = Scale(kind="none" if job.rows.dtype == np.float32 else "unit")
    settings = Train(
        epochs=max(job.epochs, 1),
        batch_size=max(job.batch_size, 1),
        noise=job.case.noise,
        noise_range=(0.0, 1.0) if job.case.noise else None,
        validation_fraction=0.0,
    )
    return Config(model=job.case.model, scale=scale, train=settings, precision=job.precision)  # type: ignore[arg-type]


class Scoring:
    """`Detector.score` at its own batch size: what a user calls."""

    def __init__(self, job: Job) -> None:
        config, schema = _config(job), _schema(job)
        one = jax.ShapeDtypeStruct((1, *schema.shape), np.float32)
        network: Any = build(config.model, schema)
        wanted = jax.eval_shape(network.module.init, jax.random.key(0), one)
        variables = nested_weights(job)
        shapes = [jax.tree.map(np.shape, tree) for tree in (dict(wanted), variables)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"aejax's variables are {shapes[0]}; the case has {shapes[1]}")
        self.detector = detection.Detector(
            config=config,
            schema=schema,
            scaler=scaling.fit(config.scale, [], job.rows.dtype),
            variables=variables,
        )
        self.batch_size = batch_size_for(len(job.rows), schema, config)
        self.facts = {"same_weights": True, "jax": jax.__version__}
        self.choices: dict[str, list[Any]] = {"batch_size": [self.batch_size]}

    def adapt(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def use(self, choice: Choice) -> None:
        pass

    def score(self, rows: np.ndarray) -> np.ndarray:
        return self.detector.score(rows)

    def place(self, rows: np.ndarray) -> Any:
        """Full batches in device memory, and how many rows they hold."""
        size = min(self.batch_size, len(rows))
        count = len(rows) // size
        placed = [jax.device_put(rows[i * size : (i + 1) * size]) for i in range(count)]
        arrays = jax.device_put((self.detector.variables, self.detector.scaler))
        return jax.block_until_ready((placed, arrays)), count * size

    def score_placed(self, placed: Any) -> None:
        """The compiled program alone, on rows that are there."""
        batches, (variables, scaler) = placed
        scorer = self.detector.scoring
        found = [steps.compiled_score(scorer, variables, scaler, batch) for batch in batches]
        jax.block_until_ready(found)


class Prepared(Scoring):
    """`Detector.scorer`, for all rows at once."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.scorer = self.detector.scorer(batch=len(job.rows))

    def score(self, rows: np.ndarray) -> np.ndarray:
        return self.scorer(rows)


class Fitting:
    """`aejax.fit`: everything from rows to a detector with a threshold."""

    def __init__(self, job: Job) -> None:
        self.job, self.config, self.schema = job, _config(job), _schema(job)
        self.facts = {"jax": jax.__version__}
        self.variables: dict[str, Any] = {}

    def fit(self) -> None:
        fitted = fitting.fit(self.config, self.job.rows, schema=self.schema)
        self.variables = jax.block_until_ready(fitted.variables)

    def loss(self) -> float:
        detector = detection.Detector(
            config=dataclasses.replace(self.config, precision="float32"),
            schema=self.schema,
            scaler=scaling.fit(self.config.scale, [], self.job.rows.dtype),
            variables=jax.device_get(self.variables),
        )
        return float(np.mean(detector.score(self.job.rows), dtype=np.float64))


class Training(Fitting):
    """The training loop alone: no checks of the rows, no threshold, no fingerprint."""

    def fit(self) -> None:
        model = build(self.config.model, self.schema)
        scaler = scaling.fit(self.config.scale, [], self.job.rows.dtype)
        trained = train(self.config, model, scaler, self.job.rows, shape=self.schema.shape)
        self.variables = jax.block_until_ready(trained.variables)

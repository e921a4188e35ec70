"""What a recipe states, and the one road that every recipe takes."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import aejax
from aejax.config import Config, InputError, to_dict
from aejax.data.schema import Schema
from aejax.detection.detector import Detector, data_fingerprint, fit, load
from aejax.detection.metrics import evaluate
from aejax.reporting.report import Examples, Report, write_metrics, write_report
from aejax.training.compile_clock import compile_seconds
from aejax.training.run_folder import claim

EXAMPLES = {"image": 10, "series": 4, "table": 4}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """The rows of one experiment.

    Attributes:
        x_train: rows trained on.
        x_test: rows scored.
        schema: of all rows.
        is_anomaly: bool [test rows], or None where there are no labels.
        x_validation: rows for the validation loss; None holds out training rows.
        x_scale: rows that the scaler is fitted on; None takes the training rows.
        x_calibrate: rows that the threshold is set on; None leaves what `fit` chose.
    """

    x_train: np.ndarray
    x_test: np.ndarray
    schema: Schema
    is_anomaly: np.ndarray | None = None
    x_validation: np.ndarray | None = None
    x_scale: np.ndarray | None = None
    x_calibrate: np.ndarray | None = None


Measure = Callable[[Detector, Experiment, Mapping[str, Any]], dict[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published experiment.

    Attributes:
        name: on the command line.
        title: of the report.
        summary: one sentence.
        source: who published it, and where.
        time: what to expect on two CPU cores, in words.
        published: the published numbers, by name; empty where nothing was published.
        config: all settings but the seed.
        prepare: whether it is a quick run -> the rows.
        measure: detector, rows and metrics -> our numbers, under the published names.
    """

    name: str
    title: str
    summary: str
    source: str
    time: str
    published: Mapping[str, float]
    config: Config
    prepare: Callable[[bool], Experiment]
    measure: Measure


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    quick: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Data, training, calibration, scoring, report, in one go.

    Args:
        recipe: which experiment.
        out: the run's folder; one that holds the same run, unfinished, is continued.
        seed: of the run.
        quick: a small part of the rows and two epochs, to see that it works.
        overwrite: replace what the folder holds.
        tensorboard: whether to write TensorBoard event files, in `out/tensorboard`.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True checkpoints and raises `Interrupted`.

    Returns:
        What `metrics.json` holds.

    Raises:
        InputError: if the folder holds another run, or the data can't be had.
    """
    compiling = compile_seconds()
    clock = time.monotonic()
    experiment = recipe.prepare(quick)
    train = dataclasses.replace(recipe.config.train, seed=seed)
    if quick:
        train = dataclasses.replace(train, epochs=min(train.epochs, 2))
    config = dataclasses.replace(recipe.config, train=train)
    data = {
        "recipe": recipe.name,
        "quick": quick,
        "train": data_fingerprint(experiment.x_train),
        "test": data_fingerprint(experiment.x_test),
    }
    claim(out, config, experiment.schema, data, overwrite=overwrite)
    seconds = {"data": time.monotonic() - clock}

    clock = time.monotonic()
    detector = fit(
        config,
        experiment.x_train,
        x_validation=experiment.x_validation,
        x_scale=experiment.x_scale,
        schema=experiment.schema,
        folder=out,
        tensorboard=out / "tensorboard" if tensorboard else None,
        progress=progress,
        should_stop=should_stop,
        provenance={"recipe": recipe.name, "source": recipe.source, "versions": versions()},
    )
    if experiment.x_calibrate is not None:
        detector = detector.calibrate(experiment.x_calibrate)
    detector.save(out / "detector")
    seconds["train"] = time.monotonic() - clock

    clock = time.monotonic()
    # Scored as loaded from disk, so that the report speaks of the artifact.
    detector = load(out / "detector")
    scores = detector.score(experiment.x_test)
    seconds["score"] = time.monotonic() - clock
    seconds["compile"] = compile_seconds() - compiling
    threshold = None if detector.threshold is None else detector.threshold.value
    metrics: dict[str, Any] = {"rows": len(scores), "threshold": threshold}
    if experiment.is_anomaly is not None:
        metrics = evaluate(scores, experiment.is_anomaly, threshold)
    measured = recipe.measure(detector, experiment, metrics)
    environment = versions()
    order = np.argsort(-scores, kind="stable")
    count = min(EXAMPLES[experiment.schema.kind], len(order))
    write_report(
        Report(
            title=recipe.title,
            subtitle=f"{recipe.summary} Source: {recipe.source}. Seed {seed}."
            + (" A quick run on a part of the rows: its numbers mean nothing." if quick else ""),
            config=to_dict(config),
            history=detector.history,
            scores=scores,
            is_anomaly=experiment.is_anomaly,
            threshold=threshold,
            metrics=metrics,
            published=dict(recipe.published) or None,
            measured=measured,
            seconds=seconds,
            schema=experiment.schema,
            most=examples(detector, experiment, scores, order[:count]),
            least=examples(detector, experiment, scores, order[::-1][:count]),
            environment=environment,
        ),
        out,
    )
    write_metrics(out, dict(recipe.published), measured, metrics, seconds, environment)
    return {
        "recipe": recipe.name,
        "seed": seed,
        "quick": quick,
        "published": dict(recipe.published),
        "measured": measured,
        "metrics": metrics,
        "seconds": seconds,
        "report": str(out / "report.html"),
    }


def examples(
    detector: Detector, experiment: Experiment, scores: np.ndarray, rows: np.ndarray
) -> Examples:
    """Rows with their reconstructions and errors, to be drawn."""
    scaled, found = detector.reconstruct(experiment.x_test[rows])
    error = np.abs(scaled - found)
    anomalous = experiment.is_anomaly
    return Examples(
        x=scaled,
        reconstruction=found,
        error=np.square(error) if detector.config.error == "squared" else error,
        score=scores[rows],
        is_anomaly=None if anomalous is None else anomalous[rows],
        row=rows,
    )


def versions() -> dict[str, str]:
    """What computes: versions of the packages that decide numbers, and the device."""
    import jax
    import jaxlib

    return {
        "aejax": aejax.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "python": platform.python_version(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def final_losses(detector: Detector) -> dict[str, float]:
    """Loss and validation loss of the last epoch."""
    last = detector.history[-1]
    if not detector.history:
        raise InputError("the detector has no history")
    return {name: last[name] for name in ("loss", "validation_loss") if name in last}

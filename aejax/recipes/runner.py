"""The one road: data, training, calibration, scoring, report."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aejax import __version__
from aejax.config import Combine, Config, InputError, Vary, to_dict
from aejax.data.disk_rows import DiskRows
from aejax.detection.alarms import rows_seen_in_training
from aejax.detection.detector import Detector
from aejax.detection.ensemble import fit_ensemble
from aejax.detection.fitting import data_fingerprint, fit
from aejax.detection.loading import load
from aejax.detection.metrics import evaluate
from aejax.detection.stability import record
from aejax.detection.tuning import Tuning
from aejax.recipes.examples import examples, reasons
from aejax.recipes.recipe import Draw, Experiment, Recipe, Watch
from aejax.reporting.report import Report, write_metrics, write_report
from aejax.reporting.slider import MOST_ROWS_SHOWN, calibrate_command
from aejax.scoring.model_card import write_model_card
from aejax.training import processes
from aejax.training.compiling import compile_seconds
from aejax.training.run_folder import claim

EXAMPLES = {"image": 10, "series": 4, "table": 4}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Story:
    """What a report says around the numbers.

    Attributes:
        name: of the recipe, or what stands for it.
        title: of the report.
        subtitle: one or two sentences.
        published: the published numbers, by name.
        identity: what decides the run besides configuration and rows.
        tuning: the search that found the configuration, or None.
    """

    name: str
    title: str
    subtitle: str
    published: dict[str, float]
    identity: dict[str, Any]
    tuning: Tuning | None = None


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    quick: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """Run a published experiment.

    Args:
        recipe: which one.
        out: the run's folder; one that holds the same run, unfinished, is continued.
        seed: of the run.
        quick: a small part of the rows and two epochs, to see that it works.
        how: as in `run_experiment`.

    Returns:
        What `metrics.json` holds, and where the report is.

    Raises:
        InputError: if the folder holds another run, or the data can't be had.
    """
    story = Story(
        name=recipe.name,
        title=recipe.title,
        subtitle=f"{recipe.summary} Source: {recipe.source}. Seed {seed}."
        + (" A quick run on a part of the rows: its numbers mean nothing." if quick else ""),
        published=dict(recipe.published),
        identity={"recipe": recipe.name, "quick": quick},
    )
    result = run_experiment(
        seeded(recipe, seed, quick),
        lambda: recipe.prepare(quick),
        out,
        story=story,
        measure=recipe.measure,
        watch=recipe.watch,
        draw=recipe.draw,
        **how,
    )
    return {"recipe": recipe.name, "seed": seed, "quick": quick, **result}


def seeded(recipe: Recipe, seed: int, quick: bool) -> Config:
    """A recipe's settings for a seed."""
    train = dataclasses.replace(recipe.config.train, seed=seed)
    if quick:
        train = dataclasses.replace(train, epochs=min(train.epochs, 2))
    return dataclasses.replace(recipe.config, train=train)


def run_experiment(
    config: Config,
    prepare: Callable[[], Experiment],
    out: Path,
    *,
    story: Story,
    measure: Callable[[Detector, Experiment, dict[str, Any]], dict[str, float]],
    watch: Watch | None = None,
    draw: Draw | None = None,
    ensemble: int | None = None,
    combine: Combine = "mean",
    vary: Vary | None = None,
    trained: Detector | None = None,
    overwrite: bool = False,
    tensorboard: Path | None = None,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    devices: int | None = None,
) -> dict[str, Any]:
    """Data, training, calibration, scoring, report, in one go.

    Where several processes were joined, they train together; all but the first are done then,
    and return no numbers.

    Args:
        config: all settings.
        prepare: gives the rows.
        out: the run's folder.
        story: what the report says around the numbers.
        measure: detector, rows and metrics -> our numbers, under the published names.
        watch: detector and rows after every epoch -> numbers for the history; of a single
            detector only.
        draw: detector and rows -> further figures; of a single detector only.
        ensemble: train so many members, from the seed and those after it, and let them decide
            together; None trains one detector. A stopped ensemble starts over.
        combine: how the members' scores become one.
        vary: what the members differ in besides their seeds.
        trained: what training would give, where it was trained together with others.
        overwrite: replace what the folder holds.
        tensorboard: folder for TensorBoard event files.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True checkpoints and raises `Interrupted`.
        devices: how many of a process's devices train and score; None takes all.
    """
    compiling = compile_seconds()
    clock = time.monotonic()
    experiment = prepare()
    if ensemble is not None and tensorboard is not None:
        raise InputError("event files were asked for; allowed: with one detector, no ensemble")
    if ensemble is not None and processes.are_joined():
        raise InputError(f"ensemble is {ensemble}; allowed with several processes: none")
    together: dict[str, Any] = {} if ensemble is None else {"ensemble": ensemble}
    if ensemble is None and (vary is not None or combine != "mean"):
        raise InputError("what members differ in was given; allowed: with an ensemble")
    # As runs were written before there was either.
    together |= {} if combine == "mean" else {"combine": combine}
    together |= {} if vary is None else {"vary": dataclasses.asdict(vary)}
    data = {
        **story.identity,
        **together,
        "train": data_fingerprint(experiment.x_train),
        "test": data_fingerprint(experiment.x_test),
    }
    if processes.is_first():
        claim(out, config, experiment.schema, data, overwrite=overwrite)
    seconds = {"data": time.monotonic() - clock}

    clock = time.monotonic()
    environment = versions()
    if trained is not None:
        detector = _told(trained, {**story.identity, "versions": environment})
    elif ensemble is None:
        detector = fit(
            config,
            experiment.x_train,
            x_validation=experiment.x_validation,
            x_scale=experiment.x_scale,
            x_calibrate=experiment.x_calibrate,
            schema=experiment.schema,
            folder=out,
            tensorboard=tensorboard,
            progress=progress,
            should_stop=should_stop,
            provenance={**story.identity, "versions": environment},
            watch=None if watch is None else lambda trained: watch(trained, experiment),
            devices=devices,
        )
    else:
        if isinstance(experiment.x_train, DiskRows):
            raise InputError(
                f"an ensemble was asked for, and the rows take {experiment.x_train.nbytes:,} "
                "bytes; allowed: rows that fit in memory, or a higher --memory-limit"
            )
        detector = fit_ensemble(
            config,
            experiment.x_train,
            members=ensemble,
            combine=combine,
            vary=vary,
            x_validation=experiment.x_validation,
            x_scale=experiment.x_scale,
            schema=experiment.schema,
            provenance={**story.identity, "versions": environment},
            progress=progress,
            devices=devices,
        )
        if experiment.x_calibrate is not None:
            detector = detector.calibrate(experiment.x_calibrate)
    seen = rows_seen_in_training(experiment.x_train, experiment.x_test)
    kept = record(detector.provenance, [*experiment.alarms, *seen])
    detector = dataclasses.replace(detector, provenance=kept)
    detector.save(out / "detector")
    if not processes.is_first():
        return {
            "alarms": [],
            "published": story.published,
            "measured": {},
            "metrics": {},
            "seconds": {},
            "report": None,
        }
    seconds["train"] = time.monotonic() - clock

    clock = time.monotonic()
    # Scored as loaded from disk, so that the report speaks of the artifact.
    detector = dataclasses.replace(load(out / "detector"), devices=devices)
    scores = detector.score(experiment.x_test)
    seconds["score"] = time.monotonic() - clock
    seconds["compile"] = compile_seconds() - compiling
    threshold = None if detector.threshold is None else detector.threshold.value
    metrics: dict[str, Any] = {"rows": len(scores), "threshold": threshold}
    if experiment.is_anomaly is not None:
        metrics = evaluate(scores, experiment.is_anomaly, threshold)
    measured = measure(detector, experiment, metrics)
    order = np.argsort(-scores, kind="stable")
    count = min(EXAMPLES[experiment.schema.kind], len(order))
    page = write_report(
        Report(
            title=story.title,
            subtitle=story.subtitle,
            config=to_dict(config),
            history=detector.history,
            scores=scores,
            is_anomaly=experiment.is_anomaly,
            threshold=threshold,
            metrics=metrics,
            published=story.published or None,
            measured=measured,
            seconds=seconds,
            schema=experiment.schema,
            most=examples(detector, experiment, scores, order[:count]),
            least=examples(detector, experiment, scores, order[::-1][:count]),
            environment=environment,
            # A recipe draws one model and the history that it watched.
            figures=()
            if draw is None or ensemble is not None or (watch is not None and trained is not None)
            else draw(detector, experiment),
            reasons=reasons(detector, experiment, order[:MOST_ROWS_SHOWN]),
            calibrate_command=calibrate_command(str(out)),
            alarms=tuple(detector.provenance.get("alarms", ())),
            tuning=story.tuning,
        ),
        out,
    )
    written = write_metrics(out, story.published, measured, metrics, seconds, environment)
    write_model_card(detector, written, out)
    return {
        "alarms": detector.provenance.get("alarms", []),
        "published": story.published,
        "measured": measured,
        "metrics": metrics,
        "seconds": seconds,
        "report": str(page),
    }


def _told(detector: Detector, facts: dict[str, Any]) -> Detector:
    """The same detector with more facts about what made it."""
    return dataclasses.replace(detector, provenance={**detector.provenance, **facts})


def versions() -> dict[str, str]:
    """What computes: versions of the packages that decide numbers, and the device."""
    from importlib.metadata import version

    import jax

    return {
        "aejax": __version__,
        "jax": jax.__version__,
        "jaxlib": version("jaxlib"),
        "python": platform.python_version(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "machine": f"{platform.system()} {platform.machine()}",
    }

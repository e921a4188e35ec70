"""Runs one recipe, from data to report, or one study, which does all but the report itself."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.monitoring

from aejax import __version__
from aejax.config import Combine, Config, InputError, Vary
from aejax.detection.alarms import record
from aejax.detection.checks import rows_seen_in_training
from aejax.detection.detector import Detector
from aejax.detection.fitting import fit
from aejax.detection.loading import load
from aejax.detection.metrics import evaluate
from aejax.recipes.page import Story, write_page
from aejax.recipes.recipe import Draw, Experiment, Figures, Recipe, Study, StudyRun, Watch
from aejax.reporting.findings import write_findings
from aejax.training import processes
from aejax.training.run_folder import claim

_COMPILE = "/jax/core/compile/"
_seconds = 0.0
_listening = False


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    global _seconds
    if event.startswith(_COMPILE):
        _seconds += duration_secs


def compile_seconds() -> float:
    """Seconds that this process has spent tracing, lowering and compiling since the first call.

    Take the difference of two calls to time a part of a program.
    """
    global _listening
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(_listen)
        _listening = True
    return _seconds


def ensemble_identity(
    ensemble: int | None, combine: Combine, vary: Vary | None, tensorboard: Path | None
) -> dict[str, Any]:
    """What of an ensemble decides a run: nothing where none is asked for.

    Args:
        ensemble: how many members, or None.
        combine: how their scores become one.
        vary: what they differ in besides their seeds.
        tensorboard: folder for TensorBoard event files, which are one detector's.

    Raises:
        InputError: if they don't go together.
    """
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
    return together


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
        subtitle=recipe.subtitle(seed, quick),
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
        train = train.of_length(min(train.length, 2))
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
            together; None trains one detector.
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
    together = ensemble_identity(ensemble, combine, vary, tensorboard)
    data = {**story.identity, **together, **experiment.fingerprints}
    if processes.is_first():
        claim(out, config, experiment.schema, data, overwrite=overwrite)
    seconds = {"data": time.monotonic() - clock}

    clock = time.monotonic()
    environment = versions()
    if trained is not None:
        detector = _with_facts(trained, {**story.identity, "versions": environment})
    else:
        detector = fit(
            config,
            experiment.x_train,
            x_validation=experiment.x_validation,
            x_scale=experiment.x_scale,
            x_calibrate=experiment.x_calibrate,
            schema=experiment.schema,
            members=ensemble,
            combine=combine,
            vary=vary,
            folder=out,
            tensorboard=tensorboard,
            progress=progress,
            should_stop=should_stop,
            provenance={
                **story.identity,
                "versions": environment,
                "data": experiment.fingerprints["train"],
            },
            watch=None
            if watch is None or ensemble is not None
            else lambda trained: watch(trained, experiment),
            devices=devices,
        )
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
    threshold = detector.threshold_value
    metrics: dict[str, Any] = {"rows": len(scores), "threshold": threshold}
    if experiment.is_anomaly is not None:
        metrics = evaluate(scores, experiment.is_anomaly, threshold)
    metrics = {"rows_are": experiment.judged, **metrics}
    measured = measure(detector, experiment, metrics)
    # A recipe draws one model and the history that it watched.
    figures: Figures = ()
    if draw is not None and ensemble is None and (watch is None or trained is None):
        figures = draw(detector, experiment)
    page = write_page(
        out,
        config,
        detector,
        experiment,
        story=story,
        scores=scores,
        metrics=metrics,
        measured=measured,
        seconds=seconds,
        environment=environment,
        figures=figures,
    )
    return {
        "alarms": detector.provenance.get("alarms", []),
        "published": story.published,
        "measured": measured,
        "metrics": metrics,
        "seconds": seconds,
        "report": str(page),
    }


def _with_facts(detector: Detector, facts: dict[str, Any]) -> Detector:
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


def run_any(recipe: Recipe | Study, out: Path, **how: Any) -> dict[str, Any]:
    """Run a recipe or a study; see `run_recipe` and `StudyRun` for what can be said how."""
    if isinstance(recipe, Study):
        if how.pop("ensemble", None) is not None:
            raise InputError(f"{recipe.name}: an ensemble was asked for; allowed: with recipes")
        if how.pop("tensorboard", None) is not None:
            raise InputError(
                f"{recipe.name}: event files were asked for; allowed: recipes of a single training"
            )
        overwrite = how.pop("overwrite", False)
        return run_study(recipe, StudyRun(out=out, **how), overwrite=overwrite)
    if how.pop("text", None) is not None or how.pop("words", ()):
        raise InputError(f"{recipe.name}: a text or words were given; allowed: with words_cbow")
    return run_recipe(recipe, out, **how)


def run_study(study: Study, run: StudyRun, *, overwrite: bool = False) -> dict[str, Any]:
    """Run a published experiment that takes more than one detector.

    Args:
        study: which one.
        run: how; a folder that holds the same study is done again.
        overwrite: replace what the folder holds.

    Returns:
        What `metrics.json` holds, and where the report is.

    Raises:
        InputError: if the folder holds something else, or the data can't be had.
    """
    if not study.reads_text and (run.text is not None or run.words):
        raise InputError(f"{study.name}: a text or words were given; allowed: with words_cbow")
    data: dict[str, Any] = {"recipe": study.name, "quick": run.quick, "seed": run.seed}
    if run.text is not None:
        data["text"] = run.text.name
    if run.words:
        data["words"] = list(run.words)
    claim(run.out, None, None, data, overwrite=overwrite)
    compiling, clock = compile_seconds(), time.monotonic()
    findings = study.find(run)
    seconds = {
        **findings.seconds,
        "total": time.monotonic() - clock,
        "compile": compile_seconds() - compiling,
    }
    findings = dataclasses.replace(
        findings,
        title=study.title,
        subtitle=study.subtitle(run.seed, run.quick),
        published=study.published,
        seconds=seconds,
        environment=versions(),
    )
    page = write_findings(findings, run.out)
    return {
        "recipe": study.name,
        "seed": run.seed,
        "quick": run.quick,
        "published": dict(study.published),
        "measured": dict(findings.measured),
        "conclusions": list(findings.conclusions),
        "seconds": seconds,
        "report": str(page),
    }

"""Tuning from rows to a run folder: split, search, refit the winner, judge it once.

What the search sees and what the report judges are different rows, split before anything
is trained. A run folder is written as `aejax train` writes it, and `tuning.json` beside.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aejax.config import InputError, Train, read_json, to_dict
from aejax.config.durable import write_file
from aejax.data import batches
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.detection.threshold import check_rule
from aejax.detection.tuning import Objective, Search, Tuning, tune
from aejax.recipes.page import Story
from aejax.recipes.recipe import Experiment
from aejax.recipes.runner import run_experiment
from aejax.recipes.tuning_rows import Task, file_task, is_recipe, recipe_task
from aejax.training.run_folder import IDENTITY, MAX_BYTES, claim
from aejax.training.search_space import SearchSpace
from aejax.training.space_file import read_space

TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A search that is over, with what the refit needs."""

    task: Task
    tuning: Tuning
    identity: dict[str, Any]
    seconds: float


def search_for(
    source: str,
    space_file: Path,
    out: Path,
    *,
    configurations: int = 64,
    folds: int = 5,
    search: Search = "random",
    objective: Objective = "reconstruction",
    selection: Selection | None = None,
    keep: tuple[str, ...] = (),
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> Found:
    """Read rows and a space, and search; writes nothing.

    Args:
        source: a file of rows, a data set's split as "mnist:train", or the name of a recipe,
            whose rows, split and settings are then taken.
        space_file: TOML; see `aejax.training.search_space`.
        out: where the run will be written; checked before the search, not after it.
        configurations: how many to draw.
        folds: of the cross-validation.
        search: "random", "halving" for successive halving, or "optuna".
        objective: "reconstruction", or with labels "auroc" or "average-precision".
        selection: which columns of a file are labels and features.
        keep: columns that are features although they look like none, as in `aejax.Columns`.
        test_fraction: share of a file's rows that take no part in the search. Where the
            objective doesn't need the labelled anomalies, none of them do.
        seed: of the split, the search and the trainings.
        overwrite: whether the run in `out` may be replaced.
        progress: whether to draw progress bars on stderr.

    Raises:
        InputError: naming the file, column or setting that can't be used.
    """
    Train(seed=seed)  # Refuses one that is of no use.
    task = (
        recipe_task(source, selection)
        if is_recipe(source)
        else file_task(Path(source), selection or Selection(), objective, test_fraction, seed, keep)
    )
    space = read_space(space_file, task.base)
    identity = {
        "input": task.name,
        "selection": dataclasses.asdict(selection or Selection()),
        "tuning": {
            "space": space.to_dict(),
            "base": to_dict(space.base),
            "configurations": configurations,
            "folds": folds,
            "search": search,
            "objective": objective,
            "test_fraction": test_fraction,
            "seed": seed,
        },
    }
    _check_folder(out, identity, overwrite)
    _check_threshold(space, task, seed)
    clock = time.monotonic()
    tuning = tune(
        space,
        task.experiment.x_train,
        x_anomalous=task.x_anomalous,
        configurations=configurations,
        folds=folds,
        search=search,
        objective=objective,
        seed=seed,
        schema=task.experiment.schema,
        progress=progress,
    )
    seconds = time.monotonic() - clock
    return Found(task=task, tuning=tuning, identity=identity, seconds=seconds)


def refit(
    found: Found,
    out: Path,
    *,
    overwrite: bool = False,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train the winner on all normal rows of the search, and judge it once.

    Args:
        found: what `search_for` returned.
        out: the run's folder.
        overwrite: replace the run that the folder holds.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True checkpoints and raises `Interrupted`.

    Returns:
        The winner's settings and objective, and what `metrics.json` holds.
    """
    tuning, task = found.tuning, found.task
    best = tuning.best
    objective = f"cross_validated_{tuning.objective.replace('-', '_')}"
    story = Story(
        name=task.name,
        title=f"A tuned detector for {task.name}",
        subtitle=f"The best of {len(tuning.trials):,} configurations by {tuning.folds}-fold "
        f"cross-validation, trained on all {len(task.experiment.x_train):,} normal rows of the "
        f"search; judged once, on {len(task.experiment.x_test):,} rows that the search never saw.",
        published=dict(task.published),
        identity=found.identity,
        tuning=tuning,
    )

    def measure(
        detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
    ) -> dict[str, float]:
        return {**task.measure(detector, experiment, metrics), objective: best.mean}

    # Claimed as `run_experiment` will, so that the search is kept whatever stops the training.
    data = {**found.identity, **task.experiment.fingerprints}
    claim(out, best.drawn.config, task.experiment.schema, data, overwrite=overwrite)
    _write_json(out / "tuning.json", {"format": 1, **tuning.to_dict(), "seconds": found.seconds})
    result = run_experiment(
        best.drawn.config,
        lambda: task.experiment,
        out,
        story=story,
        measure=measure,
        progress=progress,
        should_stop=should_stop,
    )
    seconds = {"search": found.seconds, **result["seconds"]}
    diverged = {t.number: t.problem for t in tuning.trials if t.problem is not None}
    return {
        "run": str(out),
        "objective": tuning.objective,
        "best": {
            "settings": best.drawn.settings,
            "mean": best.mean,
            "low": best.interval[0],
            "high": best.interval[1],
        },
        "configurations": len(tuning.trials),
        "asked": tuning.asked,
        "programs": tuning.programs,
        "as_good": len(tuning.close) - 1,
        "diverged": diverged,
        "published": result["published"],
        "measured": result["measured"],
        "seconds": seconds,
        "report": result["report"],
    }


def _check_folder(out: Path, identity: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse before the search what `claim` would refuse after it."""
    path = out / IDENTITY
    if path.is_file():
        held = read_json(path, MAX_BYTES).get("data")
        wanted = json.loads(json.dumps(identity))
        is_same = isinstance(held, dict) and all(held.get(key) == wanted[key] for key in wanted)
        if not is_same and not overwrite:
            raise InputError(
                f"{out} already holds another run; "
                "allowed: another folder, or --overwrite to replace it"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is no run's folder; allowed: a new or empty folder")


def _check_threshold(space: SearchSpace, task: Task, seed: int) -> None:
    """Refuse before the search a rule that the winner's calibration rows couldn't serve."""
    if task.experiment.x_calibrate is not None:
        check_rule(space.base.rule, len(task.experiment.x_calibrate))
        return
    rows, fraction = len(task.experiment.x_train), space.base.train.validation_fraction
    picked, held = batches.validation_split(rows, fraction, seed)
    check_rule(space.base.rule, len(held) or len(picked))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_file(path, json.dumps(content, indent=2, allow_nan=False) + "\n")

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

import numpy as np

from aejax import recipes
from aejax.config import Columns, Config, Dense, InputError, Train, read_json, suggest, to_dict
from aejax.config.durable import write_file
from aejax.data import batches, datasets, files
from aejax.data.column_checks import check_array
from aejax.data.places import Finder
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.detection.file_rows import schema_of_files
from aejax.detection.threshold import check_rule
from aejax.detection.tuning import Objective, Search, Tuning, tune
from aejax.recipes import own_rows
from aejax.recipes.page import Story
from aejax.recipes.recipe import Experiment, Measure, Recipe
from aejax.recipes.runner import run_experiment
from aejax.training.run_folder import IDENTITY, MAX_BYTES, claim
from aejax.training.search_space import SearchSpace, read_space

TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Rows to search with, and rows to judge the winner by.

    Attributes:
        name: of the rows.
        experiment: `x_train` are the normal rows searched with and trained on in the end;
            `x_test` took no part in the search.
        x_anomalous: anomalies that the search may judge by; may be none.
        base: what settings are that the space doesn't name.
        measure: as in `Recipe`.
        published: the published numbers, by name.
    """

    name: str
    experiment: Experiment
    x_anomalous: np.ndarray
    base: Config
    measure: Measure
    published: Mapping[str, float]


def is_recipe(source: str) -> bool:
    """Whether a source is the name of a recipe rather than rows to read."""
    if Path(source).exists() or datasets.is_name(source) or "/" in source or "." in source:
        return False
    if source not in recipes.NAMES:
        raise InputError(
            f"{source!r} is no file, no data set's split as mnist:train, and no recipe; "
            f"{suggest(source, recipes.NAMES)}"
        )
    return True


def recipe_task(name: str, selection: Selection | None) -> Task:
    """A recipe's rows; anomalies to search by it has none."""
    recipe = recipes.find(name)
    if not isinstance(recipe, Recipe):
        raise InputError(f"{name} takes several detectors; allowed: recipes of a single training")
    if selection is not None and selection != Selection():
        raise InputError(
            f"{name} is a recipe and has no columns; allowed: flags for them with files"
        )
    experiment = recipe.prepare(False)
    # Validation rows are the test's in some recipes, and the scaler's may hold anomalies:
    # the winner is fitted as every fold was, on normal training rows alone.
    experiment = dataclasses.replace(experiment, x_validation=None, x_scale=None)
    return Task(
        name=name,
        experiment=experiment,
        x_anomalous=experiment.x_train[:0],
        base=recipe.config,
        measure=recipe.measure,
        published=recipe.published,
    )


def file_task(
    path: Path,
    selection: Selection,
    objective: Objective,
    test_fraction: float,
    seed: int,
    keep: tuple[str, ...] = (),
) -> Task:
    """A file's rows, a share of them kept from the search.

    Where the objective doesn't need the labelled anomalies, all of them are kept from it. `keep`
    is as in `aejax.Columns`.
    """
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction is {test_fraction!r}; allowed: a number in (0, 1)")
    base = Config(model=Dense(), columns=Columns(keep=keep))
    x, y, schema = files.read(path, selection, schema_of_files(base, path, selection))
    files.check_finite(x, schema, path)
    normal = x if y is None else x[y == 0]
    anomalous = x[:0] if y is None else x[y == 1]
    if schema.names is None:
        check_array(normal)
    if len(normal) < 2:
        raise InputError(f"{path} has {len(normal)} normal rows; allowed: at least 2")
    x_train, x_test = _split(normal, test_fraction, seed)
    of_normal = _split(np.arange(len(normal)), test_fraction, seed)[1]
    of_anomalous = np.arange(len(anomalous))
    x_anomalous = anomalous[:0]
    if objective != "reconstruction":
        if len(anomalous) < 2:
            raise InputError(
                f"{path} has {len(anomalous)} labelled anomalies for objective {objective!r}; "
                "allowed: at least 2 (some to search by, others to judge by), found by "
                "--label-column, or objective 'reconstruction'"
            )
        x_anomalous, anomalous = _split(anomalous, test_fraction, seed)
        of_anomalous = _split(of_anomalous, test_fraction, seed)[1]
    finder = Finder(path=path, selection=selection, schema=schema)
    labels = np.arange(len(x_test) + len(anomalous)) >= len(x_test)
    return Task(
        name=path.name,
        experiment=Experiment(
            x_train=x_train,
            x_test=np.concatenate([x_test, anomalous]),
            is_anomaly=labels if len(anomalous) else None,
            schema=schema,
            judged="rows held out of the search"
            + (", and labelled anomalies" if len(anomalous) else ""),
            places=lambda at: own_rows.places(finder, at, of_normal, of_anomalous),
        ),
        x_anomalous=x_anomalous,
        base=base,
        measure=own_rows.measure,
        published={},
    )


def _split(x: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    kept, held = batches.validation_split(len(x), fraction, seed)
    return x[kept], x[held]


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
    search: Found,
    out: Path,
    *,
    overwrite: bool = False,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train the winner on all normal rows of the search, and judge it once.

    Args:
        search: what `search_for` returned.
        out: the run's folder.
        overwrite: replace the run that the folder holds.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True checkpoints and raises `Interrupted`.

    Returns:
        The winner's settings and objective, and what `metrics.json` holds.
    """
    tuning, task = search.tuning, search.task
    best = tuning.best
    objective = f"cross_validated_{tuning.objective.replace('-', '_')}"
    story = Story(
        name=task.name,
        title=f"A tuned detector for {task.name}",
        subtitle=f"The best of {len(tuning.trials):,} configurations by {tuning.folds}-fold "
        f"cross-validation, trained on all {len(task.experiment.x_train):,} normal rows of the "
        f"search; judged once, on {len(task.experiment.x_test):,} rows that the search never saw.",
        published=dict(task.published),
        identity=search.identity,
        tuning=tuning,
    )

    def measure(
        detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
    ) -> dict[str, float]:
        return {**task.measure(detector, experiment, metrics), objective: best.mean}

    # Claimed as `run_experiment` will, so that the search is kept whatever stops the training.
    data = {**search.identity, **task.experiment.fingerprints}
    claim(out, best.drawn.config, task.experiment.schema, data, overwrite=overwrite)
    _write_json(out / "tuning.json", {"format": 1, **tuning.to_dict(), "seconds": search.seconds})
    result = run_experiment(
        best.drawn.config,
        lambda: task.experiment,
        out,
        story=story,
        measure=measure,
        progress=progress,
        should_stop=should_stop,
    )
    seconds = {"search": search.seconds, **result["seconds"]}
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

"""Rows to search settings with, and rows to judge the winner by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aejax import recipes
from aejax.config import Columns, Config, Dense, InputError, suggest
from aejax.data import batches, datasets, files
from aejax.data.column_checks import check_array
from aejax.data.places import Finder
from aejax.data.rows import Selection
from aejax.detection.file_rows import schema_of_files
from aejax.detection.tuning import Objective
from aejax.recipes import own_rows
from aejax.recipes.recipe import Experiment, Measure, Recipe


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

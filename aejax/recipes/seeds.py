"""A published experiment from several seeds: medians and ranges, and where the published lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import InputError, read_json
from aejax.detection.detector import Detector
from aejax.detection.population import fit_population
from aejax.recipes.recipe import Recipe, Study
from aejax.recipes.runner import run_any, seeded, versions
from aejax.reporting.findings import write_findings
from aejax.reporting.report import Findings, Table
from aejax.training.run_folder import check_config, claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_SIDE_BY_SIDE = 60
MOST_SEEDS = 1000


def run_seeds(
    recipe: Recipe | Study,
    out: Path,
    *,
    seeds: int,
    first: int = 0,
    quick: bool = False,
    overwrite: bool = False,
    ensemble: int | None = None,
    together: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """Run an experiment from several seeds; runs that are finished are not run again.

    Args:
        recipe: which.
        out: the folder; each run has `seed-N` in it.
        seeds: how many.
        first: the first seed.
        quick: a small part of the rows and two epochs.
        overwrite: replace what the folder holds.
        ensemble: members of every run; seeds of runs are then that far apart, so that no two share
            one.
        together: train all seeds as one population; each run is what it would have been
            alone, to the tolerance of `fit_population`, but for what is watched and drawn
            epoch by epoch, which is left out. A stopped training starts over.
        how: as in `run_recipe`.

    Returns:
        Median, lowest and highest of every measured number, the published one and the share
        of runs below it, and where the report is.

    Raises:
        InputError: if `seeds` is out of range, or the folder holds something else.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise InputError(f"seeds is {seeds}; allowed: 1 to {MOST_SEEDS}")
    # How many seeds isn't part of what the folder is: more can be added to it later.
    data = {"recipe": recipe.name, "quick": quick, "runs": "seeds"}
    apart = 1
    if ensemble is not None:
        data["ensemble"] = str(ensemble)
        how, apart = {**how, "ensemble": ensemble}, ensemble
    claim(out, None, None, data, overwrite=overwrite)
    chosen = range(first, first + seeds * apart, apart)
    trained: dict[int, Detector] = {}
    if together:
        if ensemble is not None:
            raise InputError("--together is set; allowed: without --ensemble")
        left = [seed for seed in chosen if not (out / f"seed-{seed}/metrics.json").is_file()]
        trained = _train_together(recipe, left, quick, bool(how.get("progress")))
    measured = {
        seed: _measured(
            recipe,
            out / f"seed-{seed}",
            seed,
            quick,
            {**how, "trained": trained[seed]} if seed in trained else how,
        )
        for seed in chosen
    }
    summary = summarise(measured, recipe.published)
    findings = Findings(
        title=f"{recipe.title}: {seeds} seeds",
        subtitle=f"{recipe.summary} Source: {recipe.source}. "
        f"Seeds {min(measured)} to {max(measured)}.",
        conclusions=tuple(_sentences(summary)),
        published=dict(recipe.published),
        measured={name: facts["median"] for name, facts in summary.items()},
        tables=(_table(summary), _every(measured)),
        figures=tuple(_figures(measured, recipe.published)),
        details={
            "seeds": {str(seed): dict(numbers) for seed, numbers in measured.items()},
            **summary,
        },
        environment=versions(),
    )
    page = write_findings(findings, out)
    return {"recipe": recipe.name, "seeds": seeds, "summary": summary, "report": str(page)}


def _train_together(
    recipe: Recipe | Study, seeds: Sequence[int], quick: bool, progress: bool
) -> dict[int, Detector]:
    """Detectors by seed; one that diverged isn't there, so that its own run says how."""
    if isinstance(recipe, Study):
        raise InputError(
            f"--together is set; allowed: recipes of one training, {recipe.name} is not"
        )
    if not seeds:
        return {}
    experiment = recipe.prepare(quick)
    population = fit_population(
        [seeded(recipe, seed, quick) for seed in seeds],
        experiment.x_train,
        x_validation=experiment.x_validation,
        x_scale=experiment.x_scale,
        x_calibrate=experiment.x_calibrate,
        schema=experiment.schema,
        progress=progress,
    )
    pairs = zip(seeds, population.detectors, strict=True)
    return {seed: detector for seed, detector in pairs if detector is not None}


def _measured(
    recipe: Recipe | Study, folder: Path, seed: int, quick: bool, how: Mapping[str, Any]
) -> dict[str, float]:
    done = folder / "metrics.json"
    if done.is_file():
        if isinstance(recipe, Recipe):
            check_config(folder, seeded(recipe, seed, quick))
        numbers = read_json(done, 16 << 20).get("measured")
    else:
        numbers = run_any(recipe, folder, seed=seed, quick=quick, **how)["measured"]
    if not isinstance(numbers, dict):
        raise InputError(f"{done}: measured is {numbers!r}; allowed: a JSON object")
    return {
        name: float(value)
        for name, value in numbers.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def summarise(
    measured: Mapping[int, Mapping[str, float]], published: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Median and range of every number over seeds, and the share of runs below the published.

    Example:
        >>> runs = {0: {"auroc": 0.9}, 1: {"auroc": 0.8}, 2: {"auroc": 0.7}}
        >>> summarise(runs, {"auroc": 0.75})["auroc"]["below_published"]
        0.3333333333333333
    """
    summary: dict[str, dict[str, Any]] = {}
    for name in sorted(set.intersection(*(set(run) for run in measured.values()))):
        values = np.array([run[name] for run in measured.values()])
        facts: dict[str, Any] = {
            "median": float(np.median(values)),
            "lowest": float(values.min()),
            "highest": float(values.max()),
        }
        if name in published:
            facts["published"] = published[name]
            facts["below_published"] = float(np.mean(values < published[name]))
        summary[name] = facts
    return summary


def _sentences(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    sentences = []
    for name, facts in summary.items():
        if "published" not in facts:
            continue
        where = "within"
        if facts["published"] < facts["lowest"]:
            where = f"below, by {facts['lowest'] - facts['published']:.4f},"
        elif facts["published"] > facts["highest"]:
            where = f"above, by {facts['published'] - facts['highest']:.4f},"
        sentences.append(
            f"{name.replace('_', ' ')}: median {facts['median']:.4f}; the published "
            f"{facts['published']:.4f} lies {where} the range of the runs, "
            f"{facts['lowest']:.4f} to {facts['highest']:.4f}."
        )
    return sentences


def _table(summary: Mapping[str, Mapping[str, Any]]) -> Table:
    lines = [
        (
            name.replace("_", " "),
            facts["median"],
            facts["lowest"],
            facts["highest"],
            facts.get("published"),
            facts.get("below_published"),
        )
        for name, facts in summary.items()
    ]
    head = ("Quantity", "Median", "Lowest", "Highest", "Published", "Runs below it")
    return Table(title="Over the seeds", head=head, lines=lines)


def _every(measured: Mapping[int, Mapping[str, float]]) -> Table:
    names = list(next(iter(measured.values())))
    lines = [(str(seed), *(run.get(name) for name in names)) for seed, run in measured.items()]
    head = ("Seed", *(name.replace("_", " ") for name in names))
    return Table(title="Every run", head=head, lines=lines)


def _figures(
    measured: Mapping[int, Mapping[str, float]], published: Mapping[str, float]
) -> Sequence[tuple[str, str, Figure]]:
    from aejax.reporting.style import house_style, new_figure

    names = [name for name in published if all(name in run for run in measured.values())]
    if not names:
        return ()
    with house_style():
        figure = new_figure(7.2, 0.9 + 0.9 * len(names))
        panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
        for axes, name in zip(panels, names, strict=True):
            values = np.array([run[name] for run in measured.values()])
            heights = _stacked(values)
            axes.plot(values, heights, "o", alpha=0.6, label="runs")
            axes.set_ylim(-1, max(3, heights.max() + 1))
            axes.axvline(float(np.median(values)), linewidth=2, label="median of the runs")
            axes.axvline(published[name], color="black", linestyle="--", label="published")
            axes.set_yticks([])
            axes.set_title(name.replace("_", " "), loc="left")
        panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1.05), ncols=3, frameon=False)
    caption = "Each dot is a run from another seed; the dashed line is the published number."
    return (("The runs and the published numbers", caption, figure),)


def _stacked(values: np.ndarray) -> np.ndarray:
    """How high each value's dot lies, on those before it that it would hide, int64 [n]."""
    width = max(float(np.ptp(values)) / DOTS_SIDE_BY_SIDE, np.finfo(np.float64).tiny)
    places = np.round((values - values.min()) / width).astype(np.int64)
    return np.array([np.sum(places[:at] == place) for at, place in enumerate(places)])

"""Runs one study: it does everything itself; its folder, report and numbers are made here."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from aejax.config import InputError
from aejax.recipes.recipe import Recipe, Study, StudyRun
from aejax.recipes.runner import compile_seconds, run_recipe, versions
from aejax.reporting.findings import write_findings
from aejax.training.run_folder import claim


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
    found = study.find(run)
    seconds = {
        **found.seconds,
        "total": time.monotonic() - clock,
        "compile": compile_seconds() - compiling,
    }
    found = dataclasses.replace(
        found,
        title=study.title,
        subtitle=study.subtitle(run.seed, run.quick),
        published=study.published,
        seconds=seconds,
        environment=versions(),
    )
    page = write_findings(found, run.out)
    return {
        "recipe": study.name,
        "seed": run.seed,
        "quick": run.quick,
        "published": dict(study.published),
        "measured": dict(found.measured),
        "conclusions": list(found.conclusions),
        "seconds": seconds,
        "report": str(page),
    }

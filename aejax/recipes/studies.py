"""Runs one study: it does everything itself; its folder, report and numbers are made here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aejax.config import InputError
from aejax.recipes.recipe import Recipe, Study, StudyRun
from aejax.recipes.runner import compile_seconds, run_recipe, versions
from aejax.reporting.findings import write_findings
from aejax.training.run_folder import claim


def run_any(recipe: Recipe | Study, out: Path, **how: Any) -> dict[str, Any]:
    """Run a recipe or a study; see `run_recipe` and `run_study` for what can be said how."""
    if isinstance(recipe, Study):
        if how.pop("ensemble", None) is not None:
            raise InputError(f"{recipe.name}: an ensemble was asked for; allowed: with recipes")
        return run_study(recipe, out, **how)
    if how.pop("text", None) is not None or how.pop("words", ()):
        raise InputError(f"{recipe.name}: a text or words were given; allowed: with words_cbow")
    return run_recipe(recipe, out, **how)


def run_study(
    study: Study,
    out: Path,
    *,
    seed: int = 0,
    quick: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    text: Path | None = None,
    words: tuple[str, ...] = (),
    tensorboard: Path | None = None,
) -> dict[str, Any]:
    """Run a published experiment that takes more than one detector.

    Args:
        study: which one.
        out: its folder; one that holds the same study is done again.
        seed: of everything random.
        quick: a small part of everything, to see that it works.
        overwrite: replace what the folder holds.
        progress: whether to draw progress bars on stderr.
        should_stop: asked now and then; True raises `Interrupted`.
        text: a file of the person's own, for studies of text.
        words: those that a study of text tells about; none lets it choose.
        tensorboard: refused; a study has many trainings.

    Returns:
        What `metrics.json` holds, and where the report is.

    Raises:
        InputError: if the folder holds something else, or the data can't be had.
    """
    if tensorboard is not None:
        raise InputError(
            f"{study.name}: event files were asked for; allowed: recipes of a single training"
        )
    if not study.reads_text and (text is not None or words):
        raise InputError(f"{study.name}: a text or words were given; allowed: with words_cbow")
    data = {"recipe": study.name, "quick": quick, "seed": seed}
    if text is not None:
        data["text"] = text.name
    if words:
        data["words"] = list(words)
    claim(out, None, None, data, overwrite=overwrite)
    compiling, clock = compile_seconds(), time.monotonic()
    run = StudyRun(
        out=out,
        seed=seed,
        quick=quick,
        progress=progress,
        should_stop=should_stop,
        text=text,
        words=words,
    )
    found = study.find(run)
    seconds = {
        **found.seconds,
        "total": time.monotonic() - clock,
        "compile": compile_seconds() - compiling,
    }
    quickly = " A quick run on a part of the rows: its numbers mean nothing." if quick else ""
    found = dataclasses.replace(
        found,
        title=study.title,
        subtitle=f"{study.summary} Source: {study.source}. Seed {seed}.{quickly}",
        published=study.published,
        seconds=seconds,
        environment=versions(),
    )
    page = write_findings(found, out)
    return {
        "recipe": study.name,
        "seed": seed,
        "quick": quick,
        "published": dict(study.published),
        "measured": dict(found.measured),
        "conclusions": list(found.conclusions),
        "seconds": seconds,
        "report": str(page),
    }

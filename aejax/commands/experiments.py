"""The commands of the published experiments."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from aejax.commands.shared import Ensemble, Json, Out, Overwrite, Profile, Quiet, StopOnSigterm
from aejax.config import InputError

QUICK = "A quick run, on a part of the rows, to see that it works: its numbers mean nothing."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the published experiments with their numbers."""

    json: Json = False

    def run(self) -> dict[str, Any]:
        """Find every recipe."""
        from aejax import recipes

        known = [recipes.find(name) for name in recipes.NAMES]
        return {
            recipe.name: {
                "title": recipe.title,
                "source": recipe.source,
                "time": recipe.time,
                "published": dict(recipe.published),
            }
            for recipe in known
        }

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """A paragraph a recipe."""
        blocks = []
        for name, facts in result.items():
            numbers = ", ".join(f"{key} {value:g}" for key, value in facts["published"].items())
            blocks.append(
                f"{name}\n    {facts['title']}\n    from: {facts['source']}\n"
                f"    published: {numbers or 'nothing'}\n    takes: {facts['time']}"
            )
        return "\n".join(blocks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Run a published experiment: data, training, calibration, scoring, report."""

    recipe: Positional[Annotated[str, arg(help="Its name, from `aejax recipes`.")]]
    out: Out
    seed: Annotated[int, arg(help="Seed of everything random.")] = 0
    quick: Annotated[bool, arg(help="A part of the rows and two epochs, to see that it works.")] = (
        False
    )
    seeds: Annotated[
        int | None,
        arg(help="Run from so many seeds, --seed and those after it; median, range, report."),
    ] = None
    together: Annotated[
        bool, arg(help="With --seeds: train them as one population, many in one program.")
    ] = False
    ensemble: Ensemble = None
    text: Annotated[Path | None, arg(help="A text file of your own, for words_cbow.")] = None
    words: Annotated[
        tuple[str, ...], arg(help="Words to find the nearest of, for words_cbow.")
    ] = ()
    overwrite: Overwrite = False
    tensorboard: Annotated[bool, arg(help="Write TensorBoard event files to OUT/tensorboard.")] = (
        False
    )
    profile: Profile = None
    quiet: Quiet = False
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Run the recipe."""
        from aejax import recipes
        from aejax.recipes.runner import run_any
        from aejax.recipes.seeds import run_seeds

        recipe = recipes.find(self.recipe)
        with StopOnSigterm() as should_stop:
            how: dict[str, Any] = {
                "quick": self.quick,
                "overwrite": self.overwrite,
                "progress": not self.quiet,
                "should_stop": should_stop,
                "text": self.text,
                "ensemble": self.ensemble,
                "words": self.words,
            }
            if self.seeds is not None:
                if self.tensorboard:
                    raise InputError("--tensorboard is set; allowed: with one seed")
                how["together"] = self.together
                return run_seeds(recipe, self.out, seeds=self.seeds, first=self.seed, **how)
            if self.together:
                raise InputError("--together is set; allowed: with --seeds")
            folder = self.out / "tensorboard" if self.tensorboard else None
            return run_any(recipe, self.out, seed=self.seed, tensorboard=folder, **how)

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """Published and measured, side by side."""
        from aejax.reporting.markup import fixed

        if "summary" in result:
            return _show_seeds(result)
        lines = [QUICK] if result.get("quick") else []
        lines += [f"{'':24}{'published':>12}{'measured':>12}"]
        for name, value in result["measured"].items():
            published = result["published"].get(name)
            shown = "" if published is None else fixed(published)
            lines.append(f"{name:24}{shown:>12}{fixed(value):>12}")
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result["seconds"].items())
        conclusions = result.get("conclusions", [])
        return "\n".join([*lines, *conclusions, f"({seconds})", f"report: {result['report']}"])


def _show_seeds(result: dict[str, Any]) -> str:
    from aejax.reporting.markup import fixed

    lines = [QUICK] if result.get("quick") else []
    lines += [f"{'':24}{'published':>12}{'median':>12}{'lowest':>12}{'highest':>12}"]
    for name, facts in result["summary"].items():
        published = "" if "published" not in facts else fixed(facts["published"])
        numbers = "".join(f"{fixed(facts[each]):>12}" for each in ("median", "lowest", "highest"))
        lines.append(f"{name:24}{published:>12}{numbers}")
    return "\n".join([*lines, f"report: {result['report']}"])

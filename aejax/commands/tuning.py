"""The command that searches settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from aejax.commands import shared
from aejax.config import Dialect


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tune:
    """Search settings by cross-validation; train the best on all normal rows, judge it once."""

    input: Positional[
        Annotated[
            str, arg(help="File of rows, a data set as mnist:train, or a recipe such as ecg5000.")
        ]
    ]
    space: Annotated[Path, arg(help="TOML file of what is searched: ranges and choices.")]
    out: shared.Out
    configurations: Annotated[int, arg(help="How many to draw.")] = 64
    folds: Annotated[int, arg(help="Parts of the normal rows, each held out once.")] = 5
    search: Annotated[
        Literal["random", "halving", "optuna"],
        arg(help="halving: few epochs for all, more for the best. optuna: learns from trials."),
    ] = "random"
    objective: Annotated[
        Literal["reconstruction", "auroc", "average-precision"],
        arg(help="What is compared on held-out rows; all but the first need labelled anomalies."),
    ] = "reconstruction"
    test_fraction: Annotated[
        float, arg(help="Share of a file's rows that the winner is judged by, once.")
    ] = 0.2
    label_column: shared.LabelColumn = None
    normal_label: shared.NormalLabel = None
    drop_columns: shared.DropColumns = ()
    key: shared.Keys = ()
    keep: Annotated[
        shared.Names,
        arg(name="columns.keep", help="Columns to take as features that would be left out."),
    ] = ()
    no_header: shared.NoHeader = False
    text: shared.Text = Dialect()
    seed: Annotated[int, arg(help="Seed of split, search and trainings.")] = 0
    overwrite: shared.Overwrite = False
    profile: shared.Profile = None
    quiet: shared.Quiet = False
    json: shared.Json = False

    def run(self) -> dict[str, Any]:
        """Search, then train the winner."""
        from aejax.recipes.tune import refit, search_for

        # The search keeps nothing that a stop could save, so SIGTERM just ends it.
        search = search_for(
            self.input,
            self.space,
            self.out,
            configurations=self.configurations,
            folds=self.folds,
            search=self.search,
            objective=self.objective,
            selection=shared.selection(self),
            keep=self.keep,
            test_fraction=self.test_fraction,
            seed=self.seed,
            overwrite=self.overwrite,
            progress=not self.quiet,
        )
        with shared.StopOnSigterm() as should_stop:
            return refit(
                search,
                self.out,
                overwrite=self.overwrite,
                progress=not self.quiet,
                should_stop=should_stop,
            )

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """The winner, and its numbers beside published ones."""
        from aejax.reporting.markup import fixed

        best = result["best"]
        lines = [
            f"best of {result['configurations']} configurations by {result['objective']}: "
            f"{best['mean']:.6g} (95% over folds {best['low']:.6g} to {best['high']:.6g})"
        ]
        if result["configurations"] < result["asked"]:
            lines.append(f"  the space holds no more; {result['asked']} were asked for")
        for name, value in best["settings"].items():
            shown = f"{value:.4g}" if isinstance(value, float) else value
            lines.append(f"  {name} = {'none' if shown is None else shown}")
        lines.append(f"as good, as far as the folds can tell: {result['as_good']} others")
        for number, problem in list(result["diverged"].items())[:5]:
            lines.append(f"left out: configuration {number}, {problem}")
        if len(result["diverged"]) > 5:
            lines.append(f"left out: {len(result['diverged']) - 5} more (see tuning.json)")
        for name, value in result["measured"].items():
            published = result["published"].get(name)
            beside = "" if published is None else f" (published {fixed(published)})"
            lines.append(f"{name:36}{fixed(value):>12}{beside}")
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result["seconds"].items())
        return "\n".join([*lines, f"({seconds})", f"report: {result['report']}"])

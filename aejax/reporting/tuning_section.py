"""The section of a report on how its settings were found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aejax.detection.tuning import Trial, Tuning
from aejax.reporting import tuning_plots
from aejax.reporting.markup import element, join, number, table
from aejax.reporting.sections import Section, plot_figure
from aejax.reporting.style import to_png

MOST_SHOWN = 12
MOST_PROBLEMS = 8


def tuning_section(tuning: Tuning | None) -> Section | None:
    """What was searched, what came out, and how sure the order of the best is."""
    if tuning is None:
        return None
    wide = tuning_plots.parallel_coordinates(tuning)
    pair = (tuning_plots.best_with_intervals(tuning), tuning_plots.objective_by_rank(tuning))
    content = join(
        [
            element("p", finding(tuning), class_="lede"),
            element("div", plot_figure(wide), class_="columns"),
            element("div", *map(plot_figure, pair), class_="columns even"),
            element("div", best_table(tuning), class_="columns"),
            element("div", space_table(tuning), problems_table(tuning), class_="columns even"),
        ]
    )
    files = {plot.name: to_png(plot.figure, plot.title) for plot in (wide, *pair)}
    return Section(anchor="tuning", heading="Tuning", content=content, files=files)


def finding(tuning: Tuning) -> str:
    """The search in two sentences."""
    low, high = tuning.best.interval
    drawn = f"{len(tuning.trials):,} configurations"
    if len(tuning.trials) < tuning.asked:
        drawn += f" (all that the space holds; {tuning.asked:,} were asked for)"
    others = len(tuning.close) - 1
    close = (
        "no other is as good, as far as the folds can say"
        if not others
        else f"the folds can't distinguish {others:,} other{'s' if others > 1 else ''} from it"
    )
    return (
        f"Of {drawn}, each judged on {tuning.folds} folds of the normal rows, the best has "
        f"{tuning_plots.NAMES[tuning.objective]} {number(tuning.best.mean)} "
        f"(95% interval over folds {number(low)} to {number(high)}); {close}. "
        "Rows that this report judges took no part in the search."
    )


def best_table(tuning: Tuning) -> Any:
    """The best configurations and what sets them apart."""
    names = list(tuning.space.searched)
    head = (
        "Rank",
        tuning_plots.NAMES[tuning.objective],
        "95% over folds",
        tuning.best.unit.capitalize(),
        *names,
    )
    close = {trial.number for trial in tuning.close}
    lines = []
    for rank, trial in enumerate(_sound(tuning)[:MOST_SHOWN], start=1):
        low, high = trial.interval
        mark = "" if trial.number in close else "*"
        settings = (tuning_plots.value_text(trial.drawn.settings[name]) for name in names)
        lines.append(
            (
                f"{rank}{mark}",
                number(trial.mean),
                f"{number(low)} to {number(high)}",
                number(trial.length),
                *settings,
            )
        )
    caption = (
        "The best configurations (*: worse than the first on these folds, by a 95% interval of "
        "the differences, or dropped in an earlier rung)"
    )
    return table(caption, head, lines)


def space_table(tuning: Tuning) -> Any:
    """What was searched."""
    lines = [(name, _dimension_text(found)) for name, found in tuning.space.to_dict().items()]
    search = {"random": "random search", "halving": "successive halving"}[tuning.search]
    return table(f"The space, drawn from by {search}", (), lines)


def problems_table(tuning: Tuning) -> Any:
    """Configurations that diverged, or None."""
    lost = [trial for trial in tuning.trials if trial.problem is not None]
    if not lost:
        return None
    lines = [
        (", ".join(_settings_text(trial)), trial.problem or "") for trial in lost[:MOST_PROBLEMS]
    ]
    if len(lost) > MOST_PROBLEMS:
        lines.append((f"and {len(lost) - MOST_PROBLEMS:,} more", ""))
    return table(f"Left out because they diverged: {len(lost):,}", (), lines)


def _sound(tuning: Tuning) -> Sequence[Trial]:
    return [trial for trial in tuning.trials if not math.isnan(trial.mean)]


def _settings_text(trial: Trial) -> list[str]:
    return [
        f"{name} {tuning_plots.value_text(value)}" for name, value in trial.drawn.settings.items()
    ]


def _dimension_text(found: Mapping[str, Any]) -> str:
    if "values" in found:
        return "; ".join(map(tuning_plots.value_text, found["values"]))
    scale = ", log scale" if found["log"] else ""
    return f"{number(found['low'])} to {number(found['high'])}{scale}"

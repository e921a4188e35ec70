"""The section of a report on how its settings were found, and its plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from aejax.detection.tuning import Trial, Tuning
from aejax.reporting.markup import element, join, number, shorten, table
from aejax.reporting.sections import Section, plot_figure
from aejax.reporting.style import (
    ANOMALY,
    INK,
    LABEL_GROUND,
    LINE,
    MUTED,
    NORMAL,
    PLOT_WIDTH,
    Plot,
    house_style,
    legend_above,
    new_figure,
    plain_log_ticks,
    to_png,
)
from aejax.training.search_space import Choices, Dimension

NAMES = {
    "reconstruction": "reconstruction error",
    "auroc": "AUROC",
    "average-precision": "average precision",
}
MOST_LINES = 400
MOST_AXES = 10
BEST_DRAWN = 10
# Of the lines, so many per cent are drawn as good ones.
GOOD_SHARE = 0.1
MOST_SHOWN = 12
MOST_PROBLEMS = 8


def value_text(value: object) -> str:
    """A setting's value as a person reads it."""
    if isinstance(value, list | tuple):
        return "-".join(map(value_text, value)) or "none"
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parallel_coordinates(tuning: Tuning) -> Plot:
    """A line for every configuration, across an axis for every setting and one for the objective.

    Inselberg, "The plane with parallel coordinates" (The Visual Computer 1, 1985).
    """
    names = list(tuning.space.searched)[:MOST_AXES]
    sound = [trial for trial in tuning.trials if trial.problem is None]
    lost = [trial for trial in tuning.trials if trial.problem is not None]
    good = max(1, math.ceil(GOOD_SHARE * len(sound)))
    drawn = sound[:MOST_LINES]
    means = np.asarray([trial.mean for trial in sound])
    low, high = float(means.min()), float(means.max())
    log = low > 0 and high > 8 * low

    def judged(mean: float) -> float:
        """The better, the higher."""
        share = _share(mean, low, high, log)
        return share if tuning.larger_is_better else 1 - share

    with house_style(**{"axes.grid": False}):
        figure = new_figure(2 * PLOT_WIDTH, 3.5)
        axes = figure.subplots()
        last = len(names)
        for trial in reversed([*drawn, *lost[: MOST_LINES - len(drawn)]]):
            heights = [
                _height(tuning.space.searched[name], trial.drawn.settings[name]) for name in names
            ]
            if trial.problem is not None:
                axes.plot(range(last), heights, color=ANOMALY, lw=0.8, linestyle=(0, (2, 2)))
                continue
            heights.append(judged(trial.mean))
            if trial is tuning.best:
                style: dict[str, Any] = {"color": INK, "linewidth": 2.4, "zorder": 4}
            elif trial in sound[:good]:
                style = {"color": NORMAL, "linewidth": 1.2, "alpha": 0.8, "zorder": 3}
            else:
                style = {"color": MUTED, "linewidth": 0.6, "alpha": 0.35}
            axes.plot(range(last + 1), heights, **style)
        for place, name in enumerate(names):
            _axis(axes, place, _ticks(tuning.space.searched[name]))
        ticks = [(judged(value), number(value)) for value in sorted({low, high})]
        _axis(axes, last, ticks)
        labels = [*(name.partition(".")[2] or name for name in names), NAMES[tuning.objective]]
        axes.set_xticks(range(last + 1), [label.replace("_", "\n") for label in labels])
        axes.tick_params(axis="x", length=0, labelcolor=INK)
        axes.set(xlim=(-0.2, last + 0.45), ylim=(-0.04, 1.04), yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        for colour, label in (
            (INK, "the winner"),
            *([(NORMAL, f"the best {good}")] if good > 1 else []),
            (MUTED, "the others"),
            *([(ANOMALY, f"diverged: {len(lost)}")] if lost else []),
        ):
            axes.plot([], [], color=colour, label=label)
        legend_above(axes, 4)
    best = ", ".join(
        f"{name.partition('.')[2] or name} {value_text(value)}"
        for name, value in tuning.best.drawn.settings.items()
    )
    return Plot(
        name="parallel_coordinates",
        title=f"The winner: {shorten(best, 150)}",
        caption="A line is a configuration; the higher it ends, the better it is. "
        "Where the good lines run together, a setting matters; "
        "where they spread over an axis, it doesn't.",
        alternative=f"Parallel coordinates of {len(tuning.trials)} configurations over "
        f"{len(names)} settings. The winner has {best}.",
        figure=figure,
    )


def best_with_intervals(tuning: Tuning) -> Plot:
    """The best configurations: mean, interval over folds, and every fold."""
    best = [trial for trial in tuning.trials if trial.problem is None][:BEST_DRAWN]
    with house_style(**{"axes.grid.axis": "x"}):
        figure = new_figure(PLOT_WIDTH, 3.4)
        axes = figure.subplots()
        for place, trial in enumerate(best):
            colour = INK if trial is tuning.best else NORMAL
            axes.plot(trial.folds, [place] * len(trial.folds), "o", ms=3, color=MUTED, alpha=0.5)
            axes.plot(trial.interval, [place, place], color=colour, linewidth=1.4)
            axes.plot([trial.mean], [place], marker="D", markersize=5, color=colour)
        axes.set_yticks(range(len(best)), [str(place + 1) for place in range(len(best))])
        axes.set_ylim(len(best) - 0.4, -0.6)
        axes.set_ylabel("rank")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(_direction(tuning))
    others = len(tuning.close) - 1
    title = (
        f"The folds can't tell {others} other{'s' if others > 1 else ''} from the winner"
        if others
        else "The winner is better than every other on these folds"
    )
    return Plot(
        name="best_configurations",
        title=title,
        caption="Diamond and line: mean and 95% interval over folds, counting in that folds share "
        "training rows. Dots: the folds.",
        alternative=f"Means and intervals of the best {len(best)} configurations. {title}.",
        figure=figure,
    )


def objective_by_rank(tuning: Tuning) -> Plot:
    """The objective of every configuration, in their order."""
    sound: Sequence[Trial] = [trial for trial in tuning.trials if trial.problem is None]
    means = np.asarray([trial.mean for trial in sound])
    rung = np.asarray([trial.rung for trial in sound])
    log = bool(means.min() > 0 and means.max() > 8 * means.min())
    with house_style():
        figure = new_figure(PLOT_WIDTH, 3.4)
        axes = figure.subplots()
        ranks = np.arange(1, len(means) + 1)
        for at in np.unique(rung)[::-1]:
            lengths = sorted({trial.length for trial in sound if trial.rung == at})
            counted = f"{'/'.join(map(str, lengths))} {tuning.best.unit}"
            axes.plot(
                ranks[rung == at],
                means[rung == at],
                "o",
                markersize=3.5,
                color=NORMAL if at == rung.max() else MUTED,
                alpha=1.0 if at == rung.max() else 0.45 + 0.4 * at / max(rung.max(), 1),
                label=counted if len(lengths) < 4 else None,
            )
        if log:
            axes.set_yscale("log")
            plain_log_ticks(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("rank")
        axes.set_ylabel(_direction(tuning))
        if rung.max() > 0 and axes.get_legend_handles_labels()[0]:
            legend_above(axes, 4)
    name, best = NAMES[tuning.objective], number(tuning.best.mean)
    middle = number(float(np.median(means)))
    return Plot(
        name="objective_by_rank",
        title=f"{name[:1].upper()}{name[1:]} of the winner {best}, of the median {middle}",
        caption="Every configuration in its order. A flat start says that many settings do; a "
        "steep one, that a longer search may pay.",
        alternative=f"Objective of {len(means)} configurations by rank: the best has {best}, "
        f"the median {middle}.",
        figure=figure,
    )


def _direction(tuning: Tuning) -> str:
    better = "larger" if tuning.larger_is_better else "smaller"
    return f"{NAMES[tuning.objective]} ({better} is better)"


def _height(dimension: Dimension, value: Any) -> float:
    if isinstance(dimension, Choices):
        place = [repr(choice) for choice in dimension.values].index(repr(value))
        return (place + 0.5) / len(dimension.values)
    return _share(value, dimension.low, dimension.high, dimension.log)


def _share(value: float, low: float, high: float, log: bool) -> float:
    if high <= low:
        return 0.5
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _ticks(dimension: Dimension) -> list[tuple[float, str]]:
    values = dimension.ends()
    return [(_height(dimension, value), shorten(value_text(value), 18)) for value in values]


def _axis(axes: Axes, place: float, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([place, place], [0, 1], color=LINE, linewidth=1.2, zorder=1)
    for height, text in ticks:
        axes.annotate(
            text,
            (place, height),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=INK,
            bbox=LABEL_GROUND,
            zorder=6,
        )


def tuning_section(tuning: Tuning | None) -> Section | None:
    """What was searched, what came out, and how sure the order of the best is."""
    if tuning is None:
        return None
    wide = parallel_coordinates(tuning)
    pair = (best_with_intervals(tuning), objective_by_rank(tuning))
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
        f"{NAMES[tuning.objective]} {number(tuning.best.mean)} "
        f"(95% interval over folds {number(low)} to {number(high)}); {close}. "
        "Rows that this report judges took no part in the search."
    )


def best_table(tuning: Tuning) -> Any:
    """The best configurations and what sets them apart."""
    names = list(tuning.space.searched)
    head = (
        "Rank",
        NAMES[tuning.objective],
        "95% over folds",
        tuning.best.unit.capitalize(),
        *names,
    )
    close = {trial.number for trial in tuning.close}
    lines = []
    for rank, trial in enumerate(_sound(tuning)[:MOST_SHOWN], start=1):
        low, high = trial.interval
        mark = "" if trial.number in close else "*"
        settings = (value_text(trial.drawn.settings[name]) for name in names)
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
    lines = [
        (name, _dimension_text(dimension)) for name, dimension in tuning.space.to_dict().items()
    ]
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
    return [f"{name} {value_text(value)}" for name, value in trial.drawn.settings.items()]


def _dimension_text(dimension: Mapping[str, Any]) -> str:
    if "values" in dimension:
        return "; ".join(map(value_text, dimension["values"]))
    scale = ", log scale" if dimension["log"] else ""
    return f"{number(dimension['low'])} to {number(dimension['high'])}{scale}"

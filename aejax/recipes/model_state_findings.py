"""What the study of a network's state says: which view of an image tells its noise best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aejax.detection.metrics import Interval
    from aejax.reporting.findings import Table

NOISES = (0.02, 0.1, 0.3, 0.6)
VIEWS = ("pixels", "layer 1", "layer 2", "both layers")
DETECTORS = ("autoencoder", "isolation forest", "supervised")
QUALITIES = {"auroc": "AUROC", "found": "Found at 1 % false alarms"}

# Where in the results a number is: detector, view, noise.
Place = tuple[str, str, float]
Result = Mapping[Place, Mapping[str, float]]


def repeats(results: Sequence[Result]) -> str:
    """How many, and what brackets hold."""
    if len(results) == 1:
        return "1 repeat"
    return f"{len(results)} repeats, 95 % interval in brackets"


def summary(results: Sequence[Result], place: Place, quality: str = "auroc") -> Interval:
    """Mean and interval over repeats."""
    from aejax.detection.metrics import mean_interval

    return mean_interval([result[place][quality] for result in results], within=(0, 1))


def winners(results: Sequence[Result], detector: str, noise: float, quality: str) -> list[str]:
    """The best view and those that can't be distinguished from it, best first.

    A view is worse if the 95 % interval of the paired differences excludes 0; where there
    is one repeat, if its number is lower.
    """
    from aejax.detection.metrics import mean_interval

    def values(view: str) -> np.ndarray:
        return np.array([result[detector, view, noise][quality] for result in results])

    order = sorted(VIEWS, key=lambda view: -values(view).mean())
    best = values(order[0])
    ties = [order[0]]
    for view in order[1:]:
        difference = mean_interval(best - values(view))
        worse = difference.mean > 0 if len(results) == 1 else difference.excludes_zero
        if not worse:
            ties.append(view)
    return ties


def conclusion(results: Sequence[Result], noise: float) -> str:
    """Which view wins at a noise level, in a sentence."""
    parts = []
    for detector in DETECTORS:
        views = winners(results, detector, noise, "auroc")
        best = summary(results, (detector, views[0], noise))
        found = summary(results, (detector, views[0], noise), "found")
        shown = f"{views[0]} (AUROC {best.text()}, {found.mean:.1%} found at 1 % false alarms)"
        if len(views) > 1:
            shown += f", not distinguishable from {' and '.join(views[1:])}"
        parts.append(f"{detector}: {shown}")
    return f"Noise {noise:g}, the best view of each detector. " + "; ".join(parts) + "."


def overall(results: Sequence[Result]) -> str:
    """How often pixels win, in a sentence."""
    sole: dict[str, int] = {}
    for detector in DETECTORS:
        for noise in NOISES:
            views = winners(results, detector, noise, "auroc")
            name = views[0] if len(views) == 1 else "no single view"
            sole[name] = sole.get(name, 0) + 1
    parts = [f"{name} in {count}" for name, count in sorted(sole.items(), key=lambda p: -p[1])]
    cases = len(DETECTORS) * len(NOISES)
    return f"Of {cases} cases (detector and noise level), the best view is: {', '.join(parts)}."


def results_table(results: Sequence[Result], quality: str) -> Table:
    """A line for every detector and noise level, a column for every view."""
    from aejax.reporting.findings import Table

    def line(detector: str, noise: float) -> tuple[str, ...]:
        cells = (summary(results, (detector, view, noise), quality).text() for view in VIEWS)
        best = " = ".join(winners(results, detector, noise, quality))
        return (f"{detector}, noise {noise:g}", *cells, best)

    return Table(
        title=f"{QUALITIES[quality]}, mean of {repeats(results)}; the best views are those that "
        "differ from the very best by no more than chance",
        head=("Detector", *(view.capitalize() for view in VIEWS), "Best"),
        lines=[line(detector, noise) for detector in DETECTORS for noise in NOISES],
    )


def heat(results: Sequence[Result]) -> Figure:
    """Both qualities as heat maps, a panel for every detector."""
    from aejax.reporting.comparisons import Heat, heat_figure

    def panels(quality: str) -> dict[str, np.ndarray]:
        def line(detector: str, view: str) -> list[float]:
            places = ((detector, view, noise) for noise in NOISES)
            return [summary(results, place, quality).mean for place in places]

        return {
            detector: np.array([line(detector, view) for view in VIEWS]) for detector in DETECTORS
        }

    return heat_figure(
        [
            Heat(name="AUROC", panels=panels("auroc"), low=0.5, high=1.0),
            Heat(name="found at 1 % false alarms", panels=panels("found"), low=0.0, high=1.0),
        ],
        rows=VIEWS,
        columns=[f"{noise:g}" for noise in NOISES],
        label="noise",
    )

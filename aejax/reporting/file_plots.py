"""What is flagged of each file that was scored, in the order of their scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aejax.reporting.markup import percent
from aejax.reporting.style import (
    ANOMALY,
    INK,
    LABEL_GROUND,
    NORMAL,
    Plot,
    house_style,
    legend_above,
    new_figure,
)

# Bars that can be seen one by one; of more files, the newest.
MOST_DRAWN = 120


def flagged_by_file(files: Sequence[Mapping[str, Any]], expected: float | None) -> Plot | None:
    """The share of each file's rows that is flagged, the newest file last.

    Args:
        files: as `_files.csv` has them: "file", "flagged_rate" and "drifted".
        expected: the share of normal rows that is expected to be, or None.
    """
    known = [one for one in files if one["flagged_rate"] is not None][-MOST_DRAWN:]
    if len(known) < 2:
        return None
    shares = np.array([one["flagged_rate"] for one in known])
    drifted = np.array([one["drifted"] for one in known])
    place = np.arange(len(known))
    with house_style():
        figure = new_figure(9.2, 2.6)
        axes = figure.subplots()
        for chosen, colour, label in (
            (~drifted, NORMAL, "as in calibration"),
            (drifted, ANOMALY, "scores have drifted"),
        ):
            if chosen.any():
                axes.bar(place[chosen], shares[chosen], 0.8, color=colour, label=label)
        if expected is not None:
            axes.axhline(expected, color=INK, linewidth=1, linestyle=(0, (4, 2)))
            axes.annotate(
                f"expected of normal rows {percent(expected)}",
                (0, expected),
                xytext=(2, 3),
                textcoords="offset points",
                color=INK,
                bbox=LABEL_GROUND,
            )
        axes.set_xlim(-0.6, len(known) - 0.4)
        axes.set_ylim(0, max(float(shares.max()), expected or 0.0, 1e-6) * 1.18)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(float(value))))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _name(known, value)))
        axes.set_ylabel("rows flagged")
        legend_above(axes)
    count = int(drifted.sum())
    title = f"{count:,} of the {len(known):,} newest files have drifted"
    if len(known) == len(files):
        title = f"{count:,} of {len(known):,} files have drifted"
    return Plot(
        name="flagged_of_files",
        title=title,
        caption="The share of each file's rows that is flagged, in the order in which the files "
        "were scored.",
        alternative=f"{title}. The newest, {known[-1]['file']}, has {percent(float(shares[-1]))} "
        "of its rows flagged.",
        figure=figure,
    )


def _name(files: Sequence[Mapping[str, Any]], value: float) -> str:
    at = round(value)
    if abs(value - at) > 0.01 or not 0 <= at < len(files):
        return ""
    name: str = files[at]["file"]
    return name if len(name) <= 18 else "\N{HORIZONTAL ELLIPSIS}" + name[-17:]

"""A threshold to be chosen on the page: what each choice flags, and the command that keeps it.

The page holds a table of candidate thresholds with exact counts, made here; its script only
looks them up. So what it shows is what `aejax calibrate --rule fixed:VALUE` will do.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aejax.config import RULES
from aejax.reporting.markup import Markup, element, join
from aejax.reporting.sections import Section
from aejax.reporting.style import beside
from aejax.rules.fixed import Fixed

if TYPE_CHECKING:
    from aejax.reporting.report import Report

MOST_STOPS = 600
MOST_ROWS_SHOWN = 50
DEFAULT_ROWS_A_DAY = 10_000


def slider_section(report: Report) -> Section | None:
    """The slider with everything that it moves; None where a threshold decides nothing."""
    if len(report.scores) < 2 or report.scores.min() == report.scores.max():
        return None
    content = json.dumps(slider_data(report), separators=(",", ":"), allow_nan=False)
    # A "</script>" in a feature's name must not end the script.
    safe = content.replace("<", "\\u003c")
    return Section(
        anchor="choose",
        heading="Choose a threshold",
        content=join(
            (
                element("p", _LEDE, class_="lede"),
                _controls(report),
                element("div", id="choose-rows"),
                Markup(f'<script type="application/json" id="choose-data">{safe}</script>'),
                Markup(f"<script>\n{beside('slider.js')}</script>"),
            )
        ),
    )


def slider_data(report: Report) -> dict[str, Any]:
    """Everything that the page's script looks up, as JSON knows it.

    Returns:
        "stops": falling candidate thresholds; "normal" and "anomalous": how many rows of each
        kind lie above each ("normal" counts all rows where there are no labels); "totals";
        "labelled"; "start": the stop of the report's threshold; "rows": the most anomalous
        rows with their reasons; "command": what sets a threshold, before its value.
    """
    scores = np.asarray(report.scores, np.float64)
    labels = report.is_anomaly
    stops = candidates(scores, report.threshold)
    kinds = {"normal": scores if labels is None else scores[~labels.astype(bool)]}
    if labels is not None:
        kinds["anomalous"] = scores[labels.astype(bool)]
    counts = {name: above(kind, stops) for name, kind in kinds.items()}
    start = len(stops) // 2
    if report.threshold is not None:
        start = int(np.flatnonzero(stops == report.threshold)[0])
    shown = np.argsort(-scores, kind="stable")[:MOST_ROWS_SHOWN]
    reasons = report.reasons
    return {
        "stops": stops.tolist(),
        **{name: count.tolist() for name, count in counts.items()},
        "totals": {name: len(kind) for name, kind in kinds.items()},
        "labelled": labels is not None,
        "start": start,
        "rows": [
            {
                "row": place.text if (place := report.places.get(int(row))) else f"{int(row):,}",
                "key": place.key if place else "",
                "score": float(scores[row]),
                "label": None if labels is None else bool(labels[row]),
                "reason": reasons.get(int(row), ""),
            }
            for row in shown
        ],
        "command": report.calibrate_command,
    }


def candidates(scores: npt.NDArray[np.float64], threshold: float | None) -> npt.NDArray[np.float64]:
    """Falling thresholds worth looking at, the report's own among them.

    All distinct scores where they are few; otherwise as many of the largest one by one as
    of the rest evenly spread: what matters is at the top. The first flags no row.
    """
    distinct = np.unique(scores)[::-1]
    if len(distinct) > MOST_STOPS:
        half = MOST_STOPS // 2
        rest = np.linspace(half, len(distinct) - 1, half).round().astype(int)
        distinct = distinct[np.r_[np.arange(half), rest]]
    if threshold is not None:
        distinct = np.append(distinct, threshold)
    return np.unique(distinct)[::-1]


def above(scores: npt.NDArray[np.float64], stops: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """How many scores lie above each stop."""
    ordered = np.sort(scores)
    return len(ordered) - np.searchsorted(ordered, stops, side="right")


def calibrate_command(folder: str) -> str:
    """The command that sets a run's threshold, up to the value."""
    return f"aejax calibrate {shlex.quote(folder)} --rule {RULES.name_of(Fixed)}:"


def _controls(report: Report) -> Markup:
    def field(name: str, text: str, title: str | None = None) -> Markup:
        return element("div", element("dt", text), element("dd", "", id=f"choose-{name}"))

    fields = [field("threshold", "Threshold"), field("flagged", "Rows flagged")]
    if report.is_anomaly is not None:
        fields += [
            field("found", "Anomalies found"),
            field("missed", "Anomalies missed"),
            field("false", "False alarms"),
            field("precision", "Precision"),
            field("recall", "Recall"),
        ]
    fields.append(field("daily", "Alarms a day"))
    return element(
        "div",
        element(
            "label",
            "Threshold: drag, or use the arrow keys; to the right more rows are flagged",
            element("input", type="range", id="choose-slider", min="0", step="1"),
        ),
        element("dl", *fields, class_="choices"),
        element(
            "label",
            "Rows a day ",
            element(
                "input",
                type="number",
                id="choose-daily-rows",
                min="1",
                value=str(DEFAULT_ROWS_A_DAY),
            ),
        ),
        element(
            "p",
            "To keep this threshold: ",
            element("code", "", id="choose-command"),
            id="choose-keep",
        ),
        class_="choose",
    )


_LEDE = (
    "Every number is for the rows of this report. Alarms a day assume that your rows are like "
    "these: where there are labels, that they are normal rows."
)

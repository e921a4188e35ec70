"""Single rows of a report: as the model sees them, and in words why they are flagged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aejax.config import to_dict
from aejax.data.frames import as_table
from aejax.data.places import Place
from aejax.detection.detector import Detector
from aejax.detection.promise import promise_of
from aejax.detection.reasons import Cell, Reason, in_units
from aejax.reporting.markup import number
from aejax.reporting.report import FEATURES_DRAWN, Examples, Report, Words
from aejax.reporting.slider import MOST_ROWS_SHOWN

# Rows that are drawn at either end: cards that fill lines of one, two or three.
DRAWN = {"image": 12, "series": 6, "table": 6}
FULL_LINES = 6


def report_on(
    detector: Detector,
    x: Any,
    is_anomaly: np.ndarray | None,
    scores: np.ndarray,
    *,
    places: Callable[[np.ndarray], list[Place | None]] | None = None,
    **said: Any,
) -> Report:
    """The report of a detector on rows.

    Args:
        detector: of one network, or an ensemble.
        x: rows, as the detector takes them, [n, ...]; or what gives those at positions [k].
        is_anomaly: labels, bool [n], or None.
        scores: of the rows, float32 [n].
        places: positions of rows -> where each is in its file.
        said: further fields of the report; title, subtitle and metrics at least.
    """
    order = np.argsort(-scores, kind="stable")
    count = min(DRAWN[detector.schema.kind], len(order))
    count -= count % FULL_LINES if count > FULL_LINES else 0
    # Windows that share points would all show the same.
    between = 1 if detector.schema.series is None else detector.schema.series.length
    most, least = apart(order, count, between), apart(order[::-1], count, between)
    listed = order[:MOST_ROWS_SHOWN]
    shown = np.unique(np.concatenate([most, least, listed]))
    names = [] if places is None else places(shown)
    ends: dict[str, Examples | None] = {"most": None, "least": None}
    if detector.scoring.reconstructs:
        ends = {
            name: examples(detector, x, is_anomaly, scores, rows)
            for name, rows in (("most", most), ("least", least))
        }
    return Report(
        scores=scores,
        is_anomaly=is_anomaly,
        threshold=detector.threshold_value,
        promise=promise_of(detector.threshold),
        history=detector.history,
        schema=detector.schema,
        alarms=tuple(detector.provenance.get("alarms", ())),
        reasons=reasons(detector, x, listed),
        places={int(row): place for row, place in zip(shown, names, strict=False) if place},
        **{"config": to_dict(detector.config), **ends, **said},
    )


def apart(order: np.ndarray, count: int, between: int) -> np.ndarray:
    """The first positions, at most so many, of which no two are nearer than `between`."""
    if between == 1:
        return order[:count]
    picked: list[int] = []
    for row in order.tolist():
        if all(abs(row - other) >= between for other in picked):
            picked.append(row)
            if len(picked) == count:
                break
    return np.array(picked, np.int64)


def examples(
    detector: Detector,
    x: Any,
    is_anomaly: np.ndarray | None,
    scores: np.ndarray,
    rows: np.ndarray,
) -> Examples:
    """Rows with their reconstructions and errors, to be drawn.

    A series is drawn in its own units. Features of a table are drawn as the model compares them,
    and labelled in their own units; the features are those that reasons name, in their order.

    Args:
        detector: whose network gives reconstructions.
        x: all rows, as the detector takes them.
        is_anomaly: labels of all, or None.
        scores: of all, float32 [n].
        rows: positions of those that are drawn.
    """
    schema = detector.schema
    prepared = detector.prepare(_picked(x, rows))
    scaled, expected = detector.reconstruct_rows(prepared)
    words = None
    if schema.columns is None:
        error = detector.feature_errors(scaled, expected).reshape(scaled.shape)
    else:
        error = detector.errors_of(prepared)
    top = min(schema.features, FEATURES_DRAWN)
    _, named, _ = detector.explain_rows(prepared, top=top)
    if schema.kind == "table":
        cells = in_units(detector, prepared)
        each = [[cells.of(row, at) for at in own] for row, own in enumerate(named.tolist())]
        words = Words(
            found=[[shown(cell) for cell, _ in own] for own in each],
            expected=[[shown(cell) for _, cell in own] for own in each],
        )
    elif schema.kind == "series":
        cells = in_units(detector, prepared)
        scaled = (cells.found + cells.offset).reshape(scaled.shape)
        expected = (cells.expected + cells.offset).reshape(scaled.shape)
    if schema.columns is not None:
        # Only numbers have a length; of other cells, and of missing ones, the words say enough.
        numbers = np.array([column.kind == "number" for column in schema.columns])
        expected = np.where(numbers, expected, 0)
        scaled = np.where(numbers & ~np.isnan(scaled), scaled, 0)
    return Examples(
        x=scaled,
        reconstruction=expected,
        error=error,
        score=scores[rows],
        is_anomaly=None if is_anomaly is None else is_anomaly[rows],
        row=rows,
        named=named,
        words=words,
    )


def reasons(detector: Detector, x: Any, rows: np.ndarray) -> dict[int, str]:
    """The features that make up some rows' scores, in words, by row."""
    if not detector.scoring.reconstructs or not len(rows):
        return {}
    top = min(3, detector.schema.features)
    named = detector.explain(_picked(x, rows), top=top)
    return {int(row): ", ".join(map(in_words, each)) for row, each in zip(rows, named, strict=True)}


def in_words(reason: Reason) -> str:
    """A reason in a few words, in the feature's own units."""
    return f"{reason.feature} {shown(reason.found)} (expected {shown(reason.expected)})"


def shown(cell: Cell) -> str:
    """A cell as a person reads it."""
    return cell if isinstance(cell, str) else number(cell)


def _picked(x: Any, rows: np.ndarray) -> Any:
    """Rows by position, of whatever a detector takes, or of what gives them."""
    if callable(x):
        return x(rows)
    table = as_table(x)
    return np.asarray(x)[rows] if table is None else table.take(rows)

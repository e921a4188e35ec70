"""What a report shows: plain data, checked; no drawing and no writing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aejax.config import InputError
from aejax.data.places import Place
from aejax.data.schema import Schema
from aejax.detection.promise import Promise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aejax.detection.tuning import Tuning
    from aejax.reporting.sections import Section
    from aejax.reporting.series import Course

# Of a row of a table, the features that are drawn.
FEATURES_DRAWN = 6


class Words(NamedTuple):
    """Cells in their columns' own units, for each of k rows a text for each of its named features.

    Attributes:
        found: what the rows hold.
        expected: what the model expected there.
    """

    found: list[list[str]]
    expected: list[list[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """Rows that are drawn one by one, in the order given.

    Args:
        x: [k, ...] the rows as the error saw them.
        reconstruction: [k, ...] what the model made of them, in the same units.
        error: [k, ...] error of every feature.
        score: [k] score of every row.
        is_anomaly: [k] labels, or None where there are none.
        row: [k] index of every row among those that the report judges.
        named: [k, m] the features that make up each row's score, most first; None draws those
            of the largest errors.
        words: of a table what the named features hold and were expected to; else None.
    """

    x: npt.NDArray[Any]
    reconstruction: npt.NDArray[Any]
    error: npt.NDArray[Any]
    score: npt.NDArray[Any]
    is_anomaly: npt.NDArray[Any] | None
    row: npt.NDArray[Any]
    named: npt.NDArray[Any] | None = None
    words: Words | None = None

    def __post_init__(self) -> None:
        count = len(self.row)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "words" and value is not None and len(value) != count:
                raise InputError(
                    f"Examples.{field.name} has {len(value)} rows; allowed: {count}, as row"
                )
        for name in ("reconstruction", "error"):
            if (shape := getattr(self, name).shape) != self.x.shape:
                raise InputError(
                    f"Examples.{name} has shape {shape}; allowed: {self.x.shape}, as x"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a report shows.

    Args:
        title: of the page.
        subtitle: one sentence on what was done, with its source.
        config: settings, nested as in `aejax.config.to_dict`.
        history: a dict an epoch: epoch, loss, and optionally validation_loss, learning_rate,
            rows_per_second and seconds.
        scores: [n] finite scores, larger is more anomalous.
        is_anomaly: [n] labels (True or 1 is an anomaly), or None.
        threshold: rows with a score above it are flagged; None where none was set.
        metrics: what `aejax.detection.metrics.evaluate` returned; empty without labels.
        published: quantity -> published value, or None.
        measured: quantity -> the value of this run, under the same keys, or None.
        seconds: stage -> seconds it took, such as compile, train and score.
        schema: of a row.
        most: the most anomalous rows, or None.
        least: the least anomalous rows, or None.
        environment: versions, device and whatever else tells runs apart.
        figures: further figures, each with its title and caption, shown as they are; PNG, where
            they were drawn before.
        tuning: the search that found the settings, or its section as it was made; or None.
        reasons: row -> in words why its score is high, of the most anomalous rows.
        places: row -> where it is in its file, of rows that are shown.
        calibrate_command: what sets the run's threshold, up to the value; "" where none does.
        alarms: what would make the detector fail in silence, a sentence each.
        promise: what the threshold promises of normal rows, or None.
        notes: further sentences.
        course: of a series, its scores over time.
    """

    title: str
    subtitle: str
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    scores: npt.NDArray[Any]
    is_anomaly: npt.NDArray[Any] | None
    threshold: float | None
    metrics: Mapping[str, Any]
    schema: Schema
    published: Mapping[str, Any] | None = None
    measured: Mapping[str, Any] | None = None
    seconds: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    most: Examples | None = None
    least: Examples | None = None
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    figures: tuple[tuple[str, str, Figure | bytes], ...] = ()
    tuning: Tuning | Section | None = None
    reasons: Mapping[int, str] = dataclasses.field(default_factory=dict)
    places: Mapping[int, Place] = dataclasses.field(default_factory=dict)
    calibrate_command: str = ""
    alarms: tuple[str, ...] = ()
    promise: Promise | None = None
    notes: tuple[str, ...] = ()
    course: Course | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or not len(self.scores):
            raise InputError(
                f"Report.scores has shape {self.scores.shape}; allowed: (rows,), at least one row"
            )
        if not (finite := np.isfinite(self.scores)).all():
            row = int(np.argmin(finite))
            raise InputError(f"Report.scores[{row}] is {self.scores[row]}; allowed: finite numbers")
        if self.is_anomaly is not None and self.is_anomaly.shape != self.scores.shape:
            raise InputError(
                f"Report.is_anomaly has shape {self.is_anomaly.shape}; "
                f"allowed: {self.scores.shape}, as scores, or None"
            )
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise InputError(
                f"Report.threshold is {self.threshold}; allowed: a finite number, or None"
            )

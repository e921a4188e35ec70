"""What reports show, as plain data that is checked, and how a page and its numbers are written.

Importing this file imports neither matplotlib nor scikit-learn; writing a report does.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aejax.config import InputError
from aejax.config.durable import make_folder, refused_as_input, write_file
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
__all__ = ["Examples", "Report", "write_metrics", "write_report"]
# What a page was made of, and the run's numbers.
KEPT, METRICS = "report.npz", "metrics.json"
MAX_BYTES = 16 << 20


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the report.

    Attributes:
        title: what it shows, in a sentence.
        head: names of the columns.
        lines: their cells; numbers are shortened for reading.
    """

    title: str
    head: tuple[str, ...]
    lines: Sequence[Sequence[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that the report of a study shows.

    Attributes:
        title: of the page.
        subtitle: what was done, with its source.
        conclusions: what the numbers say, a sentence each; written from the numbers.
        published: quantity -> published value.
        measured: quantity -> value of this run.
        tables: in the order in which they are shown.
        figures: title, caption and drawing.
        details: what `metrics.json` holds besides, as JSON knows it.
        seconds: stage -> seconds it took.
        environment: versions, device and whatever else tells runs apart.
    """

    title: str = ""
    subtitle: str = ""
    conclusions: tuple[str, ...] = ()
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    measured: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    figures: tuple[tuple[str, str, Figure], ...] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.html`, one page that needs nothing beside it, and `plots/*.png`.

    Every file is written aside and then renamed. Plots of an earlier report in the same folder
    that this one doesn't have are removed; other files are left alone.

    Args:
        report: what to show.
        folder: where; made if it is missing.

    Returns:
        Path of the page.
    """
    from aejax.reporting.page import render

    return write_page(*render(report), folder)


def write_page(page: str, plots: Mapping[str, bytes], folder: Path) -> Path:
    """Write a page as `report.html` and its plots beside it; returns the page's path."""
    plot_folder = folder / "plots"
    make_folder(plot_folder)
    for name, content in plots.items():
        write_file(plot_folder / f"{name}.png", content)
    for old in plot_folder.glob("*.png"):
        if old.stem not in plots and _is_own(old.stem):
            with refused_as_input(old):
                old.unlink()
    path = folder / "report.html"
    write_file(path, page)
    return path


def write_metrics(
    folder: Path,
    published: Mapping[str, Any] | None,
    measured: Mapping[str, Any] | None,
    metrics: Mapping[str, Any],
    seconds: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `metrics.json` with the arguments' names as its keys.

    NumPy numbers are written as plain ones, and numbers JSON cannot hold (nan, infinity) as null.

    Returns:
        What the file holds.
    """
    make_folder(folder)
    content = {
        "published": published,
        "measured": measured,
        "metrics": metrics,
        "seconds": seconds,
        "environment": environment,
    }
    path = folder / METRICS
    plain: dict[str, Any] = _plain(content)
    text = json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False)
    write_file(path, text + "\n")
    return plain


# The plots that page.py names; figures a recipe adds are numbered after "figure_".
_OWN_PLOTS = frozenset(
    {
        "scores",
        "roc",
        "precision_recall",
        "losses",
        "most_anomalous",
        "least_anomalous",
        "parallel_coordinates",
        "best_configurations",
        "objective_by_rank",
        "rows_of_groups",
        "thresholds_of_groups",
        "error_left",
        "validation_losses",
        "flagged_of_groups",
        "areas_of_groups",
        "flagged_of_files",
        "scores_over_time",
        "worst_events",
    }
)


def _is_own(name: str) -> bool:
    return name in _OWN_PLOTS or (name.startswith("figure_") and name[7:9].isdigit())


def _plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)

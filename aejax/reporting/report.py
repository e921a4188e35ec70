"""The report of a run: one page, its plots as files, and its numbers as JSON.

Importing this file imports neither matplotlib nor scikit-learn; writing a report does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config.durable import make_folder, refused_as_input, write_file
from aejax.reporting.contents import Examples, Report

__all__ = ["Examples", "Report", "write_metrics", "write_report"]

# What a page was made of, and the run's numbers.
KEPT, METRICS = "report.npz", "metrics.json"
MAX_BYTES = 16 << 20


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

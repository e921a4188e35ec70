"""Why a row has its score: what was expected of each feature, what was found, and a drawing."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import InputError
from aejax.config.durable import write_file
from aejax.data import files
from aejax.data.cells import check_cells
from aejax.data.groups import positions_of
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.groups import Groups
from aejax.detection.loading import load
from aejax.detection.reasons import in_units, named_reasons
from aejax.reporting.report import Examples

if TYPE_CHECKING:
    import pyarrow as pa

READ_ROWS = 4096


def explain_row(
    folder: Path,
    path: Path,
    row: int,
    *,
    top: int = 5,
    picture: Path | None = None,
    selection: Selection | None = None,
    group_column: str | None = None,
) -> dict[str, Any]:
    """Explain one row of a file.

    Args:
        folder: of a run or a detector; of groups, the row's own detector explains it.
        path: a file of rows.
        row: which, from 0.
        top: how many features to name.
        picture: where to draw found against expected, as PNG; or None.
        selection: how the file is read.
        group_column: of a detector of groups, the column that names a row's group, if its name
            differs from the one in training.

    Returns:
        The row's score and threshold, with groups its group, and of every named feature, most
        first, what was found and expected in its own units (of a mixed table as texts), its error
        and the usual one, which are in scaled units.

    Raises:
        InputError: if there is no such row, or it can't be scored.
    """
    selection, of_group = selection or Selection(), {}
    detector = load(folder)
    if detector.groups is not None:
        column = group_column or detector.groups.column
        selection = dataclasses.replace(selection, key_columns=(column,))
    elif group_column is not None:
        raise InputError(f"group_column is {group_column!r}; allowed without groups: none")
    if detector.schema.series is not None:
        raise InputError(
            f"{folder} scores points of a series; allowed: aejax score --top-features, which names "
            "each point's channels"
        )
    x, table = _row(detector.schema, path, row, selection)
    if detector.groups is not None:
        name = _group(detector.groups, path, row, table, column)
        detector, of_group = detector.member(name), {"group": name}
    x = detector.prepare(x)
    scaled, expected = detector.reconstruct_rows(x)
    top = min(top, detector.schema.features)
    scores, positions, errors = detector.explain_rows(x, top=top)
    mixed = detector.schema.columns is not None
    cells = in_units(detector, x, table if mixed else None)
    reasons = named_reasons(detector.schema, positions, errors, detector.usual_errors, cells)
    threshold = detector.threshold_value
    if picture is not None and mixed:
        raise InputError("--picture is given; allowed: rows of numbers (this table is mixed)")
    if picture is not None:
        _draw(detector, scaled, expected, float(scores[0]), row, picture)
    return {
        "row": row,
        **of_group,
        "score": float(scores[0]),
        "threshold": threshold,
        "is_anomaly": None if threshold is None else bool(scores[0] > threshold),
        "features": [
            {
                "feature": reason.feature,
                "found": reason.found,
                "expected": reason.expected,
                "error": reason.error,
                "usual_error": None if math.isnan(reason.usual) else reason.usual,
            }
            for reason in reasons[0]
        ],
        **({} if picture is None else {"picture": str(picture)}),
    }


def _group(groups: Groups, path: Path, row: int, keys: pa.Table | None, column: str) -> str:
    """The group of one row."""
    if keys is None:
        raise InputError(f"{path} has no columns with names; allowed with groups: CSV, Parquet")
    texts, members = positions_of(keys, column, groups.names)
    name: str = texts[0].as_py()
    if members[0] < 0:
        why = groups.why_not(name) if name else "is empty"
        raise InputError(f"{path}: row {row}: {column} {why}; allowed: a group that has one")
    return name


def _row(
    schema: Schema, path: Path, row: int, selection: Selection
) -> tuple[np.ndarray, pa.Table | None]:
    """One row, and of a mixed table its cells as they are written."""
    if row < 0:
        raise InputError(f"row is {row}; allowed: 0 and above")
    mixed = schema.columns is not None
    if mixed:
        # Handed through as keys are, to quote values that training never saw.
        columns = dict.fromkeys([*selection.key_columns, *(schema.sources or ())])
        selection = dataclasses.replace(selection, key_columns=tuple(columns))
    opened = files.open_rows(path, selection, expected=schema)
    seen = 0
    for block in opened.blocks(READ_ROWS):
        if row < seen + len(block.x):
            x = block.x[row - seen : row - seen + 1]
            cells = None if block.keys is None else block.keys.slice(row - seen, 1)
            if mixed and row - seen in block.bad:
                raise InputError(f"{path}: row {row}: {block.bad[row - seen]}")
            if mixed:
                check_cells(x, schema, f"{path}, row {row}")
            elif not np.isfinite(x).all():
                raise InputError(f"{path}: row {row} holds NaN or infinity; allowed: numbers")
            return x, cells
        seen += len(block.x)
    raise InputError(f"row is {row}; allowed: 0 to {seen - 1}, the rows of {path}")


def _draw(
    detector: Detector,
    scaled: np.ndarray,
    expected: np.ndarray,
    score: float,
    row: int,
    picture: Path,
) -> None:
    from aejax.reporting.rows import row_figure, shared_scales
    from aejax.reporting.style import to_png

    error = detector.feature_errors(scaled, expected).reshape(scaled.shape)
    shown = Examples(
        x=scaled,
        reconstruction=expected,
        error=error,
        score=np.array([score]),
        is_anomaly=None,
        row=np.array([row]),
    )
    scales = shared_scales(detector.schema, shown)
    image = to_png(row_figure(shown, 0, detector.schema, scales), f"Row {row}, score {score:.5g}")
    write_file(picture, image)

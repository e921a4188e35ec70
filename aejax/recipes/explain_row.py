"""Why a row has its score: what was expected of each feature, what was found, and a drawing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import InputError
from aejax.config.durable import write_file
from aejax.data import files
from aejax.data.missing import check_cells
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.detection.loading import load
from aejax.detection.wording import in_words
from aejax.reporting.contents import Examples

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
) -> dict[str, Any]:
    """Explain one row of a file.

    Args:
        folder: of a run or a detector.
        path: a file of rows.
        row: which, from 0.
        top: how many features to name.
        picture: where to draw found against expected, as PNG; or None.
        selection: how the file is read.

    Returns:
        The row's score and threshold, and of every named feature what was found and expected,
        its error and the usual one, all in scaled units; of a mixed table found and expected
        are texts, in the column's own units.

    Raises:
        InputError: if there is no such row, or it can't be scored.
    """
    detector = load(folder)
    x, table = _row(detector, path, row, selection or Selection())
    scaled, expected = detector.reconstruct(x)
    top = min(top, detector.schema.features)
    scores, positions, errors = detector.explain_rows(x, top=top)
    usual = detector.usual_errors
    threshold = None if detector.threshold is None else detector.threshold.value
    words = None if detector.schema.columns is None else in_words(detector, x, table)
    if picture is not None and words is not None:
        raise InputError("--picture is given; allowed: rows of numbers (this table is mixed)")
    if picture is not None:
        _draw(detector, scaled, expected, float(scores[0]), row, picture)
    return {
        "row": row,
        "score": float(scores[0]),
        "threshold": threshold,
        "is_anomaly": None if threshold is None else bool(scores[0] > threshold),
        "features": [
            {
                "feature": detector.schema.feature_name(int(position)),
                "found": float(scaled.reshape(-1)[position])
                if words is None
                else words.found[0][position],
                "expected": float(expected.reshape(-1)[position])
                if words is None
                else words.expected[0][position],
                "error": float(error),
                "usual_error": None if usual is None else float(usual[position]),
            }
            for position, error in zip(positions[0], errors[0], strict=True)
        ],
        **({} if picture is None else {"picture": str(picture)}),
    }


def _row(
    detector: Detector, path: Path, row: int, selection: Selection
) -> tuple[np.ndarray, pa.Table | None]:
    """One row, and of a mixed table its cells as they are written."""
    if row < 0:
        raise InputError(f"row is {row}; allowed: 0 and above")
    mixed = detector.schema.columns is not None
    if mixed:
        # Handed through as keys are, to quote values that training never saw.
        selection = dataclasses.replace(selection, key_columns=detector.schema.sources or ())
    opened = files.open_rows(path, selection, expected=detector.schema)
    seen = 0
    for block in opened.blocks(READ_ROWS):
        if row < seen + len(block.x):
            x = block.x[row - seen : row - seen + 1]
            keys = None if block.keys is None else block.keys.slice(row - seen, 1)
            if mixed and row - seen in block.bad:
                raise InputError(f"{path}: row {row}: {block.bad[row - seen]}")
            if mixed:
                check_cells(x, detector.schema, f"{path}, row {row}")
            elif not np.isfinite(x).all():
                raise InputError(f"{path}: row {row} holds NaN or infinity; allowed: numbers")
            return x, keys
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

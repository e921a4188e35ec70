"""A detector from files of any size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from aejax.config import Config
from aejax.data.files import Input
from aejax.data.rows import Selection
from aejax.data.training_rows import MEMORY_LIMIT, OnBadRow
from aejax.detection.detector import Detector
from aejax.detection.file_rows import left_out_alarms, rows_of_files
from aejax.detection.fitting import fit
from aejax.detection.stability import record


def fit_files(
    config: Config,
    path: Input,
    *,
    folder: str | Path | None = None,
    selection: Selection | None = None,
    memory_limit: int = MEMORY_LIMIT,
    on_bad_row: OnBadRow = "leave-out",
    keep_rows: bool = False,
    **how: Any,
) -> Detector:
    """Train a detector on the normal rows of files, and set its first threshold.

    Rows of more than `memory_limit` bytes stay on disk: a block of rows and a few batches are
    all that is in memory at a time. The detector is that of `fit` on the same rows in memory
    and with `Train.feed` "stream", bit for bit.

    Args:
        config: all settings.
        path: a file, a folder, a pattern or several of these; see `aejax.data.files.open_rows`.
        folder: keeps checkpoints, history and the rows to pick from, and continues the run
            that it holds. None uses the system's folder for temporary files (TMPDIR names
            another), which must have room for the rows.
        selection: which columns are labels and features. Only rows with a normal label train.
        memory_limit: most bytes of rows to hold in memory.
        on_bad_row: "leave-out" goes on without rows that hold a missing, infinite or
            unreadable value, and tells how many they were; "error" stops at the first.
        keep_rows: leave the rows in `folder` for a later run on the same files.
        how: as in `fit`.

    Raises:
        InputError: as `fit` does, and if files can't be read or the disk has too little room.

    Example:
        >>> detector = fit_files(Config(), "readings/2024-*.parquet")  # doctest: +SKIP
    """
    with rows_of_files(
        config,
        path,
        folder=None if folder is None else Path(folder),
        selection=selection,
        memory_limit=memory_limit,
        on_bad_row=on_bad_row,
        keep_rows=keep_rows,
        schema=how.pop("schema", None),
        should_stop=how.get("should_stop"),
    ) as rows:
        told = left_out_alarms(rows.left_out)
        detector = fit(config, rows.normal, schema=rows.schema, folder=folder, **how)
    return dataclasses.replace(detector, provenance=record(detector.provenance, told))

"""A detector from files of any size."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aejax.config import Config, InputError
from aejax.data.files import Input
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.data.seen_rows import LeftOut
from aejax.data.spool import remove_spool
from aejax.data.training_rows import MEMORY_LIMIT, OnBadRow, TrainingRows, read_training
from aejax.detection.detector import Detector
from aejax.detection.fitting import fit
from aejax.detection.stability import record
from aejax.training.loop import Interrupted


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
    home = None if folder is None else Path(folder)
    with _scratch(home) as scratch:
        rows = read_training(
            path,
            selection,
            folder=scratch,
            memory_limit=memory_limit,
            on_bad_row=on_bad_row,
            expected=how.pop("schema", None) or schema_of_files(config, path, selection),
            after_block=stopper(how.get("should_stop"), path),
        )
        check_enough(rows, path)
        told = left_out_alarms(rows.left_out)
        detector = fit(config, rows.normal, schema=rows.schema, folder=home, **how)
        if not keep_rows:
            remove_spool(scratch)
    kept = record(detector.provenance, told)
    return dataclasses.replace(detector, provenance=kept)


def schema_of_files(config: Config, path: Input, selection: Selection | None) -> Schema | None:
    """What the columns of a mixed table are; None where tables hold numbers only."""
    if config.columns.kinds == "numbers":
        return None
    from aejax.data.inference import infer_schema_of_files

    return infer_schema_of_files(path, selection or Selection(), config.columns)


def stopper(should_stop: Callable[[], bool] | None, path: Input) -> Callable[[], None]:
    """A function that raises `Interrupted` when a stop is asked for while rows are read."""

    def ask() -> None:
        if should_stop is not None and should_stop():
            raise Interrupted(f"stopped reading {path}")

    return ask


def check_enough(rows: TrainingRows, path: Input) -> None:
    """Refuse an input with too few normal rows, and say so if rows were left out."""
    if len(rows.normal) < 2:
        why = "".join(f" ({told})" for told in left_out_alarms(rows.left_out))
        raise InputError(
            f"{path} has {len(rows.normal)} normal rows{why}; allowed: at least 2 to train on"
        )


def left_out_alarms(left_out: LeftOut | None) -> list[str]:
    """One sentence about the rows that were left out, if any."""
    if left_out is None:
        return []
    return [
        f"{left_out.rows:,} of {left_out.of:,} rows are left out of training, "
        f"the first being row {left_out.first}"
    ]


@contextlib.contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="aejax-") as name:
        yield Path(name)

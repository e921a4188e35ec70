"""Rows to train on, from files of any size: read, checked, and removed when they are done with."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from aejax.config import Config, InputError
from aejax.config.effort import settings_beside
from aejax.data import files
from aejax.data.column_checks import check_array
from aejax.data.files import Input
from aejax.data.groups import read_groups
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.data.sources import is_table
from aejax.data.spool import remove_spool
from aejax.data.training_rows import MEMORY_LIMIT, LeftOut, OnBadRow, TrainingRows, read_training
from aejax.training.loop import Interrupted


@contextlib.contextmanager
def rows_of_files(
    config: Config,
    path: Input,
    *,
    folder: Path | None,
    selection: Selection | None = None,
    memory_limit: int = MEMORY_LIMIT,
    on_bad_row: OnBadRow = "leave-out",
    keep_rows: bool = False,
    schema: Schema | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[TrainingRows]:
    """The rows of files, in memory or on disk, as long as they are needed.

    Args:
        config: all settings.
        path: as in `fit`.
        folder: likewise, as `selection`, `memory_limit`, `on_bad_row` and `keep_rows`.
        selection: which columns are labels and features.
        memory_limit: most bytes of rows to hold in memory.
        on_bad_row: what becomes of a row that can't be used.
        keep_rows: leave the rows in `folder`; they are left, too, where training them failed.
        schema: that the rows must have; None infers it.
        should_stop: asked while rows are read.

    Raises:
        InputError: if files can't be read, hold too few normal rows, or the disk has too little
            room.
        Interrupted: when `should_stop` said so.
    """
    with _scratch(folder) as scratch:
        rows = read_training(
            path,
            selection,
            folder=scratch,
            memory_limit=memory_limit,
            on_bad_row=on_bad_row,
            expected=schema_of_files(config, path, selection, schema),
            after_block=stopper(should_stop, path),
        )
        check_rows(rows, path)
        yield rows
        if not keep_rows:
            remove_spool(scratch)


def schema_of_files(
    config: Config,
    path: Input,
    selection: Selection | None,
    schema: Schema | None = None,
    *,
    groups: bool = False,
) -> Schema | None:
    """What has to be known of rows before they are read: None where nothing has.

    Of tables, which columns are features and, if they are mixed, what each is; of numbers their
    offset, where they need one.

    Args:
        config: all settings.
        path: as in `fit`.
        selection: which columns are labels and features.
        schema: what is known already; None for nothing.
        groups: whether rows belong to groups, which have an offset each.

    Raises:
        InputError: if files can't be read, a column is no feature, or none is left.
    """
    numbers = config.columns.kinds == "numbers"
    if schema is None and not (numbers and not is_table(path)):
        from aejax.data.inference import infer_schema_of_files

        chosen = selection or Selection()
        advice = _advice(config)
        schema = infer_schema_of_files(path, chosen, config.columns, advice=advice)
    return files.schema_with_offset(path, selection, schema) if numbers and not groups else schema


def _advice(config: Config) -> Literal["drop", "mixed"]:
    """What a person can do about a column that is no number."""
    # What nobody named is decided anew for columns of different kinds.
    usual = settings_beside(None, mixed=False)
    anew = {name: None for name, value in usual.items() if getattr(config, name) == value}
    columns = dataclasses.replace(config.columns, kinds="mixed")
    try:
        dataclasses.replace(config, **anew, columns=columns)  # type: ignore[arg-type]
    except InputError:
        # Not with this network, score or scale.
        return "drop"
    return "mixed"


def stopper(should_stop: Callable[[], bool] | None, path: Input) -> Callable[[], None]:
    """A function that raises `Interrupted` when a stop is asked for while rows are read."""

    def ask() -> None:
        if should_stop is not None and should_stop():
            raise Interrupted(f"stopped reading {path}")

    return ask


class GroupRows(NamedTuple):
    """All rows of files that name groups.

    Attributes:
        x: rows, [n, features].
        normal: which of them are normal, bool [n].
        labelled: whether files say so.
        groups: each row's group, text [n].
        schema: of the rows.
    """

    x: np.ndarray
    normal: np.ndarray
    labelled: bool
    groups: np.ndarray
    schema: Schema


def groups_of_files(
    config: Config, path: Input, column: str, selection: Selection, schema: Schema | None = None
) -> GroupRows:
    """Rows of files with the group of each, in memory.

    Args:
        config: all settings.
        path: CSV or Parquet files, as in `fit`.
        column: that names groups.
        selection: which columns are labels and features.
        schema: that the rows must have; None infers it.

    Raises:
        InputError: if files can't be read, or a row has no group or holds no finite number.
    """
    others = dataclasses.replace(selection, key_columns=(*selection.key_columns, column))
    features = schema_of_files(config, path, others, schema, groups=True)
    x, y, groups, schema = read_groups(path, selection, column, features=features)
    files.check_finite(x, schema, str(path))
    normal = np.ones(len(x), bool) if y is None else y == 0
    return GroupRows(x, normal, y is not None, groups, schema)


def check_rows(rows: TrainingRows, path: Input) -> None:
    """Refuse an input with too few normal rows or that are all the same, and say what is odd."""
    if len(rows.normal) < 2:
        why = "".join(f" ({alarm})" for alarm in left_out_alarms(rows.left_out))
        raise InputError(
            f"{path} has {len(rows.normal)} normal rows{why}; allowed: at least 2 to train on"
        )
    if rows.schema.names is None:
        check_array(rows.normal)


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

"""Rows and series to train on: read, checked, and removed when they are done with."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from aejax.config import Config, InputError, Window
from aejax.config.effort import settings_beside
from aejax.data import files
from aejax.data.blocks import Block
from aejax.data.column_checks import check_array
from aejax.data.dates import in_words
from aejax.data.files import Input
from aejax.data.groups import read_groups
from aejax.data.rows import Selection
from aejax.data.schema import Clock, Schema, Series
from aejax.data.series import Points, WindowRows, window_rows
from aejax.data.series_columns import (
    Followed,
    cells_of,
    columns_of,
    files_of,
    followed,
    in_order,
    points_of,
    refuse_bad,
    settled_series,
    training_clock,
    with_columns,
    without_columns,
)
from aejax.data.sources import is_input, is_table
from aejax.data.spool import remove_spool
from aejax.data.training_rows import MEMORY_LIMIT, LeftOut, OnBadRow, TrainingRows, read_training
from aejax.detection.rows import as_stored, training_rows
from aejax.training.loop import Interrupted

READ_ROWS = 1 << 16
logger = logging.getLogger("aejax")


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


def training_series(
    config: Config,
    x: Any,
    schema: Schema | None = None,
    *,
    selection: Selection | None = None,
    memory_limit: int | None = None,
    on_bad_row: str = "leave-out",
    after_block: Callable[[], None] = lambda: None,
) -> tuple[WindowRows, list[str]]:
    """The windows of a series to train on, and sentences about the series.

    Args:
        config: all settings, a `window` among them.
        x: points: an array, [n] of one channel or [n, channels], or a table; or files of these.
        schema: of a point; None infers it. Or that of windows, which is then what they must be.
        selection: of files, which columns are labels and features. Windows that hold an anomalous
            point don't train.
        memory_limit: of files, most bytes of points to hold in memory.
        on_bad_row: "leave-out" goes on without windows that hold a point that can't be used;
            "error" stops at the first such point.
        after_block: called after every block that is read; what it raises ends the reading.

    Raises:
        InputError: if times don't rise, no window is whole, or rows can't be read.
    """
    assert config.window is not None
    series = None if schema is None else schema.series
    table = schema if series is None else series.points
    window = config.window if series is None else series.window
    clock = None if series is None else series.clock
    if is_input(x):
        read = _of_files(config, window, clock, x, table, selection, memory_limit, after_block)
    else:
        read = _of_memory(config, window, clock, x, table)
    if on_bad_row == "error":
        refuse_bad(read.x, read.when, read.schema, read.bad)
    order = in_order(read.when, window)
    if series is None:
        points, series = settled_series(
            read.x, read.when, window, read.clock, read.schema, read.bad, order
        )
    else:
        points = points_of(read.x, read.when, series.longest_step, read.bad, at=order)
    anomalous = read.anomalous if order is None else read.anomalous[order]
    unusable = int(np.sum(~points.usable & ~anomalous))
    windows = window_rows(points._replace(usable=points.usable & ~anomalous), series)
    alarms = [*read.alarms]
    if unusable:
        alarms.append(
            f"{unusable:,} of {len(points.x):,} points can't be used, and no window that holds one "
            "trains"
        )
    if order is not None and (twice := len(read.x) - len(order)):
        alarms.append(f"{twice:,} rows whose time another row has are left out")
    logger.info("aejax: %s", _in_words(points, series, len(windows)))
    if read.less_offset:
        windows = WindowRows(windows.points, windows.starts, windows.schema, less_offset=True)
    return windows, alarms


def more_windows(config: Config, x: Any, schema: Schema) -> WindowRows:
    """The windows of another series, to validate or to set a threshold on.

    Args:
        config: all settings.
        x: points, as in `training_series`; or windows already.
        schema: of the windows.
    """
    return x if isinstance(x, WindowRows) else training_series(config, x, schema)[0]


def _in_words(points: Points, series: Series, windows: int) -> str:
    """What is found of a series, in a sentence."""
    said = f"windows of {series.length} points"
    if series.period is not None:
        said += f" (the series repeats after {series.period})"
    if series.step is not None and series.clock is not None:
        said += f", a point every {in_words(series.step, series.clock)}"
    runs = int(points.broken.sum())
    said += f"; {len(points.x):,} points in {runs:,} unbroken run{'s' if runs > 1 else ''}"
    return f"{said}, {windows:,} windows"


class _Read(NamedTuple):
    """Points in the order of the input.

    Attributes:
        x: numbers, [n, channels].
        when: each is.
        clock: how times are written; None without any.
        schema: of a point.
        bad: why some can't be used, by position, though none of their numbers says it.
        anomalous: which are labelled so, bool [n].
        alarms: sentences about values.
        less_offset: whether numbers are less the schema's offset.
    """

    x: np.ndarray
    when: Followed
    clock: Clock | None
    schema: Schema
    bad: dict[int, str]
    anomalous: np.ndarray
    alarms: list[str]
    less_offset: bool


def _of_memory(
    config: Config, window: Window, clock: Clock | None, x: Any, schema: Schema | None
) -> _Read:
    features, cells = without_columns(x, columns_of(window))
    read = training_rows(features, schema, config.columns)
    clock = clock or training_clock(cells, window)
    rows = as_stored(read.rows, read.schema)
    when = followed(cells, window, clock, len(rows))
    none = np.zeros(len(rows), bool)
    return _Read(rows, when, clock, read.schema, {}, none, read.alarms, True)


def _of_files(
    config: Config,
    window: Window,
    clock: Clock | None,
    path: Input,
    schema: Schema | None,
    selection: Selection | None,
    memory_limit: int | None,
    after_block: Callable[[], None],
) -> _Read:
    columns = columns_of(window)
    selection = with_columns(selection or Selection(), columns)
    selection = dataclasses.replace(selection, bad_cells="null")
    expected = schema if schema is not None else schema_of_files(config, path, selection)
    opened = files.open_rows(path, selection, expected)
    if len(opened.schema.shape) != 1:
        raise InputError(f"{path} holds rows of shape {opened.schema.shape}; allowed: points")
    blocks: list[Block] = []
    held = 0
    for block in opened.blocks(READ_ROWS):
        blocks.append(block)
        held += block.x.nbytes
        if memory_limit is not None and held > memory_limit:
            raise InputError(
                f"{path} has points of more than {memory_limit:,} bytes; allowed: a series that "
                "fits in memory, or a higher memory_limit (--memory-limit)"
            )
        after_block()
    x = np.concatenate([block.x for block in blocks])
    cells = cells_of(blocks, columns)
    clock = clock or training_clock(cells, window)
    when = followed(cells, window, clock, len(x), files_of(blocks))
    bad = {block.first_row + row: str(why) for block in blocks for row, why in block.bad.items()}
    anomalous = np.zeros(len(x), bool)
    if blocks and blocks[0].y is not None:
        anomalous = np.concatenate([block.y for block in blocks if block.y is not None]) == 1
    return _Read(x, when, clock, opened.schema, bad, anomalous, [], False)

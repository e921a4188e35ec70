"""Series that people hand over, in memory or in files: windows to train on, scores of points."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aejax.config import Config, InputError, Window
from aejax.data import files
from aejax.data.blocks import Block
from aejax.data.files import Input
from aejax.data.rows import Selection
from aejax.data.schema import Clock, Schema, Series
from aejax.data.series import (
    Points,
    WindowRows,
    point_scores,
    why_no_score,
    window_rows,
    windows_of,
)
from aejax.data.series_columns import (
    Followed,
    followed,
    in_order,
    points_of,
    settled_series,
    training_clock,
    with_dropped,
    without_columns,
)
from aejax.data.sources import is_input
from aejax.data.times import in_words
from aejax.detection.file_rows import schema_of_files
from aejax.detection.rows import as_rows, as_stored, training_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from aejax.detection.fitted import FittedModel

READ_ROWS = 1 << 16
# Windows whose errors are in memory together.
ERRORS_AT_ONCE = 1 << 13

logger = logging.getLogger("aejax")


def is_windows(x: Any, schema: Schema) -> bool:
    """Whether something holds windows, [n, length, channels], and no series of points."""
    return getattr(x, "ndim", 0) == 3 and tuple(x.shape[1:]) == schema.shape


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
        _refuse_bad(read.x, read.when, read.schema, read.bad)
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
    features, cells = without_columns(x, _columns(window))
    given = training_rows(features, schema, config.columns)
    clock = clock or training_clock(cells, window)
    rows = as_stored(given.rows, given.schema)
    when = followed(cells, window, clock, len(rows))
    none = np.zeros(len(rows), bool)
    return _Read(rows, when, clock, given.schema, {}, none, given.alarms, True)


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
    columns = _columns(window)
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


def _columns(window: Window) -> tuple[str, ...]:
    return tuple(name for name in (window.time, window.series) if name is not None)


def with_columns(selection: Selection, columns: tuple[str, ...]) -> Selection:
    """A selection that carries the columns of times and of series, first."""
    return dataclasses.replace(selection, key_columns=(*columns, *selection.key_columns))


def cells_of(blocks: list[Block], columns: tuple[str, ...]) -> dict[str, pa.Array]:
    """Columns of times and of series of blocks that follow each other.

    Raises:
        InputError: if the rows have no named columns.
    """
    if not columns:
        return {}
    import pyarrow as pa

    if any(block.keys is None for block in blocks):
        raise InputError(
            f"rows have no columns with names; allowed: a table with {', '.join(columns)}"
        )
    tables = [block.keys.select(list(columns)) for block in blocks if block.keys is not None]
    table = pa.concat_tables(tables, promote_options="permissive")
    return {name: table.column(name).combine_chunks() for name in columns}


def files_of(blocks: list[Block]) -> np.ndarray:
    """Number of each row's file, int64 [n]."""
    runs = [run for block in blocks for run in block.runs]
    return np.repeat([run.file for run in runs], [run.rows for run in runs])


class ScoredSeries(NamedTuple):
    """Scores of the points of a series.

    Attributes:
        scores: float32 [n], NaN where there is none.
        reasons: why not, by position.
    """

    scores: np.ndarray
    reasons: dict[int, str]


def score_series(
    detector: FittedModel, x: Any, *, batch_size: int | None = None, tolerant: bool = False
) -> ScoredSeries:
    """Scores of the points of a series in memory, in its order.

    Args:
        detector: of windows.
        x: as in `training_series`.
        batch_size: windows in a compiled batch.
        tolerant: go on where a point can't be used, instead of refusing it.

    Raises:
        InputError: if points don't fit the schema, or one can't be used.
    """
    series = _series_of(detector)
    features, cells = without_columns(x, series.columns)
    rows = as_stored(as_rows(features, series.points)[0], series.points)
    when = followed(cells, series.window, series.clock, len(rows))
    if not tolerant:
        _refuse_bad(rows, when, series.points)
    order = None
    if not tolerant or series.window.order == "sort":
        order = in_order(when, series.window)
    points = points_of(rows, when, series.longest_step, at=order)
    own = score_points(detector, points, batch_size=batch_size)
    reasons = with_dropped(
        points._replace(reasons=why_no_score(points, own, series)), order, len(rows)
    )
    for row in np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
        channel = int(np.argmin(np.isfinite(rows[row])))
        reasons.setdefault(row, f"{series.points.feature_name(channel)} is {rows[row, channel]}")
    if order is None:
        return ScoredSeries(own, reasons)
    scores = np.full(len(rows), np.nan, np.float32)
    scores[order] = own
    return ScoredSeries(scores, reasons)


def score_points(
    detector: FittedModel, points: Points, *, batch_size: int | None = None
) -> np.ndarray:
    """Scores of points, float32 [n]; NaN where there is none."""
    series = _series_of(detector)
    if len(points.x) < series.length:
        return np.full(len(points.x), np.nan, np.float32)
    scores = detector.score_rows(_usable_windows(points, series), batch_size=batch_size)
    return point_scores(scores, points.ages, series)


def _usable_windows(points: Points, series: Series) -> np.ndarray:
    """All windows, whole or not, so that each has its place in a batch; 0 for unusable points."""
    x = points.x
    if not points.usable.all():
        x = np.where(points.usable[:, None], x, 0).astype(x.dtype)
    return windows_of(x, series.length)


def channel_errors(
    detector: FittedModel, points: Points, *, batch_size: int | None = None
) -> np.ndarray:
    """Each channel's mean error in the windows that a point's score is of, float32 [n, channels].

    NaN where a point has no score.

    Raises:
        InputError: if the network gives no reconstructions.
    """
    series = _series_of(detector)
    ages, channels = points.ages, series.points.features
    windows = _usable_windows(points, series)
    each = np.empty((len(windows), channels), np.float32)
    for first in range(0, len(windows), ERRORS_AT_ONCE):
        some = windows[first : first + ERRORS_AT_ONCE]
        errors = detector.errors_of(some, batch_size=batch_size)
        each[first : first + len(some)] = errors.reshape(len(some), -1, channels).mean(axis=1)
    columns = [point_scores(each[:, channel], ages, series) for channel in range(channels)]
    return np.stack(columns, axis=1)


def whole_windows(detector: FittedModel, x: Any) -> np.ndarray:
    """All whole windows of a series, [n, length, channels], as the detector's methods take them."""
    series = _series_of(detector)
    features, cells = without_columns(x, series.columns)
    # With its offset still: whoever takes the windows subtracts it.
    rows, _ = as_rows(features, series.points.with_offset(None))
    when = followed(cells, series.window, series.clock, len(rows))
    order = in_order(when, series.window)
    points = points_of(rows, when, series.longest_step, at=order)
    return windows_of(points.x, series.length)[points.ages[series.length - 1 :] >= series.length]


class SeriesState(NamedTuple):
    """What is remembered of a series between two calls.

    Attributes:
        x: its last points as they are scored, float32 [at most length - 1, channels].
        times: of these, and at least of the last point, [n]; None without times.
    """

    x: np.ndarray
    times: np.ndarray | None


def score_next(
    detector: FittedModel, state: SeriesState | None, x: Any, *, batch_size: int | None = None
) -> tuple[SeriesState, np.ndarray]:
    """The scores of points that follow those before; see `Detector.score_next`."""
    series = _series_of(detector)
    if series.window.scores != "causal":
        raise InputError(
            f"Window.scores is {series.window.scores!r}; allowed with score_next: 'causal'"
        )
    features, cells = without_columns(x, series.columns)
    rows = as_stored(as_rows(features, series.points)[0], series.points)
    when = followed(cells, series.window, series.clock, len(rows))
    if when.series is not None and len(np.unique(when.series)) > 1:
        raise InputError("rows are of several series; allowed with score_next: one, and its state")
    new, times = len(rows), when.times
    readable = when.readable
    if state is not None:
        rows = np.concatenate([state.x, rows])
        times = None if times is None else np.concatenate([state.times, times])
        readable = np.concatenate([np.ones(len(state.x), bool), readable])
    points = points_of(rows, Followed(times, readable, {}, None), series.longest_step)
    scores = score_points(detector, points, batch_size=batch_size)[len(rows) - new :]
    # Unusable points are forgotten with what was before them.
    kept = min(int(points.ages[-1]) if len(rows) else 0, series.length - 1)
    first = len(rows) - kept
    return SeriesState(rows[first:], None if times is None else times[first:]), scores


def _series_of(detector: FittedModel) -> Series:
    if detector.schema.series is None:
        raise InputError("the detector scores rows by themselves; allowed: one with Config.window")
    return detector.schema.series


def _refuse_bad(
    rows: np.ndarray, when: Followed, schema: Schema, bad: Mapping[int, str] = MappingProxyType({})
) -> None:
    finite = np.isfinite(rows)
    reasons = {**when.reasons, **bad}
    for row, channel in np.argwhere(~finite)[:1].tolist():
        reasons.setdefault(row, f"{schema.feature_name(channel)} is {rows[row, channel]}")
    if reasons:
        row = min(reasons)
        raise InputError(
            f"row {row}: {reasons[row]}; allowed: finite numbers, and a time where there are times "
            "(or on_bad_row)"
        )

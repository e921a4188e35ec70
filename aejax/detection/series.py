"""Series that people hand over, in memory or in files: windows to train on, scores of points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aejax.config import InputError
from aejax.data.schema import Schema, Series
from aejax.data.series import (
    Points,
    point_scores,
    why_no_score,
    windows_of,
)
from aejax.data.series_columns import (
    Followed,
    followed,
    in_order,
    points_of,
    refuse_bad,
    with_dropped,
    without_columns,
)
from aejax.detection.events import Event, check_merging, runs_of
from aejax.detection.rows import as_rows, as_stored

if TYPE_CHECKING:
    from aejax.detection.detector import Detector
    from aejax.detection.explained import ExplainedModel
    from aejax.detection.fitted import FittedModel

# Windows whose errors are in memory together.
ERRORS_AT_ONCE = 1 << 13


def is_windows(x: Any, schema: Schema) -> bool:
    """Whether something holds windows, [n, length, channels], and no series of points."""
    return getattr(x, "ndim", 0) == 3 and tuple(x.shape[1:]) == schema.shape


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
    rows, points, order, _ = _in_memory(series, x, tolerant)
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


def _in_memory(
    series: Series, x: Any, tolerant: bool
) -> tuple[np.ndarray, Points, np.ndarray | None, Any]:
    """Rows as they were given, as points in order, their positions, and the cells of times."""
    features, cells = without_columns(x, series.columns)
    rows = as_stored(as_rows(features, series.points)[0], series.points)
    when = followed(cells, series.window, series.clock, len(rows))
    if not tolerant:
        refuse_bad(rows, when, series.points)
    order = None
    if not tolerant or series.window.order == "sort":
        order = in_order(when, series.window)
    points = points_of(rows, when, series.longest_step, at=order)
    in_time = {name: one if order is None else one.take(order) for name, one in cells.items()}
    return rows, points, order, in_time


def series_events(
    detector: Detector, x: Any, *, merge_gap: int, least_length: int, top: int
) -> list[Event]:
    """The events of a series in memory; see `Detector.events`."""
    check_merging(merge_gap, least_length)
    series = _series_of(detector)
    channels = series.points.features
    if not 0 <= top <= channels:
        raise InputError(f"top is {top}; allowed: 0 to {channels} channels")
    _, points, _, cells = _in_memory(series, x, tolerant=True)
    scores = score_points(detector, points)
    flags = detector._required_threshold().flags(scores, None) & ~np.isnan(scores)
    at = np.flatnonzero(flags)
    own = {name: one.take(at).to_pylist() for name, one in cells.items()}
    worst = None
    if top:
        errors = channel_errors(detector, points)[at]
        usual = detector.usual_channel_errors
        order = np.argsort(-(errors if usual is None else errors / usual), axis=1, kind="stable")
        names = [series.points.feature_name(channel) for channel in range(channels)]
        worst = [[names[channel] for channel in row] for row in order[:, :top]]
    runs = runs_of(
        at,
        scores[at],
        times=own.get(series.window.time or ""),
        series=own.get(series.window.series or ""),
        channels=worst,
        merge_gap=merge_gap,
    )
    return [event for event in runs if event.length >= least_length]


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
    detector: ExplainedModel, points: Points, *, batch_size: int | None = None
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


class InUnits(NamedTuple):
    """A series in memory as it was given, in the order of its times.

    Attributes:
        points: with numbers in their own units.
        when: the rows are, in the order of the input.
        order: positions of the points in the input; None where they are in order.
        ends: the last points of whole windows, [m].
    """

    points: Points
    when: Followed
    order: np.ndarray | None
    ends: np.ndarray

    def windows(self, ends: np.ndarray, length: int) -> np.ndarray:
        """The windows that end with these points, [k, length, channels]."""
        return windows_of(self.points.x, length)[ends - (length - 1)]


def in_units(detector: FittedModel, x: Any) -> InUnits:
    """A series in memory, in its own units; takes what `score_series` takes."""
    series = _series_of(detector)
    features, cells = without_columns(x, series.columns)
    rows, _ = as_rows(features, series.points.with_offset(None))
    when = followed(cells, series.window, series.clock, len(rows))
    order = in_order(when, series.window)
    points = points_of(rows, when, series.longest_step, at=order)
    return InUnits(points, when, order, np.flatnonzero(points.ages >= series.length))


def whole_windows(detector: FittedModel, x: Any) -> np.ndarray:
    """All whole windows of a series, [n, length, channels], as the detector's methods take them."""
    # With its offset still: whoever takes the windows subtracts it.
    points = in_units(detector, x)
    return points.windows(points.ends, _series_of(detector).length)


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

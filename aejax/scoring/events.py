"""Scores of the points of a series, and the events of a finished job: a table beside the scores."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config.durable import refused_as_input, written_aside
from aejax.data.blocks import Block
from aejax.data.offsets import centred
from aejax.data.rows import finite_rows
from aejax.data.schema import Series
from aejax.data.series import BESIDE_BAD, why_no_score
from aejax.data.series_columns import cells_of, files_of, followed, points_of
from aejax.detection.detector import Detector
from aejax.detection.events import Event, joined, runs_of
from aejax.detection.rows import as_stored
from aejax.detection.series import channel_errors, score_points
from aejax.scoring.manifest import CONTINUES, EVENTS, Manifest
from aejax.scoring.tabulation import NO_WINDOW, Refusal, Scored, key_names

MOST_SHOWN = 20


def write_events(
    manifest: Manifest, series: Series, *, merge_gap: int, least_length: int
) -> dict[str, Any]:
    """Write `_events.csv`, a line for each event, and say how many they are.

    It is made of the parts, one in memory at a time: what a stopped job leaves says the same.

    Args:
        manifest: of a job whose rows are flagged.
        series: that the points are of.
        merge_gap: as in `aejax.events`.
        least_length: likewise.

    Returns:
        "events", how many; "worst_events", those with the highest scores, JSON-ready.
    """
    count = 0
    worst: list[dict[str, Any]] = []
    pieces = (event for part in manifest.parts for event in _of_part(manifest, part, series))
    with (
        refused_as_input(manifest.folder, CONTINUES),
        written_aside(manifest.folder / EVENTS) as file,
    ):
        file.write(_csv(_columns(series)))
        for event in joined(pieces, merge_gap=merge_gap, least_length=least_length):
            line = _line(event, series)
            file.write(_csv(line.values()))
            count += 1
            worst = sorted([*worst, line], key=lambda one: -one["score"])[:MOST_SHOWN]
    return {"events": count, "worst_events": worst}


def _of_part(manifest: Manifest, part: dict[str, Any], series: Series) -> Iterator[Event]:
    """Events of one part."""
    identity = manifest.identity
    names = key_names(identity["key_columns"], names_files=identity["names_files"])
    time = None if series.window.time is None else names[series.window.time]
    own = None if series.window.series is None else names[series.window.series]
    wanted = ["row", "score", "is_anomaly", time, own]
    if identity["top_features"]:
        wanted.append("top_features")
    with pq.ParquetFile(manifest.folder / part["name"]) as file:
        rows = file.read([name for name in wanted if name is not None])
    rows = rows.filter(pc.fill_null(rows.column("is_anomaly"), False))
    channels = rows.column("top_features").to_pylist() if identity["top_features"] else None
    yield from runs_of(
        rows.column("row").to_numpy(),
        rows.column("score").to_numpy(),
        times=None if time is None else _texts(rows.column(time)),
        series=None if own is None else _texts(rows.column(own)),
        channels=channels,
        merge_gap=0,
    )


def _texts(cells: pa.ChunkedArray) -> list[Any]:
    """Times and names as they are written: text, and dates in ISO 8601."""
    cells = cells.cast(cells.type.value_type) if pa.types.is_dictionary(cells.type) else cells
    if pa.types.is_temporal(cells.type):
        cells = cells.cast(pa.string())
    return list(cells.to_pylist())


def _csv(cells: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _columns(series: Series) -> list[str]:
    example = Event(first=0, last=0, peak=0, score=0.0, flagged=0)
    return list(_line(example, series))


def _line(event: Event, series: Series) -> dict[str, Any]:
    times = {"start": event.start, "end": event.end, "peak": event.peak_time}
    return {
        **({} if series.window.series is None else {"series": event.series}),
        **(times if series.window.time is not None else {}),
        "first_row": event.first,
        "last_row": event.last,
        "peak_row": event.peak,
        "flagged": event.flagged,
        "score": event.score,
        "channels": " ".join(event.channels),
    }


def score_block(detector: Detector, block: Block, *, top_features: int, batch_size: int) -> Scored:
    """The scores of a block's points, and the channels that make them up where these are asked.

    Args:
        detector: of windows.
        block: rows as they are in files, with those around them.
        top_features: how many channels to name for every point.
        batch_size: windows in a compiled batch.
    """
    series = detector.schema.series
    assert series is not None
    around = [one for one in (block.before, block, block.after) if one is not None]
    first = 0 if block.before is None else len(block.before.x)
    own = slice(first, first + len(block.x))
    x = np.concatenate([as_stored(centred(one.x, series.points), series.points) for one in around])
    starts = np.cumsum([0, *(len(one.x) for one in around)])
    bad = {
        int(start) + row: why
        for start, one in zip(starts[:-1], around, strict=True)
        for row, why in one.bad.items()
    }
    cells = cells_of(around, series.columns)
    when = followed(cells, series.window, series.clock, len(x), files_of(around))
    points = points_of(x, when, series.longest_step, bad)
    scores = score_points(detector, points, batch_size=batch_size)
    refused: dict[int, Refusal] = {}
    unreadable = ~finite_rows(x)
    for row, why in why_no_score(points, scores, series).items():
        # Numbers that are missing say so themselves, as those of any row do.
        if own.start <= row < own.stop and not unreadable[row] and row not in bad:
            kind = getattr(why, "kind", why)
            of_window = kind if why is BESIDE_BAD else NO_WINDOW
            refused[row - first] = Refusal(
                of_window if points.usable[row] else "time not readable", kind, str(why)
            )
    features = errors = None
    if top_features:
        by_channel = channel_errors(detector, points, batch_size=batch_size)[own]
        usual = detector.usual_channel_errors
        beside = by_channel if usual is None else by_channel / usual
        features = np.argsort(-beside, axis=1, kind="stable")[:, :top_features].astype(np.int32)
        errors = np.take_along_axis(by_channel, features, axis=1)
    return Scored(
        block=dataclasses.replace(block, x=x[own], before=None, after=None),
        scores=scores[own],
        features=features,
        errors=errors,
        batch_limit=detector.batch_limit.rows,
        refused=refused,
    )

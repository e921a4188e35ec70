"""The events of a finished job: consecutive flags of a series, in a table beside the scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config.durable import refused_as_input, written_aside
from aejax.data.schema import Series
from aejax.detection.events import Event, joined, runs_of
from aejax.scoring.manifest import CONTINUES, EVENTS, Manifest
from aejax.scoring.tabulation import key_names

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

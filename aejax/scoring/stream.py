"""Score files of any size: read, score and write overlapped, a few blocks in memory at a time."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from aejax.config import InputError
from aejax.config.checks import check_unicode
from aejax.data import files
from aejax.data.files import Rows
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.data.series_columns import with_columns
from aejax.detection.alarms import tell
from aejax.detection.detector import Detector
from aejax.detection.events import check_merging
from aejax.detection.placed import default_batch_size
from aejax.scoring.events import write_events
from aejax.scoring.file_totals import Files
from aejax.scoring.grouped import counted_groups, with_groups
from aejax.scoring.inspection import write_model
from aejax.scoring.job import Engine, Job, Segment, check_layer, on_devices, write_parts
from aejax.scoring.manifest import Manifest, claim, lock
from aejax.scoring.parts import Parts
from aejax.scoring.progress import Progress, ProgressKind
from aejax.scoring.tabulation import Tabulator, key_names, threshold_identity
from aejax.scoring.tally import calibration_rows
from aejax.scoring.totals import Totals

# Values in a part: what a kill can lose.
PART_VALUES = 1 << 27
LEAST_PART_ROWS, MOST_PART_ROWS = 1 << 14, 1 << 20
MOST_TOP = 1_000_000

logger = logging.getLogger("aejax")


def score_files(
    detector: Detector,
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    selection: Selection | None = None,
    group_column: str | None = None,
    top_features: int = 0,
    layer: str | None = None,
    top: int = 0,
    batch_size: int | None = None,
    devices: int | None = None,
    part_rows: int | None = None,
    on_bad_row: Literal["null", "error"] = "null",
    merge_gap: int = 0,
    least_length: int = 1,
    restart: bool = False,
    append: bool = False,
    progress: ProgressKind = "none",
    engine: Engine | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Score files into a folder of Parquet parts; continue where a stopped job left off.

    The parts have the carried key columns, `file` and `file_row` where the input can be more
    than one file, `row` (int64, from 0 in the whole input), `score` (float32, null for a bad
    row), `p_value` (float64) where the threshold gives any, `is_anomaly` (bool, null where
    there is no threshold or no score), `reason` (a category: what makes a row bad, else null), with
    `top_features` the lists `top_features`, `top_errors` (in scaled units), `top_found` and
    `top_expected` (in the features' own, of a mixed table as texts), and with `layer` the list
    `state`.

    Args:
        detector: with its threshold, if rows are to be flagged.
        path: a file, a folder, a pattern, several of these, or a data set as "mnist:test"; see
            `aejax.data.files.open_rows`. Columns are matched by name.
        out: folder of the scores.
        selection: which columns are carried through.
        group_column: of a detector of groups, the column that names a row's group, if its name
            differs from the one in training. It is carried through; rows of groups without a
            detector have a null score, and `threshold` (float64) is each row's own.
        top_features: how many features to name for every row; 0 for none.
        layer: whose neurons' states to write for every row, one of `detector.layers`, or
            "latent" for what `Detector.encode` gives; None for none.
        top: how many of the most anomalous rows of all to write to `_top/rows.parquet`.
        batch_size: rows in a compiled batch; compilers may round the last digit of a score
            in another way for another size.
        devices: how many of this process's devices score, each a batch of its own; None takes
            the detector's. The scores are the same.
        part_rows: input rows in one part; None lets the number of features decide.
        on_bad_row: "null" gives a row with a missing, infinite or unreadable value a null
            score; "error" stops at it.
        merge_gap: of a series, so many rows that aren't flagged, at most, lie between two flags of
            an event; the folder's `_events.csv` has a line for each.
        least_length: of a series, events of fewer rows, from the first flag to the last, are none.
        restart: start over.
        append: score the files that are new to a folder, behind the rows that it has.
        progress: "bar" or "json" lines on stderr, or "none".
        engine: what scores the parts, as `aejax.scoring.ray.RayEngine`; None is this process.
            The parts are the same to the byte, and either goes on where the other stopped.
        should_stop: asked after every block (on Ray, every part); True raises `Interrupted`.

    Returns:
        The summary: "added", what the newest run of the job added, and the same of all its runs:
        rows, flagged, flagged_rate, bad_rows, bad_rows_by_reason, lowest, highest, parts,
        population_stability, quantiles; histogram; "runs" and "newest_files", the newest first
        ("_files.csv" in the folder has all files); "alarms", sentences about what was added; and
        seconds, rows_per_second, resumed_at_row, scores. With groups also groups,
        most_flagged_groups and, where there are any, unknown_groups; the folder's `_groups.csv`
        has a line for every group. Of a series also
        events and worst_events.

    Raises:
        InputError: if a file can't be read, rows don't fit, the folder holds another job, or
            its disk is full.
        Interrupted: as asked. After this, as after any kill, the same call continues.

    Example:
        >>> score_files(detector, "readings/2024-*.parquet", "scores")  # doctest: +SKIP
    """
    out = Path(out)
    check_unicode(out)
    schema = detector.schema
    detector, shared_by = on_devices(detector, devices)
    part_rows = default_part_rows(schema) if part_rows is None else part_rows
    batch_size = default_batch_size(schema, detector.config) if batch_size is None else batch_size
    for name, value, most in (
        ("batch_size", batch_size, None),
        ("part_rows", part_rows, None),
        ("top_features", top_features, schema.table.features),
        ("top", top, MOST_TOP),
    ):
        least = 1 if most is None else 0
        if value < least or (most is not None and value > most):
            allowed = "at least 1" if most is None else f"0 to {most}"
            raise InputError(f"{name} is {value}; allowed: {allowed}")
    selection = dataclasses.replace(selection or Selection(), bad_cells="null")
    grouped: dict[str, Any] = {}
    if (of_groups := detector.groups) is not None:
        selection = with_groups(of_groups, selection, group_column)
        grouped = {"group_column": selection.key_columns[0]}
    elif group_column is not None:
        raise InputError(f"group_column is {group_column!r}; allowed without groups: none")
    if schema.series is not None:
        selection = with_columns(selection, schema.series.columns)
    rows = files.open_rows(path, selection, expected=schema.table)
    for name, other in key_names(selection.key_columns, names_files=rows.many).items():
        if name != other:
            logger.info("aejax: key column %r is called %r among the scores", name, other)
    identity = {
        "model": detector.fingerprint,
        **threshold_identity(detector),
        **grouped,
        "key_columns": list(selection.key_columns),
        "top_features": top_features,
        "top": top,
        "part_rows": part_rows,
        "batch_size": batch_size,
        "header": selection.header,
        **({"dialect": text} if (text := selection.dialect.to_dict()) else {}),
        "names_files": rows.many,
    }
    check_merging(merge_gap, least_length)
    if schema.series is None and (merge_gap, least_length) != (0, 1):
        raise InputError(
            f"merge_gap is {merge_gap} and least_length {least_length}; "
            "allowed without windows of a series: 0 and 1"
        )
    if layer is not None:
        if schema.series is not None:
            raise InputError(f"layer is {layer!r}; allowed with windows of a series: none")
        check_layer(detector, layer)
        identity["layer"] = layer
    started = time.monotonic()
    with lock(out):
        manifest = claim(out, identity, rows.fingerprints(), restart=restart, append=append)
        already = manifest.rows
        groups = counted_groups(detector, selection.key_columns, names_files=rows.many)
        totals = Totals.of(manifest, top, groups)
        if not manifest.done:
            write_model(detector, out)
            job = Job(
                detector,
                top_features,
                layer,
                batch_size,
                shared_by,
                part_rows,
                on_bad_row,
                grouped.get("group_column", ""),
            )
            engine = engine or _InThisProcess()
            with Progress(progress, already, _total(manifest, rows)) as shown:
                for number, described in enumerate(manifest.segments):
                    if not described["done"]:
                        segment = Segment(
                            number=number,
                            rows=rows.only([name for name, _ in described["files"]]),
                            manifest=manifest,
                            totals=totals,
                            progress=shown,
                            should_stop=should_stop,
                        )
                        engine.score_segment(job, segment)
        alike = 1 if schema.series is None else schema.series.length
        counted = Files.of(manifest, calibration_rows(detector), alike)
        summary = totals.summary(manifest, counted, detector)
        if not manifest.done:
            totals.write(out, counted)
            manifest.finish(summary)
        if schema.series is not None and detector.threshold is not None:
            summary |= write_events(
                manifest, schema.series, merge_gap=merge_gap, least_length=least_length
            )
    seconds = time.monotonic() - started
    tell(summary.get("alarms", ()))
    return {
        **summary,
        "seconds": round(seconds, 3),
        # A coarse clock may not have moved.
        "rows_per_second": round((manifest.rows - already) / max(seconds, 1e-9), 1),
        "resumed_at_row": already,
        "scores": str(out),
    }


def default_part_rows(schema: Schema) -> int:
    """Rows in a part when nothing is asked for: a power of two; fewer where rows are wide."""
    rows = max(LEAST_PART_ROWS, min(MOST_PART_ROWS, PART_VALUES // schema.features))
    return 1 << (rows.bit_length() - 1)


class _InThisProcess:
    """Reads, scores and writes overlapped, through all parts without a pause."""

    def score_segment(self, job: Job, segment: Segment) -> None:
        """Score what is left of a group of input files."""
        manifest, rows = segment.manifest, segment.rows
        file, start = manifest.position(segment.number)
        # Every part begins a block and with it a batch, whether or not the job was stopped
        # before it: a row's neighbours in a batch are the same in both cases.
        write_parts(
            job,
            Tabulator(job.detector, rows, job.top_features, job.on_bad_row),
            job.blocks(rows, start, file=file, first_row=manifest.rows),
            Parts(
                manifest.folder,
                len(manifest.parts),
                job.part_rows,
                segment.totals.tally,
                segment.record,
            ),
            after_write=lambda done: segment.progress.add(len(done.table), done.bad.total()),
            after_score=segment.stop_if_asked,
        )
        manifest.end(segment.number)


def _total(manifest: Manifest, rows: Rows) -> int | None:
    """Rows of the whole job, if that is known."""
    left = [
        rows.only([name for name, _ in segment["files"]]).rows
        for segment in manifest.segments
        if not segment["done"]
    ]
    done = sum(
        part["rows"] for part in manifest.parts if manifest.segments[part["segment"]]["done"]
    )
    known = [count for count in left if count is not None]
    return done + sum(known) if len(known) == len(left) else None

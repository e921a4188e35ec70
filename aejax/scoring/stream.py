"""Score files of any size: read, score and write overlapped, one block in memory at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from aejax.config import InputError
from aejax.data import files
from aejax.data.blocks import Block
from aejax.data.files import Rows
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.detection.rows import default_batch_size
from aejax.scoring.manifest import ASIDE, Manifest, claim, lock, part_name

BLOCK_BYTES = 32 << 20
PART_ROWS = 1 << 20
BLOCKS_AHEAD = 2
Item = TypeVar("Item")


def score_files(
    detector: Detector,
    path: str | Path,
    out: str | Path,
    *,
    selection: Selection | None = None,
    top_features: int = 0,
    batch_size: int | None = None,
    part_rows: int = PART_ROWS,
    on_bad_row: Literal["null", "error"] = "null",
    restart: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a file into a folder of Parquet parts; continue where a stopped job left off.

    The parts have the carried key columns, `row` (int64, from 0 in the input), `score`
    (float32, null for a bad row), `is_anomaly` (bool, null where there is no threshold or
    no score), `reason` (why a row is bad, else null), and with `top_features` the lists
    `top_features` and `top_errors`.

    Args:
        detector: with its threshold, if rows are to be flagged.
        path: npy, npz, CSV or Parquet; columns are matched by name.
        out: folder of the scores.
        selection: which columns are carried through.
        top_features: how many features to name for every row; 0 for none.
        batch_size: rows in a compiled batch; no score depends on it.
        part_rows: input rows in one part.
        on_bad_row: "null" gives a row with NaN or infinity a null score; "error" stops at it.
        restart: start over.
        progress: whether to draw a progress bar on stderr.

    Returns:
        A summary: rows, flagged, bad_rows, score range, seconds, rows_per_second, folder.

    Raises:
        InputError: if the file can't be read, rows don't fit, or the folder holds another job.
    """
    path, out = Path(path), Path(out)
    if part_rows < 1:
        raise InputError(f"part_rows is {part_rows}; allowed: at least 1")
    if not 0 <= top_features <= detector.schema.features:
        raise InputError(
            f"top_features is {top_features}; allowed: 0 to {detector.schema.features}"
        )
    selection = selection or Selection()
    rows = files.open_rows(path, selection, expected=detector.schema)
    threshold = detector.threshold
    identity = {
        "input": rows.fingerprint(),
        "model": detector.fingerprint,
        "threshold": None if threshold is None else threshold.value,
        "key_columns": list(selection.key_columns),
        "top_features": top_features,
        "part_rows": part_rows,
    }
    started = time.monotonic()
    with lock(out):
        manifest = claim(out, identity, restart=restart)
        already = manifest.rows
        if not manifest.done:
            job = _Job(detector, top_features, batch_size, on_bad_row, path)
            with tqdm(
                total=rows.rows,
                initial=already,
                unit="rows",
                unit_scale=True,
                disable=not progress,
                dynamic_ncols=True,
            ) as bar:
                _score_parts(job, rows, manifest, part_rows, bar)
            manifest.finish(_summary(manifest))
    seconds = time.monotonic() - started
    scored = manifest.rows - already
    return {
        **_summary(manifest),
        "seconds": round(seconds, 3),
        "rows_per_second": round(scored / seconds, 1),
        "resumed_at_row": already,
        "scores": str(out),
    }


class _Job:
    """Turns a block of rows into a table of scores."""

    def __init__(
        self,
        detector: Detector,
        top: int,
        batch_size: int | None,
        on_bad_row: str,
        path: Path,
    ) -> None:
        self.detector, self.top, self.on_bad_row, self.path = detector, top, on_bad_row, path
        self.batch_size = batch_size or default_batch_size(detector.schema)
        row_bytes = detector.schema.features * np.dtype(detector.schema.dtype).itemsize
        batches = max(1, BLOCK_BYTES // (row_bytes * self.batch_size))
        self.block_rows = batches * self.batch_size
        names = [detector.schema.feature_name(i) for i in range(detector.schema.features)]
        self.names = pa.array(names) if top else None

    def __call__(self, block: Block) -> pa.Table:
        detector, x = self.detector, block.x
        if self.top:
            scores, features, errors = detector.explain_rows(
                x, top=self.top, batch_size=self.batch_size
            )
        else:
            scores = detector.score_rows(x, batch_size=self.batch_size)
        bad = np.flatnonzero(~np.isfinite(scores) | ~_finite_rows(x))
        reasons = {int(row): self._reason(block, int(row)) for row in bad}
        if reasons and self.on_bad_row == "error":
            raise InputError(f"{self.path}: {next(iter(reasons.values()))}")
        is_bad = np.zeros(len(x), bool)
        is_bad[bad] = True
        columns: dict[str, Any] = {}
        if block.keys is not None:
            columns |= {name: block.keys.column(name) for name in block.keys.column_names}
        columns["row"] = pa.array(np.arange(block.first_row, block.first_row + len(x)))
        columns["score"] = pa.array(scores, pa.float32(), mask=is_bad)
        if detector.threshold is None:
            columns["is_anomaly"] = pa.nulls(len(x), pa.bool_())
        else:
            columns["is_anomaly"] = pa.array(detector.threshold.flags(scores), mask=is_bad)
        columns["reason"] = (
            pa.array([reasons.get(i) for i in range(len(x))], pa.string())
            if (reasons)
            else pa.nulls(len(x), pa.string())
        )
        if self.names is not None:
            columns["top_features"] = _lists(self.names.take(pa.array(features.ravel())), self.top)
            columns["top_errors"] = _lists(pa.array(errors.ravel(), pa.float32()), self.top)
        return pa.table(columns)

    def _reason(self, block: Block, row: int) -> str:
        values = block.x[row].ravel()
        wrong = np.flatnonzero(~np.isfinite(values))
        where = f"row {block.first_row + row}"
        if not len(wrong):
            return f"{where}: the score is beyond float32's range"
        name = self.detector.schema.feature_name(int(wrong[0]))
        return (
            f"{where}: {name} is {'missing or NaN' if np.isnan(values[wrong[0]]) else 'infinite'}"
        )


def _finite_rows(x: np.ndarray) -> np.ndarray:
    if np.issubdtype(x.dtype, np.integer):
        return np.ones(len(x), bool)
    flat = x.reshape(len(x), -1)
    # One sum a row finds almost every good row; the others are looked at value by value.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(flat.sum(axis=1))
    doubtful = np.flatnonzero(~finite)
    finite[doubtful] = np.isfinite(flat[doubtful]).all(axis=1)
    return finite


def _lists(values: pa.Array, size: int) -> pa.Array:
    offsets = np.arange(0, len(values) + 1, size, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _score_parts(job: _Job, rows: Rows, manifest: Manifest, part_rows: int, bar: Any) -> None:
    writer: _PartWriter | None = None
    try:
        for block in _ahead(rows.blocks(job.block_rows, start=manifest.rows), BLOCKS_AHEAD):
            table = job(block)
            while len(table):
                if writer is None:
                    writer = _PartWriter(manifest, table.schema)
                room = part_rows - writer.rows
                writer.write(table[:room])
                table = table[room:]
                if writer.rows == part_rows:
                    writer.close()
                    writer = None
            bar.update(len(block.x))
        if writer is not None:
            writer.close()
            writer = None
    finally:
        if writer is not None:
            writer.abandon()


class _PartWriter:
    """One part: written aside, renamed, then entered in the books."""

    def __init__(self, manifest: Manifest, schema: pa.Schema) -> None:
        self.manifest = manifest
        self.name = part_name(len(manifest.parts))
        self.aside = manifest.folder / f".{self.name}{ASIDE}"
        self.file = pq.ParquetWriter(self.aside, schema, compression="zstd")
        self.rows = self.flagged = self.bad = 0
        self.low, self.high = float("inf"), float("-inf")

    def write(self, table: pa.Table) -> None:
        import pyarrow.compute as pc

        self.file.write_table(table)
        self.rows += len(table)
        self.flagged += pc.sum(table["is_anomaly"]).as_py() or 0
        self.bad += table["score"].null_count
        extremes = pc.min_max(table["score"]).as_py()
        if extremes["min"] is not None:
            self.low, self.high = min(self.low, extremes["min"]), max(self.high, extremes["max"])

    def close(self) -> None:
        self.file.close()
        self.aside.replace(self.manifest.folder / self.name)
        scored = self.rows > self.bad
        self.manifest.add(
            {
                "name": self.name,
                "first_row": self.manifest.rows,
                "rows": self.rows,
                "flagged": self.flagged,
                "bad_rows": self.bad,
                "lowest": self.low if scored else None,
                "highest": self.high if scored else None,
            }
        )

    def abandon(self) -> None:
        self.file.close()
        self.aside.unlink(missing_ok=True)


def _summary(manifest: Manifest) -> dict[str, Any]:
    parts = manifest.parts
    low = [part["lowest"] for part in parts if part["lowest"] is not None]
    high = [part["highest"] for part in parts if part["highest"] is not None]
    flags = manifest.identity["threshold"] is not None
    return {
        "rows": manifest.rows,
        "flagged": sum(part["flagged"] for part in parts) if flags else None,
        "bad_rows": sum(part["bad_rows"] for part in parts),
        "lowest": min(low, default=None),
        "highest": max(high, default=None),
        "parts": len(parts),
    }


def _ahead(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items, read by a thread that stays at most `depth` items ahead."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()
    end = object()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:  # Raised again where the items are used.
            put((end, error))

    thread = threading.Thread(target=read, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()
        thread.join()

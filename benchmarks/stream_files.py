"""The files that `stream.py` scores, and how long pyarrow takes to read them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.cases import CASES

CASE = CASES["ecg"]
GROUP_ROWS = 1 << 16
NAMES = [f"sample_{i}" for i in range(CASE.shape[0])]
SCHEMA = pa.schema([(name, pa.float32()) for name in NAMES])


def make_beats(rows: int, seed: int) -> np.ndarray:
    """Curves like heartbeats: two peaks that move a little, and noise; [rows, 140] in [0, 1]."""
    random = np.random.default_rng([seed, 3])
    moments = np.linspace(0, 1, CASE.shape[0], dtype=np.float32)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32)

    places = np.array([0.2, 0.7], np.float32) + 0.02 * normal(rows, 2)
    heights = np.array([0.6, 0.3], np.float32) + 0.05 * normal(rows, 2)
    values = 0.2 + 0.02 * normal(rows, len(moments))
    for place, height, width in zip(places.T, heights.T, (0.03, 0.08), strict=True):
        distance = (moments - place[:, None]) / np.float32(width)
        values += height[:, None] * np.exp(-np.square(distance))
    return np.clip(values, 0, 1)


def write_beats(path: Path, rows: int) -> int:
    """Write them to a Parquet or CSV file, group by group; returns its bytes."""
    parquet = path.suffix == ".parquet"
    make = pq.ParquetWriter if parquet else pyarrow.csv.CSVWriter
    with make(path, SCHEMA) as writer:
        for table in _tables(rows):
            writer.write_table(table)
    return path.stat().st_size


def _tables(rows: int) -> Iterator[pa.Table]:
    for group, first in enumerate(range(0, rows, GROUP_ROWS)):
        values = make_beats(min(GROUP_ROWS, rows - first), group)
        yield pa.table(list(np.ascontiguousarray(values.T)), schema=SCHEMA)


def read_seconds(path: Path) -> float:
    """Seconds that pyarrow takes to decode a file, batch by batch, and nothing else."""
    started = time.perf_counter()
    if path.suffix == ".parquet":
        # Without reading ahead, which keeps the whole file in memory and takes longer.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for _ in file.iter_batches(batch_size=GROUP_ROWS):
                pass
    else:
        convert = pyarrow.csv.ConvertOptions(column_types=SCHEMA)
        with pyarrow.csv.open_csv(path, convert_options=convert) as reader:
            for _ in reader:
                pass
    return time.perf_counter() - started

"""The files that `stream.py` scores, and how long pyarrow takes to read them.

    python -m benchmarks.stream_files [--rows 200000] [--repeats 5] [--json FILE]

writes the same rows to Parquet in several ways and reads each in turn, as a job does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks import machine, options, report
from benchmarks.cases import CASES
from benchmarks.harness import scratch_folder

CASE = CASES["ecg"]
GROUP_ROWS = 1 << 16
NAMES = [f"sample_{i}" for i in range(CASE.shape[0])]
_PLAIN: dict[str, Any] = {"use_dictionary": False}
# What a file is written with; "rows" are those of a row group.
WAYS: dict[str, dict[str, Any]] = {
    "as pyarrow writes (dictionaries, snappy)": {},
    "dictionaries, zstd": {"compression": "zstd"},
    "no dictionaries, snappy": _PLAIN,
    "no dictionaries, zstd": {**_PLAIN, "compression": "zstd"},
    "no dictionaries, BYTE_STREAM_SPLIT, zstd": {
        **_PLAIN,
        "compression": "zstd",
        "use_byte_stream_split": True,
    },
    "no dictionaries, not compressed": {**_PLAIN, "compression": "none"},
    "the same, as float64": {**_PLAIN, "compression": "none", "type": pa.float64()},
    "the same, row groups of 4,096 rows": {**_PLAIN, "compression": "none", "rows": 4096},
}
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


def write_as(path: Path, rows: int, way: dict[str, Any]) -> int:
    """Write the rows as one of `WAYS` says; returns the file's bytes."""
    way = {"rows": GROUP_ROWS, "type": pa.float32(), **way}
    group, kind = way.pop("rows"), way.pop("type")
    schema = pa.schema([(name, kind) for name in NAMES])
    with pq.ParquetWriter(path, schema, **way) as writer:
        for table in _tables(rows):
            writer.write_table(table.cast(schema), row_group_size=group)
    return path.stat().st_size


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every way of writing, with the least seconds of all turns."""
    parser = argparse.ArgumentParser("benchmarks.stream_files", description="Parquet to be read.")
    parser.add_argument("--rows", type=options.count, default=200_000)
    parser.add_argument("--repeats", type=options.count, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    environment = machine.environment()
    found: dict[str, dict[str, Any]] = {}
    with scratch_folder() as folder:
        for at, (name, way) in enumerate(WAYS.items()):
            size = write_as(folder / f"{at}.parquet", given.rows, way)
            found[name] = {"bytes": size, "seconds": [], "cpu_seconds": []}
        for _ in range(given.repeats):
            for at, one in enumerate(found.values()):
                used = time.process_time()
                one["seconds"].append(read_seconds(folder / f"{at}.parquet"))
                one["cpu_seconds"].append(time.process_time() - used)
    results = {
        "environment": environment,
        "rows": given.rows,
        "repeats": given.repeats,
        "ways": found,
    }
    report.keep(results, given.json)
    best = min(min(one["cpu_seconds"]) for one in found.values())
    lines = [
        [
            name,
            f"{one['bytes'] / (1 << 20):.0f}",
            report.short(given.rows / min(one["seconds"])),
            f"{1e6 * min(one['cpu_seconds']) / given.rows:.2f}",
            f"{min(one['cpu_seconds']) / best:.1f}x",
        ]
        for name, one in found.items()
    ]
    print(f"# Reading {given.rows:,} rows of {len(NAMES)} float columns from Parquet\n")
    print(f"{report.environment_lines(results)}\n")
    print(report.table(["written", "MiB", "rows/s", "CPU us a row", "CPU"], lines))


if __name__ == "__main__":
    main()

"""Series as a user meets them: five faults in a file, a long file, and rows as they arrive.

    python -m benchmarks.series_cases faults [--effort best]
    python -m benchmarks.series_cases files [--rows 10000000]
    python -m benchmarks.series_cases next

"faults" writes a month of a machine's four channels, trains on twenty days of it, scores ten that
hold a spike, a flat line, a phase shift, a drift and a broken correlation, and judges the events:
two commands, `train` and `score`, with nothing chosen. "files" scores a Parquet file of eight
channels to a folder, each detector in a process of its own: as a series in windows of 32, and the
same rows one by one, for memory and rows a second. "next" times `score_next` of one row beside the
score of one window. Each prints JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import aejax
from aejax.cli import main as aejax_main

A_DAY, TRAINING = 288, 20 * 288
CHANNELS, LENGTH, TRAINED_ROWS = 8, 32, 20_000
CHUNK = 1 << 19
REPEATS = 200


def machine() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Normal rows, rows with five faults, and the faults: start, end, fault and channel."""
    random = np.random.default_rng(7)
    rows = 30 * A_DAY
    at = np.arange(rows)

    def wandering(scale: float) -> np.ndarray:
        steps, values = random.normal(size=rows) * scale, np.zeros(rows)
        for row in range(1, rows):
            values[row] = 0.8 * values[row - 1] + steps[row]
        return values

    day = 2 * np.pi * at / A_DAY
    load = 1 + 0.5 * np.sin(day) + 0.1 * np.sin(3 * day)
    common = wandering(0.05)
    flow = 20 * (load + common) + random.normal(size=rows) * 0.3
    power = 5 * (load + common) ** 1.5 + random.normal(size=rows) * 0.1
    temperature = 60 + 8 * np.roll(load, 24) + wandering(0.15)
    vibration = 1 + 0.3 * np.sin(2 * np.pi * at / 36) + random.normal(size=rows) * 0.05
    x = np.stack([flow, power, temperature, vibration], 1)
    faulty = x[TRAINING:]
    later = at[TRAINING:]
    faulty[300:303, 2] += 15
    faulty[800:860, 3] = faulty[800, 3]
    phase = 2 * np.pi * later[1300:1444] / 36 + np.pi
    faulty[1300:1444, 3] = 1 + 0.3 * np.sin(phase) + random.normal(size=144) * 0.05
    faulty[1800:2000, 2] += np.linspace(0, 10, 200)
    opposite = 1 - 0.5 * np.sin(2 * np.pi * later[2400:2544] / A_DAY)
    faulty[2400:2544, 1] = 5 * opposite**1.5 + random.normal(size=144) * 0.1
    names = ["flow", "power", "temperature", "vibration"]
    when = pd.date_range("2026-01-01", periods=rows, freq="5min", tz="Europe/Berlin")
    table = pd.DataFrame(x.round(3), columns=names)
    table.insert(0, "time", when.strftime("%Y-%m-%d %H:%M:%S%z"))
    normal, test = table[:TRAINING], table[TRAINING:].reset_index(drop=True)
    faults = [
        ("spike", "temperature", 300, 302),
        ("flat line", "vibration", 800, 859),
        ("phase shift", "vibration", 1300, 1443),
        ("drift", "temperature", 1800, 1999),
        ("broken correlation", "power", 2400, 2543),
    ]
    lines = [
        {"start": test["time"][first], "end": test["time"][last], "fault": name, "channel": channel}
        for name, channel, first, last in faults
    ]
    return normal, test, pd.DataFrame(lines)


def faults(folder: Path, effort: str) -> dict[str, Any]:
    """What two commands find of the faults."""
    normal, test, known = machine()
    normal.to_csv(folder / "normal.csv", index=False)
    test.to_csv(folder / "week.csv", index=False)
    known.to_csv(folder / "faults.csv", index=False)
    train = ["--input", str(folder / "normal.csv"), "--out", str(folder / "run"), "--quiet"]
    score = ["--input", str(folder / "week.csv"), "--out", str(folder / "scores"), "--quiet"]
    aejax_main(["train", *train, "--time-column", "time", "--effort", effort])
    how = ["--top-features", "2", "--merge-gap", "6"]
    aejax_main(["score", str(folder / "run"), *score, *how])
    judged = aejax.evaluate(folder / "scores", folder / "faults.csv", merge_gap=6)
    written = pd.read_csv(folder / "scores" / "_events.csv")
    # In one zone, text of times sorts as they do.
    named = [
        sorted(
            set(written["channels"][(written["start"] <= one.end) & (written["end"] >= one.start)])
        )
        for one in known.itertuples()
    ]
    return {"effort": effort, "channels": dict(zip(known["fault"], named, strict=True))} | {
        name: judged["series"][name]
        for name in ("stretches_found", "events", "events_in_stretches", "median_delay", "vus_pr")
    }


def write_rows(path: Path, rows: int) -> None:
    """A Parquet file of times and eight channels, chunk by chunk."""
    names = [f"channel_{number}" for number in range(CHANNELS)]
    fields = [("time", pa.timestamp("ms")), *((name, pa.float32()) for name in names)]
    random = np.random.default_rng(0)
    with pq.ParquetWriter(path, pa.schema(fields)) as writer:
        for first in range(0, rows, CHUNK):
            at = np.arange(first, min(first + CHUNK, rows))
            waves = np.sin(2 * np.pi * at[:, None] / (48 + 8 * np.arange(CHANNELS)))
            x = (waves + 0.1 * random.normal(size=waves.shape)).astype(np.float32)
            columns = [pa.array((at * 1000).astype("datetime64[ms]")), *map(pa.array, x.T)]
            writer.write_table(pa.table(columns, schema=pa.schema(fields)))


def detectors(path: Path, folder: Path) -> None:
    """A detector of windows and one of rows, of the first rows of a file."""
    table = pa.Table.from_batches([next(pq.ParquetFile(path).iter_batches(TRAINED_ROWS))])
    plain = aejax.Config(
        model=aejax.Dense(hidden=(32, 8)), train=aejax.Train(steps=300), calibration="held-out"
    )
    window = aejax.Window(length=LENGTH, time="time")
    aejax.fit(aejax.Config(**{**vars(plain), "window": window}), table).save(folder / "series")
    aejax.fit(plain, table.drop_columns(["time"])).save(folder / "table")


JOB = """
import json, resource, sys, aejax
found = aejax.score_files(aejax.load(sys.argv[1]), sys.argv[2], sys.argv[3], restart=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
kept = ("rows", "seconds", "rows_per_second", "parts")
print(json.dumps({**{name: found[name] for name in kept}, "peak_mib": peak}))
"""


def files(folder: Path, rows: int) -> dict[str, Any]:
    """Rows a second and memory of both detectors on the file, and on a tenth of it."""
    found = {}
    for count in (rows // 10, rows):
        path = folder / f"{count}.parquet"
        write_rows(path, count)
        if not (folder / "table").is_dir():
            detectors(path, folder)
        for name in ("series", "table"):
            command = [sys.executable, "-W", "ignore", "-c", JOB, str(folder / name), str(path)]
            done = subprocess.run(
                [*command, str(folder / f"{name}-{count}")],
                capture_output=True,
                text=True,
                check=True,
            )
            found[f"{name}, {count:,} rows"] = json.loads(done.stdout.splitlines()[-1])
    return found


def arriving(folder: Path) -> dict[str, Any]:
    """Milliseconds of `score_next` of one row, and of the score of one window; medians."""
    write_rows(folder / "rows.parquet", TRAINED_ROWS)
    detectors(folder / "rows.parquet", folder)
    detector = aejax.load(folder / "series")
    table = pq.read_table(folder / "rows.parquet")
    windows = detector.windows(table[: LENGTH + REPEATS])
    state, _ = detector.score_next(None, table[:LENGTH])
    took: dict[str, list[float]] = {"score_next": [], "one_window": []}
    for at in range(REPEATS):
        row = table.slice(LENGTH + at, 1)
        started = time.perf_counter()
        state, _ = detector.score_next(state, row)
        between = time.perf_counter()
        detector.score(windows[at : at + 1])
        took["score_next"].append(between - started)
        took["one_window"].append(time.perf_counter() - between)
    medians = {f"{name}_ms": 1e3 * float(np.median(each)) for name, each in took.items()}
    return {**medians, "ratio": medians["score_next_ms"] / medians["one_window_ms"]}


def main() -> None:
    """Run one case and print what it gives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("case", choices=["faults", "files", "next"])
    parser.add_argument("--effort", default="best")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="kept; else a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if asked.case == "faults":
            result = faults(folder, asked.effort)
        elif asked.case == "files":
            result = files(folder, asked.rows)
        else:
            result = arriving(folder)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""How fast a Parquet file is scored, beside what bounds it: reading it, and the device alone.

    python -m benchmarks.stream [--rows 2000000] [--json FILE]

README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import options, report, suite
from benchmarks.cases import CASES, make_weights
from benchmarks.figures import rates
from benchmarks.harness import (
    PREPARE_SECONDS,
    RUN_SECONDS,
    Worker,
    interpreter_environment,
    scratch_folder,
    timed_process,
    write_weights,
)

CASE = CASES["ecg"]
GROUP_ROWS = 1 << 16
TRAIN_ROWS = 4096
# Rows that the device's rate is measured on; they stay in its memory.
DEVICE_ROWS = 1 << 17


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
    """Write them to a Parquet file, group by group; returns its bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"sample_{i}" for i in range(CASE.shape[0])]
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pq.ParquetWriter(path, schema) as writer:
        for group, first in enumerate(range(0, rows, GROUP_ROWS)):
            values = make_beats(min(GROUP_ROWS, rows - first), group)
            writer.write_table(pa.table(list(np.ascontiguousarray(values.T)), schema=schema))
    return path.stat().st_size


def read_seconds(path: Path) -> float:
    """Seconds that pyarrow takes to decode the file, batch by batch, and nothing else."""
    import pyarrow.parquet as pq

    started = time.perf_counter()
    with pq.ParquetFile(path) as file:
        for _ in file.iter_batches(batch_size=GROUP_ROWS):
            pass
    return time.perf_counter() - started


def measure(rows: int, repeats: int, platform: str) -> dict[str, Any]:
    """Let reading, the device and the whole program take turns."""
    seconds: dict[str, list[float | None]] = {"read": [], "device": [], "memory": [], "files": []}
    with scratch_folder() as folder:
        source, few = folder / "rows.parquet", folder / "few.parquet"
        file_bytes = write_beats(source, rows)
        write_beats(few, min(rows, TRAIN_ROWS))
        environment = interpreter_environment(platform)
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        run, out = str(folder / "run"), str(folder / "scores")
        model = ("--hidden", "32", "16", "8", "--output", "sigmoid", "--scale.kind", "none")
        train = (*model, "--epochs", "1")
        prepare = ("-m", "aejax", "train", "--input", str(few), "--out", run, "--quiet", *train)
        score = (
            "-m", "aejax", "score", run, "--input", str(source), "--out", out, "--restart",
            "--quiet", "--json",
        )  # fmt: skip
        said = ""
        for command in (prepare, score):
            options.say(f"  {' '.join(command[:3])}")
            _, failure, said = timed_process(command, environment)
            if failure:
                raise SystemExit(f"{' '.join(command)}: {failure}")
        device_rows = min(rows, DEVICE_ROWS)
        write_weights(folder / "weights.npz", make_weights(CASE))
        np.save(folder / "rows.npy", make_beats(device_rows, 0), allow_pickle=False)
        worker = Worker("aejax", folder, platform)
        try:
            task = {
                "do": "prepare",
                "suite": "scoring",
                "system": "aejax",
                "case": CASE.name,
                "weights": str(folder / "weights.npz"),
                "rows": str(folder / "rows.npy"),
                "picks": [0],
                "platform": platform,
            }
            answer = worker.ask(task, PREPARE_SECONDS)
            if answer["status"] != "ready":
                raise SystemExit(f"aejax: {answer['status']} ({answer['reason']})")
            for repeat in range(repeats):
                options.say(f"  repeat {repeat + 1} of {repeats}")
                seconds["read"].append(read_seconds(source))
                for name, what in (("device", "device"), ("memory", "end_to_end")):
                    found = worker.ask({"do": "run", "what": what}, RUN_SECONDS)
                    seconds[name].append(found.get("seconds"))
                took, failure, said = timed_process(score, environment)
                seconds["files"].append(None if failure else took)
        finally:
            worker.stop()
    work = {
        "read": rows,
        "device": answer["device_rows"],
        "memory": device_rows,
        "files": rows,
    }
    return {
        "rows": rows,
        "file_bytes": file_bytes,
        "seconds": seconds,
        "rows_per_second": {name: rates(found, work[name]) for name, found in seconds.items()},
        "said": _last_json(said),
    }


def _last_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    titles = {
        "read": "pyarrow decodes the file",
        "device": "aejax, rows already on the device",
        "memory": "aejax, rows in host memory",
        "files": "`aejax score`, file to files, the whole process",
    }
    rows = [
        [title, *report.rate_cells(results["rows_per_second"][name])]
        for name, title in titles.items()
    ]
    parts = [
        f"# {results['rows']:,} rows of 140 float32 in Parquet "
        f"({results['file_bytes'] / 1e6:.0f} MB)",
        report.environment_lines(results),
        report.table(["what", "rows/s", "spread"], rows),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, keep the results."""
    parser: argparse.ArgumentParser = options.parser(
        "benchmarks.stream", "How fast a Parquet file is scored."
    )
    parser.add_argument(
        "--rows", type=options.count, default=2_000_000, help="rows of the file (2000000)"
    )
    parser.add_argument("--platform", choices=["cpu", "gpu", "tpu"], default="cpu")
    given = parser.parse_args(arguments)
    results: dict[str, Any] = {
        **suite.header("stream", given),
        **measure(given.rows, given.repeats, given.platform),
    }
    report.keep(results, given.json)
    print(as_table(results))
    if given.plot:
        shown = {name: found for name, found in results["rows_per_second"].items() if found}
        report.plot_spreads({"rows a second": shown}, given.plot)


if __name__ == "__main__":
    main()

"""How fast files are scored, beside what bounds it: reading them, and the device alone.

    python -m benchmarks.stream [--rows 2000000] [--csv-rows 200000] [--peers pyod] [--json FILE]

README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import options, report, suite
from benchmarks.cases import make_weights
from benchmarks.figures import rates, share_of_sum, spread, times_faster
from benchmarks.harness import (
    PREPARE_SECONDS,
    RUN_SECONDS,
    Worker,
    interpreter_environment,
    scratch_folder,
    timed_process,
    write_weights,
)
from benchmarks.stream_files import CASE, NAMES, make_beats, read_seconds, write_beats

TRAIN_ROWS = 4096
# Rows that the device's rate is measured on; they stay in its memory.
DEVICE_ROWS = 1 << 17
PYOD = str(Path(__file__).with_name("pyod_program.py"))
Run = Callable[[], float | None]


class File:
    """A file that is scored by `aejax score`, as a process of its own.

    Args:
        folder: for all that it needs; the trained detector is there.
        kind: "parquet" or "csv".
        rows: of the file.
        environment: of the process.
    """

    def __init__(self, folder: Path, kind: str, rows: int, environment: dict[str, str]) -> None:
        self.path, self.rows, self.environment = folder / f"rows.{kind}", rows, environment
        self.bytes = write_beats(self.path, rows)
        self.command = (
            "-m", "aejax", "score", str(folder / "run"), "--input", str(self.path),
            "--out", str(folder / f"scores-{kind}"), "--restart", "--quiet", "--json",
        )  # fmt: skip
        self.peak_bytes: list[int] = []
        self.said: Any = None

    def read(self) -> float:
        """Seconds of reading alone."""
        return read_seconds(self.path)

    def score(self) -> float | None:
        """Seconds of the whole process, or None where it failed."""
        done = timed_process(self.command, self.environment)
        if done.failure:
            options.say(f"  {self.path.name}: {done.failure}")
            return None
        if done.peak_bytes is not None:
            self.peak_bytes.append(done.peak_bytes)
        self.said = _last_json(done.output)
        return done.seconds


class BlocksByHand:
    """PyOD in a loop over the blocks of the same Parquet file, as its user would write it.

    Args:
        folder: with the file and the rows to train on.
        rows: how many of the file's rows are scored.
        environment: of the process.
    """

    def __init__(self, folder: Path, rows: int, environment: dict[str, str]) -> None:
        self.environment, self.failure = environment, ""
        model, few = str(folder / "pyod"), str(folder / "few.csv")
        out = str(folder / "pyod.parquet")
        self.command = (PYOD, "blocks", model, str(folder / "rows.parquet"), out, str(rows))
        self.rows = rows
        self.failure = timed_process((PYOD, "fit", model, few), environment).failure or ""

    def score(self) -> float | None:
        """Seconds of its loop, without the start of its process, or None where it failed."""
        if self.failure:
            return None
        done = timed_process(self.command, self.environment)
        self.failure = done.failure or ""
        return None if self.failure else float(json.loads(done.output)["seconds"])


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Let reading, the device, whole programs and the peer take turns."""
    with scratch_folder() as folder:
        environment = interpreter_environment(given.platform)
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        _train(folder, environment)
        sizes = {"parquet": given.rows, "csv": given.csv_rows}
        files = {}
        for kind in given.formats:
            options.say(f"  {sizes[kind]:,} rows as {kind}")
            files[kind] = File(folder, kind, sizes[kind], environment)
            # Once untimed: leaves the compiled program in the cache.
            if files[kind].score() is None:
                raise SystemExit(1)
        by_hand = None
        if "pyod" in given.peers and "parquet" in files:
            rows = min(given.rows, given.peer_rows)
            by_hand = BlocksByHand(folder, rows, environment)
        worker, device_rows = _device(folder, given.rows, given.platform)

        def ask(what: str) -> float | None:
            seconds: float | None = worker.ask({"do": "run", "what": what}, RUN_SECONDS).get(
                "seconds"
            )
            return seconds

        runs: dict[str, tuple[int, Run]] = {
            "device": (device_rows, lambda: ask("device")),
            "memory": (min(given.rows, DEVICE_ROWS), lambda: ask("end_to_end")),
        }
        for kind, file in files.items():
            runs[f"read {kind}"] = (file.rows, file.read)
            runs[f"score {kind}"] = (file.rows, file.score)
        if by_hand is not None:
            runs["pyod"] = (by_hand.rows, by_hand.score)
        seconds: dict[str, list[float | None]] = {name: [] for name in runs}
        try:
            for repeat in range(given.repeats):
                options.say(f"  repeat {repeat + 1} of {given.repeats}")
                for name, (_, run) in runs.items():
                    seconds[name].append(run())
        finally:
            worker.stop()
    work = {name: rows for name, (rows, _) in runs.items()}
    per_row = {
        name: [None if s is None else s / work[name] for s in found]
        for name, found in seconds.items()
    }
    return {
        "work": work,
        "seconds": seconds,
        "rows_per_second": {name: rates(found, work[name]) for name, found in seconds.items()},
        "files": {
            kind: {
                "rows": file.rows,
                "bytes": file.bytes,
                "peak_bytes": spread(file.peak_bytes) if file.peak_bytes else None,
                "share": share_of_sum(
                    per_row[f"score {kind}"], [per_row[f"read {kind}"], per_row["device"]]
                ),
                "said": file.said,
            }
            for kind, file in files.items()
        },
        "pyod": None
        if by_hand is None
        else {
            "failure": by_hand.failure,
            "aejax_faster_by": times_faster(per_row["score parquet"], per_row["pyod"]),
        },
    }


def _train(folder: Path, environment: dict[str, str]) -> None:
    few = folder / "few.parquet"
    write_beats(few, TRAIN_ROWS)
    rows = make_beats(TRAIN_ROWS, 0)
    np.savetxt(folder / "few.csv", rows, delimiter=",", header=",".join(NAMES), comments="")
    model = ("--hidden", "32", "16", "8", "--output", "sigmoid", "--scale.kind", "none")
    run = ("--input", str(few), "--out", str(folder / "run"), "--quiet", "--epochs", "1")
    done = timed_process(("-m", "aejax", "train", *run, *model), environment)
    if done.failure:
        raise SystemExit(f"aejax train: {done.failure}")


def _device(folder: Path, rows: int, platform: str) -> tuple[Worker, int]:
    """A worker that scores rows in memory and on the device, and how many are there."""
    write_weights(folder / "weights.npz", make_weights(CASE))
    np.save(folder / "rows.npy", make_beats(min(rows, DEVICE_ROWS), 0), allow_pickle=False)
    worker = Worker("aejax", folder, platform)
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
        worker.stop()
        raise SystemExit(f"aejax: {answer['status']} ({answer['reason']})")
    return worker, answer["device_rows"]


def _last_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    found = results["rows_per_second"]
    titles = {
        "device": "aejax, rows already on the device",
        "memory": "aejax, rows in host memory",
    }
    for kind, name in (("parquet", "Parquet"), ("csv", "CSV")):
        titles[f"read {kind}"] = f"pyarrow decodes {name}"
        titles[f"score {kind}"] = f"`aejax score`, {name} to Parquet, the whole process"
    titles["pyod"] = "PyOD, Parquet to Parquet in blocks by hand, without its start-up"
    rows = [
        [title, f"{results['work'][name]:,}", *report.rate_cells(found[name])]
        for name, title in titles.items()
        if name in found
    ]
    lines = []
    for kind, file in results["files"].items():
        peak = file["peak_bytes"]
        held = f"; its memory's peak is {peak['median'] / (1 << 20):.0f} MiB" if peak else ""
        share = file["share"]
        said = "no share was measured"
        if share:
            low, middle, high = (100 * share[k] for k in ("lowest", "median", "highest"))
            said = (
                f"`aejax score` reaches {middle:.0f} % ({low:.0f} to {high:.0f}) of the rate "
                "that reading and the device's work added up allow"
            )
        lines.append(f"- {kind}: {file['rows']:,} rows, {file['bytes'] / 1e6:.0f} MB; {said}{held}")
    if pyod := results["pyod"]:
        ratio = pyod["aejax_faster_by"]
        lines.append(
            f"- aejax is {ratio['median']:.1f}x as fast as PyOD in blocks, file to file"
            if ratio
            else f"- pyod: missing ({pyod['failure']})"
        )
    parts = [
        f"# {results['work'].get('score parquet', 0):,} rows of 140 float32, file to file",
        report.environment_lines(results),
        report.table(["what", "rows", "rows/s", "spread"], rows),
        "\n".join(lines),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, keep the results."""
    parser: argparse.ArgumentParser = options.parser(
        "benchmarks.stream", "How fast files are scored."
    )
    add = parser.add_argument
    add("--rows", type=options.count, default=2_000_000, help="rows in Parquet (2000000)")
    add("--csv-rows", type=options.count, default=200_000, help="rows in CSV (200000)")
    kinds = ["parquet", "csv"]
    add("--formats", nargs="+", choices=kinds, default=kinds, help="kinds of files (both)")
    add("--peers", nargs="+", choices=["none", "pyod"], default=["pyod"], help="peers (all)")
    add(
        "--peer-rows",
        type=options.count,
        default=500_000,
        help="rows that a peer scores at most (500000)",
    )
    add("--platform", choices=["cpu", "gpu", "tpu"], default="cpu")
    given = parser.parse_args(arguments)
    results: dict[str, Any] = {
        **suite.header("stream", given),
        **measure(given),
    }
    report.keep(results, given.json)
    print(as_table(results))
    if given.plot:
        shown = {name: found for name, found in results["rows_per_second"].items() if found}
        report.plot_spreads({"rows a second": shown}, given.plot)


if __name__ == "__main__":
    main()

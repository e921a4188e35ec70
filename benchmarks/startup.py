"""How long whole processes take: scoring a small CSV file, and importing aejax alone.

    python -m benchmarks.startup [--rows 1000] [--peers pyod keras] [--json FILE]

README.md says how to read the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import options, report, suite
from benchmarks.cases import CASES, make_rows
from benchmarks.figures import spread, times_faster
from benchmarks.harness import interpreter_environment, scratch_folder, timed_process

PEERS = ("pyod", "keras")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A command line that is timed as a whole, and the ones that prepare for it.

    Attributes:
        name: of its row.
        modules: that must be there; it is missing otherwise.
        prepare: commands, run once and in order.
        command: the timed one.
        result: a file or folder that it must have written.
    """

    name: str
    modules: tuple[str, ...] = ()
    prepare: tuple[tuple[str, ...], ...] = ()
    command: tuple[str, ...]
    result: Path | None = None


def programs(folder: Path, rows_file: Path) -> list[Program]:
    """All of them; the peers' are files of this folder."""
    run, scores = str(folder / "run"), folder / "scores"
    train = ["--epochs", "1", "--hidden", "32", "16", "8", "--quiet", "--calibration", "held-out"]
    score = ("-m", "aejax", "score", run, "--input", str(rows_file), "--out", str(scores))
    found = [
        Program(name="python alone", command=("-c", "pass")),
        Program(name="import aejax", command=("-c", "import aejax")),
        Program(
            name="aejax",
            prepare=(
                ("-m", "aejax", "train", "--input", str(rows_file), "--out", run, *train),
                # Leaves the compiled program in the cache.
                (*score, "--restart", "--quiet"),
            ),
            command=(*score, "--restart", "--quiet"),
            result=scores / "_SUCCESS",
        ),
    ]
    for name, module, suffix in (
        ("pyod", "pyod.models.auto_encoder", ""),
        ("keras", "keras", ".keras"),
    ):
        program = str(Path(__file__).with_name(f"{name}_program.py"))
        model, out = str(folder / f"{name}{suffix}"), folder / f"{name}.csv"
        found.append(
            Program(
                name=name,
                modules=(module, "pandas"),
                prepare=((program, "fit", model, str(rows_file)),),
                command=(program, "score", model, str(rows_file), str(out)),
                result=out,
            )
        )
    return found


def measure(rows: int, peers: Sequence[str], repeats: int, platform: str) -> dict[str, Any]:
    """Prepare all programs, then run them in turn."""
    seconds: dict[str, list[float | None]] = {}
    states: dict[str, dict[str, str]] = {}
    with scratch_folder() as folder:
        rows_file = folder / "rows.csv"
        values = make_rows(CASES["ecg"], rows)
        names = ",".join(f"sample_{i}" for i in range(values.shape[1]))
        np.savetxt(rows_file, values, delimiter=",", header=names, comments="", fmt="%.6g")
        environment = interpreter_environment(platform)
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        ready = []
        for program in programs(folder, rows_file):
            if program.name in PEERS and program.name not in peers:
                continue
            state = _prepare(program, environment)
            states[program.name], seconds[program.name] = state, []
            options.say(f"  {program.name}: {state['status']} ({state.get('reason', 'prepared')})")
            if state["status"] == "ready":
                ready.append(program)
        for repeat in range(repeats):
            options.say(f"  repeat {repeat + 1} of {repeats}")
            shift = repeat % len(ready)
            for program in ready[shift:] + ready[:shift]:
                took, failure, *_ = timed_process(program.command, environment)
                if not failure and program.result and not program.result.exists():
                    failure = f"wrote no {program.result.name}"
                if failure:
                    states[program.name] = {"status": "failed", "reason": failure}
                seconds[program.name].append(None if failure else took)
    ours = seconds["aejax"]
    return {
        "rows": rows,
        "programs": [
            {
                "name": name,
                **states[name],
                "seconds": seconds[name],
                "spread": spread([s for s in seconds[name] if s]) if any(seconds[name]) else None,
                "aejax_faster_by": times_faster(ours, seconds[name])
                if name in PEERS and any(seconds[name])
                else None,
            }
            for name in seconds
        ],
    }


def _prepare(program: Program, environment: dict[str, str]) -> dict[str, str]:
    for module in program.modules:
        _, failure, *_ = timed_process(("-c", f"import {module}"), environment)
        if failure:
            return {"status": "missing", "reason": failure}
    for command in program.prepare:
        _, failure, *_ = timed_process(command, environment)
        if failure:
            return {"status": "failed", "reason": failure}
    # Once untimed: compiled Python files and the system's file cache.
    _, failure, *_ = timed_process(program.command, environment)
    return {"status": "failed", "reason": failure} if failure else {"status": "ready"}


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    rows, lines = [], []
    for one in results["programs"]:
        if one["status"] != "ready" or one["spread"] is None:
            lines.append(f"- {one['name']}: {one['status']} ({one.get('reason', '')})")
            continue
        found, ratio = one["spread"], one["aejax_faster_by"]
        rows.append(
            [
                one["name"],
                f"{found['median']:.2f}",
                f"{found['lowest']:.2f} to {found['highest']:.2f}",
                f"{ratio['median']:.2f}x" if ratio else "-",
            ]
        )
    head = ["process", "seconds", "spread", "aejax faster by"]
    parts = [
        f"# Whole processes that score {results['rows']:,} rows of a CSV file",
        report.environment_lines(results),
        report.table(head, rows),
        "\n".join(lines),
    ]
    return "\n\n".join(filter(None, parts))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, keep the results."""
    parser = options.parser("benchmarks.startup", "How long whole processes take.")
    parser.add_argument("--rows", type=options.count, default=1000, help="rows of the file (1000)")
    parser.add_argument(
        "--peers", nargs="+", choices=["none", *PEERS], default=list(PEERS), help="peers (all)"
    )
    parser.add_argument("--platform", choices=["cpu", "gpu", "tpu"], default="cpu")
    given = parser.parse_args(arguments)
    results: dict[str, Any] = {
        **suite.header("startup", given),
        **measure(given.rows, given.peers, given.repeats, given.platform),
    }
    report.keep(results, given.json)
    print(as_table(results))
    if given.plot:
        shown = {one["name"]: one["spread"] for one in results["programs"] if one["spread"]}
        report.plot_spreads({"seconds of a whole process": shown}, given.plot)


if __name__ == "__main__":
    main()

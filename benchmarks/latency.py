"""How long a call takes that scores one row: aejax and its peers, from one thread and from four.

    python -m benchmarks.latency [--models dense ecg] [--peers torch] [--json FILE]

The median and the 99th percentile of 10,000 calls, in microseconds; of four threads that share
them, of each call as its thread sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import report, scoring, suite, systems
from benchmarks.cases import Case
from benchmarks.figures import spread
from benchmarks.worker import LATENCIES


def _turns(case: Case, rows: int | None) -> suite.Turns:
    rows = rows or 1
    yield f"{rows} rows a call", {"rows": rows, "runs": tuple(LATENCIES)}


def _table(results: dict[str, Any]) -> str:
    lines = ["# Latency on " + results["platform"], "", report.environment_lines(results)]
    for case in results["cases"]:
        lines += ["", f"## {case['model']}: {case['title']}, {case['rows']} rows a call", ""]
        rows = [
            [one["system"], *(_microseconds(one["seconds"].get(what, ())) for what in LATENCIES)]
            for one in case["systems"]
        ]
        lines.append(report.table(["us", *LATENCIES], rows))
    return "\n".join(lines)


def _microseconds(seconds: Sequence[float | None]) -> str:
    known = [1e6 * one for one in seconds if one]
    if not known:
        return "-"
    found = spread(known)
    return f"{found['median']:.0f} ({found['lowest']:.0f} to {found['highest']:.0f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, keep the results."""
    suite.run(
        "latency",
        "How long scoring one row takes.",
        systems.LATENCY,
        _turns,
        scoring.run_case,
        _table,
        arguments,
    )


if __name__ == "__main__":
    main()

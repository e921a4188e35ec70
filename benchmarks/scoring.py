"""How fast rows are scored: aejax and its peers, interleaved, on the same weights and rows.

    python -m benchmarks.scoring [--models dense wide] [--peers torch keras] [--json FILE]

README.md says how to read the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import machine, options, reference, report, suite, systems
from benchmarks.cases import Case, make_rows, make_weights
from benchmarks.figures import largest_difference, rates
from benchmarks.harness import (
    Measured,
    Task,
    interleave,
    limit_tasks,
    scratch_folder,
    write_weights,
)

# Rows whose scores are compared with the reference, spread from the first to the last.
REFERENCE_ROWS = 64


def run_case(
    case: Case,
    entries: Sequence[systems.Entry],
    *,
    rows: int,
    repeats: int,
    platform: str,
    limits: dict[str, int],
    runs: tuple[str, ...] = ("end_to_end", "device"),
) -> dict[str, Any]:
    """Measure every system on one network, with the machine's limits among them."""
    picks = np.unique(np.linspace(0, rows - 1, min(rows, REFERENCE_ROWS)).astype(int))
    weights = make_weights(case)
    expected: dict[str, np.ndarray] = {}
    with scratch_folder() as folder:
        write_weights(folder / "weights.npz", weights)
        for dtype in sorted({e.dtype for e in entries if e.dtype == "float32" or case.pixels}):
            made = make_rows(case, rows, dtype=dtype)
            np.save(folder / f"{dtype}.npy", made, allow_pickle=False)
            expected[dtype] = reference.scores(case, weights, made[picks])
            del made
        tasks = limit_tasks(limits)
        for entry in entries:
            if entry.dtype not in expected:
                continue
            command = {
                "suite": "scoring",
                "system": entry.name,
                "case": case.name,
                "weights": str(folder / "weights.npz"),
                "rows": str(folder / f"{entry.dtype}.npy"),
                "picks": picks.tolist(),
                "platform": platform,
            }
            tasks.append(Task(name=entry.name, command=command, runs=runs))
        measured = interleave(
            tasks, folder=folder, platform=platform, repeats=repeats, say=options.say
        )
    reached = machine.limits_of(measured[: len(systems.LIMITS)])
    of_systems = measured[len(systems.LIMITS) :]
    return {
        "model": case.name,
        "title": case.title,
        "rows": rows,
        "row_flops": case.score_flops,
        "limits": reached,
        "systems": [
            _describe(case, systems.SCORERS[one.system], one, reached, expected, rows)
            for one in of_systems
        ],
    }


def _describe(
    case: Case,
    entry: systems.Entry,
    measured: Measured,
    limits: dict[str, float],
    expected: dict[str, np.ndarray],
    rows: int,
) -> dict[str, Any]:
    answer = dict(measured.answer)
    scores = answer.pop("scores", None)
    found = suite.described(entry, measured) | answer
    if scores is not None and answer["facts"].get("same_weights"):
        found["largest_difference"] = largest_difference(scores, expected[entry.dtype])
    found["rows_per_second"] = rates(measured.seconds.get("end_to_end", ()), rows)
    found["device_rows_per_second"] = rates(
        measured.seconds.get("device", ()), answer.get("device_rows", 0)
    )
    return found | suite.share_of_limit(
        found["rows_per_second"], entry, case, limits, case.score_flops
    )


def _turns(case: Case, rows: int | None) -> suite.Turns:
    rows = rows or case.scoring_rows
    yield f"{rows} rows", {"rows": rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, keep the results."""
    suite.run(
        "scoring",
        "How fast rows are scored.",
        systems.SCORING,
        _turns,
        run_case,
        report.scoring_table,
        arguments,
    )


if __name__ == "__main__":
    main()

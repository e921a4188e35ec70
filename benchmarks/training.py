"""How fast networks are trained, and how well: aejax and its peers, interleaved.

    python -m benchmarks.training [--models ecg denoiser] [--peers torch keras] [--json FILE]

README.md says how to read the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import machine, options, report, suite, systems
from benchmarks.cases import Case, make_rows, make_weights
from benchmarks.figures import rates
from benchmarks.harness import (
    Measured,
    Task,
    interleave,
    limit_tasks,
    scratch_folder,
    write_weights,
)


def run_case(
    case: Case,
    entries: Sequence[systems.Entry],
    *,
    batch_size: int,
    rows: int,
    repeats: int,
    platform: str,
    limits: dict[str, int],
) -> dict[str, Any]:
    """Measure every system on one network and batch size, with the machine's limits among them."""
    with scratch_folder() as folder:
        write_weights(folder / "weights.npz", make_weights(case, trained=False))
        np.save(folder / "rows.npy", make_rows(case, rows), allow_pickle=False)
        tasks = limit_tasks(limits)
        for entry in entries:
            command = {
                "suite": "training",
                "system": entry.name,
                "case": case.name,
                "weights": str(folder / "weights.npz"),
                "rows": str(folder / "rows.npy"),
                "batch_size": batch_size,
                "epochs": case.epochs,
                "platform": platform,
            }
            tasks.append(Task(name=entry.name, command=command, runs=("fit",)))
        measured = interleave(
            tasks, folder=folder, platform=platform, repeats=repeats, say=options.say
        )
    reached = machine.limits_of(measured[: len(systems.LIMITS)])
    return {
        "model": case.name,
        "title": case.title,
        "rows": rows,
        "epochs": case.epochs,
        "batch_size": batch_size,
        "row_flops": case.train_flops,
        "limits": reached,
        "systems": [
            _describe(case, systems.TRAINING[one.system], one, reached, rows * case.epochs)
            for one in measured[len(systems.LIMITS) :]
        ],
    }


def _describe(
    case: Case, entry: systems.Entry, measured: Measured, limits: dict[str, float], seen: int
) -> dict[str, Any]:
    speed = rates(measured.seconds.get("fit", ()), seen)
    found = suite.described(entry, measured) | measured.answer | {"rows_per_second": speed}
    return found | suite.share_of_limit(speed, entry, case, limits, case.train_flops)


def _turns(case: Case, rows: int | None) -> suite.Turns:
    rows = rows or case.train_rows
    for batch_size in case.batch_sizes:
        line = f"{rows} rows, {case.epochs} epochs, batch {batch_size}"
        yield line, {"rows": rows, "batch_size": batch_size}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, keep the results."""
    suite.run(
        "training",
        "How fast networks are trained, and how well.",
        systems.TRAINING,
        _turns,
        run_case,
        report.training_table,
        arguments,
    )


if __name__ == "__main__":
    main()

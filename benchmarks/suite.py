"""What the suites that compare systems on networks have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, options, report, systems
from benchmarks.cases import CASES, Case
from benchmarks.figures import limit_share
from benchmarks.harness import Measured

# What `run_case` takes besides its case, and the line that announces it.
Turns = Iterator[tuple[str, dict[str, Any]]]


def header(suite: str, given: argparse.Namespace) -> dict[str, Any]:
    """How results begin: what was measured, how, and where."""
    return {
        "suite": suite,
        "platform": given.platform,
        "repeats": given.repeats,
        "environment": machine.environment(),
    }


def described(entry: systems.Entry, measured: Measured) -> dict[str, Any]:
    """What is said of every system."""
    return {
        "system": entry.name,
        "library": entry.library,
        "precision": entry.precision,
        "dtype": entry.dtype,
        "status": measured.status,
        "seconds": measured.seconds,
    }


def share_of_limit(
    speed: dict[str, Any] | None,
    entry: systems.Entry,
    case: Case,
    limits: dict[str, float],
    flops: float,
) -> dict[str, Any]:
    """How near a system came to what the machine can do, if it ran."""
    if not speed:
        return {}
    share = limit_share(
        speed["median"],
        limits,
        precision=entry.precision,
        flops=flops,
        moved=case.row_bytes(entry.dtype),
    )
    return {"limit_share": share}


def run(
    suite: str,
    description: str,
    entries: Mapping[str, systems.Entry],
    turns: Callable[[Case, int | None], Turns],
    run_case: Callable[..., dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    arguments: Sequence[str] | None,
) -> None:
    """Measure every case in turn, print the tables, keep the results.

    Args:
        suite: its name.
        description: for the help.
        entries: its systems.
        turns: of a case and the rows asked for, what it is measured with.
        run_case: measures all systems on one case.
        table: of the results.
        arguments: of the command line; None takes the process's.
    """
    parser = options.parser(f"benchmarks.{suite}", description)
    options.add_choices(parser, entries)
    given = parser.parse_args(arguments)
    results: dict[str, Any] = {**header(suite, given), "cases": []}
    limits = machine.limit_sizes(given.rows)
    picked = options.picked(entries, given.peers)
    for name in given.models:
        for line, asked in turns(CASES[name], given.rows):
            options.say(f"{name}: {line}")
            found = run_case(
                CASES[name],
                picked,
                repeats=given.repeats,
                platform=given.platform,
                limits=limits,
                **asked,
            )
            results["cases"].append(found)
            report.keep(results, given.json)
    print(table(results))
    if given.plot:
        report.plot(results, Path(given.plot))

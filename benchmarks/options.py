"""The command line that the suites share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.systems import LIBRARIES, Entry


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """Options of every suite: repeats, platform, and where results go."""
    found = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    found.add_argument("--repeats", type=count, default=7, help="turns of every system (7)")
    found.add_argument("--json", type=Path, metavar="FILE", help="keep all that was measured")
    found.add_argument("--plot", type=Path, metavar="FILE", help="draw the rates as a PNG")
    return found


def add_choices(found: argparse.ArgumentParser, entries: Mapping[str, Entry]) -> None:
    """Options of the suites that compare systems on networks."""
    found.add_argument(
        "--models", nargs="+", choices=list(CASES), default=list(CASES), help="networks (all)"
    )
    found.add_argument(
        "--peers",
        nargs="+",
        choices=["none", *LIBRARIES[1:], *(n for n in entries if n not in LIBRARIES)],
        default=list(LIBRARIES[1:]),
        help="libraries, or single systems, to measure beside aejax (all)",
    )
    found.add_argument("--rows", type=count, help="rows of every case, instead of its own number")
    found.add_argument(
        "--platform", choices=["cpu", "gpu", "tpu"], default="cpu", help="where it runs (cpu)"
    )


def picked(entries: Mapping[str, Entry], peers: Sequence[str]) -> list[Entry]:
    """The entries of aejax itself and of the peers."""
    return [
        entry
        for entry in entries.values()
        if entry.library == "aejax" or entry.library in peers or entry.name in peers
    ]


def say(line: str) -> None:
    """Tell what happens, on standard error: standard output is for the table."""
    print(line, file=sys.stderr, flush=True)


def count(text: str) -> int:
    """A whole number, at least 1, from an argument's text."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number, at least 1")
    return int(text)

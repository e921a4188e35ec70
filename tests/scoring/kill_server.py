"""Runs scoring jobs in children that are killed; started by test_kill.py as a process.

It imports everything once and starts no backend, so that a child is a fork away from work:

    python kill_server.py RUN INPUT FOLDER SEED KILLS

FOLDER/whole is scored without a kill. Then FOLDER/killed-0, -1, ... are scored by children,
each killed at a random moment, until KILLS were and the last job is complete. Prints JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from aejax.data.rows import Selection
from aejax.detection.loading import load
from aejax.scoring import manifest
from aejax.scoring.stream import score_files

SETTINGS: dict[str, Any] = {"part_rows": 64, "top": 50, "top_features": 2}
# About four parts' worth, and as long as they take.
MOST_OPERATIONS, MOST_SECONDS = 40, 0.15


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def kill_at_operation(count: int) -> None:
    """Die just before the given one of the operations that touch the disk."""
    left = count

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                killed()
            return function(*args, **kwargs)

        return call

    for owner, name in (
        (os, "replace"),
        (os, "fsync"),
        (os, "open"),
        (os, "unlink"),
        (Path, "touch"),
        (pq.ParquetWriter, "write_table"),
        (pq.ParquetWriter, "close"),
    ):
        setattr(owner, name, counted(getattr(owner, name)))


def kill_in_line(count: int) -> None:
    """Die with the given line of the journal half written."""
    left = count
    whole = manifest.append_line

    def cut(path: Path, line: str) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            return whole(path, line)
        with path.open("ab") as file:
            file.write(line.encode()[: len(line) // 2])
        return killed()

    manifest.append_line = cut  # type: ignore[attr-defined]


def run_child(run: Path, rows: Path, out: Path, plan: tuple[str, float], ready: int) -> None:
    kind, amount = plan
    detector = load(run)
    detector.explain_rows(np.zeros((1, *detector.schema.shape), np.float32), top=2)
    if kind == "operation":
        kill_at_operation(int(amount))
    elif kind == "line":
        kill_in_line(int(amount))
    os.write(ready, b"x")
    score_files(detector, rows, out, selection=Selection(key_columns=("id",)), **SETTINGS)


def finishes(run: Path, rows: Path, out: Path, plan: tuple[str, float]) -> bool:
    """Whether a child ends by itself under this plan; raises where it fails."""
    ready, announced = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run_child(run, rows, out, plan, announced)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(announced)
    os.read(ready, 1)
    os.close(ready)
    if plan[0] == "seconds":
        time.sleep(plan[1])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"a job failed under {plan}")
    return os.WIFEXITED(status)


def main(run: Path, rows: Path, folder: Path, seed: int, wanted: int) -> None:
    assert finishes(run, rows, folder / "whole", ("none", 0))
    random = np.random.default_rng(seed)
    kills, job, plans = 0, 0, []
    while True:
        kind = ("operation", "operation", "seconds", "line")[kills % 4]
        amount = {
            "operation": random.integers(1, MOST_OPERATIONS),
            "seconds": random.uniform(0, MOST_SECONDS),
            "line": random.integers(1, 5),
        }[kind]
        plan = (kind, float(amount)) if kills < wanted else ("none", 0.0)
        if finishes(run, rows, folder / f"killed-{job}", plan):
            if kills >= wanted:
                break
            job += 1
        else:
            kills += 1
            plans.append(plan)
    print(json.dumps({"kills": plans, "jobs": job + 1}))


if __name__ == "__main__":
    given = sys.argv
    main(Path(given[1]), Path(given[2]), Path(given[3]), int(given[4]), int(given[5]))

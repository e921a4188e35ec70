"""One system in a process of its own: reads commands as JSON lines, answers each with one line.

    {"do": "prepare", ...}        builds, compiles, picks its best choices, warms up
    {"do": "run", "what": NAME}   does the work once and says how long it took
    {"do": "finish"}              says how much memory it took at most, and ends

The harness starts it; nobody calls it by hand. A library that isn't installed, a case that
a system can't run and a failure are answers too.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO

import numpy as np

from benchmarks import systems
from benchmarks.cases import CASES, Weights
from benchmarks.systems.job import Choice, Job, NotApplicable, ScoringSystem, TrainingSystem

# Calls whose times are compared, and what is said of them: threads that call, share of the calls.
CALLS = 10_000
LATENCIES = {
    f"p{percent} of {threads}": (threads, percent / 100)
    for threads in (1, 4)
    for percent in (50, 99)
}
# Rows on which choices are compared; enough for the largest batch among them.
TRIAL_ROWS = 32_768


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and what it returned."""
    started = time.perf_counter()
    found = function()
    return time.perf_counter() - started, found


def read_weights(path: str) -> Weights:
    """The weights that the harness wrote, one dict a layer."""
    with np.load(path, allow_pickle=False) as stored:
        layers: Weights = [{} for _ in range(int(stored["layers"]))]
        for name in stored.files:
            index, _, part = name.partition(".")
            if part:
                layers[int(index)][part] = stored[name]
    return layers


def read_rows(path: str) -> np.ndarray:
    """The rows that the harness wrote: pages shared by all workers, private once written to."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


class Scoring:
    """Scoring runs of one system."""

    def __init__(self, task: dict[str, Any]) -> None:
        entry = systems.SCORERS[task["system"]]
        rows = read_rows(task["rows"])
        case = CASES[task["case"]]
        if rows.dtype == np.uint8 and not case.pixels:
            raise NotApplicable("rows are not pixels")
        self.system: ScoringSystem = _load(entry)(_job(task, entry, rows))
        rows = self.system.adapt(rows)
        choice, compile_seconds, tried = _best_choice(self.system, rows)
        self.rows = rows
        scores = self.system.score(rows)
        picked = np.asarray(scores)[np.asarray(task["picks"])]
        self.placed, self.placed_rows = None, 0
        if hasattr(self.system, "place"):
            self.placed, self.placed_rows = self.system.place(rows)
            self.system.score_placed(self.placed)  # type: ignore[attr-defined]
        self.answer = {
            "facts": self.system.facts,
            "choice": choice,
            "tried": tried,
            "compile_seconds": compile_seconds,
            "scores": [float(score) for score in picked],
            "rows": len(rows),
            "device_rows": self.placed_rows,
        }

    def run(self, what: str) -> float:
        """End to end from host memory to host memory, on the device only, or of many calls."""
        if what in LATENCIES:
            return self._latency(*LATENCIES[what])
        if what == "device":
            return timed(lambda: self.system.score_placed(self.placed))[0]  # type: ignore[attr-defined]
        return timed(lambda: self.system.score(self.rows))[0]

    def _latency(self, threads: int, share: float) -> float:
        """Seconds that so large a share of calls stays below; measured anew for the median."""
        if share == 0.5:
            with ThreadPoolExecutor(threads) as pool:
                each = [pool.submit(self._calls, CALLS // threads) for _ in range(threads)]
                self.latencies = np.concatenate([calls.result() for calls in each])
        return float(np.quantile(self.latencies, share))

    def _calls(self, count: int) -> np.ndarray:
        ends = np.empty(count + 1)
        ends[0] = time.perf_counter()
        for call in range(count):
            self.system.score(self.rows)
            ends[call + 1] = time.perf_counter()
        return np.diff(ends)


class Training:
    """Training runs of one system."""

    def __init__(self, task: dict[str, Any]) -> None:
        entry = systems.TRAINING[task["system"]]
        self.system: TrainingSystem = _load(entry)(_job(task, entry, read_rows(task["rows"])))
        # What only the first of two equal runs takes is compiling.
        first, _ = timed(self.system.fit)
        second, _ = timed(self.system.fit)
        self.answer = {
            "facts": self.system.facts,
            "first_seconds": first,
            "compile_seconds": max(first - second, 0.0),
            "loss": self.system.loss(),
        }

    def run(self, what: str) -> float:
        """All epochs from fresh weights."""
        return timed(self.system.fit)[0]


class Limits:
    """The machine's limits, as one library reaches them."""

    def __init__(self, task: dict[str, Any]) -> None:
        limits = _load(systems.LIMITS[task["system"]])(task["size"], task["read_bytes"])
        self.tasks = limits.tasks()
        for _, do in self.tasks.values():
            do()
        self.answer = {"facts": limits.facts, "tasks": {n: w for n, (w, _) in self.tasks.items()}}

    def run(self, what: str) -> float:
        """One of the tasks."""
        return timed(self.tasks[what][1])[0]


SUITES = {"scoring": Scoring, "training": Training, "limits": Limits}


def _load(entry: systems.Entry) -> Any:
    module, _, name = entry.place.partition(":")
    return getattr(importlib.import_module(f"benchmarks.systems.{module}"), name)


def _job(task: dict[str, Any], entry: systems.Entry, rows: np.ndarray) -> Job:
    return Job(
        case=CASES[task["case"]],
        weights=read_weights(task["weights"]),
        rows=rows,
        precision=entry.precision,
        platform=task["platform"],
        batch_size=task.get("batch_size", 0),
        epochs=task.get("epochs", 0),
        options=entry.options,
    )


def _best_choice(
    system: ScoringSystem, rows: np.ndarray
) -> tuple[Choice, float, list[dict[str, Any]]]:
    """Try the values of each setting in turn, keeping the best of the settings before it.

    Returns:
        The fastest choice, the seconds its first call took longer than its later ones, and
        the rows a second of all that were tried.
    """
    best: Choice = {name: values[0] for name, values in system.choices.items()}
    tried: list[dict[str, Any]] = []
    measured: dict[str, tuple[float, float]] = {}

    def measure(choice: Choice) -> float:
        key = json.dumps(choice, sort_keys=True)
        if key not in measured:
            count = max(min(len(rows), TRIAL_ROWS), min(choice["batch_size"], len(rows)))
            # Equal batches only: a ragged last one would be compiled here for nothing.
            part = rows[: count - count % min(choice["batch_size"], count)]
            system.use(choice)
            first, _ = timed(lambda: system.score(part))
            later = min(timed(lambda: system.score(part))[0] for _ in range(2))
            measured[key] = len(part) / later, max(first - later, 0.0)
            tried.append({**choice, "rows_per_second": measured[key][0]})
        return measured[key][0]

    for name, values in system.choices.items():
        rates = {value: measure({**best, name: value}) for value in values}
        best[name] = max(rates, key=rates.__getitem__)
    if len(tried) > 1:
        system.use(best)
    return best, measured[json.dumps(best, sort_keys=True)][1], tried


def peak_bytes() -> int:
    """The most memory that this process has held at once, or 0 where that isn't known."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(commands: TextIO, answers: TextIO) -> None:
    """Answer commands until there are no more."""
    session: Any = None
    idle_from: tuple[float, float] | None = None
    idle_wall = idle_cpu = 0.0
    for line in commands:
        if idle_from:
            idle_wall += time.perf_counter() - idle_from[0]
            idle_cpu += time.process_time() - idle_from[1]
        task = json.loads(line)
        answer: dict[str, Any]
        try:
            if task["do"] == "prepare":
                session = SUITES[task["suite"]](task)
                answer = {"status": "ready", **session.answer}
            elif task["do"] == "run":
                answer = {"status": "ready", "seconds": session.run(task["what"])}
            else:
                share = idle_cpu / idle_wall if idle_wall else 0.0
                answer = {"status": "done", "peak_bytes": peak_bytes(), "idle_cpu": share}
        except ImportError as error:
            answer = {"status": "missing", "reason": f"{type(error).__name__}: {error}"}
        except NotApplicable as reason:
            answer = {"status": "not applicable", "reason": str(reason)}
        except Exception as error:
            last = str(error).strip().splitlines()
            answer = {
                "status": "failed",
                "reason": f"{type(error).__name__}: {last[0] if last else ''}"[:200],
                "traceback": traceback.format_exc(),
            }
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if task["do"] == "finish":
            return
        idle_from = time.perf_counter(), time.process_time()


def main() -> None:
    """Answer on what was standard output; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers)
    answers.flush()
    # Libraries' threads and exit hooks have nothing left to do here.
    os._exit(0)


if __name__ == "__main__":
    main()

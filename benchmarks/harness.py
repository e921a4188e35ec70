"""Starts workers, lets them take turns, and keeps what they say."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Weights

ROOT = Path(__file__).parents[1]
PREPARE_SECONDS = 1800.0
RUN_SECONDS = 900.0
# Longer than thread pools keep spinning after their last work.
PAUSE_SECONDS = 0.25


class Worker:
    """A process that runs one system; see `worker.py`."""

    def __init__(self, name: str, folder: Path, platform: str) -> None:
        self.name = name
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        own = folder / f"{name}-{time.monotonic_ns()}"
        environment = {
            **os.environ,
            "JAX_PLATFORMS": platform,
            # Nothing compiled in earlier runs may help: compiling is measured.
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "TORCHINDUCTOR_CACHE_DIR": str(own),
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def ask(self, task: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send one command and wait for its answer; a dead or silent worker has failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(task).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return self._failed("the process ended")
        line = b""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                left = until - time.monotonic()
                if left <= 0 or not ready.select(left):
                    self.stop()
                    return self._failed(f"no answer within {seconds:.0f} s")
                read = os.read(self.process.stdout.fileno(), 1 << 20)
                if not read:
                    return self._failed(f"the process ended with code {self.process.wait()}")
                line += read
        return json.loads(line)

    def _failed(self, reason: str) -> dict[str, Any]:
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        return {"status": "failed", "reason": reason, "traceback": tail}

    def stop(self) -> None:
        """End the process and those it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


@dataclasses.dataclass(kw_only=True)
class Measured:
    """What became of one system in one case.

    Attributes:
        system: its name.
        status: "ready", or why there are no figures: "missing", "not applicable", "failed".
        answer: of the preparation, and of the end.
        seconds: of every run, by what was run; one place for each repeat, None where it failed.
    """

    system: str
    status: str
    answer: dict[str, Any]
    seconds: dict[str, list[float | None]]


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, in memory where there is room, so that no disk is timed."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30
    with tempfile.TemporaryDirectory(
        prefix="aejax-benchmarks-", dir=memory if roomy else None, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def write_weights(path: Path, weights: Weights) -> None:
    """Write what `worker.read_weights` reads."""
    arrays = {f"{i}.{name}": a for i, layer in enumerate(weights) for name, a in layer.items()}
    np.savez(path, allow_pickle=False, layers=np.array(len(weights)), **arrays)


def interleave(
    tasks: Sequence[tuple[str, dict[str, Any], Sequence[str]]],
    *,
    folder: Path,
    platform: str,
    repeats: int,
    say: Any,
) -> list[Measured]:
    """Prepare every system, then let all take turns, repeat by repeat.

    A machine that slows down does so for all of them; the order shifts by one with every
    repeat, so that none always follows the same neighbour.

    Args:
        tasks: name, what "prepare" is given, and what to run (nothing: all that it offers).
        folder: for logs.
        platform: "cpu", "gpu" or "tpu".
        repeats: turns.
        say: told what happens, one line at a time.

    Returns:
        One `Measured` for each task, in their order.
    """
    workers: dict[str, Worker] = {}
    found: list[Measured] = []
    try:
        for name, task, runs in tasks:
            worker = Worker(name, folder, platform)
            started = time.monotonic()
            answer = worker.ask({"do": "prepare", **task}, PREPARE_SECONDS)
            status = answer.pop("status")
            spent = f"{time.monotonic() - started:.1f} s"
            say(f"  {name}: {status} ({answer.get('reason', spent)})")
            if status == "ready":
                workers[name] = worker
            else:
                worker.stop()
            offered = runs or list(answer.get("tasks", []))
            if not answer.get("device_rows", 1):
                offered = [what for what in offered if what != "device"]
            found.append(
                Measured(
                    system=name, status=status, answer=answer, seconds={w: [] for w in offered}
                )
            )
        ready = [measured for measured in found if measured.status == "ready"]
        for repeat in range(repeats):
            say(f"  repeat {repeat + 1} of {repeats}")
            shift = repeat % max(len(ready), 1)
            for measured in ready[shift:] + ready[:shift]:
                for what, seconds in measured.seconds.items():
                    if measured.status != "ready":
                        seconds.append(None)
                        continue
                    time.sleep(PAUSE_SECONDS)
                    task = {"do": "run", "what": what}
                    answer = workers[measured.system].ask(task, RUN_SECONDS)
                    if answer["status"] != "ready":
                        measured.status = answer.pop("status")
                        measured.answer.update(answer)
                        say(f"  {measured.system}: {measured.status} ({answer.get('reason')})")
                    seconds.append(answer.get("seconds"))
        for measured in ready:
            if measured.status == "ready":
                end = workers[measured.system].ask({"do": "finish"}, 60.0)
                measured.answer.update({k: v for k, v in end.items() if k != "status"})
    finally:
        for worker in workers.values():
            worker.stop()
    return found

"""Starts workers, lets them take turns, and keeps what they say."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from benchmarks.cases import Weights
from benchmarks.systems import LIMITS

ROOT = Path(__file__).parents[1]
PREPARE_SECONDS = 1800.0
RUN_SECONDS = 900.0
# Longer than thread pools keep spinning after their last work.
PAUSE_SECONDS = 0.25
# How often a process's memory is read.
PEAK_SECONDS = 0.05


class Worker:
    """A process that runs one system; see `worker.py`."""

    def __init__(self, name: str, folder: Path, platform: str) -> None:
        self.name = name
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        own = folder / f"{name}-{time.monotonic_ns()}"
        environment = {
            **interpreter_environment(platform),
            # Nothing compiled in earlier runs may help: compiling is measured.
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "TORCHINDUCTOR_CACHE_DIR": str(own),
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
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


def interpreter_environment(platform: str) -> dict[str, str]:
    """Variables for a measured Python process, free of the caller's settings for JAX."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "JAX_PLATFORMS": platform,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Several processes share one accelerator: none may take all of its memory.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "PYTHONPATH": os.pathsep.join(path),
    }


class Process(NamedTuple):
    """A process that ended.

    Attributes:
        seconds: from its start to its end.
        failure: the last line of its complaint, or None where it succeeded.
        output: what it printed.
        peak_bytes: of memory that it held at once; None where that isn't known.
    """

    seconds: float
    failure: str | None
    output: str
    peak_bytes: int | None


def timed_process(arguments: Sequence[str], environment: dict[str, str]) -> Process:
    """Run a Python process to its end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=out, stderr=complaints
        )
        with ThreadPoolExecutor(1) as beside:
            peak = beside.submit(_peak_bytes, process)
            process.wait()
            seconds = time.perf_counter() - started
        output, said = (_text(file) for file in (out, complaints))
    failure = None
    if process.returncode:
        failure = (said.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return Process(seconds, failure, output, peak.result())


def _peak_bytes(process: subprocess.Popen[bytes]) -> int | None:
    """The most memory that a process holds until it ends; None where the system doesn't say.

    What `wait4` gives begins with the memory of the process that started it.
    """
    status, peak = Path(f"/proc/{process.pid}/status"), None
    while process.returncode is None:
        with contextlib.suppress(OSError):
            found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
            peak = max(peak or 0, int(found[1]) * 1024) if found else peak
        time.sleep(PEAK_SECONDS)
    return peak


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A system to measure.

    Attributes:
        name: of its row.
        command: what its worker's "prepare" is given.
        runs: what is timed; nothing means all that the worker offers.
    """

    name: str
    command: dict[str, Any]
    runs: tuple[str, ...] = ()


def limit_tasks(sizes: dict[str, int]) -> list[Task]:
    """The machine's limits, measured among the systems."""
    return [
        Task(name=f"limits-{name}", command={"suite": "limits", "system": name, **sizes})
        for name in LIMITS
    ]


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, in memory where there is room, so that no disk is timed."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30
    # A run that is asked to stop must not leave its rows in memory, or its workers.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with tempfile.TemporaryDirectory(
            prefix="aejax-benchmarks-", dir=memory if roomy else None, ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, before)


def write_weights(path: Path, weights: Weights) -> None:
    """Write what `worker.read_weights` reads."""
    arrays = {f"{i}.{name}": a for i, layer in enumerate(weights) for name, a in layer.items()}
    np.savez(path, allow_pickle=False, layers=np.array(len(weights)), **arrays)


def interleave(
    tasks: Sequence[Task],
    *,
    folder: Path,
    platform: str,
    repeats: int,
    say: Callable[[str], None],
) -> list[Measured]:
    """Prepare every system, then let all take turns, repeat by repeat.

    A machine that slows down does so for all of them; the order shifts by one with every
    repeat, so that none always follows the same neighbour. A TPU belongs to one process
    at a time: there each system takes all of its turns before the next begins.

    Args:
        tasks: what to measure.
        folder: for logs.
        platform: "cpu", "gpu" or "tpu".
        repeats: turns.
        say: called with what happens, one line at a time.

    Returns:
        One `Measured` for each task, in their order.
    """
    groups = [[task] for task in tasks] if platform == "tpu" else [list(tasks)]
    found: list[Measured] = []
    for group in groups:
        workers: dict[str, Worker] = {}
        try:
            measured = [_prepare(task, workers, folder, platform, say) for task in group]
            _take_turns(measured, workers, repeats, say)
        finally:
            for worker in workers.values():
                worker.stop()
        found += measured
    return found


def _prepare(
    task: Task,
    workers: dict[str, Worker],
    folder: Path,
    platform: str,
    say: Callable[[str], None],
) -> Measured:
    started = time.monotonic()
    workers[task.name] = Worker(task.name, folder, platform)
    answer = workers[task.name].ask({"do": "prepare", **task.command}, PREPARE_SECONDS)
    status = answer.pop("status")
    if status != "ready":
        workers.pop(task.name).stop()
    say(f"  {task.name}: {status} ({answer.get('reason', f'{time.monotonic() - started:.1f} s')})")
    runs = task.runs or tuple(answer.get("tasks", ()))
    # Not every system can keep rows on the device.
    offered = [run for run in runs if run != "device" or answer.get("device_rows")]
    return Measured(
        system=task.name, status=status, answer=answer, seconds={run: [] for run in offered}
    )


def _take_turns(
    measured: list[Measured],
    workers: dict[str, Worker],
    repeats: int,
    say: Callable[[str], None],
) -> None:
    ready = [one for one in measured if one.status == "ready"]
    for repeat in range(repeats):
        say(f"  repeat {repeat + 1} of {repeats}")
        shift = repeat % max(len(ready), 1)
        for one in ready[shift:] + ready[:shift]:
            for run, seconds in one.seconds.items():
                if one.status != "ready":
                    seconds.append(None)
                    continue
                time.sleep(PAUSE_SECONDS)
                answer = workers[one.system].ask({"do": "run", "what": run}, RUN_SECONDS)
                if answer["status"] != "ready":
                    one.status = answer.pop("status")
                    one.answer.update(answer)
                    say(f"  {one.system}: {one.status} ({answer.get('reason')})")
                seconds.append(answer.get("seconds"))
    for one in ready:
        if one.status == "ready":
            end = workers[one.system].ask({"do": "finish"}, 60.0)
            one.answer.update({name: end[name] for name in end if name != "status"})

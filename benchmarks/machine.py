"""What the figures were measured on: processor, versions, and the machine's own limits."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Measured

PACKAGES = (
    "aejax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "pyarrow",
    "torch", "keras", "tensorflow", "tensorflow-cpu", "onnxruntime", "onnx", "pyod", "gensim",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Processor, cores, load, system, date, commit, and the versions of all that is installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": cores,
        "load_average_before": [round(value, 2) for value in load],
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": versions,
    }


def _processor() -> str:
    cpu = Path("/proc/cpuinfo")
    if not cpu.is_file():
        return platform.processor() or platform.machine()
    facts = dict(
        line.split("\t", 1) for line in cpu.read_text(encoding="utf-8").splitlines() if "\t" in line
    )
    name = facts.get("model name", platform.machine()).strip(" \t:")
    flags = set(facts.get("flags", "").split())
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name} ({', '.join(known)})" if known else name


def _commit() -> str:
    try:
        asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def limit_sizes(rows: int | None) -> dict[str, int]:
    """Width of the matrices and bytes of the array that limits are measured with.

    Args:
        rows: as asked for; a trial of a few rows gets small limits too.
    """
    small = rows is not None and rows < 4096
    return {"size": 256 if small else 2048, "read_bytes": 1 << (22 if small else 29)}


def limits_of(measured: list[Measured]) -> dict[str, float]:
    """The highest rate of every limit over all repeats and libraries.

    Returns:
        "product_float32" and "product_bfloat16" in operations a second (the latter accumulate
        in float32 under JAX), "read" in bytes a second.
    """
    best: dict[str, float] = {}
    for library in measured:
        for task, seconds in library.seconds.items():
            name = task.rpartition("_")[0] if task.startswith("read") else task
            for value in filter(None, seconds):
                rate = library.answer["tasks"][task] / value
                best[name] = max(best.get(name, 0.0), rate)
    return best

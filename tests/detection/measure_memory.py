"""Run by a test as a process of its own: trains on a file and prints the memory that it took.

    python measure_memory.py FILE ROWS_ON_DISK|in-memory

What is sampled is RssAnon of /proc/self/status: memory that belongs to the process alone.
Pages of mapped files (RssFile, a part of what getrusage calls the resident set) are the
system's cache: they are dropped, without being written, as soon as anything needs the room.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import aejax
from aejax.data import batches, csv_file, training_rows
from aejax.detection import calibration
from aejax.training import feeding
from tests.plain import plain_config

# Small blocks, so that the smaller of the inputs is many of them.
BLOCK_BYTES = 1 << 20
BLOCKS = (
    (training_rows, "READ_BYTES"),
    (batches, "BLOCK_BYTES"),
    (feeding, "STREAMED_BYTES"),
    (calibration, "BLOCK_BYTES"),
)
# Arrow reads up to 32 blocks of a CSV file ahead.
CSV_BLOCK_BYTES = 1 << 18


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon: not Linux")


def main(path: str, where: str) -> None:
    """Train, and print the peak in bytes."""
    import resource

    for module, name in BLOCKS:
        assert hasattr(module, name)
        setattr(module, name, BLOCK_BYTES)
    csv_file.BLOCK_BYTES = CSV_BLOCK_BYTES
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    # Small networks and large batches: this is about rows.
    config = plain_config(
        model=aejax.Dense(hidden=(4,)),
        train=aejax.Train(epochs=2, batch_size=4096, validation_fraction=0.2, patience=2),
    )
    detector = aejax.fit(config, path, memory_limit=1 << 40 if where == "in-memory" else 1 << 20)
    done.set()
    thread.join()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows = detector.provenance["training_rows"]
    print(json.dumps({"peak": peak, "resident": resident, "rows": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])

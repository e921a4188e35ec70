"""Stages side by side: in order, a few items ahead, and no thread is left whatever ends them."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aejax.data.batches import stream
from aejax.data.overlap import Behind, ahead


def working() -> list[str]:
    """Threads that read, write or gather."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("reader", "writer"))]


def counted(made: list[int], most: int, fails_at: int | None = None) -> Iterator[int]:
    try:
        for number in range(most):
            if number == fails_at:
                raise OSError("the disk is gone")
            made.append(number)
            yield number
    finally:
        made.append(-1)


@pytest.mark.parametrize("depth", [1, 3])
def test_items_come_in_order_and_only_a_few_ahead(depth: int) -> None:
    made: list[int] = []
    used = []
    for number in ahead(counted(made, 50), depth):
        used.append(number)
        assert max(made) <= number + depth + 1
    assert used == list(range(50))
    assert made[-1] == -1
    assert not working()


def test_an_error_comes_where_its_item_would_and_ends_the_thread() -> None:
    made: list[int] = []
    used = []
    with pytest.raises(OSError, match="the disk is gone"):
        used.extend(ahead(counted(made, 50, fails_at=20), 2))
    assert not working()
    assert made == [*range(20), -1]


@pytest.mark.parametrize("by", ["closing", "an error"])
def test_who_stops_early_closes_the_source_and_ends_the_thread(by: str) -> None:
    made: list[int] = []
    read = ahead(counted(made, 50), 2)
    next(read)
    if by == "closing":
        read.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            read.throw(KeyboardInterrupt)
    assert made[-1] == -1
    assert len(made) < 10
    assert not working()


def test_behind_ends_with_what_was_put_and_with_the_first_error() -> None:
    done: list[int] = []

    def write(number: int) -> None:
        if number == 3:
            raise OSError("full")
        done.append(number)

    def put_all() -> None:
        with Behind(write, 2) as writer:
            for number in range(10):
                writer.put(number)

    with pytest.raises(OSError, match="full"):
        put_all()
    assert done == [0, 1, 2]
    assert not working()


def test_a_stream_of_batches_that_is_left_ends_its_threads() -> None:
    order = np.arange(4000).reshape(1000, 4)
    batches = stream(np.arange(4000.0)[:, None], order)
    np.testing.assert_array_equal(next(batches).x[:, 0], [0, 1, 2, 3])
    assert working()
    batches.close()
    assert not working()


@pytest.fixture(scope="module")
def long_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Longer than what is read ahead, of every format."""
    folder = tmp_path_factory.mktemp("long")
    x = np.random.default_rng(0).normal(size=(400_000, 2))
    frame = pd.DataFrame(x, columns=["a", "b"])
    frame.to_parquet(folder / "rows.parquet", row_group_size=100_000)
    text = frame.to_csv(index=False).encode()
    (folder / "rows.csv").write_bytes(text)
    (folder / "bad.csv").write_bytes(text.replace(b"\n", b"\n1\n", 2))
    (folder / "rows.csv.gz").write_bytes(gzip.compress(text, 1))
    np.save(folder / "rows.npy", x)
    np.savez(folder / "rows.npz", x=x)
    return sorted(folder.iterdir())


ABANDONS = """
import atexit, sys, threading
from aejax.data import files
from aejax.data.rows import Selection

def tell():
    print(*[thread.name for thread in threading.enumerate()[1:]], flush=True)

atexit.register(tell)
held = [files.open_rows(path, Selection(bad_cells="null")).blocks(100) for path in sys.argv[1:]]
for blocks in held:
    next(blocks)
raise ValueError("nobody closes what was opened")
"""


def test_threads_end_before_a_process_that_closes_nothing(long_files: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABANDONS, *map(str, long_files)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert "nobody closes" in done.stderr
    assert done.stdout.split() == []


# What lets go of every handler that Arrow was given: P, one of Python's threads; A, one of Arrow's,
# which ends the process if Python has ended by then.
RELEASES = """
import os, sys, threading, weakref
import pyarrow.csv

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
real, seen = pyarrow.csv.ParseOptions, []

class Handler:
    def __init__(self, function):
        self.function = function

    def __call__(self, row):
        return self.function(row)

def released(_):
    mine = type(threading.current_thread()).__name__ != "_DummyThread"
    os.write(1, b"P" if mine else b"A")

def options(invalid_row_handler=None, **how):
    if invalid_row_handler is None:
        return real(**how)
    handler = Handler(invalid_row_handler)
    seen.append(weakref.ref(handler, released))
    return real(invalid_row_handler=handler, **how)

pyarrow.csv.ParseOptions = options
from aejax.config import InputError
from aejax.data import files
from aejax.data.rows import Selection

for _ in range(300):
    for path in sys.argv[1:]:
        try:
            files.read(path, Selection(bad_cells="null"))
        except InputError:
            pass
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs one core to itself")
def test_no_thread_of_arrow_lets_go_of_what_is_of_python(tmp_path: Path) -> None:
    paths = [tmp_path / "names.csv", tmp_path / "cells.csv", tmp_path / "short.csv"]
    paths[0].write_bytes("Höhe,Maß\n1,2\n3,4\n".encode("cp1252"))
    paths[1].write_bytes("a,b\n1,2\n3,ö\n".encode("cp1252"))
    paths[2].write_bytes(b"a,b\n1,2\n3\n4,x\n5,6\n")
    done = subprocess.run(
        [sys.executable, "-c", RELEASES, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = Counter(done.stdout)
    assert found["P"] > 300
    assert found["A"] == 0

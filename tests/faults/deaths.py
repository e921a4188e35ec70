"""Saves a checkpoint in processes that end at every operation in turn: python deaths.py FOLDER.

Orbax works in threads of its own, where an exception is no death. So every try is a process:
a fork, because starting Python costs seconds. FOLDER/start is what each finds; FOLDER/0, 1, 2, ...
is what it leaves.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax  # noqa: F401  before the forks
import numpy as np
from orbax.checkpoint import v1  # noqa: F401

from aejax.training.checkpoint import Checkpoints

ARRAYS = {"a": np.arange(6, dtype=np.float32), "b": np.ones((3, 2), np.float32)}
MOST = 100


def save_checkpoint(folder: Path) -> None:
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(3, {name: x + 3 for name, x in ARRAYS.items()}, {"step": 3})


def hook(folder: Path, last: int) -> Callable[[str, tuple[Any, ...]], None]:
    spec = importlib.util.spec_from_file_location("disk", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    disk = module.Disk(folder)
    disk.left, disk.armed = last, True

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        try:
            disk(event, arguments)
        except BaseException:
            os._exit(9)

    return hear


def main(folder: Path) -> None:
    for last in range(MOST):
        shutil.copytree(folder / "start", folder / str(last))
        child = os.fork()
        if child == 0:
            sys.addaudithook(hook(folder / str(last), last))
            save_checkpoint(folder / str(last))
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return
    raise SystemExit("it never came to an end")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

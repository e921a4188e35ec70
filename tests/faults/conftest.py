"""A disk that fails, or a process that dies, at a chosen operation on files.

Python tells its audit hooks of every file that is opened and every name that is made, changed
or removed, whoever asks for it: the package, pyarrow's Python side, or Orbax.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link", "os.symlink")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Died(BaseException):
    """Stands for the end of the process: nothing that catches errors catches it."""


class Disk:
    """Counts the operations that change files below a folder, and fails at one of them.

    Args:
        folder: below which operations count.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.armed = self.dead = self.cuts = False
        self.left = 0
        self.error: int | None = None
        self.seen: list[str] = []

    @property
    def failed(self) -> bool:
        """Whether the operation was reached."""
        return self.left < 0

    @contextlib.contextmanager
    def _arm(self, operation: int, error: int | None, *, cuts: bool) -> Iterator[None]:
        self.left, self.error, self.cuts = operation, error, cuts
        self.dead, self.seen, self.armed = False, [], True
        try:
            yield
        except Died:
            pass
        finally:
            self.armed = False

    def dying(
        self, operation: int, *, cuts: bool = False
    ) -> contextlib.AbstractContextManager[None]:
        """The process dies before an operation, and with it all clean-up.

        Args:
            operation: which, from 0.
            cuts: where a written file takes its name, half of it is lost, as if the process had
                died while it wrote it.
        """
        return self._arm(operation, None, cuts=cuts)

    def failing(
        self, operation: int, error: int = errno.ENOSPC
    ) -> contextlib.AbstractContextManager[None]:
        """An operation fails with an error of the system; later ones don't."""
        return self._arm(operation, error, cuts=False)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed or not self._counts(event, arguments):
            return
        if self.dead:
            raise Died
        self.seen.append(f"{event} {arguments[0]}")
        self.left -= 1
        if self.left != -1:
            return
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error), str(arguments[0]))
        self.dead = True
        source = str(arguments[0])
        if (
            self.cuts
            and event == "os.rename"
            and source.endswith(".writing")
            and os.path.isfile(source)
        ):
            self.armed = False
            os.truncate(source, os.path.getsize(source) // 2)
            self.armed = True
        raise Died

    def _counts(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & WRITING) if mode is None else bool(set(mode) & set("wax+"))
        else:
            path, writes = arguments[0] if arguments else None, event in CHANGES
        if not writes or not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return os.fsdecode(path).startswith(self.folder)


DISKS: list[Disk] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    for disk in DISKS:
        disk(event, arguments)


@pytest.fixture(scope="session", autouse=True)
def _hook() -> None:
    # A hook can't be taken away again; without disks it costs next to nothing.
    sys.addaudithook(_hear)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """The disk that this test's folder is on."""
    made = Disk(tmp_path)
    DISKS.append(made)
    yield made
    DISKS.remove(made)

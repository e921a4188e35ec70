"""Files that survive a kill, a full disk or a power cut whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from aejax.config.checks import InputError

# A leading dot and this ending keep an unfinished file out of every reader's sight.
ASIDE = ".writing"
# Of linux/fcntl.h and linux/fs.h.
AT_FDCWD, EXCHANGE = -100, 2


class Aside:
    """A file to write that takes its name, replacing an older one, only when it is complete.

    Args:
        path: the name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aside = aside_of(path)
        # What a kill left of an earlier try is overwritten.
        self.file: IO[bytes] = self.aside.open("wb")

    def commit(self, *, durable: bool = True) -> None:
        """Give the file its name.

        Args:
            durable: wait until the disk has it. Without that a power cut can leave an empty file.
        """
        try:
            self.file.flush()
            if durable:
                os.fsync(self.file.fileno())
            self.file.close()
            os.replace(self.aside, self.path)
        except BaseException:
            self.discard()
            raise
        if durable:
            sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave no file."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.aside.unlink(missing_ok=True)


def aside_of(path: Path) -> Path:
    """The name that a file or folder has while it is written."""
    return path.with_name(f".{path.name}{ASIDE}")


@contextlib.contextmanager
def written_aside(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to write, complete when the block ends well and gone when it doesn't."""
    aside = Aside(path)
    try:
        yield aside.file
    except BaseException:
        aside.discard()
        raise
    aside.commit(durable=durable)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file, or replace it, so that readers see the old one or the new one.

    Raises:
        InputError: if the system doesn't take it: a full disk, a folder that is read-only or gone.
    """
    if isinstance(content, str):
        # Names of files need not be Unicode, and texts quote them.
        content = content.encode(errors="backslashreplace")
    with refused_as_input(path), written_aside(path) as file:
        file.write(content)


def make_folder(path: Path) -> None:
    """Make a folder with those above it, unless it is there.

    Raises:
        InputError: if the system doesn't allow it, or a file has the name.
    """
    with refused_as_input(path):
        path.mkdir(parents=True, exist_ok=True)


def exchange(one: Path, other: Path) -> bool:
    """Swap the names of two files or folders in one operation, where the system can.

    Python has no call for it: this is `renameat2` of Linux, with RENAME_EXCHANGE.

    Returns:
        Whether they are swapped; False leaves both as they were.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    sys.audit("os.rename", str(one), str(other), -1, -1)
    return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE) == 0)


@contextlib.contextmanager
def refused_as_input(path: Path, then: str = "") -> Iterator[None]:
    """Say in one line what the system refused, and what to do then."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}{then}") from error


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder's files."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

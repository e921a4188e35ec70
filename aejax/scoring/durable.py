"""Files that survive a kill or a power cut whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# A leading dot and this ending keep an unfinished file out of every reader's sight.
ASIDE = ".writing"


class Aside:
    """A file to write that takes its name, replacing an older one, only when it is complete.

    Args:
        path: the name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aside = path.with_name(f".{path.name}{ASIDE}")
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


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; the disk has it when this returns.

    A line that a kill cut short has no line end; `whole_lines` leaves it out.
    """
    with path.open("ab") as file:
        before = file.tell()
        try:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that `append_line` finished; none where there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content[: content.rfind(b"\n") + 1].decode(errors="backslashreplace").split("\n")[:-1]


def drop_cut_line(path: Path) -> None:
    """Remove what a kill left of a last line, so that the next one begins a line."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder's files."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

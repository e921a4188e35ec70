"""Files that survive a kill or a power cut whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# A leading dot and this ending keep an unfinished file out of every reader's sight.
ASIDE = ".writing"


@contextlib.contextmanager
def written_aside(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to write; it takes its name, replacing an older one, when the block ends well.

    Args:
        path: the name.
        durable: wait until the disk has it. Without that a power cut can leave an empty file.
    """
    aside = path.with_name(f".{path.name}{ASIDE}")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        # What is left of it after a kill is overwritten by the next try.
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


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
    return content[: content.rfind(b"\n") + 1].decode().splitlines()


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

"""A journal: lines that a kill or a power cut leaves whole, or not at all.

Whole files are `aejax.config.durable`'s; their names are here too, for who writes both.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from aejax.config.durable import ASIDE, Aside, sync_folder, written_aside

__all__ = [
    "ASIDE",
    "Aside",
    "append_line",
    "drop_cut_line",
    "sync_folder",
    "whole_lines",
    "written_aside",
]


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

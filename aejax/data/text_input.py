"""The bytes of text files: unpacked, and without lines that are no rows where there are such."""

from __future__ import annotations

import io
import lzma
import re
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

_PIECE = 1 << 20


def open_text(path: Path) -> Any:
    """A file's bytes, unpacked where its suffix says how: something that Arrow reads.

    Raises:
        ValueError: if a .zip file holds other than one file.
    """
    suffix = path.suffix.lower()
    if suffix == ".xz":
        return pa.PythonFile(lzma.open(path), mode="r")
    if suffix == ".zip":
        archive = zipfile.ZipFile(path)
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            archive.close()
            raise ValueError(f"it holds {len(names)} files, allowed: 1")
        return pa.PythonFile(archive.open(names[0]), mode="r")
    return pa.input_stream(str(path), compression="detect")


def without_comments(file: object, encoding: str, comment: str, spaces: bool) -> Any:
    """The same bytes in UTF-8 without lines that begin with `comment`, for Arrow.

    Args:
        file: of bytes.
        encoding: of them.
        comment: what such lines begin with; "" for nothing.
        spaces: whether any number of spaces between cells becomes one, and those around a line
            none.
    """
    return pa.PythonFile(_Lines(file, encoding, comment, spaces), mode="r")


class _Lines(io.RawIOBase):
    """A stream of the lines that are rows."""

    def __init__(self, file: Any, encoding: str, comment: str, spaces: bool) -> None:
        self.text = io.TextIOWrapper(
            cast(IO[bytes], _Buffered(file)), encoding=encoding, newline=None
        )
        self.comment, self.spaces = comment, spaces
        self.left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        while not self.left and (lines := self.text.readlines(_PIECE)):
            if self.comment:
                lines = [line for line in lines if not line.lstrip().startswith(self.comment)]
            if self.spaces:
                lines = [re.sub(r"[ \t]+", " ", line.strip()) + "\n" for line in lines]
            self.left = "".join(lines).encode()
        size = len(self.left) if size is None or size < 0 else size
        piece, self.left = self.left[:size], self.left[size:]
        return piece

    def close(self) -> None:
        if not self.closed:
            self.text.close()
        super().close()


class _Buffered(io.BufferedIOBase):
    """An Arrow stream as Python's text layer wants it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        return self.file.read(size if size > 0 else _PIECE)

    def read(self, size: int | None = -1) -> bytes:
        return self.file.read() if size is None or size < 0 else self.file.read(size)

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()

"""A folder of rows copied out of their files once, so that training can pick any of them.

normal.npy, anomalous.npy   the rows, of their stored type
rows.json                   what they were copied from, how many they are, and what was left out

Everything is written to a folder beside it, which takes the name when it is complete: a
folder of this name is whole. A stopped run that continues finds its rows in it.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from aejax.config import InputError
from aejax.data.blocks import Part
from aejax.data.disk_rows import DiskRows
from aejax.data.files import Rows
from aejax.data.schema import Schema
from aejax.data.sources import PACKED, TEXT, format_of
from aejax.data.text_input import open_text

SPOOL, ASIDE = "rows", "rows.writing"
NORMAL, ANOMALOUS, DESCRIPTION = "normal.npy", "anomalous.npy", "rows.json"
# A number in the run's order for each row, and one while held-out rows are chosen.
ORDER_BYTES = 8
TEXT_BYTES = 1 << 20
# To how much less text is packed, about.
PACKED_TO = 4


class SpoolWriter:
    """Writes rows into a spool folder; use as a context.

    Args:
        folder: in which the spool is made.
        schema: of the rows.
    """

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.folder, self.schema = folder, schema
        self.aside = folder / ASIDE
        self.files: dict[str, IO[bytes]] = {}
        self.rows = {NORMAL: 0, ANOMALOUS: 0}

    def __enter__(self) -> SpoolWriter:
        shutil.rmtree(self.aside, ignore_errors=True)
        try:
            self.aside.mkdir(parents=True)
            for name in self.rows:
                self.files[name] = (self.aside / name).open("wb")
                self._header(name)
        except OSError as error:
            raise self._failed(error) from error
        return self

    def add(self, normal: np.ndarray, anomalous: np.ndarray) -> None:
        """Write some rows behind those that are there."""
        try:
            for name, x in ((NORMAL, normal), (ANOMALOUS, anomalous)):
                self.files[name].write(np.ascontiguousarray(x).data)
                self.rows[name] += len(x)
        except OSError as error:
            raise self._failed(error) from error

    def commit(self, described: Mapping[str, Any]) -> None:
        """Give the folder its name, replacing an older one."""
        try:
            for name, file in self.files.items():
                file.seek(0)
                self._header(name)
                file.flush()
                os.fsync(file.fileno())
                file.close()
            (self.aside / DESCRIPTION).write_text(json.dumps({**described, **self._counts}) + "\n")
            shutil.rmtree(self.folder / SPOOL, ignore_errors=True)
            self.aside.rename(self.folder / SPOOL)
        except OSError as error:
            raise self._failed(error) from error

    @property
    def _counts(self) -> dict[str, int]:
        return {"normal": self.rows[NORMAL], "anomalous": self.rows[ANOMALOUS]}

    def _header(self, name: str) -> None:
        # NumPy leaves room in it for any number of rows, so it can be written again.
        np.lib.format.write_array_header_1_0(
            self.files[name],
            {
                "descr": np.lib.format.dtype_to_descr(np.dtype(self.schema.dtype)),
                "fortran_order": False,
                "shape": (self.rows[name], *self.schema.shape),
            },
        )

    def _failed(self, error: OSError) -> InputError:
        return InputError(
            f"{self.folder} cannot take the training rows: {error.strerror or error}; "
            "allowed: a disk with room for all of them, or a higher --memory-limit"
        )

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()
        shutil.rmtree(self.aside, ignore_errors=True)


def open_spool(folder: Path, schema: Schema) -> tuple[dict[str, Any], dict[str, DiskRows]] | None:
    """What a folder's spool says of itself, and its rows; None where there is no readable one."""
    home = folder / SPOOL
    try:
        described = json.loads((home / DESCRIPTION).read_text())
        counts = {NORMAL: described["normal"], ANOMALOUS: described["anomalous"]}
        rows = {
            name: DiskRows(
                path=home / name,
                schema=schema,
                offset=_offset(home / name, schema, count),
                stored=count,
                scratch=folder,
            )
            for name, count in counts.items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return described, rows


def _offset(path: Path, schema: Schema, rows: int) -> int:
    """Where the rows begin in a file that holds as many as it should."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    held = path.stat().st_size - offset
    if (shape, fortran, dtype) != ((rows, *schema.shape), False, np.dtype(schema.dtype)):
        raise ValueError(f"{path} holds {shape} of {dtype}")
    if held != rows * schema.features * dtype.itemsize:
        raise ValueError(f"{path} holds {held} bytes of rows")
    return offset


def remove_spool(folder: Path) -> None:
    """Remove the spool that a folder holds, and what is left of an unfinished one."""
    for name in (SPOOL, ASIDE):
        shutil.rmtree(folder / name, ignore_errors=True)


def check_room(folder: Path, opened: Rows) -> None:
    """Refuse to copy rows to a disk that has too little room for them.

    Raises:
        InputError: saying how much is needed and how much there is.
    """
    rows, about = opened.rows, ""
    if rows is None:
        rows, about = sum(_about_rows(part, opened.schema) for part in opened.parts), "about "
    row_bytes = opened.schema.features * np.dtype(opened.schema.dtype).itemsize
    needed = rows * (row_bytes + ORDER_BYTES)
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"{folder} has {free:,} bytes of room; allowed: at least {about}{needed:,}, for "
            f"{about}{rows:,} rows of {row_bytes:,} bytes that training picks from"
        )


def _about_rows(part: Part, schema: Schema) -> int:
    """About how many rows a file has: of text by the length of its first lines."""
    path = part.path
    if part.rows is not None:
        return part.rows
    size = path.stat().st_size
    if format_of(path) not in TEXT:
        return size // (schema.features * np.dtype(schema.dtype).itemsize)
    if path.suffix.lower() in PACKED and path.suffix.lower() != ".gz":
        with open_text(path) as unpacked:
            text = unpacked.read(TEXT_BYTES)
        return max(1, text.count(b"\n")) * max(1, PACKED_TO * size // max(1, len(text)))
    with path.open("rb") as raw:
        text = raw.read(TEXT_BYTES)
    taken = len(text)
    if path.suffix.lower() == ".gz":
        # Not by way of a GzipFile: how far that reads ahead differs between Pythons.
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        text = unpacking.decompress(text, TEXT_BYTES)
        taken -= len(unpacking.unconsumed_tail) + len(unpacking.unused_data)
    lines = max(1, text.count(b"\n"))
    return lines if taken >= size else lines * size // max(1, taken)

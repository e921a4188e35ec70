"""Rows in NumPy's own files: .npy (memory-mapped) and .npz (streamed out of the archive)."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any

import numpy as np

from aejax.config import InputError, suggest
from aejax.data.blocks import Block, Part
from aejax.data.offsets import is_wide
from aejax.data.rows import (
    UNREADABLE,
    NoRows,
    Selection,
    cast_rows,
    guarded,
    labels_to_flags,
    unreadable,
)
from aejax.data.schema import Schema

NUMERIC_KINDS = "biuf"
LABEL_KINDS = "biufSU"
CHUNK_BYTES = 1 << 24


def open_npy(path: Path, selection: Selection, expected: Schema | None) -> Part:
    """A .npy file of shape [n, features], [n, height, width] or [n, height, width, channels]."""
    refuse_columns(path, selection, label_allowed=False)
    try:
        # Not np.load: it would also accept a zip archive or a pickle under this suffix.
        with path.open("rb") as file:
            shape, fortran, dtype = _read_header(file)
            _check_bytes(shape, dtype, path.stat().st_size - file.tell())
            offset = file.tell()
        schema = _schema(path, "array", shape, dtype, expected)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, "npy", error) from error

    def chunks(start: int, size: int) -> Iterator[Block]:
        pieces = (
            _mapped_rows(path, dtype, shape, offset, start, size)
            if fortran
            else _read_rows(path, dtype, shape, offset, start, size)
        )
        first = start
        for rows in pieces:
            yield array_block(rows, schema, path, first, selection)
            first += len(rows)

    return Part(
        path=path,
        schema=schema,
        rows=shape[0],
        chunks=lambda start, size: guarded(chunks(start, size), path, "npy"),
        wide=is_wide(dtype),
    )


def plain_offset(path: Path, schema: Schema) -> int | None:
    """Where the rows of a .npy file begin, if their bytes are those of rows of this schema."""
    with path.open("rb") as file:
        _, fortran, dtype = _read_header(file)
        return None if fortran or dtype != np.dtype(schema.dtype) else file.tell()


def array_block(
    rows: np.ndarray,
    schema: Schema,
    path: Path,
    first_row: int,
    selection: Selection,
    y: np.ndarray | None = None,
) -> Block:
    """Rows of an array as a block, in the schema's shape and type."""
    bad: dict[int, str] = {}
    x = cast_rows(rows, schema, path, first_row, bad if selection.bad_cells == "null" else None)
    return Block(first_row=first_row, x=x, y=y, keys=None, bad=bad)


def _read_rows(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, start: int, size: int
) -> Iterator[np.ndarray]:
    # Read, not mapped: pages of a map count as the process's memory until others need theirs,
    # and a file cut short meanwhile would end the process.
    values = math.prod(shape[1:])
    with path.open("rb") as file:
        file.seek(offset + start * values * dtype.itemsize)
        for first in range(start, shape[0], size):
            count = min(size, shape[0] - first)
            read = np.fromfile(file, dtype, count * values)
            if read.size != count * values:
                raise EOFError(f"it ends after {first + read.size // values} of {shape[0]} rows")
            yield read.reshape(count, *shape[1:])


def _mapped_rows(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, start: int, size: int
) -> Iterator[np.ndarray]:
    """Rows of an array whose columns come first; only a map reaches them without reading it all."""
    for first in range(start, shape[0], size):
        # A new map for every block, which gives back the pages of the one before.
        x = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F")
        yield np.array(x[first : first + size], order="C")


def open_npz(path: Path, selection: Selection, expected: Schema | None) -> Part:
    """A .npz file with the rows in array X or x (or the only one) and perhaps labels in y."""
    refuse_columns(path, selection, label_allowed=True)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")
            ]
            label = selection.label_column or ("y" if "y" in names else None)
            if label is not None and label not in names:
                raise InputError(f"{path} has no label array {label!r}; {suggest(label, names)}")
            name = _rows_name(path, names, label)
            shape, _, dtype = _member_header(archive, name)
            schema = _schema(path, f"array {name!r}", shape, dtype, expected)
            if label is not None:
                _check_labels(path, label, archive, shape[0])
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, "npz", error) from error
    row_bytes = max(1, math.prod(shape[1:]) * dtype.itemsize)

    def chunks(start: int, size: int) -> Iterator[Block]:
        size = max(1, min(size, CHUNK_BYTES // row_bytes))
        # Members are closed by hand: an archive's file stays open as long as one of them is.
        with ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(path))
            features = stack.enter_context(closing(_member_rows(archive, name, start, size)))
            labels = None
            if label is not None:
                labels = stack.enter_context(closing(_member_rows(archive, label, start, size)))
            first = start
            for rows in features:
                y = None
                if labels is not None:
                    values, positions = np.unique(next(labels).reshape(-1), return_inverse=True)
                    y = labels_to_flags(
                        values.tolist(), positions, selection, path, str(label), first
                    )
                yield array_block(rows, schema, path, first, selection, y)
                first += len(rows)

    return Part(
        path=path,
        schema=schema,
        rows=shape[0],
        chunks=lambda start, size: guarded(chunks(start, size), path, "npz"),
        wide=is_wide(dtype),
    )


def refuse_columns(path: Path, selection: Selection, *, label_allowed: bool) -> None:
    """Refuse a selection of columns by name: arrays have none."""
    for field in ("label_column", "drop_columns", "key_columns"):
        value = getattr(selection, field)
        if value and not (label_allowed and field == "label_column"):
            raise InputError(
                f"{path} has no named columns, but {field} is {value!r}; "
                "allowed: CSV or Parquet files"
            )


def _rows_name(path: Path, names: list[str], label: str | None) -> str:
    for name in ("X", "x"):
        if name in names:
            return name
    others = [name for name in names if name != label]
    if len(others) != 1:
        held = ", ".join(map(repr, names)) or "none"
        raise InputError(
            f"{path} holds the arrays {held}; allowed: one named 'X' or 'x', or only one"
        )
    return others[0]


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"npy format version {version}")
    return readers[version](file)


def _check_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], held: int) -> None:
    """Refuse a header that promises more than the file holds, before anything is allocated."""
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    promised = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or promised > held:
        raise ValueError(
            f"its header promises shape {shape} of {dtype}, {promised} bytes; it holds {held}"
        )


def _member_header(
    archive: zipfile.ZipFile, name: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        shape, fortran, dtype = _read_header(file)
        _check_bytes(shape, dtype, info.file_size - file.tell())
    return shape, fortran, dtype


def _member_rows(
    archive: zipfile.ZipFile, name: str, start: int, size: int
) -> Generator[np.ndarray]:
    """The rows of one array from `start`, `size` at a time."""
    shape, fortran, dtype = _member_header(archive, name)
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    with archive.open(f"{name}.npy") as file:
        _read_header(file)
        if fortran and len(shape) > 1:
            # Its columns come first, so the first row is complete only after the last column.
            whole = np.frombuffer(_read_exactly(file, shape[0] * row_bytes), dtype)
            whole = whole.reshape(shape[::-1]).transpose()
            for first in range(start, shape[0], size):
                yield whole[first : first + size]
            return
        file.seek(start * row_bytes, 1)
        for first in range(start, shape[0], size):
            count = min(size, shape[0] - first)
            yield np.frombuffer(_read_exactly(file, count * row_bytes), dtype).reshape(
                count, *shape[1:]
            )


def _read_exactly(file: IO[bytes], count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise EOFError(f"it ends after {len(content)} of {count} bytes")
    return content


def _check_labels(path: Path, label: str, archive: zipfile.ZipFile, rows: int) -> None:
    shape, _, dtype = _member_header(archive, label)
    if dtype.kind not in LABEL_KINDS or shape not in ((rows,), (rows, 1)):
        raise InputError(
            f"{path}: label array {label!r} is {dtype} of shape {shape}; allowed: shape ({rows},)"
        )


def _schema(
    path: Path, what: str, shape: tuple[int, ...], dtype: np.dtype[Any], expected: Schema | None
) -> Schema:
    if dtype.kind not in NUMERIC_KINDS:
        raise InputError(
            f"{path}: {what} is of type {dtype}; allowed: integers, floats or booleans"
        )
    allowed = "[n, features], [n, height, width] or [n, height, width, channels]"
    if len(shape) == 1:
        allowed += f"; a single column has shape ({shape[0]}, 1)"
    if not 2 <= len(shape) <= 4:
        raise InputError(f"{path}: {what} has shape {shape}; allowed: {allowed}")
    if shape[0] == 0:
        raise NoRows(f"{path} has 0 rows; allowed: at least 1")
    if expected is not None:
        if shape[1:] != expected.shape and (*shape[1:], 1) != expected.shape:
            raise InputError(
                f"{path}: {what} has rows of shape {shape[1:]}; allowed: {expected.shape}"
            )
        return expected
    if 0 in shape:
        raise InputError(f"{path}: {what} has shape {shape}; allowed: at least 1 value in a row")
    if len(shape) == 2:
        return Schema(shape=shape[1:], kind="table")
    stored = "uint8" if dtype == np.uint8 else "float32"
    return Schema(
        shape=shape[1:] if len(shape) == 4 else (*shape[1:], 1), dtype=stored, kind="image"
    )

"""Rows that stay on disk: a .npy file whose rows are picked by position, as an array's are."""

from __future__ import annotations

import dataclasses
import functools
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import InputError
from aejax.data import batches
from aejax.data.offsets import centred
from aejax.data.schema import Schema
from aejax.data.series import WindowRows

# Of numbers that are filled in or looked through at once.
NUMBERS_AT_ONCE = 1 << 18


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiskRows:
    """Rows of a .npy file, all or those of one side of a split; a `batches.RowSource`.

    The file is mapped: its pages are the system's to drop, so that picked rows are the only
    memory that a training run needs. Slices are read instead, because they pass through all
    rows once.

    Args:
        path: a .npy file in C order, of the schema's type.
        schema: of a row.
        offset: of the first row in the file, in bytes.
        stored: rows in the file.
        scratch: folder on a disk with room, for numbers that are as many as the rows.
        gaps: of a split file, for every held-out row how many training rows lie before it,
            whole numbers [held-out rows] in rising order; None where all rows are meant.
        held: whether the held-out rows of a split file are meant, or the others.
        beside: other rows of the same file, whose map serves for these as well.
        less_offset: whether rows are given as compiled programs take them, less the schema's
            offset, or as they are in the file.
    """

    path: Path
    schema: Schema
    offset: int
    stored: int
    scratch: Path
    gaps: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)
    held: bool = False
    beside: DiskRows | None = dataclasses.field(default=None, compare=False, repr=False)
    less_offset: bool = False

    def __len__(self) -> int:
        if self.gaps is None:
            return self.stored
        return len(self.gaps) if self.held else self.stored - len(self.gaps)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values that are given."""
        return np.dtype(self.schema.device_dtype if self.less_offset else self.schema.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's: rows, then the shape of one."""
        return (len(self), *self.schema.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values, on disk."""
        return len(self) * self.schema.features * self._kept.itemsize

    @property
    def _kept(self) -> np.dtype[Any]:
        return np.dtype(self.schema.dtype)

    def __getitem__(self, rows: np.ndarray | slice, /) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1 and not self.held and stop > start:
                return self._read(start, stop)
            rows = np.arange(start, stop, step)
        return self._given(self._mapped[self.places(rows)])

    def _given(self, rows: np.ndarray) -> np.ndarray:
        return centred(rows, self.schema) if self.less_offset else rows

    def split(self, fraction: float, seed: int) -> tuple[DiskRows, DiskRows]:
        """Training and held-out rows: those of `batches.validation_split`, in the same order."""
        order = batches.shuffled(self.stored, seed, "validation", new=self.numbers)
        held = order[: batches.held_out(self.stored, fraction)]
        held.sort()
        gaps = self.numbers(len(held), order.dtype)
        for first in range(0, len(held), NUMBERS_AT_ONCE):
            part = held[first : first + NUMBERS_AT_ONCE]
            gaps[first : first + len(part)] = part - np.arange(first, first + len(part))
        training = dataclasses.replace(self, gaps=gaps)
        # One map for both sides: the pages of two would be counted twice.
        return training, dataclasses.replace(self, gaps=gaps, held=True, beside=training)

    def numbers(self, count: int, dtype: Any) -> np.ndarray:
        """Room for whole numbers in a nameless file beside the rows, as `numpy.empty` gives it."""
        return _scratch_numbers(self.scratch, count, np.dtype(dtype))

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Positions in the file of rows by their positions among these."""
        if self.gaps is None:
            return rows
        if self.held:
            places: np.ndarray = self.gaps[rows].astype(np.int64) + rows
            return places
        return rows + np.searchsorted(self.gaps, rows.astype(self.gaps.dtype), side="right")

    def _read(self, start: int, stop: int) -> np.ndarray:
        # The held-out rows between training rows are read with them, and left out.
        places = self.places(np.arange(start, stop))
        first, count = int(places[0]), int(places[-1] - places[0]) + 1
        with self.path.open("rb") as file:
            file.seek(self.offset + first * self.schema.features * self._kept.itemsize)
            values = np.fromfile(file, self._kept, count * self.schema.features)
        if values.size != count * self.schema.features:
            raise InputError(
                f"{self.path} ends before row {first + count}; allowed: a file that stays as it is"
            )
        rows = values.reshape(count, *self.schema.shape)
        return self._given(rows if count == stop - start else rows[places - first])

    @functools.cached_property
    def _mapped(self) -> np.ndarray:
        if self.beside is not None:
            return self.beside._mapped
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            # Rows are picked in random order: what lies behind one is not wanted next.
            mapped.madvise(mmap.MADV_RANDOM)
        values = np.frombuffer(
            mapped, self._kept, self.stored * self.schema.features, offset=self.offset
        )
        return values.reshape(self.stored, *self.schema.shape)


Stored = np.ndarray | DiskRows | batches.Picked | WindowRows


def split_rows(rows: Stored, fraction: float, seed: int) -> tuple[Stored, Stored]:
    """Training and held-out rows, wherever they are; see `batches.validation_split`.

    Of windows, which overlap, the last ones are held out.
    """
    if isinstance(rows, WindowRows):
        return rows.split(fraction)
    if isinstance(rows, DiskRows):
        return rows.split(fraction, seed)
    picked, held = batches.validation_split(len(rows), fraction, seed)
    return rows[picked], rows[held]


def _scratch_numbers(folder: Path, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    if not count:
        return np.empty(0, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    size = count * dtype.itemsize
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Reserved now: a full disk would otherwise end the process at some later store.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise InputError(
            f"{folder} has no room for {size} bytes of row numbers: {error.strerror or error}; "
            "allowed: a disk with 8 bytes for every row"
        ) from error
    return np.frombuffer(mapped, dtype)

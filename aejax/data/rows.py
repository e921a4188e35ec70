"""What every file reader shares: which columns are wanted, blocks of rows, labels and casts."""

from __future__ import annotations

import dataclasses
import hashlib
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from aejax.config import InputError
from aejax.data.schema import Schema

if TYPE_CHECKING:
    import pyarrow

# What the parsers of all formats are known to raise for bytes that aren't theirs.
# (Arrow's own errors are subclasses of the built-in ones.)
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    SyntaxError,
    OverflowError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
FINGERPRINT_WHOLE_BYTES = 1 << 28
FINGERPRINT_SAMPLES = 64
FINGERPRINT_SAMPLE_BYTES = 1 << 20
Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Which columns of a table are labels, keys and features.

    Args:
        label_column: column (for npz: array) of labels. An npz file's array "y" is used even
            where this is None.
        normal_label: the label of normal rows; every other label is an anomaly. Without it the
            labels must be 0 or 1 (or false or true), and 1 is an anomaly.
        drop_columns: columns that are neither features nor keys.
        key_columns: columns that identify a row and are handed through to the scores; no features.
            CSV keys stay text, so that leading zeros survive.
        header: whether the first line of a CSV file names its columns; otherwise they are
            named column_0, column_1 and so on.
    """

    label_column: str | None = None
    normal_label: str | None = None
    drop_columns: tuple[str, ...] = ()
    key_columns: tuple[str, ...] = ()
    header: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive rows of a file.

    Args:
        first_row: position in the file of the block's first row, from 0.
        x: rows, [n, *schema.shape] of schema.dtype; an empty cell is NaN.
        y: int8 [n], 1 is an anomaly and 0 is normal; None where the file has no labels.
        keys: the key columns, n rows; None where there are none.
    """

    first_row: int
    x: np.ndarray
    y: np.ndarray | None
    keys: pyarrow.Table | None

    def slice(self, start: int, stop: int) -> Block:
        """The block's rows from `start` up to `stop`, sharing its memory."""
        return Block(
            first_row=self.first_row + start,
            x=self.x[start:stop],
            y=None if self.y is None else self.y[start:stop],
            keys=None if self.keys is None else self.keys.slice(start, stop - start),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One file, opened: its schema, and a way to read it from any row.

    Args:
        path: the file.
        schema: what one row is.
        rows: number of rows, or None where only reading the whole file can tell.
        chunks: given a row to start from and a size hint, yields the rows in order in
            blocks of any size.
    """

    path: Path
    schema: Schema
    rows: int | None
    chunks: Callable[[int, int], Iterator[Block]]


def regrouped(chunks: Iterable[Block], size: int) -> Iterator[Block]:
    """The same rows in blocks of exactly `size`, and one smaller last block where rows are left."""
    held: list[Block] = []
    count = 0
    for chunk in chunks:
        position = 0
        while position < len(chunk.x):
            stop = min(position + size - count, len(chunk.x))
            held.append(chunk.slice(position, stop))
            count += stop - position
            position = stop
            if count == size:
                yield _joined(held)
                held, count = [], 0
    if held:
        yield _joined(held)


def _joined(blocks: Sequence[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    labels = [block.y for block in blocks if block.y is not None]
    tables = [block.keys for block in blocks if block.keys is not None]
    keys = None
    if tables:
        import pyarrow

        keys = pyarrow.concat_tables(tables)
    return Block(
        first_row=blocks[0].first_row,
        x=np.concatenate([block.x for block in blocks]),
        y=np.concatenate(labels) if labels else None,
        keys=keys,
    )


def labels_to_flags(
    values: Sequence[object],
    positions: np.ndarray,
    selection: Selection,
    path: Path,
    column: str,
    first_row: int,
) -> np.ndarray:
    """Labels as 1 (anomaly) and 0 (normal).

    Args:
        values: the distinct labels.
        positions: for every row the index of its label in `values`, int [n]; -1 where it
            is empty.
        selection: its `normal_label` says how labels are read.
        path: the file, for messages.
        column: the label column, for messages.
        first_row: the file's row of the first position, for messages.

    Returns:
        int8 [n].

    Raises:
        InputError: naming the first row whose label is empty or not allowed.
    """

    def refuse(found: str, position: int) -> InputError:
        row = first_row + int(np.argmax(positions == position))
        allowed = "a label in every row"
        if selection.normal_label is None:
            allowed = "0 (normal) and 1 (anomaly), or any labels with --normal-label"
        return InputError(
            f"{path}: label column {column!r} holds {found} in row {row}; allowed: {allowed}"
        )

    if np.any(positions < 0):
        raise refuse("an empty cell", -1)
    flags = np.zeros(len(values), np.int8)
    for position, value in enumerate(values):
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if value is None or value == "":
            raise refuse("an empty cell", position)
        if selection.normal_label is not None:
            flags[position] = not _same_label(value, selection.normal_label)
        elif (number := _number(value)) in (0, 1):
            flags[position] = int(number)
        else:
            raise refuse(repr(value), position)
    return flags[positions]


def _same_label(value: object, normal: str) -> bool:
    """Equal as text, or as numbers: 1.0 in one format is 1 in another."""
    return str(value) == normal or (
        (number := _number(value)) == number and number == _number(normal)
    )


def _number(value: object) -> float:
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return float(text)
    except ValueError:
        return math.nan


def cast_rows(x: np.ndarray, schema: Schema, path: Path, first_row: int) -> np.ndarray:
    """Rows in the schema's shape and type; refuses what an integer type cannot hold.

    Args:
        x: numbers, [n, ...] with as many values in a row as the schema has.
        schema: shape and dtype wanted.
        path: the file, for messages.
        first_row: the file's row of x[0], for messages.

    Returns:
        [n, *schema.shape] of schema.dtype; a view of `x` where nothing changes. Values beyond
        the range of a floating-point type become infinities.
    """
    x = x.reshape(len(x), *schema.shape)
    dtype = np.dtype(schema.dtype)
    if x.dtype == dtype:
        return x
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        with np.errstate(invalid="ignore"):
            valid = (x >= limits.min) & (x <= limits.max) & (x == np.floor(x))
        if not valid.all():
            row, feature = np.argwhere(~valid.reshape(len(x), -1))[0]
            value = x.reshape(len(x), -1)[row, feature]
            raise InputError(
                f"{path}: row {first_row + row}, {schema.feature_name(int(feature))!r} is {value}; "
                f"allowed: whole numbers from {limits.min} to {limits.max}"
            )
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def guarded(items: Iterator[Item], path: Path, kind: str) -> Iterator[Item]:
    """The same items; a reader's error becomes one line that names the file."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except InputError:
            raise
        except UNREADABLE as error:
            raise unreadable(path, kind, error) from error
        yield item


def unreadable(path: Path, kind: str, error: BaseException) -> InputError:
    """The error for a file whose bytes aren't what its suffix says."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{path} is not readable as {kind}: {reason}")


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's size and content, as hex digits.

    A file of at most 256 MiB is hashed whole. Of a larger one, 64 pieces of 1 MiB are hashed,
    evenly spread from its first byte to its last: a replaced, longer or shorter file is told
    apart at once, an edit of the same length between two pieces is not.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= FINGERPRINT_WHOLE_BYTES:
            while piece := file.read(FINGERPRINT_SAMPLE_BYTES):
                digest.update(piece)
        else:
            last = size - FINGERPRINT_SAMPLE_BYTES
            for sample in range(FINGERPRINT_SAMPLES):
                file.seek(last * sample // (FINGERPRINT_SAMPLES - 1))
                digest.update(file.read(FINGERPRINT_SAMPLE_BYTES))
    return digest.hexdigest()

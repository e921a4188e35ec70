"""What every file reader shares: which columns are wanted, labels, casts and fingerprints."""

from __future__ import annotations

import dataclasses
import hashlib
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from aejax.config import InputError, suggest
from aejax.config.columns import Dialect
from aejax.data.blocks import Wrong
from aejax.data.schema import Schema

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
# Of each of many files less is read: together they can be larger than what a day can read.
MANY_WHOLE_BYTES = 1 << 20
MANY_SAMPLES = 16
MANY_SAMPLE_BYTES = 1 << 16
# Labels that a message lists.
NAMED = 10
Item = TypeVar("Item")


class NoRows(InputError):
    """An input that is a table of no rows: refused by itself, passed over among others."""


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
        bad_cells: what becomes of a cell that is no number of the wanted type: "error" stops
            there, "null" has the row's `Block.bad` say so and goes on.
        dialect: how files of text are written.

    Example:
        >>> aejax.Selection(label_column="broken", key_columns=("pump_id",)).key_columns
        ('pump_id',)
    """

    label_column: str | None = None
    normal_label: str | None = None
    drop_columns: tuple[str, ...] = ()
    key_columns: tuple[str, ...] = ()
    header: bool = True
    bad_cells: Literal["error", "null"] = "error"
    dialect: Dialect = dataclasses.field(default_factory=Dialect)

    def __post_init__(self) -> None:
        # Asked for twice, a column is carried once.
        object.__setattr__(self, "key_columns", tuple(dict.fromkeys(self.key_columns)))


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

    def refuse(label: str, position: int) -> InputError:
        row = first_row + int(np.argmax(positions == position))
        allowed = "a label in every row"
        if selection.normal_label is None:
            allowed = "0 (normal) and 1 (anomaly), or any labels with --normal-label"
        return InputError(
            f"{path}: label column {column!r} holds {label} in row {row}; allowed: {allowed}"
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


def check_normal(
    is_anomaly: np.ndarray, selection: Selection, where: object, labels: Iterable[str] = ()
) -> None:
    """Refuse labels of which none is the one that is named as normal.

    Args:
        is_anomaly: of all rows, [n] of 0 and 1.
        selection: its normal label.
        where: they are, for the message.
        labels: those that there are, for the message, if they are known.

    Raises:
        InputError: if every row would be an anomaly for a name that nothing has.
    """
    name = selection.normal_label
    if name is None or not len(is_anomaly) or not is_anomaly.all():
        return
    allowed = suggest(name, list(labels)[:NAMED]) if labels else "allowed: at least 1"
    raise InputError(f"{where}: no row has the normal label {name!r}; {allowed}")


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


def cast_rows(
    x: np.ndarray,
    schema: Schema,
    path: Path,
    first_row: int,
    bad: dict[int, str] | None = None,
) -> np.ndarray:
    """Rows in the schema's shape and type; refuses what an integer type cannot hold.

    Args:
        x: numbers, [n, ...] with as many values in a row as the schema has.
        schema: shape and dtype wanted.
        path: the file, for messages.
        first_row: the file's row of x[0], for messages.
        bad: takes what is wrong, by position, instead of it being refused; the value is 0 then.

    Returns:
        [n, *schema.shape] of schema.dtype; a view of `x` where nothing changes. Values beyond
        the range of float32 become infinities.
    """
    x = x.reshape(len(x), *schema.shape)
    dtype = np.dtype(schema.dtype)
    if dtype == np.float64:
        return within_float32(x.astype(dtype, copy=False))
    if x.dtype == dtype:
        return x
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        with np.errstate(invalid="ignore"):
            valid = (x >= limits.min) & (x <= limits.max) & (x == np.floor(x))
        if not valid.all():
            allowed = f"allowed: whole numbers from {limits.min} to {limits.max}"
            for row, feature in np.argwhere(~valid.reshape(len(x), -1)):
                value = x.reshape(len(x), -1)[row, feature]
                name = schema.feature_name(int(feature))
                if bad is None:
                    raise InputError(
                        f"{path}: row {first_row + row}, {name!r} is {value}; {allowed}"
                    )
                kind = f"{name} is not a whole number from {limits.min} to {limits.max}"
                bad.setdefault(int(row), Wrong(f"{name} is {value}, {allowed}", kind))
            x = np.where(valid, x, 0)
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def within_float32(x: np.ndarray) -> np.ndarray:
    """Numbers of float64, those beyond the range of float32 as infinities."""
    beyond = np.abs(x) > np.finfo(np.float32).max
    return np.where(beyond, np.copysign(np.inf, x), x) if beyond.any() else x


def finite_rows(x: np.ndarray) -> np.ndarray:
    """Which rows hold numbers only: bool [n]."""
    if x.dtype.kind != "f":
        return np.ones(len(x), bool)
    flat = x.reshape(len(x), -1)
    # One sum a row finds almost every good row; the others are checked value by value.
    with np.errstate(over="ignore", invalid="ignore"):
        finite: np.ndarray = np.isfinite(np.einsum("nf->n", flat))
    doubtful = np.flatnonzero(~finite)
    finite[doubtful] = np.isfinite(flat[doubtful]).all(axis=1)
    return finite


def usable_rows(x: np.ndarray, schema: Schema) -> np.ndarray:
    """Which rows can be trained on: bool [n].

    Of numbers: those that hold finite ones only. Of a mixed table, where a cell may be
    missing: those with a value in some column, and no infinite one.
    """
    if schema.columns is None:
        return finite_rows(x)
    usable: np.ndarray = ~np.isinf(x).any(axis=1) & ~np.isnan(x).all(axis=1)
    return usable


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


def unreadable(path: Path, kind: str, error: BaseException, where: str = "") -> InputError:
    """The error for a file whose bytes aren't what its suffix says."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{path}{where and ': '}{where} is not readable as {kind}: {reason}")


def fingerprint(path: Path, *, one_of_many: bool = False) -> str:
    """SHA-256 of a file's size and content, as hex digits.

    A file of at most 256 MiB is hashed whole. Of a larger one, 64 pieces of 1 MiB are hashed,
    evenly spread from its first byte to its last: a replaced, longer or shorter file is
    noticed at once, an edit of the same length between two pieces is not.

    Args:
        path: the file.
        one_of_many: hash 1 MiB of it at most, in 16 pieces.
    """
    whole, samples, piece_bytes = (
        (MANY_WHOLE_BYTES, MANY_SAMPLES, MANY_SAMPLE_BYTES)
        if one_of_many
        else (FINGERPRINT_WHOLE_BYTES, FINGERPRINT_SAMPLES, FINGERPRINT_SAMPLE_BYTES)
    )
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= whole:
            while piece := file.read(piece_bytes):
                digest.update(piece)
        else:
            for sample in range(samples):
                file.seek((size - piece_bytes) * sample // (samples - 1))
                digest.update(file.read(piece_bytes))
    return digest.hexdigest()

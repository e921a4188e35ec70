"""From arrays that people hold to the fixed-shape batches of compiled programs, and back."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.config import Columns, Config, InputError
from aejax.core.mesh import ONE_DEVICE, Placement
from aejax.data.cells import check_cells, with_values
from aejax.data.disk_rows import DiskRows, Stored
from aejax.data.frames import (
    check_container,
    floats_of_objects,
    named_features,
    rows_by_name,
    rows_of_frame,
    unmasked,
)
from aejax.data.offsets import centred, heads, is_wide, with_offset
from aejax.data.rows import usable_rows
from aejax.data.schema import RowKind, Schema
from aejax.data.series import WindowRows
from aejax.models.backend import transfers_allowed

logger = logging.getLogger("aejax")

# Dispatched and not yet read: enough that the device never waits for the host.
AHEAD = 4
NAMED_AT_MOST = 3
# Bytes; what XLA's CPU backend asks of memory that it uses without copying.
ALIGNMENT = 64
# Copying so little takes less time than placing it.
FEW_BYTES = 1 << 16


def infer_schema(x: np.ndarray, names: tuple[str, ...] | None = None) -> Schema:
    """The schema of an array: [n, features] a table, [n, height, width, channels] images.

    Raises:
        InputError: if it has another number of axes.
    """
    kinds: dict[int, RowKind] = {2: "table", 4: "image"}
    if x.ndim not in kinds:
        raise InputError(
            f"rows have shape {list(x.shape)}; "
            "allowed: [rows, features] or [rows, height, width, channels]"
        )
    dtype = "uint8" if x.dtype == np.uint8 else "float32"
    return Schema(shape=x.shape[1:], dtype=dtype, names=names, kind=kinds[x.ndim])


class Given(NamedTuple):
    """Rows that people handed over to train on.

    Attributes:
        rows: of the schema's shape, less its offset, not yet of the type that programs take.
        schema: of the rows.
        alarms: sentences about values that float32 doesn't hold.
    """

    rows: np.ndarray
    schema: Schema
    alarms: list[str]


def as_rows(
    x: Any, schema: Schema | None, bad: dict[int, str] | None = None
) -> tuple[np.ndarray, Schema]:
    """Rows as an array of numbers of the schema's shape, less its offset, not yet of its type.

    Args:
        x: an array; or a data frame, an Arrow table or stream, a dict of columns, a structured
            array, whose columns are matched to the schema by name.
        schema: of the rows, or None to infer it, but for an offset.
        bad: takes which rows hold cells of the wrong kind, instead of these being refused.

    Raises:
        InputError: naming the shape, type or column that doesn't fit.
    """
    rows, schema = _numbers(x, schema, bad)
    return centred(rows, schema), schema


def training_rows(x: Any, schema: Schema | None, columns: Columns | None = None) -> Given:
    """As `as_rows`, of rows to train on: what isn't known of the schema is found out.

    Args:
        x: as in `as_rows`; a stream is read once.
        schema: of the rows, or None to infer it. It gets an offset where the rows need one.
        columns: how they are read; None says that they hold numbers.

    Raises:
        InputError: as `as_rows`, or if `columns` and the schema contradict each other.
    """
    if schema is None:
        x, schema = named_features(x, columns or Columns())
    if schema is not None and columns is not None:
        check_kind(columns, schema)
    rows, schema = _numbers(x, schema)
    alarms: list[str] = []
    if is_wide(rows.dtype) and schema.dtype != "uint8":
        schema, alarms = with_offset(schema, heads(rows))
    return Given(centred(rows, schema), schema, alarms)


def check_kind(columns: Columns, schema: Schema) -> None:
    """Refuse a schema of numbers where columns are mixed, and the other way round."""
    mixed = schema.columns is not None
    if mixed != (columns.kinds == "mixed"):
        raise InputError(
            f"Config.columns.kinds is {columns.kinds!r} and the schema is of "
            f"{'a mixed table' if mixed else 'numbers'}; allowed: both of the same"
        )


def _numbers(
    x: Any, schema: Schema | None, bad: dict[int, str] | None = None
) -> tuple[np.ndarray, Schema]:
    """Rows as they were given, as numbers of the schema's shape, and the schema."""
    if schema is not None and schema.columns is not None:
        return rows_of_frame(x, schema, bad), schema
    if type(x) is np.ndarray and x.dtype.names is None:
        # Looking for names takes longer than a row's score.
        rows, names = x, None
    else:
        named = rows_by_name(x, None if schema is None else schema.names, bad)
        if named is None:
            check_container(x)
        rows, names = (unmasked(x), None) if named is None else named
    if rows.dtype.kind not in "biuf":
        rows = _of_objects(rows, bad)
    if schema is None:
        schema = infer_schema(rows, names)
    if rows.shape[1:] != schema.shape:
        raise InputError(
            f"rows have shape {list(rows.shape)}; "
            f"allowed: [rows, {', '.join(map(str, schema.shape))}]" + _without(schema)
        )
    wanted = np.dtype(schema.dtype)
    if wanted.kind in "iu" and not np.can_cast(rows.dtype, wanted):
        # 0.5 or 256 cast to uint8 would be another number without a word.
        limits = np.iinfo(wanted)
        fits = (rows >= limits.min) & (rows <= limits.max) & (rows == np.trunc(rows))
        if not fits.all():
            raise InputError(f"rows hold {rows[~fits][0]}; allowed: whole numbers of type {wanted}")
    return rows, schema


def _of_objects(rows: np.ndarray, bad: dict[int, str] | None) -> np.ndarray:
    """Objects that are numbers or missing, as float64; `bad` takes rows with others."""
    numbers, wrong = floats_of_objects(rows.ravel() if rows.dtype.kind == "O" else rows[:0])
    refused = bad is None or len(wrong) == rows.size
    if rows.dtype.kind != "O" or (wrong and refused):
        raise InputError(f"rows are {rows.dtype}; allowed: numbers")
    for place in wrong:
        where = np.unravel_index(place, rows.shape)
        assert bad is not None
        bad.setdefault(int(where[0]), f"it holds {str(rows[where])[:40]!r}")
    return numbers.reshape(rows.shape)


def _without(schema: Schema) -> str:
    """What to say of the columns of training rows that are no features, to who brings them all."""
    left = [name for name, _ in schema.dropped]
    if not left:
        return ""
    more = ", ..." if len(left) > NAMED_AT_MOST else ""
    few = ", ".join(map(repr, left[:NAMED_AT_MOST]))
    return f", without the columns that training left out ({few}{more}), or a data frame"


def as_stored(rows: np.ndarray, schema: Schema) -> np.ndarray:
    """Rows of the type that programs take; what is beyond its range becomes infinite.

    Rows of a mixed table that have no value in any column are left out.
    """
    with np.errstate(over="ignore"):
        return with_values(np.ascontiguousarray(rows, schema.device_dtype), schema)


def check_finite(x: np.ndarray, schema: Schema) -> None:
    """Raise InputError naming the first row and feature that is NaN or infinite.

    Of a mixed table: that is infinite, or the first row without any value.
    """
    if schema.columns is not None:
        check_cells(x, schema, "rows")
        return
    if np.issubdtype(x.dtype, np.integer):
        return
    # A sum is finite where all values are, and costs no array of its own.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(x, dtype=np.float64)):
            return
    wrong = np.flatnonzero(~np.isfinite(x.ravel()))
    if len(wrong):
        row, feature = divmod(int(wrong[0]), schema.features)
        raise InputError(
            f"row {row}, {schema.feature_name(feature)} is {x.ravel()[wrong[0]]}; "
            "allowed: finite numbers"
        )


def stored_array(x: Any, schema: Schema) -> np.ndarray:
    """Rows as compiled programs take them, but for those of a mixed table that have no value.

    Raises:
        InputError: if they don't fit the schema, or one holds NaN or infinity.
    """
    rows = as_stored(as_rows(x, schema)[0], schema)
    check_finite(rows, schema)
    return rows


def stored_rows(x: Any, schema: Schema) -> Stored:
    """Rows as compiled programs take them, an array or on disk.

    Raises:
        InputError: if they don't fit the schema, or one holds NaN or infinity.
    """
    if isinstance(x, WindowRows):
        return x.stored()
    if not isinstance(x, DiskRows):
        return stored_array(x, schema)
    if x.schema != schema:
        raise InputError(f"rows of {x.path} are {x.schema}; allowed: {schema}")
    return dataclasses.replace(x, less_offset=True)


def finite_rows(x: Any, schema: Schema) -> np.ndarray:
    """Rows as `as_rows` gives them, that hold numbers only.

    Raises:
        InputError: if they don't fit the schema, or one holds NaN or infinity (of a mixed
            table: infinity, or no value at all).
    """
    rows, _ = as_rows(x, schema)
    check_finite(rows, schema)
    return rows


def without_bad(
    scores: np.ndarray, rows: np.ndarray, schema: Schema, bad: dict[int, str]
) -> np.ndarray:
    """Scores with NaN for rows that can't be scored; the log says how many, and why the first.

    Args:
        scores: of the rows, float32 [n].
        rows: [n, ...].
        schema: of the rows.
        bad: what is known to be wrong with rows, by position; gets what is found.
    """
    flat = rows.reshape(len(rows), -1)
    usable = usable_rows(flat, schema) & np.isfinite(scores)
    for row in np.flatnonzero(~usable).tolist():
        odd = np.isinf(flat[row]) if schema.columns is not None else ~np.isfinite(flat[row])
        what = f"its score is {scores[row]}"
        if schema.columns is not None and np.isnan(flat[row]).all():
            what = "it has no value in any column"
        elif odd.any():
            feature = int(np.argmax(odd))
            what = f"{schema.feature_name(feature)} is {flat[row, feature]}"
        bad.setdefault(row, what)
    if bad:
        first = min(bad)
        logger.warning(
            "aejax: %d of %d rows have no score, the first being row %d: %s",
            *(len(bad), len(rows), first, bad[first]),
        )
        scores = scores.copy()
        scores[list(bad)] = np.nan
    return scores


def check_scores(scores: np.ndarray, rows: np.ndarray, schema: Schema, config: Config) -> None:
    """Refuse rows that can't be scored, by their scores where these tell.

    Args:
        scores: of the rows, float32 [n].
        rows: [n, ...].
        schema: of the rows.
        config: all settings.

    Raises:
        InputError: naming the first row that holds NaN or infinity, or has such a score.
    """
    finite = np.isfinite(scores)
    scored = bool(finite.all())
    # A wild value shows in its row's score, unless an infinity was clipped: rows are
    # searched only where they have to be.
    if config.scale.clip is not None or not scored:
        check_finite(rows, schema)
    if not scored:
        row = int(np.argmin(finite))
        allowed = "rows within float32's range"
        if config.model.numbers is not None:
            allowed = f"whole numbers from 0 to {config.model.numbers - 1}"
        raise InputError(f"row {row} has score {scores[row]}; allowed: {allowed}")


def map_batches(
    function: Callable[[Any], Any],
    x: np.ndarray,
    batch_size: int,
    dtype: str,
    place: Placement = ONE_DEVICE,
    *,
    by_column: bool = False,
) -> list[np.ndarray]:
    """Apply a compiled function to rows in padded batches of one shape, dispatching ahead.

    Every device gets a batch of its own, of the rows that it would hold on one device too: how
    many devices there are changes no result.

    Args:
        function: device batch (of NumPy where it is the only one) [B, ...] -> an array [B, ...]
            or a tuple of them, B rows of `batch_size` a device.
        x: rows, [n, ...], of any numeric type; batches are cast, never all rows at once.
        batch_size: rows in every device's batch, the padded last one included.
        dtype: of the batches.
        place: the devices.
        by_column: hand the function batches [features, B] instead, of rows [n, features].

    Returns:
        One NumPy array [n, ...] for each array in the function's result.
    """
    batch_size *= place.devices
    fill = _filled_columns if by_column else _filled
    if place.mesh is None and len(x) <= batch_size:
        # The only batch goes in as it is, on purpose: for one that is put on the device first,
        # the program waits in another thread, longer than a few rows take.
        with transfers_allowed():
            results = function(fill(x, batch_size, dtype))
            each = results if isinstance(results, tuple) else (results,)
            return [np.array(np.asarray(result)[: len(x)]) for result in each]
    pending: deque[tuple[int, int, Any]] = deque()
    out: list[np.ndarray] = []
    # Filled one after the other; the first is free again when all of them are.
    buffers: deque[np.ndarray] = deque()

    def free_buffer() -> np.ndarray:
        few = len(buffers) <= AHEAD
        shape = (x.shape[1], batch_size) if by_column else (batch_size, *x.shape[1:])
        buffers.append(_aligned(shape, dtype) if few else buffers.popleft())
        return buffers[-1]

    def read() -> None:
        first, count, results = pending.popleft()
        for index, result in enumerate(results if isinstance(results, tuple) else (results,)):
            if len(out) <= index:
                out.append(np.empty((len(x), *result.shape[1:]), result.dtype))
            out[index][first : first + count] = jax.device_get(result)[:count]

    # An empty input still runs one batch of padding, so that results have their shapes.
    for first in range(0, max(len(x), 1), batch_size):
        part = x[first : first + batch_size]
        # A buffer is free again here: its batch's results have been read.
        batch = fill(part, batch_size, dtype, free_buffer)
        placed = place.rows(batch, axis=1 if by_column else 0)
        pending.append((first, len(part), function(placed)))
        if len(pending) > AHEAD:
            read()
    while pending:
        read()
    return out


def _filled(
    part: np.ndarray, size: int, dtype: str, buffer: Callable[[], np.ndarray] | None = None
) -> np.ndarray:
    """Rows as a batch: themselves where they are one, else in a buffer that is filled up with 0."""
    whole = len(part) == size and part.dtype == dtype
    # Where a few bytes lie isn't worth asking.
    if whole and (part.nbytes <= FEW_BYTES or _is_aligned(part)):
        return part
    batch = _new_batch((size, *part.shape[1:]), dtype) if buffer is None else buffer()
    if part.dtype == dtype:
        batch[: len(part)] = part
    else:
        with np.errstate(over="ignore"):
            batch[: len(part)] = part
    batch[len(part) :] = 0
    return batch


def _filled_columns(
    part: np.ndarray, size: int, dtype: str, buffer: Callable[[], np.ndarray] | None = None
) -> np.ndarray:
    """As `_filled`, of rows [n, features] as columns [features, size]."""
    columns = part.T
    if len(part) == size and part.dtype == dtype and _is_aligned(columns):
        return columns
    batch = _new_batch((len(columns), size), dtype) if buffer is None else buffer()
    batch[:, : len(part)] = columns
    batch[:, len(part) :] = 0
    return batch


def _is_aligned(x: np.ndarray) -> bool:
    # `x.ctypes` makes an object of several at every use.
    return x.flags.c_contiguous and x.__array_interface__["data"][0] % ALIGNMENT == 0


def _new_batch(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    few = math.prod(shape) * np.dtype(dtype).itemsize <= FEW_BYTES
    return np.empty(shape, dtype) if few else _aligned(shape, dtype)


def _aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array that the CPU backend takes as it is, where it would copy one of NumPy's own."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)

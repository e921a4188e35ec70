"""From arrays that people hold to the fixed-shape batches of compiled programs, and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aejax.config import InputError
from aejax.data import batches
from aejax.data.schema import RowKind, Schema

# Dispatched and not yet read: enough that the device never waits for the host.
AHEAD = 4
# Values in a batch: small enough that a batch and its reconstruction stay in cache.
BATCH_VALUES = 1 << 20
MOST_BATCH_ROWS = 1 << 14


def default_batch_size(schema: Schema) -> int:
    """Rows in a scoring batch when nothing is asked for: a power of two, at least 64."""
    size = max(64, min(MOST_BATCH_ROWS, BATCH_VALUES // schema.features))
    return 1 << (size.bit_length() - 1)


def infer_schema(x: np.ndarray, names: tuple[str, ...] | None = None) -> Schema:
    """The schema of rows in an array: [n, features] is a table, [n, height, width, channels] images."""
    kinds: dict[int, RowKind] = {2: "table", 4: "image"}
    if x.ndim not in kinds:
        raise InputError(
            f"rows have shape {list(x.shape)}; "
            "allowed: [rows, features] or [rows, height, width, channels]"
        )
    dtype = "uint8" if x.dtype == np.uint8 else "float32"
    return Schema(shape=x.shape[1:], dtype=dtype, names=names, kind=kinds[x.ndim])


def as_rows(x: Any, schema: Schema | None) -> tuple[np.ndarray, Schema]:
    """Rows as an array of the schema's type and shape.

    Args:
        x: an array, or a data frame (anything with `columns` and `to_numpy`), whose columns
            are matched to the schema by name.
        schema: of the rows, or None to infer it.

    Raises:
        InputError: naming the shape, type or column that doesn't fit.
    """
    names = None
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):
        names = tuple(map(str, x.columns))
        if schema is not None and schema.names is not None:
            missing = [name for name in schema.names if name not in names]
            if missing:
                raise InputError(f"rows have no column {missing[0]!r}; found: {', '.join(names)}")
            columns = list(x.columns)
            x = x[[columns[names.index(name)] for name in schema.names]]
            names = schema.names
        x = x.to_numpy()
    rows = np.asarray(x)
    if rows.dtype.kind not in "biuf":
        raise InputError(f"rows are {rows.dtype}; allowed: numbers")
    if schema is None:
        schema = infer_schema(rows, names)
    if rows.shape[1:] != schema.shape:
        raise InputError(
            f"rows have shape {list(rows.shape)}; allowed: [rows, {', '.join(map(str, schema.shape))}]"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.ascontiguousarray(rows, dtype=schema.dtype)
    if stored.dtype.kind in "iu" and not np.can_cast(rows.dtype, stored.dtype):
        # 0.5 or 256 as uint8 would be another number without a word.
        wrong = np.flatnonzero(rows.ravel() != stored.ravel())
        if len(wrong):
            raise InputError(
                f"rows hold {rows.ravel()[wrong[0]]}; allowed: whole numbers of type {stored.dtype}"
            )
    return stored, schema


def check_finite(x: np.ndarray, schema: Schema) -> None:
    """Raise InputError naming the first row and feature that is NaN or infinite."""
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


def map_batches(function: Callable[[Any], Any], x: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Apply a compiled function to rows in padded batches of one shape, dispatching ahead.

    Args:
        function: device batch [batch_size, ...] -> tuple of arrays [batch_size, ...].
        x: rows as stored, [n, ...].
        batch_size: rows in every batch, the padded last one included.

    Returns:
        One NumPy array [n, ...] for each array in the function's result.
    """
    pending: deque[tuple[int, int, Any]] = deque()
    out: list[np.ndarray] = []

    def read() -> None:
        first, count, results = pending.popleft()
        for index, result in enumerate(results):
            if len(out) <= index:
                out.append(np.empty((len(x), *result.shape[1:]), result.dtype))
            out[index][first : first + count] = jax.device_get(result)[:count]

    # An empty input still runs one batch of padding, so that results have their shapes.
    for first in range(0, max(len(x), 1), batch_size):
        part = x[first : first + batch_size]
        padded = batches.pad(part, batch_size)
        pending.append((first, len(part), function(jax.device_put(padded.x))))
        if len(pending) > AHEAD:
            read()
    while pending:
        read()
    return out

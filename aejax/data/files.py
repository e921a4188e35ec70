"""A user's own rows: arrays and tables in files of all formats, in blocks."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import InputError
from aejax.data.blocks import Block, Part, Run, regrouped
from aejax.data.cells import check_cells
from aejax.data.offsets import head_rows, with_offset
from aejax.data.rows import NoRows, Selection, check_normal, fingerprint
from aejax.data.schema import Schema
from aejax.data.sources import Input, Source, find_sources, format_of, partition_values

__all__ = ["Block", "Input", "Rows", "Selection", "check_finite", "open_rows", "read"]

READ_ROWS = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of one or more files, in order; only a block at a time is in memory.

    Args:
        path: what was opened, for messages.
        parts: the files, which all have the same schema.
        many: whether what was opened could be more than one file: a folder, a pattern, a list.
    """

    path: Path
    parts: tuple[Part, ...]
    many: bool = False

    @property
    def schema(self) -> Schema:
        """What one row is."""
        return self.parts[0].schema

    @property
    def rows(self) -> int | None:
        """Number of rows, or None where only reading tells (CSV)."""
        counts = [part.rows for part in self.parts if part.rows is not None]
        return sum(counts) if len(counts) == len(self.parts) else None

    def blocks(
        self,
        size: int,
        start: int = 0,
        *,
        file: int = 0,
        first_row: int | None = None,
        cut: int | None = None,
        by_column: bool = False,
    ) -> Generator[Block]:
        """Blocks of exactly `size` rows, the last one smaller where rows are left, in file order.

        Args:
            size: rows in a block, at least 1.
            start: the first row, from 0 at the start of `file`; a start behind the last row
                yields nothing.
            file: position of the file to begin with; those before it are not touched.
            first_row: the number that the first row gets; None counts as `start` does.
            cut: also end a block after every `cut` rows, counted from the first.
            by_column: have rows lie in memory column by column, where the files have columns.

        Raises:
            InputError: if the file turns out unreadable, or a label is not allowed.
        """
        if size < 1 or start < 0:
            raise InputError(
                f"blocks of size {size} from row {start}; "
                "allowed: size at least 1, start at least 0"
            )
        offset = 0 if first_row is None else first_row - start
        by_column = by_column and all(part.columns is not None for part in self.parts)
        return regrouped(self._chunks(size, start, file, offset, by_column), size, cut)

    def fingerprint(self) -> str:
        """SHA-256 over the files' sizes and contents, as hex digits; see `rows.fingerprint`."""
        digests = [digest for _, digest in self.fingerprints()]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def fingerprints(self) -> list[tuple[str, str]]:
        """Every file's name and SHA-256, in order."""
        return [
            (
                part.name,
                part.digest() if part.digest else fingerprint(part.path, one_of_many=self.many),
            )
            for part in self.parts
        ]

    def only(self, names: Sequence[str]) -> Rows:
        """The files of these names, in this order."""
        by_name = {part.name: part for part in self.parts}
        return dataclasses.replace(self, parts=tuple(by_name[name] for name in names))

    def _chunks(
        self, size: int, start: int, file: int, offset: int, by_column: bool
    ) -> Iterator[Block]:
        before = 0
        for index in range(file, len(self.parts)):
            part = self.parts[index]
            if part.rows is not None and before + part.rows <= start:
                before += part.rows
                continue
            end = before
            read = part.columns if by_column and part.columns else part.chunks
            for block in read(max(start - before, 0), size):
                count = len(block.x)
                end = before + block.first_row + count
                yield dataclasses.replace(
                    block,
                    first_row=offset + before + block.first_row,
                    runs=(Run(index, block.first_row, count),),
                )
            before = end if part.rows is None else before + part.rows


def open_rows(
    path: Input, selection: Selection | None = None, expected: Schema | None = None
) -> Rows:
    """Open files of rows; the suffix names the format.

    Args:
        path: a file (.npy, .npz, .csv, .tsv, .txt, .jsonl, .parquet, .feather, .arrow,
            .array_record); a folder of files of one format, at any depth, where folders named
            "year=2020" give their rows a column; a pattern with `*`; several of these; "-" for
            standard input; an address as "s3://bucket/folder", which is copied to a temporary
            folder; or a published data set as "mnist:test". Of several files some may be empty.
        selection: which columns are labels, keys and features; by default all are features.
        expected: the rows that a detector was trained on. Columns are then matched by name
            (any order, others are ignored), or by position where the schema has no names;
            arrays must have its row shape; the numbers are cast to its type.

    Returns:
        The rows. Tables have float32 features named after their columns. Arrays of shape
        [n, features] are tables without names; [n, height, width] and [n, height, width,
        channels] are images, uint8 where the file holds uint8 and float32 otherwise. Records
        are rows of float32 values, or of the expected type. The first file decides for all.

    Raises:
        InputError: if a file is missing, unreadable, empty or doesn't hold the rows asked for.

    Example:
        >>> rows = open_rows("today.parquet", Selection(key_columns=("pump_id",)))
        >>> for block in rows.blocks(200):
        ...     print(block.first_row, block.x.shape)
        0 (200, 4)
        200 (100, 4)
    """
    selection = selection or Selection()
    if isinstance(path, (str, os.PathLike)) and not Path(path).exists():
        from aejax.data import datasets

        if datasets.is_name(os.fspath(path)):
            part = datasets.open_named(os.fspath(path), selection, expected)
            return Rows(path=Path(path), parts=(part,))
    sources, many = find_sources(path)
    constants = partition_values(sources)
    selection = settled([source.path for source in sources], selection, expected)
    parts: list[Part | None] = []
    empty: NoRows | None = None
    for source, values in zip(sources, constants, strict=True):
        try:
            part = _open(source, values, selection, expected)
        except NoRows as error:
            if not many:
                raise
            empty = empty or error
            parts.append(None)
            continue
        expected = expected or part.schema
        parts.append(dataclasses.replace(part, name=source.name))
    if empty is not None and not any(parts):
        raise empty
    parts = [
        _empty(source, expected) if part is None else part
        for source, part in zip(sources, parts, strict=True)
    ]
    label = path if isinstance(path, (str, os.PathLike)) else f"{len(parts)} files"
    return Rows(path=Path(label), parts=tuple(part for part in parts if part), many=many)


def _empty(source: Source, schema: Schema | None) -> Part:
    """A file of no rows, among others that have some."""
    assert schema is not None
    return Part(
        path=source.path,
        schema=schema,
        rows=0,
        chunks=lambda start, size: iter(()),
        columns=lambda start, size: iter(()),
        name=source.name,
    )


def settled(paths: Sequence[Path], selection: Selection, expected: Schema | None) -> Selection:
    """A selection that says how the numbers of text files are written, in all of them alike.

    Args:
        paths: files of one format.
        selection: what is known.
        expected: the rows that a detector was trained on, or None.

    Raises:
        InputError: if nothing tells.
    """
    if selection.dialect.decimal is not None or not paths or format_of(paths[0]) != "csv":
        return selection
    from aejax.data.number_text import with_decimal

    return with_decimal(paths, selection, "." if expected is None else expected.decimal)


def schema_with_offset(
    path: Input, selection: Selection | None = None, expected: Schema | None = None
) -> Schema | None:
    """The schema of rows to train on, where the first ones need an offset; else the expected one.

    Files whose numbers fit float32 are not read for it.

    Args:
        path: as in `open_rows`.
        selection: as in `open_rows`; anomalous rows are passed over.
        expected: what is known of the rows; None for nothing.

    Raises:
        InputError: as `open_rows`.
    """
    # What is wrong with rows is said by who reads them all.
    selection = dataclasses.replace(selection or Selection(), bad_cells="null")
    if isinstance(path, (str, os.PathLike)) and not Path(path).exists():
        from aejax.data import datasets

        if datasets.is_name(os.fspath(path)):
            return expected
    sources, _ = find_sources(path)
    selection = settled([source.path for source in sources], selection, expected)
    values = partition_values(sources)
    filled, part = [], None
    for source, constants in zip(sources, values, strict=True):
        try:
            part = part or _open(source, constants, selection, expected)
            filled.append((source, constants))
        except NoRows:
            continue
    if part is None:
        return expected
    if not part.wide or part.schema.dtype != "float32":
        return expected
    exact = dataclasses.replace(part.schema, dtype="float64")
    size = head_rows(exact.features)

    def blocks() -> Iterator[np.ndarray]:
        for source, constants in filled:
            try:
                opened = _open(source, constants, selection, exact)
            except NoRows:
                continue
            for block in regrouped(opened.chunks(0, size), size):
                yield block.x if block.y is None else block.x[block.y == 0]

    schema, _ = with_offset(part.schema, blocks())
    return expected if schema.offset is None else schema


def _open(
    source: Source, constants: Mapping[str, Any], selection: Selection, expected: Schema | None
) -> Part:
    path = source.path
    try:
        if not path.is_file():
            raise InputError(f"{path} does not exist or is no file")
        if path.stat().st_size == 0:
            raise NoRows(f"{path} is empty; allowed: at least 1 row")
        opener = _opener(path)
        if constants:
            return opener(path, selection, expected, constants)
        return opener(path, selection, expected)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror or error}") from error


def read(
    path: Input, selection: Selection | None = None, expected: Schema | None = None
) -> tuple[np.ndarray, np.ndarray | None, Schema]:
    """All rows of a file at once, for training; takes what `open_rows` takes.

    Returns:
        The rows, [n, *schema.shape] of schema.dtype; the labels, int8 [n] with 1 for an anomaly,
        or None; the schema.

    Raises:
        InputError: as `open_rows`, and if no row has the normal label or memory doesn't suffice.
    """
    opened = open_rows(path, selection, expected)
    try:
        if opened.rows is None:
            blocks = list(opened.blocks(READ_ROWS))
            x, labels = np.concatenate([b.x for b in blocks]), [b.y for b in blocks]
        else:
            # Into one array from the start: joining blocks at the end would hold all rows twice.
            x, labels = np.empty((opened.rows, *opened.schema.shape), opened.schema.dtype), []
            for block in opened.blocks(READ_ROWS):
                x[block.first_row : block.first_row + len(block.x)] = block.x
                labels.append(block.y)
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit in memory: {error}; it can be streamed in blocks"
        ) from error
    parts = [flags for flags in labels if flags is not None]
    y = np.concatenate(parts) if parts else None
    if y is not None and selection is not None:
        check_normal(y, selection, path)
    return x, y, opened.schema


def check_finite(x: np.ndarray, schema: Schema, path: Input) -> None:
    """Refuse rows with a missing or infinite value.

    Args:
        x: rows, [n, *schema.shape]; values beyond float32's range
                are infinities since they were read.
        schema: names the feature in the message.
        path: the file that the rows are from, for the message.

    Raises:
        InputError: naming the first row (from 0) and feature that is NaN or infinite.
    """
    if x.dtype.kind != "f":
        return
    if schema.columns is not None:
        check_cells(x, schema, path)
        return
    for start in range(0, len(x), READ_ROWS):
        rows = x[start : start + READ_ROWS].reshape(-1, schema.features)
        finite = np.isfinite(rows)
        if not finite.all():
            row, feature = np.unravel_index(int(np.argmin(finite)), finite.shape)
            raise InputError(
                f"{path}: row {start + int(row)}, {schema.feature_name(int(feature))!r} "
                f"is {rows[row, feature]}; "
                "allowed: finite numbers within float32's range (no empty cell, NaN or infinity)"
            )


def _opener(path: Path) -> Callable[..., Part]:
    """The reader for a file's format; pyarrow is imported only for tables."""
    match format_of(path):
        case "npy" | "npz" as kind:
            from aejax.data import arrays

            return arrays.open_npy if kind == "npy" else arrays.open_npz
        case "csv":
            from aejax.data import csv_tables

            return csv_tables.open_csv
        case "parquet":
            from aejax.data import batch_tables

            return batch_tables.open_parquet
        case "arrow" | "jsonl":
            from aejax.data import batch_tables

            return batch_tables.open_batches
        case _:
            from aejax.data import records

            return records.open_array_record

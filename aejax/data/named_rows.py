"""A published data set as an input: "mnist:test", "ecg5000:all"."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aejax.config import InputError, suggest
from aejax.data import datasets
from aejax.data.arrays import array_block
from aejax.data.blocks import Block, Part
from aejax.data.rows import Selection, labels_to_flags
from aejax.data.schema import Schema

LABEL = "label"


def is_name(text: str) -> bool:
    """Whether an input names a data set rather than a file."""
    name, colon, split = text.partition(":")
    return bool(colon and split) and name in datasets.CATALOGUE


def open_named(text: str, selection: Selection, expected: Schema | None) -> Part:
    """One split of a published data set; its labels are a column "label", for keys and labels."""
    name, _, split = text.partition(":")
    found = datasets.load(name, split)
    if expected is not None and found.schema.shape != expected.shape:
        raise InputError(
            f"{text} has rows of shape {found.schema.shape}; allowed: {expected.shape}"
        )
    schema, path = expected or found.schema, Path(text)
    for column in (*selection.key_columns, selection.label_column or LABEL):
        if column != LABEL:
            raise InputError(f"{text} has no column {column!r}; {suggest(column, [LABEL])}")

    def chunks(start: int, size: int) -> Iterator[Block]:
        for first in range(start, len(found.x), size):
            labels = found.y[first : first + size]
            y = keys = None
            if selection.label_column is not None:
                values, positions = np.unique(labels, return_inverse=True)
                y = labels_to_flags(values.tolist(), positions, selection, path, LABEL, first)
            block = array_block(found.x[first : first + size], schema, path, first, selection, y)
            if selection.key_columns:
                import pyarrow as pa

                keys = pa.table({LABEL: labels})
                block = Block(first_row=first, x=block.x, y=y, keys=keys, bad=block.bad)
            yield block

    return Part(
        path=path,
        schema=schema,
        rows=len(found.x),
        chunks=chunks,
        name=text,
        digest=lambda: hashlib.sha256(np.ascontiguousarray(found.x).data).hexdigest(),
    )

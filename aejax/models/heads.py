"""Which inputs and outputs of a network belong to which column of a mixed table."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from aejax.config import InputError
from aejax.data.schema import Schema


class Head(NamedTuple):
    """One column, as far as a program is made for it; hashable.

    Attributes:
        kind: "number", "boolean", "category" or "cycle".
        size: how many categories are known; the period of a cycle; 1 of others.
        embedding: width of the vector that stands for a category; 0 for one-hot.
        indicator: whether an input says that the cell is missing.
    """

    kind: str
    size: int = 1
    embedding: int = 0
    indicator: bool = False

    @property
    def outputs(self) -> int:
        """Outputs of the network: a category has one more, for values that are not known."""
        return {"category": self.size + 1, "cycle": 2}.get(self.kind, 1)


class Run(NamedTuple):
    """Columns of one kind that stand side by side, to be computed together.

    Attributes:
        head: of the first of them; the others are alike.
        first: position of the first column.
        columns: how many; 1 of categories.
        outputs: the first output of the network that belongs to them.
    """

    head: Head
    first: int
    columns: int
    outputs: int


def heads_of(schema: Schema) -> tuple[Head, ...] | None:
    """A head for every column of a mixed table; None for other rows."""
    if schema.columns is None:
        return None
    return tuple(
        Head(
            kind=column.kind,
            size=len(column.categories) or column.period or 1,
            embedding=column.embedding,
            indicator=column.indicator,
        )
        for column in schema.columns
    )


def refuse_mixed(settings: object, schema: Schema) -> None:
    """Refuse a mixed table for a network that takes none."""
    if schema.columns is not None:
        raise InputError(f"model is {type(settings).__name__}; allowed for a mixed table: Dense")


def outputs_of(heads: tuple[Head, ...]) -> int:
    """How many outputs of a network the columns take together."""
    return sum(head.outputs for head in heads)


def runs_of(heads: tuple[Head, ...]) -> list[Run]:
    """The columns in runs, in order.

    Example:
        >>> [run.columns for run in runs_of((Head("number"), Head("number"), Head("cycle", 24)))]
        [2, 1]
    """
    runs: list[Run] = []
    outputs = 0
    numbered = enumerate(heads)
    for _, group in itertools.groupby(
        numbered, lambda entry: entry[0] if entry[1].kind == "category" else entry[1].kind
    ):
        members = list(group)
        first, head = members[0]
        runs.append(Run(head=head, first=first, columns=len(members), outputs=outputs))
        outputs += sum(member.outputs for _, member in members)
    return runs

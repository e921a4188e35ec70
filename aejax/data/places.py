"""Where rows are in their files, and what identifies them: for those that a report shows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from aejax.config import InputError
from aejax.data import files
from aejax.data.files import Input
from aejax.data.rows import Selection, usable_rows
from aejax.data.schema import Schema
from aejax.data.seen_columns import ALWAYS

READ_ROWS = 1 << 14
# Of what identifies a row, columns that are shown, and characters of each.
MOST_KEYS, MOST_SHOWN = 6, 40


class Place(NamedTuple):
    """A row of a file.

    Attributes:
        file: what it is called among those that were opened.
        row: in that file, from 0.
        keys: what identifies it: names and values of columns that are no features.
    """

    file: str
    row: int
    keys: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """In words: the row and its file."""
        return f"row {self.row:,} of {self.file}"

    @property
    def key(self) -> str:
        """What identifies the row, in words; "" where nothing does."""
        return ", ".join(f"{name} {value}" for name, value in self.keys)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finder:
    """Finds where training rows are, by reading their files once more.

    What they are isn't kept while training reads them: keys of all rows can be larger than the
    rows, and a report shows few.

    Args:
        path: that the rows were read from.
        selection: as it was read.
        schema: of the rows.
        after_block: called after every block; what it raises ends the reading.
    """

    path: Input
    selection: Selection
    schema: Schema
    after_block: Callable[[], None] = lambda: None

    def find(
        self, normal: np.ndarray, anomalous: np.ndarray
    ) -> tuple[list[Place | None], list[Place | None]]:
        """The places of rows by their positions among the usable normal ones, and the anomalous.

        None stands for a row that is no longer there; so do all where the files can't be read.
        """
        wanted = [np.asarray(positions, np.int64) for positions in (normal, anomalous)]
        sides: list[dict[int, Place]] = [{}, {}]
        with contextlib.suppress(InputError):
            seen = [0, 0]
            for good, y, places in self._blocks():
                kinds = (good, good & False) if y is None else (good & (y == 0), good & (y == 1))
                for side, kind in enumerate(kinds):
                    at = np.flatnonzero(kind)
                    here = np.unique(wanted[side] - seen[side])
                    here = here[(here >= 0) & (here < len(at))]
                    for position in here.tolist():
                        sides[side][seen[side] + position] = places(int(at[position]))
                    seen[side] += len(at)
                if all(len(one) == len(np.unique(w)) for one, w in zip(sides, wanted, strict=True)):
                    break
        of_normal, of_anomalous = (
            [one.get(position) for position in w.tolist()]
            for one, w in zip(sides, wanted, strict=True)
        )
        return of_normal, of_anomalous

    def _blocks(
        self,
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None, Callable[[int], Place]]]:
        """Which rows of each block are usable, their labels, and what gives a row's place."""
        selection = dataclasses.replace(
            self.selection, key_columns=self._identifying(), drop_columns=(), bad_cells="null"
        )
        opened = files.open_rows(self.path, selection, self.schema)
        with contextlib.closing(opened.blocks(READ_ROWS)) as blocks:
            for block in blocks:
                good = usable_rows(block.x, self.schema)
                good[list(block.bad)] = False

                def place(row: int, block: files.Block = block) -> Place:
                    file, at = block.place(row)
                    keys: tuple[tuple[str, str], ...] = ()
                    if block.keys is not None:
                        cells = ((n, block.keys[n][row].as_py()) for n in block.keys.column_names)
                        keys = tuple((n, _short(value)) for n, value in cells if value is not None)
                    return Place(opened.parts[file].name, at, keys)

                yield good, block.y, place
                self.after_block()

    def _identifying(self) -> tuple[str, ...]:
        """Columns that are no features and may identify a row: keys, times, what was left out."""
        if self.schema.names is None:
            return ()
        names = [
            *self.selection.key_columns,
            *(name for name, why in self.schema.dropped if not why.startswith(ALWAYS)),
            *self.selection.drop_columns,
            *(c.source for c in self.schema.columns or () if c.part is not None),
        ]
        return tuple(dict.fromkeys(names))[:MOST_KEYS]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "\N{HORIZONTAL ELLIPSIS}"

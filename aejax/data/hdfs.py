"""Log blocks of the Hadoop file system (HDFS): which events each block's lines are.

Xu et al., "Detecting large-scale system problems by mining console logs", SOSP 2009; from
logpai's loghub (He et al. 2020) by way of logdeep, whose split this is. Free for research,
with citation; not a part of this package. `$AEJAX_DATA_DIR/hdfs/` holds the three files.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from aejax.config import InputError
from aejax.data.windows import MOST_IDS, Sequences

ORIGIN = "https://github.com/d0ng1ee/logdeep"
# Numbers that stand for no event of the files.
UNKNOWN, BEGIN, END, FIRST = 1, 2, 3, 4
FILES = ("hdfs_train", "hdfs_test_normal_part", "hdfs_test_abnormal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HdfsBlocks:
    """Blocks as sequences of the events' published numbers, 1 to 28.

    Attributes:
        train: normal blocks to learn from, 4,855.
        normal: further normal blocks, 3,366; most of their sequences occur in `train` too.
        abnormal: blocks that experts labelled abnormal, 16,838.
    """

    train: Sequences
    normal: Sequences
    abnormal: Sequences


def load_hdfs() -> HdfsBlocks:
    """Read the three files.

    Raises:
        InputError: if `AEJAX_DATA_DIR` isn't set, a file is missing, or a line isn't numbers.
    """
    if not (raw := os.environ.get("AEJAX_DATA_DIR")):
        raise InputError(
            f"AEJAX_DATA_DIR is not set; allowed: a folder with hdfs/{FILES[0]}, "
            f"{FILES[1]} and {FILES[2]} (see {ORIGIN})"
        )
    folder = Path(raw) / "hdfs"
    train, normal, abnormal = (read_blocks(folder / name) for name in FILES)
    return HdfsBlocks(train=train, normal=normal, abnormal=abnormal)


def read_blocks(path: Path) -> Sequences:
    """One file: a block a line, numbers of its events separated by blanks.

    Raises:
        InputError: if the file is missing or empty, a line is empty, or something in a line
            isn't a whole number from 1 to 2**24.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; see {ORIGIN} for the file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable: {error}") from error
    if not lines:
        raise InputError(f"{path} is empty; allowed: a block a line")
    words = [line.split() for line in lines]
    blocks = []
    for number, line in enumerate(words, start=1):
        if not line:
            raise InputError(f"{path}, line {number} is empty; allowed: numbers of events")
        for word in line:
            if not (word.isdigit() and len(word) <= 8 and 1 <= int(word) <= MOST_IDS):
                raise InputError(f"{path}, line {number} holds {word!r}; allowed: 1 to {MOST_IDS}")
        blocks.append(np.array(line, np.int32))
    return Sequences.of(blocks)


def keys(blocks: Sequences) -> list[bytes]:
    """A key for each block; equal blocks have equal keys."""
    parts = np.split(np.ascontiguousarray(blocks.ids, np.int32), blocks.bounds[1:-1])
    return [part.tobytes() for part in parts]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventNumbers:
    """The events that a model knows, numbered from 4; 1 is any other, 2 and 3 mark the ends.

    Args:
        events: published numbers of the known events, ascending.
    """

    events: tuple[int, ...]

    @staticmethod
    def of(blocks: Sequences) -> EventNumbers:
        """All events that occur in some blocks."""
        return EventNumbers(events=tuple(np.unique(blocks.ids).tolist()))

    @property
    def vocabulary(self) -> int:
        """How many numbers there are, with 0 for what lies outside a window."""
        return FIRST + len(self.events)

    def number(self, blocks: Sequences) -> Sequences:
        """Published numbers to the model's."""
        known = np.asarray(self.events, np.int32)
        at = np.minimum(np.searchsorted(known, blocks.ids), len(known) - 1)
        ids = np.where(known[at] == blocks.ids, at + FIRST, UNKNOWN).astype(np.int32)
        return Sequences(ids=ids, bounds=blocks.bounds)

    def with_unknown(self, blocks: Sequences) -> Sequences:
        """Numbered blocks and a few more, from which a model learns what is unknown to it.

        Every event was unknown once. So of each, the first block that holds it is added
        with that event made unknown: the unknown event comes as often, in N events of T
        kinds, as Witten and Bell (1991) expect of new events: of the order of T times in N.

        Args:
            blocks: as `number` gives them.
        """
        firsts, at = np.unique(blocks.ids, return_index=True)
        picked = blocks.pick(blocks.segments[at])
        made = np.repeat(firsts, picked.lengths)
        ids = np.where(picked.ids == made, UNKNOWN, picked.ids).astype(np.int32)
        return Sequences(
            ids=np.concatenate([blocks.ids, ids]),
            bounds=np.concatenate([blocks.bounds, blocks.bounds[-1] + picked.bounds[1:]]),
        )

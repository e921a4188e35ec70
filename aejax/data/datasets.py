"""The published data sets by name: digits, mnist, fashion_mnist and ecg5000.

`digits` ships with scikit-learn. The others are prepared once by TensorFlow Datasets,
in a process of their own (`aejax.data.prepare`), and kept as NumPy arrays in the cache
folder: `$AEJAX_CACHE_DIR`, else `$XDG_CACHE_HOME/aejax`, else `~/.cache/aejax`.
Raw files are taken from `$AEJAX_DATA_DIR/<name>/` where they are there, and downloaded
otherwise; their SHA-256 is checked either way. Two more, `nab` and `hdfs`, are read from there
as they are, by functions of their own.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aejax.config import InputError, suggest
from aejax.data.arrays import array_block
from aejax.data.blocks import Block, Part
from aejax.data.rows import Selection, labels_to_flags
from aejax.data.schema import Schema
from aejax.data.windows import MOST_IDS, Sequences

_log = logging.getLogger(__name__)
LABEL = "label"
# Of HDFS, numbers that stand for no event of the files.
UNKNOWN, BEGIN, END, FIRST = 1, 2, 3, 4
HDFS_FILES = ("hdfs_train", "hdfs_test_normal_part", "hdfs_test_abnormal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """The rows of one split of a data set.

    Args:
        x: rows, [n, *schema.shape] of schema.dtype.
        y: the labels as published, int64 [n] (ecg5000: 1 is normal, 0 is abnormal).
        schema: what one row is.
    """

    x: np.ndarray
    y: np.ndarray
    schema: Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a data set before it is read: its splits' rows and its rows' schema."""

    rows: dict[str, int]
    schema: Schema


_GREY = Schema(shape=(28, 28, 1), dtype="uint8", kind="image")
CATALOGUE: dict[str, Entry] = {
    "digits": Entry(rows={"all": 1797}, schema=Schema(shape=(8, 8, 1), kind="image")),
    "mnist": Entry(rows={"train": 60_000, "test": 10_000}, schema=_GREY),
    "fashion_mnist": Entry(rows={"train": 60_000, "test": 10_000}, schema=_GREY),
    "ecg5000": Entry(rows={"all": 4_998}, schema=Schema(shape=(140,), kind="series")),
}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(CATALOGUE)


def load(name: str, split: str) -> Split:
    """One split of a published data set, in the order of its published file.

    The first load of `mnist` or `fashion_mnist` on a machine takes about a minute, because the
    set is prepared then; later loads read one array from the cache folder.

    Args:
        name: one of `names()`.
        split: "train" or "test" of mnist and fashion_mnist; "all" of digits and ecg5000.

    Returns:
        The rows: digits float32 [1797, 8, 8, 1] in [0, 1]; mnist and fashion_mnist uint8
        [n, 28, 28, 1]; ecg5000 float32 [4998, 140].

    Raises:
        InputError: if the name or the split is unknown, a raw file has the wrong checksum, a
            download fails, or TensorFlow is needed to prepare the set and isn't installed.

    Sources:
        digits: Alpaydin and Kaynak, 1998, by way of `sklearn.datasets.load_digits`.
        mnist: LeCun et al., 1998. fashion_mnist: Xiao et al., 2017, arXiv:1708.07747.
        ecg5000: Goldberger et al., 2000 (BIDMC chf07), in the file of TensorFlow's
        autoencoder tutorial.

    Example:
        >>> load("digits", "all").x.shape
        (1797, 8, 8, 1)
    """
    if name not in CATALOGUE:
        raise InputError(f"data set is {name!r}; {suggest(name, CATALOGUE)}")
    entry = CATALOGUE[name]
    if split not in entry.rows:
        raise InputError(f"split of {name} is {split!r}; {suggest(split, entry.rows)}")
    if name == "digits":
        return _digits(entry.schema)
    folder = arrays_folder(name)
    if not folder.is_dir():
        _prepare(name)
    x, y = (_read_array(folder / f"{split}_{part}.npy") for part in ("x", "y"))
    if x.shape != (entry.rows[split], *entry.schema.shape) or y.shape != x.shape[:1]:
        raise InputError(
            f"{folder} holds {split} rows of shape {x.shape}; delete it to prepare {name} again"
        )
    return Split(x=x, y=y, schema=entry.schema)


def cache_folder() -> Path:
    """The folder for prepared data sets; it may not exist yet."""
    if chosen := os.environ.get("AEJAX_CACHE_DIR"):
        return Path(chosen).expanduser()
    parent = os.environ.get("XDG_CACHE_HOME")
    return (Path(parent).expanduser() if parent else Path.home() / ".cache") / "aejax"


def arrays_folder(name: str) -> Path:
    """The folder of a data set's decoded arrays; it exists only when it is complete."""
    return cache_folder() / "arrays" / name


def _digits(schema: Schema) -> Split:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = (digits.images[..., np.newaxis] / 16).astype(np.float32)
    return Split(x=x, y=digits.target.astype(np.int64), schema=schema)


def _read_array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is not readable: {error}; delete {path.parent} to prepare it again"
        ) from error
    return array


def _prepare(name: str) -> None:
    """Prepare a data set in another process, so that TensorFlow never lives in this one."""
    _log.info(
        "preparing %s in %s; this happens once and takes about a minute", name, cache_folder()
    )
    package_root = str(Path(__file__).parents[2])
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "aejax.data.prepare", name],
        env={
            **os.environ,
            "PYTHONPATH": search_path,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if finished.returncode == 0:
        return
    last_line = (finished.stderr.strip().splitlines() or ["no message"])[-1]
    if finished.returncode == 2:
        raise InputError(last_line)
    _log.error("%s", finished.stderr)
    raise RuntimeError(f"preparing {name} ended with exit code {finished.returncode}: {last_line}")


def is_name(text: str) -> bool:
    """Whether an input names a data set rather than a file."""
    name, colon, split = text.partition(":")
    return bool(colon and split) and name in CATALOGUE


def open_named(text: str, selection: Selection, expected: Schema | None) -> Part:
    """One split of a published data set; its labels are a column "label", for keys and labels."""
    name, _, split = text.partition(":")
    opened = load(name, split)
    if expected is not None and opened.schema.shape != expected.shape:
        raise InputError(
            f"{text} has rows of shape {opened.schema.shape}; allowed: {expected.shape}"
        )
    schema, path = expected or opened.schema, Path(text)
    for column in (*selection.key_columns, selection.label_column or LABEL):
        if column != LABEL:
            raise InputError(f"{text} has no column {column!r}; {suggest(column, [LABEL])}")

    def chunks(start: int, size: int) -> Iterator[Block]:
        for first in range(start, len(opened.x), size):
            labels = opened.y[first : first + size]
            y = keys = None
            if selection.label_column is not None:
                values, positions = np.unique(labels, return_inverse=True)
                y = labels_to_flags(values.tolist(), positions, selection, path, LABEL, first)
            block = array_block(opened.x[first : first + size], schema, path, first, selection, y)
            if selection.key_columns:
                import pyarrow as pa

                keys = pa.table({LABEL: labels})
                block = Block(first_row=first, x=block.x, y=y, keys=keys, bad=block.bad)
            yield block

    return Part(
        path=path,
        schema=schema,
        rows=len(opened.x),
        chunks=chunks,
        name=text,
        digest=lambda: hashlib.sha256(np.ascontiguousarray(opened.x).data).hexdigest(),
    )


# Series of the Numenta Anomaly Benchmark, with the windows in which experts saw anomalies.
#
# Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms: the Numenta anomaly
# benchmark", ICMLA 2015; MIT licence. Not a part of this package: `$AEJAX_DATA_DIR/nab/` holds the
# folders of its `data/` and `combined_windows.json` of its `labels/`.
NAB_ORIGIN = "https://github.com/numenta/NAB"


class NabSeries(NamedTuple):
    """A series of the benchmark.

    Attributes:
        times: of the points, datetime64[s] [n].
        values: float64 [n].
        is_anomaly: which points lie in a labelled window, bool [n].
    """

    times: np.ndarray
    values: np.ndarray
    is_anomaly: np.ndarray


def nab_folder() -> Path:
    """The folder of the series.

    Raises:
        InputError: if `AEJAX_DATA_DIR` isn't set.
    """
    return _brought("nab", f"nab/, the data of {NAB_ORIGIN}")


def _brought(name: str, holds: str) -> Path:
    """The folder of a data set that a person has to bring."""
    if not (raw := os.environ.get("AEJAX_DATA_DIR")):
        raise InputError(f"AEJAX_DATA_DIR is not set; allowed: a folder with {holds}")
    return Path(raw) / name


def load_nab(name: str, rows: int | None = None) -> NabSeries:
    """One series.

    Args:
        name: its file, as the benchmark's windows name it.
        rows: how many of the first; None takes all.

    Raises:
        InputError: if the files aren't there or aren't the benchmark's.
    """
    folder = nab_folder()
    try:
        windows = json.loads((folder / "combined_windows.json").read_text(encoding="utf-8"))[name]
        with (folder / name).open(encoding="utf-8", newline="") as text:
            lines = list(csv.DictReader(text))[:rows]
        times = np.array([line["timestamp"] for line in lines], "datetime64[s]")
        values = np.array([float(line["value"]) for line in lines])
        flags = np.zeros(len(lines), bool)
        for first, last in windows:
            ends = np.array([first[:19], last[:19]], "datetime64[s]")
            flags |= (times >= ends[0]) & (times <= ends[1])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder / name} can't be read ({error}); see {NAB_ORIGIN}") from error
    return NabSeries(times, values, flags)


# Log blocks of the Hadoop file system (HDFS): which events each block's lines are.
#
# Xu et al., "Detecting large-scale system problems by mining console logs", SOSP 2009; from
# logpai's loghub (He et al. 2020) by way of logdeep, whose split this is. Free for research,
# with citation; not a part of this package. `$AEJAX_DATA_DIR/hdfs/` holds the three files.
HDFS_ORIGIN = "https://github.com/d0ng1ee/logdeep"


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
    holds = f"hdfs/{HDFS_FILES[0]}, {HDFS_FILES[1]} and {HDFS_FILES[2]} (see {HDFS_ORIGIN})"
    folder = _brought("hdfs", holds)
    train, normal, abnormal = (read_blocks(folder / name) for name in HDFS_FILES)
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
        raise InputError(f"{path} does not exist; see {HDFS_ORIGIN} for the file") from None
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


def block_keys(blocks: Sequences) -> list[bytes]:
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

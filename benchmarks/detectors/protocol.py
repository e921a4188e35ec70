"""Tables, and how their rows become training and test rows: the same for every detector.

Two flaws of published protocols are avoided. Small tables are not enlarged by drawing rows
twice before the split, which puts copies of training rows into the test; and normal rows are
shuffled before they are halved. "first-half" halves them in the file's order, as much of the
literature does: for figures that are laid beside a paper's, not for choosing. Rows that a table
itself holds more than once stay in it; `Split.repeated` says how many test normals equal a
training row, `distinct` drops them.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from aejax.config import Scale
from aejax.core import scaling

Protocol = Literal["normals", "first-half", "all"]
SCALE = Scale(kind="standard", clip=20.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A labelled table.

    Attributes:
        name: of its file, without number and ending.
        x: float32 [n, features].
        is_anomaly: bool [n].
    """

    name: str
    x: np.ndarray
    is_anomaly: np.ndarray


class Scored(NamedTuple):
    """What a detector made of a split.

    Attributes:
        scores: [m] of the test rows.
        seconds_before: spent earlier on networks that it shares with another detector.
    """

    scores: np.ndarray
    seconds_before: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Training rows, and labelled test rows, not scaled yet.

    Attributes:
        protocol: "normals" and "first-half": no test row is a training row; "all": the test
            rows begin with the training rows, and no detector sees a label.
        train_rows: positions in the table, int [n].
        test_rows: positions in the table, int [m].
        train: float32 [n, features].
        test: float32 [m, features].
        is_anomaly: bool [m], of the test rows.
        scale: how rows are scaled, by the training rows, before any detector sees them.
    """

    protocol: Protocol
    train_rows: np.ndarray
    test_rows: np.ndarray
    train: np.ndarray
    test: np.ndarray
    is_anomaly: np.ndarray
    scale: Scale = SCALE

    @functools.cached_property
    def scaled(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows, for detectors that get their rows scaled.

        The same that aejax does inside its program.
        """
        scaler = scaling.fit(self.scale, [self.train], self.train.dtype)
        return _scale(scaler, self.train), _scale(scaler, self.test)

    @property
    def repeated(self) -> int:
        """Test rows taken for normal that equal a training row of another position."""
        seen = {row.tobytes() for row in self.train}
        others = ~np.isin(self.test_rows, self.train_rows) & ~self.is_anomaly
        return sum(row.tobytes() in seen for row in self.test[others])


def _scale(scaler: scaling.Scaler, x: np.ndarray) -> np.ndarray:
    return np.asarray(scaling.apply(scaler, jnp.asarray(x)))


def tables(folder: Path) -> dict[str, Path]:
    """The npz files of a folder by name: "38_thyroid.npz" is "thyroid".

    Raises:
        SystemExit: if there are none.
    """
    found = {}
    for path in sorted(folder.glob("*.npz")):
        number, _, name = path.stem.partition("_")
        found[name if name and number.isdigit() else path.stem] = path
    if not found:
        raise SystemExit(f"--folder is {folder}; allowed: a folder with .npz files")
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def read(name: str, path: Path) -> Table:
    """Read the arrays X [n, features] and y [n] (1 is an anomaly) of an npz file.

    Raises:
        ValueError: naming the file, if an array is missing, or of a wrong shape or kind.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if not {"X", "y"} <= set(arrays.files):
            raise ValueError(f"{path.name} holds {arrays.files}; allowed: arrays X and y")
        x, labels = arrays["X"], arrays["y"]
    if x.ndim != 2 or labels.shape != (len(x),):
        raise ValueError(f"{path.name}: X {x.shape}, y {labels.shape}; allowed: [n, d] and [n]")
    x = x.astype(np.float32)
    if not np.isfinite(x).all() or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{path.name}: allowed: finite numbers in X, 0 and 1 in y")
    if (labels == 0).sum() < 2 or not labels.any():
        raise ValueError(f"{path.name}: allowed: at least 2 normal rows and 1 anomaly")
    return Table(name=name, x=x, is_anomaly=labels == 1)


def distinct(table: Table) -> Table:
    """The table without all but the first of rows that are equal, label and all."""
    labelled = np.column_stack([table.x, table.is_anomaly.astype(np.float32)])
    kept = np.sort(np.unique(labelled, axis=0, return_index=True)[1])
    return Table(name=table.name, x=table.x[kept], is_anomaly=table.is_anomaly[kept])


def split(table: Table, protocol: Protocol, seed: int, *, most_train: int, most_test: int) -> Split:
    """Training and test rows of one seed.

    Args:
        table: whole.
        protocol: "normals": a random half of the normal rows trains, the other half and all
            anomalies test; "first-half": those that come first in the file train; "all": every
            row trains and is tested.
        seed: of the order of rows.
        most_train: of more training rows a random part is taken.
        most_test: of more test rows a random part with the same share of anomalies is taken.
    """
    random = np.random.default_rng(seed)
    normal = random.permutation(np.flatnonzero(~table.is_anomaly))
    anomalous = random.permutation(np.flatnonzero(table.is_anomaly))
    if protocol != "all":
        half = len(normal) // 2
        if protocol == "first-half":
            last = np.median(normal)
            normal = np.concatenate([normal[normal < last], normal[normal >= last]])
        train = normal[:half][:most_train]
        test = _shuffled_part(normal[half:], anomalous, most_test, random)
    else:
        test = _shuffled_part(normal, anomalous, most_test, random)
        train = test[:most_train]
    return Split(
        protocol=protocol,
        train_rows=train,
        test_rows=test,
        train=table.x[train],
        test=table.x[test],
        is_anomaly=table.is_anomaly[test],
    )


def _shuffled_part(
    normal: np.ndarray, anomalous: np.ndarray, most: int, random: np.random.Generator
) -> np.ndarray:
    """At most so many rows, shuffled, with the share of anomalies that all have, at least one."""
    total = len(normal) + len(anomalous)
    if total > most:
        wanted = max(1, round(most * len(anomalous) / total))
        normal, anomalous = normal[: most - wanted], anomalous[:wanted]
    return random.permutation(np.concatenate([normal, anomalous]))

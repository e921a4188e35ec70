"""Labelled tables with anomalies among their rows, for choosing settings: none is a test set.

    python -m benchmarks.development_sets --out DIR
    python -m benchmarks.detection --folder DIR --protocol all --seeds 1 --json FILE

What the detectors of the comparison are is decided on these, so that no label of the sets that it
is made on has a say. Normal rows are one class of MNIST, Fashion-MNIST (28x28 pixels averaged to
7x7), scikit-learn's digits and wine, ECG5000 or HDFS (counts of events in a block), with all
features, or with six means of neighbouring ones. The anomalies are rows of other classes, or made
from the normal rows as ADBench makes them (Han et al., "ADBench: Anomaly detection benchmark",
NeurIPS 2022, section 3.3.1): of a Gaussian mixture with five times the covariance ("local") or the
mean ("cluster"), uniform over the range ("global"), or with every feature drawn by itself
("dependency"). Rows of other classes are 2, 10 or 30 % of a table, made ones 10 %.

Beside these stand tables as small or as narrow as people's own: 2 to 8 features that are whole
numbers with ties or real measurements (`benchmarks.development_narrow`), tables of yes and no, and
of many of the sources a few dozen to 300 normal rows.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from aejax.data import datasets
from aejax.data.datasets import load_hdfs
from aejax.data.windows import Sequences
from benchmarks import development_narrow, options

ROWS = 2000
SHARES = (0.02, 0.1, 0.3)
KINDS = ("local", "cluster", "global", "dependency")
# Anomalies are made for these only, so that most sets have real ones.
MADE_FOR, MADE_SHARE = ("mnist-4", "fashion_mnist-7", "digits", "ecg5000"), 0.1
CLASSES = {"mnist": (0, 4), "fashion_mnist": (1, 7)}
FACTOR = 5.0
EVENTS = 30
FEW = 6
# Normal rows of small tables, the share of anomalies in them, and whose rows they are.
SMALL, SMALL_SHARE = (60, 150, 300), 0.2
SMALL_OF = (
    "mnist-4", "digits", "ecg5000", "hdfs", "fashion_mnist-7-few", "ecg5000-few", "brightness",
    "digits-measures", "digits-bits", "blocks", "taxi", "letters",
)  # fmt: skip
# Of tables with more rows, how many.
MANY = 20_000
MANY_OF = ("lines", "machine", "brightness", "blocks", "letters")


def sources() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, and normal and other rows [n, features]: many features, then few."""
    wide = []
    for source in _wide_sources():
        yield source
        wide.append(source)
    for name, normal, others in wide:
        yield f"{name}-few", _few(normal), _few(others)


def _few(rows: np.ndarray) -> np.ndarray:
    """Means of neighbouring features [n, FEW]: networks wider than a row behave differently."""
    parts = np.array_split(rows, FEW, axis=1)
    return np.column_stack([part.mean(axis=1) for part in parts])


def _wide_sources() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    from sklearn.datasets import load_digits, load_wine

    for name, classes in CLASSES.items():
        split = datasets.load(name, "test")
        small = split.x.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49)
        for label in classes:
            yield f"{name}-{label}", small[split.y == label], small[split.y != label]
    for name, (x, y), label in (
        ("digits", load_digits(return_X_y=True), 3),
        ("wine", load_wine(return_X_y=True), 1),
    ):
        yield name, x[y == label], x[y != label]
    beats = datasets.load("ecg5000", "all")
    yield "ecg5000", beats.x[beats.y == 1], beats.x[beats.y == 0]
    blocks = load_hdfs()
    yield "hdfs", _counts(blocks.train), _counts(blocks.abnormal)


def _counts(blocks: Sequences) -> np.ndarray:
    """How often each event occurs in each block, int64 [blocks, EVENTS]."""
    block = np.repeat(np.arange(len(blocks)), blocks.lengths)
    found = np.zeros((len(blocks), EVENTS), np.int64)
    np.add.at(found, (block, np.minimum(blocks.ids, EVENTS) - 1), 1)
    return found


def made(normal: np.ndarray, kind: str, count: int, random: np.random.Generator) -> np.ndarray:
    """Anomalies [count, features] made from normal rows."""
    if kind == "global":
        low, high = normal.min(axis=0), normal.max(axis=0)
        return random.uniform(low - 0.1 * abs(low), high + 0.1 * abs(high), (count, len(low)))
    if kind == "dependency":
        return np.column_stack([random.choice(feature, count) for feature in normal.T])
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        n_components=min(5, 1 + len(normal) // 100),
        reg_covar=1e-3 * float(normal.var(axis=0).mean()),
        random_state=0,
    ).fit(normal.astype(np.float64))
    if kind == "local":
        mixture.covariances_ = mixture.covariances_ * FACTOR
    else:
        mixture.means_ = mixture.means_ * FACTOR
    mixture.random_state = int(random.integers(1 << 31))
    return mixture.sample(count)[0]


def tables(seed: int = 0) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, rows float32 [n, features] and labels [n], 1 for an anomaly."""
    random = np.random.default_rng(seed)
    all_sources = list(sources())
    narrow = list(development_narrow.sources())
    for source, normal, others in all_sources:
        for share in SHARES:
            of_this = source.removesuffix("-few") in MADE_FOR and share == MADE_SHARE
            for kind in ("classes", *(KINDS if of_this else ())):
                name = f"{source}-{kind}-{round(100 * share)}"
                yield name, *_table(normal, others, kind, share, ROWS, random)
    both: list[development_narrow.Source] = [*all_sources, *narrow]
    for source, normal, other in narrow:
        share = MADE_SHARE
        kinds = KINDS[::3] if other is None else ("classes",)
        most = MANY if source in MANY_OF else ROWS
        for kind in kinds:
            yield f"{source}-{kind}-10", *_table(normal, other, kind, share, most, random)
    for source, normal, other in both:
        for rows in SMALL if source in SMALL_OF else ():
            kind = "dependency" if other is None else "classes"
            most = round(rows / (1 - SMALL_SHARE))
            yield f"{source}-small-{rows}", *_table(normal, other, kind, SMALL_SHARE, most, random)


def _table(
    normal: np.ndarray,
    others: np.ndarray | None,
    kind: str,
    share: float,
    most: int,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of a table of at most so many rows, with a share of anomalies."""
    kept = random.permutation(normal)[: round(most * (1 - share))]
    count = max(3, round(len(kept) * share / (1 - share)))
    if kind == "classes":
        assert others is not None
        strange = random.permutation(others)[:count]
    else:
        strange = made(kept, kind, count, random)
        if np.issubdtype(kept.dtype, np.integer):
            # A fraction would give them away.
            strange = np.rint(strange)
    rows = np.concatenate([kept, strange]).astype(np.float32)
    labels = np.repeat([0, 1], [len(kept), len(strange)])
    order = random.permutation(len(rows))
    return rows[order], labels[order]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write every table to a file of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.development_sets", description="Tables to choose settings by."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="of the npz files")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, rows, labels in tables():
        np.savez(given.out / f"{name}.npz", X=rows, y=labels)
        options.say(f"{name}: {len(rows)} rows of {rows.shape[1]}, {labels.sum()} anomalies")


if __name__ == "__main__":
    if not os.environ.get("AEJAX_DATA_DIR"):
        raise SystemExit("AEJAX_DATA_DIR is not set; allowed: a folder with the data sets")
    main()

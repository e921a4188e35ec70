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
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from aejax.data import datasets
from aejax.data.hdfs import load_hdfs
from aejax.data.windows import Sequences
from benchmarks import options

ROWS = 2000
SHARES = (0.02, 0.1, 0.3)
KINDS = ("local", "cluster", "global", "dependency")
# Anomalies are made for these only, so that most sets have real ones.
MADE_FOR, MADE_SHARE = ("mnist-4", "fashion_mnist-7", "digits", "ecg5000"), 0.1
CLASSES = {"mnist": (0, 4), "fashion_mnist": (1, 7)}
FACTOR = 5.0
EVENTS = 30
FEW = 6


def sources() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, and normal and other rows [n, features]: many features, then few."""
    wide = list(_wide_sources())
    yield from wide
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
    for source, normal, others in sources():
        for share in SHARES:
            of_this = source.removesuffix("-few") in MADE_FOR and share == MADE_SHARE
            for kind in ("classes", *(KINDS if of_this else ())):
                kept = random.permutation(normal)[: round(ROWS * (1 - share))]
                count = max(3, round(len(kept) * share / (1 - share)))
                if kind == "classes":
                    strange = random.permutation(others)[:count]
                else:
                    strange = made(kept, kind, count, random)
                rows = np.concatenate([kept, strange]).astype(np.float32)
                labels = np.repeat([0, 1], [len(kept), len(strange)])
                order = random.permutation(len(rows))
                yield f"{source}-{kind}-{round(100 * share)}", rows[order], labels[order]


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

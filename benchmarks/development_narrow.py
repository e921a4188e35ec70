"""Development tables of few features, whole numbers with ties, and of yes and no.

All are real: flowers, wines and patients that scikit-learn brings, measures of digits and of
garments, lines of Shakespeare, log blocks of HDFS, and series of the Numenta Anomaly Benchmark
with the hour and the day. None is of a table that results are reported on.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aejax.data import datasets
from aejax.data.datasets import load_hdfs

Source = tuple[str, np.ndarray, np.ndarray | None]


def sources() -> Iterator[Source]:
    """Names, and normal and other rows [n, features]; None where anomalies have to be made."""
    yield from _measured()
    yield from _digits()
    yield from _garments()
    yield from _text()
    yield from _blocks()
    yield from _series()


def _measured() -> Iterator[Source]:
    from sklearn.datasets import load_diabetes, load_iris, load_wine

    iris = load_iris()
    flowers = np.rint(10 * iris.data).astype(np.int64)
    for name, columns in (("iris", [0, 1, 2, 3]), ("petals", [2, 3]), ("sepals", [0, 1])):
        rows = flowers[:, columns]
        yield name, rows[iris.target < 2], rows[iris.target == 2]
    wine = load_wine()
    three = wine.data[:, [6, 9, 12]]
    yield "wine-three", three[wine.target < 2], three[wine.target == 2]
    patients = load_diabetes(scaled=False).data
    yield "patients", patients[:, [0, 2, 3, 4, 5, 6, 8, 9]], None


def _digits() -> Iterator[Source]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, is_normal = digits.images.astype(np.int64), digits.target == 3
    filled = images > 7
    measures = np.column_stack(
        [
            images.sum((1, 2)),
            filled.sum((1, 2)),
            filled.any(axis=2).sum(axis=1),
            filled.any(axis=1).sum(axis=1),
            filled[:, :, :4].sum((1, 2)),
        ]
    )
    yield "digits-measures", measures[is_normal], measures[~is_normal]
    bits = filled.reshape(len(filled), -1).astype(np.int64)
    yield "digits-bits", bits[is_normal], bits[~is_normal]


def _garments() -> Iterator[Source]:
    """Brightness of a garment's left, middle and right: three columns that go together."""
    split = datasets.load("fashion_mnist", "train")
    thirds = np.array_split(split.x.reshape(-1, 28, 28), 3, axis=2)
    brightness = np.column_stack([np.rint(part.mean((1, 2))) for part in thirds]).astype(np.int64)
    is_normal = np.isin(split.y, (2, 4))
    yield "brightness", brightness[is_normal], brightness[~is_normal]


def _folder() -> Path:
    return Path(os.environ["AEJAX_DATA_DIR"])


def _text() -> Iterator[Source]:
    """Counts in lines of verse, among which names of speakers are strange; letters of words."""
    text = (_folder() / "text" / "shakespeare.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line]
    counts = np.array(
        [
            [
                len(line),
                line.count(" ") + 1,
                sum(map(str.isupper, line)),
                sum(not c.isalnum() and c != " " for c in line),
                max(map(len, line.split())),
                sum(c in "aeiou" for c in line),
            ]
            for line in lines
        ]
    )
    is_name = np.array([line.endswith(":") for line in lines])
    # Without names they would be known by the colon alone.
    counts[is_name, 3] -= 1
    yield "lines", counts[~is_name], counts[is_name]
    words = sorted({word for line in lines for word in line.lower().split() if word.isalpha()})
    letters = np.array([[chr(97 + i) in word for i in range(26)] for word in words])
    yield "letters", letters.astype(np.int64), None


def _blocks() -> Iterator[Source]:
    """Of a log block its events, different events, and those of the commonest two."""
    blocks = load_hdfs()
    rows = []
    for part in (blocks.train, blocks.abnormal):
        ids = np.split(part.ids, part.bounds[1:-1])
        counts = [np.sort(np.bincount(one))[::-1] for one in ids]
        rows.append(
            np.array(
                [[len(i), (c > 0).sum(), c[0], c[1]] for i, c in zip(ids, counts, strict=True)]
            )
        )
    yield "blocks", rows[0], rows[1]


def _series() -> Iterator[Source]:
    """A value, the one before it, and when it was; strange in the labelled windows."""
    nab = _folder() / "nab"
    windows = json.loads((nab / "combined_windows.json").read_text(encoding="utf-8"))
    for name, file in (
        ("taxi", "realKnownCause/nyc_taxi.csv"),
        ("machine", "realKnownCause/machine_temperature_system_failure.csv"),
        ("latency", "realKnownCause/ec2_request_latency_system_failure.csv"),
        ("keys", "realKnownCause/rogue_agent_key_hold.csv"),
    ):
        lines = (nab / file).read_text(encoding="utf-8").splitlines()[1:]
        times = [datetime.datetime.fromisoformat(line.split(",")[0]) for line in lines]
        values = np.array([float(line.split(",")[1]) for line in lines])
        strange = np.zeros(len(times), bool)
        for low, high in windows[file]:
            first, last = map(datetime.datetime.fromisoformat, (low, high))
            strange |= np.array([first <= time <= last for time in times])
        when = np.array([[time.hour, time.weekday()] for time in times])
        rows = np.column_stack([values, np.roll(values, 1), when])[1:]
        yield name, rows[~strange[1:]], rows[strange[1:]]

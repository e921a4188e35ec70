"""Training from files gives the detector that the same rows in memory give, in bounded memory."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.config import InputError
from aejax.data.batches import data_fingerprint
from aejax.data.disk_rows import DiskRows
from aejax.data.rows import Selection
from aejax.data.training_rows import read_training
from aejax.detection import calibration
from aejax.training import feeding
from aejax.training.loop import Interrupted
from tests.plain import plain_config

LABELLED = Selection(label_column="label")
CONFIG = plain_config(
    model=aejax.Dense(hidden=(6, 3), dropout=0.1),
    train=aejax.Train(
        epochs=3, batch_size=256, noise=0.1, patience=2, feed="stream", validation_fraction=0.2
    ),
)


@pytest.fixture(scope="module")
def table(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of ADBench's thyroid table."""
    with np.load(data_dir / "adbench" / "38_thyroid.npz", allow_pickle=False) as archive:
        return archive["X"].astype(np.float32), archive["y"].ravel()


@pytest.fixture(scope="module")
def parquet(table: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in two Parquet files."""
    folder = tmp_path_factory.mktemp("thyroid")
    x, y = table
    frame = pd.DataFrame(x, columns=[f"f{number}" for number in range(x.shape[1])])
    frame["label"] = y.astype(int)
    frame.iloc[:1500].to_parquet(folder / "1.parquet", row_group_size=400)
    frame.iloc[1500:].to_parquet(folder / "2.parquet", row_group_size=400)
    return folder


def assert_same_detector(found: aejax.Detector, expected: aejax.Detector) -> None:
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)
    jax.tree.map(np.testing.assert_array_equal, found.scaler, expected.scaler)
    assert found.fingerprint == expected.fingerprint
    assert found.threshold == expected.threshold
    for name in ("loss", "validation_loss"):
        assert [row[name] for row in found.history] == [row[name] for row in expected.history]
    for name in ("data", "training_rows", "best_epoch"):
        assert found.provenance[name] == expected.provenance[name]
    assert found.provenance.get("alarms") == expected.provenance.get("alarms")


@pytest.mark.parametrize("score", ["error", "residual-distance"])
def test_rows_on_disk_give_the_same_detector_bit_for_bit(
    table: tuple[np.ndarray, np.ndarray], parquet: Path, tmp_path: Path, score: Any
) -> None:
    x, y = table
    config = dataclasses.replace(CONFIG, score=score)
    expected = aejax.fit(config, x[y == 0], schema=_schema(x))
    found = aejax.fit(config, parquet, selection=LABELLED, folder=tmp_path, memory_limit=1 << 10)
    assert_same_detector(found, expected)
    assert not (tmp_path / "rows").exists()


def _schema(x: np.ndarray) -> aejax.Schema:
    names = tuple(f"f{number}" for number in range(x.shape[1]))
    return aejax.Schema(shape=x.shape[1:], names=names)


def test_fit_takes_a_path(table: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    x, y = table
    np.save(tmp_path / "x.npy", x[y == 0])
    found = aejax.fit(CONFIG, tmp_path / "x.npy", devices=1)
    assert found.devices == 1
    assert_same_detector(found, aejax.fit(CONFIG, x[y == 0]))


def test_fit_takes_several_paths(
    table: tuple[np.ndarray, np.ndarray], parquet: Path, tmp_path: Path
) -> None:
    x, y = table
    expected = aejax.fit(CONFIG, x[y == 0], schema=_schema(x))
    for paths in ([parquet / "1.parquet", str(parquet / "2.parquet")], str(parquet / "*.parquet")):
        assert_same_detector(aejax.fit(CONFIG, paths, selection=LABELLED), expected)
    members = aejax.fit(CONFIG, parquet, selection=LABELLED, members=2)
    wanted = aejax.fit(CONFIG, x[y == 0], schema=_schema(x), members=2)
    assert (members.fingerprint, members.threshold) == (wanted.fingerprint, wanted.threshold)
    with pytest.raises(InputError, match=r"several networks were asked for, and the rows take"):
        aejax.fit(CONFIG, parquet, selection=LABELLED, members=2, memory_limit=0)


@pytest.mark.parametrize("then", ["on disk", "in memory"])
def test_a_stopped_run_goes_on_with_the_rows_that_it_copied(
    table: tuple[np.ndarray, np.ndarray], parquet: Path, tmp_path: Path, then: str
) -> None:
    x, y = table
    asked = 0

    def soon() -> bool:
        nonlocal asked
        asked += 1
        # Once for the only block that is read, once for the first steps.
        return asked > 2

    def run(limit: int = 0, **how: Any) -> aejax.Detector:
        return aejax.fit(
            CONFIG, parquet, selection=LABELLED, folder=tmp_path, memory_limit=limit, **how
        )

    with pytest.raises(Interrupted):
        run(should_stop=soon)
    copied = (tmp_path / "rows" / "normal.npy").stat()
    found = run(0 if then == "on disk" else 1 << 30, keep_rows=True)
    assert (tmp_path / "rows" / "normal.npy").stat().st_ino == copied.st_ino
    assert_same_detector(found, aejax.fit(CONFIG, x[y == 0], schema=_schema(x)))


def test_reading_stops_when_asked_and_leaves_nothing(parquet: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"folder": tmp_path / "run", "memory_limit": 0}
    with pytest.raises(Interrupted, match="stopped reading"):
        aejax.fit(CONFIG, parquet, selection=LABELLED, should_stop=lambda: True, **how)
    assert not list((tmp_path / "run").iterdir())


def test_many_validation_rows_are_streamed_to_the_same_loss(
    table: tuple[np.ndarray, np.ndarray],
    parquet: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = table
    expected = aejax.fit(CONFIG, x[y == 0])
    # Two tiles of 256 rows of 6 values at a time, of 737 rows.
    monkeypatch.setattr(feeding, "STREAMED_BYTES", 2 * 256 * x.shape[1] * 4)
    found = aejax.fit(CONFIG, parquet, selection=LABELLED, memory_limit=0)
    losses = [[row["validation_loss"] for row in d.history] for d in (found, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    jax.tree.map(
        np.testing.assert_array_equal, found.variables["params"], expected.variables["params"]
    )


@pytest.mark.parametrize("rule", ["quantile:0.99", "mean-std:3", "contamination:0.02"])
def test_thresholds_of_more_scores_than_are_kept(
    table: tuple[np.ndarray, np.ndarray], tmp_path: Path, rule: str
) -> None:
    x, y = table
    config = plain_config(
        model=aejax.Dense(hidden=(3,)),
        train=aejax.Train(epochs=1),
        rule=aejax.config.parse_rule(rule),
    )
    detector = aejax.fit(config, x[y == 0])
    np.save(tmp_path / "x.npy", x[y == 0])
    rows = read_training(tmp_path / "x.npy", folder=tmp_path, memory_limit=0).normal
    found = calibration.calibrate(detector, rows, kept_scores=400).threshold
    expected = detector.calibrate(x[y == 0]).threshold
    assert found is not None
    assert expected is not None
    assert found.value == pytest.approx(expected.value, rel=0.02)
    assert found.rows == expected.rows
    if rule.startswith("contamination"):
        assert found.deciles is None
        return
    assert found.deciles is not None
    scores = np.sort(detector.score(x[y == 0]))
    # Each decile's rank among all scores: 400 of them tell it to three standard errors.
    ranks = np.searchsorted(scores, found.deciles) / len(scores)
    np.testing.assert_allclose(ranks, np.arange(1, 10) / 10, atol=3 * 0.5 / np.sqrt(360))


def test_bad_rows_are_reported_and_kept_with_the_detector(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    x[7, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    config = plain_config(model=aejax.Dense(hidden=(2,)), train=aejax.Train(epochs=1))
    for limit in (0, 1 << 30):
        caplog.clear()
        detector = aejax.fit(config, tmp_path / "x.npy", memory_limit=limit)
        said = "1 of 300 rows are left out of training, the first being row 7, 'feature[1]' is nan"
        assert said in caplog.text
        assert said in detector.provenance["alarms"]
    with pytest.raises(InputError, match=r"row 7, 'feature\[1\]' is nan; allowed"):
        aejax.fit(config, tmp_path / "x.npy", memory_limit=0, on_bad_row="error")


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_fingerprint_is_the_same_on_disk(tmp_path: Path, dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 255, size=(100, 4, 4, 1)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    rows = read_training(tmp_path / "x.npy", folder=tmp_path, memory_limit=0).normal
    assert isinstance(rows, DiskRows)
    assert data_fingerprint(rows) == data_fingerprint(x)


def measured(path: Path, where: str = "on-disk") -> dict[str, int]:
    script = Path(__file__).with_name("measure_memory.py")
    # By itself glibc lets every thread keep memory that it freed, in up to eight arenas a
    # core: that levels off, whatever the rows, but later than a short run ends.
    done = subprocess.run(
        [sys.executable, str(script), str(path), where],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_ARENA_MAX": "2"},
    )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, kind: str) -> None:
    peaks = {}
    for rows in (100_000, 1_000_000):
        x = np.random.default_rng(0).normal(size=(rows, 64)).astype(np.float32)
        if kind == "npy":
            np.save(tmp_path / "x.npy", x)
        else:
            frame = pd.DataFrame(x[:, :16].round(3), columns=[f"f{i}" for i in range(16)])
            frame.to_csv(tmp_path / "x.csv", index=False)
        found = measured(tmp_path / f"x.{kind}")
        assert found["rows"] == rows * 0.8
        peaks[rows] = found["peak"]
    assert peaks[1_000_000] < 1.1 * peaks[100_000], peaks
    # The measure sees rows in memory: otherwise it would say nothing.
    assert measured(tmp_path / f"x.{kind}", "in-memory")["peak"] > 1.1 * peaks[1_000_000]

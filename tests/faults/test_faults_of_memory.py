"""A device whose memory is too small for a batch: smaller ones, the same scores, a note."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.config import InputError
from aejax.detection.detector import Detector
from aejax.scoring import manifest
from aejax.scoring.stream import score_files
from aejax.training.loop import Interrupted
from tests.compiled_calls import before_each
from tests.plain import plain_config

ROWS = np.random.default_rng(0).normal(size=(1000, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> Detector:
    config = plain_config(model=aejax.Dense(hidden=(5, 2)), train=aejax.Train(epochs=2))
    return aejax.fit(config, ROWS)


@pytest.fixture
def detector(trained: Detector) -> Detector:
    """One that has learnt nothing of the device yet."""
    return dataclasses.replace(trained)


class SmallDevice:
    """Compiled programs take at most so many rows."""

    def __init__(self, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = most
        self.sizes: list[int] = []
        before_each(monkeypatch, self.look)

    def look(self, args: tuple[Any, ...]) -> None:
        rows = args[-1].shape[0]
        self.sizes.append(rows)
        if rows > self.most:
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes."
            )


def test_batches_are_halved_once_and_the_scores_are_the_same(
    detector: Detector,
    trained: Detector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = trained.score(ROWS, batch_size=256)
    device = SmallDevice(100, monkeypatch)
    with caplog.at_level(logging.WARNING, "aejax"):
        np.testing.assert_allclose(detector.score(ROWS, batch_size=256), expected, rtol=1e-6)
    assert device.sizes == [256, 128, *[64] * 16]
    assert [record.getMessage() for record in caplog.records] == [
        "aejax: warning: batches of 256 rows don't fit into the device's memory; going on with 128",
        "aejax: warning: batches of 128 rows don't fit into the device's memory; going on with 64",
    ]
    # What has failed isn't tried again, by whatever method.
    device.sizes.clear()
    detector.explain(ROWS, batch_size=256)
    detector.reconstruct(ROWS, batch_size=32)
    assert set(device.sizes) == {64, 32}


def test_memory_that_ends_half_way_costs_no_row(
    detector: Detector, trained: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained.score(ROWS, batch_size=100)
    device = SmallDevice(1000, monkeypatch)

    def shrink(args: tuple[Any, ...]) -> None:
        if len(device.sizes) == 7:
            device.most = 50

    before_each(monkeypatch, shrink)
    np.testing.assert_allclose(detector.score(ROWS, batch_size=100), expected, rtol=1e-6)
    assert set(device.sizes[8:]) == {50}


def test_a_row_that_does_not_fit_is_one_line(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallDevice(0, monkeypatch)
    with pytest.raises(InputError, match="a batch of 1 row doesn't fit into the device's memory"):
        detector.score(ROWS, batch_size=4)


def test_other_failures_of_the_device_are_not_retried(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(args: tuple[Any, ...]) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is lost")

    before_each(monkeypatch, fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        detector.score(ROWS)


def test_a_job_goes_on_and_its_journal_says_with_what(
    detector: Detector, trained: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.npy"
    np.save(rows, ROWS)
    how: dict[str, Any] = {"batch_size": 128, "part_rows": 300}
    score_files(trained, rows, tmp_path / "whole", **how)
    device = SmallDevice(64, monkeypatch)
    blocks = 0

    def stop() -> bool:
        nonlocal blocks
        blocks += 1
        return blocks == 2

    with pytest.raises(Interrupted):
        score_files(detector, rows, tmp_path / "out", **how, should_stop=stop)
    # On a device with more memory the same command continues the same job.
    device.most = 1000
    score_files(trained, rows, tmp_path / "out", **how)
    lines = [
        json.loads(line) for line in (tmp_path / "out" / manifest.PARTS).read_text().splitlines()
    ]
    assert [line.get("batch_limit") for line in lines] == [64, 64, None, None]
    found, whole = pq.read_table(tmp_path / "out"), pq.read_table(tmp_path / "whole")
    assert found["row"].to_pylist() == list(range(1000))
    np.testing.assert_allclose(found["score"], whole["score"], rtol=1e-6)

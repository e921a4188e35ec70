"""The precision that is chosen is the one that a clock says is faster, if it ranks rows alike."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

import aejax
from aejax.config import Dense, Train
from aejax.detection import precision
from aejax.detection.detector import Detector
from tests.plain import plain_config

ROWS = np.random.default_rng(0).normal(size=(2000, 12)).astype(np.float32)


def untimed() -> Detector:
    """A detector that still has to be measured."""
    config = plain_config(model=Dense(hidden=(8, 3)), train=Train(epochs=2), precision="fastest")
    return dataclasses.replace(aejax.fit(config, ROWS[:200]), config=config)


def ticks(*seconds: float) -> Iterator[float]:
    """A clock by which the runs take these seconds in turn."""
    now = 0.0
    for length in itertools.cycle(seconds):
        yield now
        now += length
        yield now


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [(2.0, 1.0, "bfloat16"), (1.05, 1.0, "float32"), (1.0, 2.0, "float32")],
)
def test_the_faster_one_by_a_tenth_is_taken(float32: float, bfloat16: float, chosen: str) -> None:
    clock = ticks(float32, bfloat16)
    found = precision.choose_precision(untimed(), ROWS, clock=lambda: next(clock))
    assert found.config.precision == chosen
    assert f"{float32 / bfloat16:.2f} times as fast" in found.provenance["precision"]


def test_one_that_ranks_rows_otherwise_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, score = untimed(), Detector.score_rows

    def worse(self: Detector, rows: np.ndarray, **how: Any) -> np.ndarray:
        found = score(self, rows, **how)
        return found if self.config.precision == "float32" else found[::-1]

    monkeypatch.setattr(Detector, "score_rows", worse)
    found = precision.choose_precision(detector, ROWS, clock=lambda: pytest.fail("timed"))
    assert found.config.precision == "float32"
    assert "order" in found.provenance["precision"]


def test_fit_measures_and_says_so(tmp_path: Path) -> None:
    config = plain_config(model=Dense(hidden=(8, 3)), train=Train(epochs=2), precision="fastest")
    few = aejax.fit(config, ROWS[:300])
    assert few.config.precision == "float32"
    assert "too few" in few.provenance["precision"]
    many = aejax.fit(config, ROWS, x_validation=ROWS[:1500])
    assert many.config.precision in ("float32", "bfloat16")
    many.save(tmp_path)
    loaded = aejax.load(tmp_path)
    assert loaded.config.precision == many.config.precision
    # The threshold is a quantile of scores of the precision that is used.
    scores = loaded.score(ROWS[:1500])
    assert loaded.threshold is not None
    assert np.mean(scores > loaded.threshold.value) <= 0.0101


def test_bfloat16_ranks_real_rows_alike() -> None:
    detector = precision.with_precision(untimed(), "float32")
    other = precision.with_precision(detector, "bfloat16")
    a, b = detector.score(ROWS), other.score(ROWS)
    assert precision.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert precision.rank_correlation(np.ones(5), np.ones(5)) == 1.0


def test_each_of_many_at_once_has_its_own_measured() -> None:
    config = plain_config(train=Train(epochs=1), precision="fastest")
    for one in aejax.fit_population([config, config], ROWS[:50]).detectors:
        assert one is not None
        assert one.config.precision == "float32"
        assert one.provenance["precision"] == "float32: 5 rows are too few to time"

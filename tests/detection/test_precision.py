"""bfloat16 products with float32 accumulation: what may change, and how little."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import aejax
from aejax.config import Config, Dense, Quantile, Scale, Train
from aejax.data import datasets
from aejax.detection.detector import Detector


def in_bfloat16(detector: Detector) -> Detector:
    config = dataclasses.replace(detector.config, precision="bfloat16")
    return dataclasses.replace(detector, config=config)


def check(detector: Detector, x: np.ndarray) -> None:
    """The tolerance that docs/design.md promises."""
    coarse = in_bfloat16(detector)
    exact, rounded = detector.score(x), coarse.score(x)
    assert not np.array_equal(exact, rounded)
    assert spearmanr(exact, rounded).statistic > 0.9999
    assert detector.threshold is not None
    flips = detector.predict(x) != coarse.predict(x)
    distance = np.abs(exact - detector.threshold.value) / detector.threshold.value
    assert np.all(distance[flips] < 0.01)


def test_digits_keep_their_order_and_their_flags() -> None:
    digits = datasets.load("digits", "all")
    config = Config(
        model=Dense(hidden=(32, 16), output="sigmoid"),
        scale=Scale(kind="none"),
        train=Train(epochs=20, batch_size=64),
        rule=Quantile(q=0.9),
    )
    check(aejax.fit(config, digits.x[digits.y != 0]), digits.x)


def test_heartbeats_keep_their_order_and_their_flags(data_dir: Path) -> None:
    ecg = datasets.load("ecg5000", "all")
    config = Config(
        model=Dense(hidden=(32, 16, 8), output="sigmoid"),
        scale=Scale(kind="min-max-all"),
        train=Train(epochs=20, batch_size=512, loss="absolute"),
        error="absolute",
    )
    check(aejax.fit(config, ecg.x[ecg.y == 1]), ecg.x)


def test_the_artifact_keeps_its_precision(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    detector = in_bfloat16(aejax.fit(Config(train=Train(epochs=1)), x))
    detector.save(tmp_path)
    loaded = aejax.load(tmp_path)
    assert loaded.config.precision == "bfloat16"
    np.testing.assert_array_equal(loaded.score(x), detector.score(x))


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(aejax.InputError, match=r"Config\.precision is 'float16'"):
        Config(precision="float16")  # type: ignore[arg-type]

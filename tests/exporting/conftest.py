"""A small trained detector, once for all tests of exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.detection.detector import Detector
from tests.plain import plain_config

COLUMNS = [f"sensor_{i}" for i in range(6)]


@pytest.fixture(scope="session")
def detector() -> Detector:
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 2)) @ random.normal(size=(2, 6))
    x += 0.1 * random.normal(size=x.shape)
    config = plain_config(model=aejax.Dense(hidden=(8, 2)), train=aejax.Train(epochs=2))
    return aejax.fit(config, pd.DataFrame(x.astype(np.float32), columns=COLUMNS))


@pytest.fixture(scope="session")
def run_folder(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    detector.save(folder)
    return folder

"""A small trained detector, once for all tests of scoring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.detection.detector import Detector
from tests.plain import plain_config

COLUMNS = [f"sensor_{i}" for i in range(6)]


def make_table(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)) @ random.normal(size=(2, 6))
    x += 0.1 * random.normal(size=x.shape)
    table = pd.DataFrame(x.astype(np.float32), columns=COLUMNS)
    table.insert(0, "id", [f"row-{i}" for i in range(rows)])
    return table


@pytest.fixture(scope="session")
def detector() -> Detector:
    config = plain_config(model=aejax.Dense(hidden=(8, 2)), train=aejax.Train(epochs=2))
    return aejax.fit(config, make_table(400, 0)[COLUMNS])


@pytest.fixture(scope="session")
def run_folder(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    detector.save(folder)
    return folder


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """3,000 rows with an id, of which the third part's are anomalous and some have no score."""
    made = make_table(3000, 1)
    made.loc[130:190, "sensor_2"] += 4
    made.loc[[7, 130, 2999], "sensor_1"] = np.nan
    made.loc[500, "sensor_4"] = np.inf
    return made

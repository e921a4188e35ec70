"""The benchmark on published series: which they are, and what its peers compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import series

WAVE = np.sin(2 * np.pi * np.arange(900) / 30) + 0.05 * np.random.default_rng(0).normal(size=900)


@pytest.fixture(scope="module")
def broken() -> series.Labelled:
    values, flags = WAVE.copy(), np.zeros(900, bool)
    values[600:640] += 3
    flags[600:640] = True
    return series.Labelled("wave", values, flags, 400)


def test_the_series_are_those_that_are_named(data_dir: Path) -> None:
    found = series.published_series(data_dir / "nab")
    assert len(found) == 22
    for one in found:
        assert 0 < one.is_anomaly.sum() < len(one.values)
        assert 500 <= one.train < len(one.values)
    # The first labelled point that TSB-AD-U's file names have.
    firsts = {one.name.split("/")[1]: int(np.argmax(one.is_anomaly)) for one in found}
    assert firsts["ec2_request_latency_system_failure.csv"] == 2014
    assert firsts["nyc_taxi.csv"] == 5839


def test_series_are_measured_by_their_period(broken: series.Labelled) -> None:
    assert series.buffer_of(WAVE) % 30 == 0
    assert series.buffer_of(np.random.default_rng(0).normal(size=20)) == 125
    assert series.found_length(broken.values[:400].astype(np.float32)) == 60


@pytest.mark.parametrize("name", ["pca", "neighbours", "isolation-forest", "sub-pca"])
def test_peers_give_every_point_a_score(broken: series.Labelled, name: str) -> None:
    run = series.run_one(name, broken, 0)
    assert 0.3 < run["vus_pr"] <= 1
    assert run["length"] in (30, 60, 90, 120)

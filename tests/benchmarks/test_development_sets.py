"""Anomalies that are made have the properties that their kind is named for."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks import development_sets as sets


@pytest.fixture(scope="module")
def normal() -> np.ndarray:
    """One cloud of rows around (1, -2, 4) whose features go together."""
    random = np.random.default_rng(0)
    return (random.normal(size=(90, 1)) + 0.1 * random.normal(size=(90, 3)) + [1, -2, 4]).astype(
        np.float32
    )


def made(normal: np.ndarray, kind: str) -> np.ndarray:
    found = sets.made(normal, kind, 4000, np.random.default_rng(1))
    assert found.shape == (4000, 3)
    return found


def test_local_ones_have_five_times_the_covariance(normal: np.ndarray) -> None:
    found = made(normal, "local")
    np.testing.assert_allclose(found.mean(axis=0), normal.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(np.cov(found.T) / np.cov(normal.T, ddof=0), 5, rtol=0.1)


def test_those_of_clusters_have_five_times_the_mean(normal: np.ndarray) -> None:
    found = made(normal, "cluster")
    np.testing.assert_allclose(found.mean(axis=0), 5 * normal.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(found.T) / np.cov(normal.T, ddof=0), 1, rtol=0.1)


def test_global_ones_fill_the_range(normal: np.ndarray) -> None:
    found, low, high = made(normal, "global"), normal.min(axis=0), normal.max(axis=0)
    assert (found >= low - 0.1 * abs(low)).all()
    assert (found <= high + 0.1 * abs(high)).all()
    assert abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.1


def test_those_of_dependency_differ_in_nothing_else(normal: np.ndarray) -> None:
    found = made(normal, "dependency")
    for feature, values in zip(found.T, normal.T, strict=True):
        assert set(feature) == set(values)
    assert abs(np.corrcoef(normal.T)).min() > 0.9
    assert abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.1


def test_tables_hold_the_share_that_they_name(data_dir: Path) -> None:
    first = list(itertools.islice(sets.tables(), 2))
    again = list(itertools.islice(sets.tables(), 2))
    for (name, x, labels), (_, same, _) in zip(first, again, strict=True):
        assert name.startswith("mnist-0-classes-")
        assert x.shape[1] == 49
        assert x.dtype == np.float32
        share = int(name.rpartition("-")[2]) / 100
        assert labels.mean() == pytest.approx(share, abs=0.003)
        # Shuffled: the anomalies are not the last ones.
        assert np.flatnonzero(labels)[0] < len(x) / 2
        np.testing.assert_array_equal(x, same)

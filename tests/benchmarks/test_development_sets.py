"""Anomalies that are made have the properties that their kind is named for."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks import development_narrow
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


@pytest.mark.slow
def test_tables_hold_the_share_that_they_name(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reading all of them takes minutes.
    wide = list(itertools.islice(sets.sources(), 1))
    monkeypatch.setattr(sets, "sources", lambda: iter(wide))
    monkeypatch.setattr(development_narrow, "sources", lambda: iter(()))
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


@pytest.mark.slow
def test_narrow_tables_are_narrow_and_of_whole_numbers_with_ties(data_dir: Path) -> None:
    tables = {name: (normal, others) for name, normal, others in development_narrow.sources()}
    narrow = {name for name, (normal, _) in tables.items() if 2 <= normal.shape[1] <= 8}
    assert set(tables) - narrow == {"digits-bits", "letters"}
    assert {tables[name][0].shape[1] for name in narrow} >= {2, 3, 4, 5, 6, 8}
    assert set(sets.SMALL_OF) - set(tables) <= {name for name, *_ in sets.sources()}
    assert set(sets.MANY_OF) <= set(tables)
    for name, (normal, others) in tables.items():
        assert np.isfinite(normal.astype(float)).all(), name
        assert others is None or (others.shape[1] == normal.shape[1] and len(others) > 10), name
        if np.issubdtype(normal.dtype, np.integer):
            # Ties: values repeat within a column.
            assert all(len(np.unique(column)) < len(column) / 2 for column in normal.T), name
    for name in ("digits-bits", "letters"):
        assert set(np.unique(tables[name][0])) == {0, 1}


def test_made_rows_of_whole_numbers_are_whole() -> None:
    normal = np.random.default_rng(0).integers(0, 9, (120, 3))
    random = np.random.default_rng(1)
    rows, labels = sets._table(normal, None, "local", 0.2, 100, random)
    assert (len(rows), labels.sum()) == (100, 20)
    np.testing.assert_array_equal(rows, np.rint(rows))

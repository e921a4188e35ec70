"""Features that moved are named, those that didn't are not, however the job was run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aejax
from aejax.config import Dense, Train
from aejax.detection import drift
from aejax.detection.drift import population_stability
from aejax.scoring.stream import score_files
from tests.plain import plain_config

NAMES = tuple("abcdef")


def rows(count: int, seed: int) -> np.ndarray:
    """Six features; the last two have few values."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 6))
    x[:, 4] = random.integers(0, 3, count)
    x[:, 5] = random.random(count) < 0.1
    return x.astype(np.float32)


def fitted() -> aejax.Detector:
    config = plain_config(
        model=Dense(hidden=(8, 3)), train=Train(epochs=2, validation_fraction=0.5)
    )
    return aejax.fit(config, rows(4000, 0), schema=aejax.Schema(shape=(6,), names=NAMES))


def job(folder: Path, detector: aejax.Detector, x: np.ndarray, **how: object) -> dict[str, object]:
    table = pa.table({name: x[:, i] for i, name in enumerate(NAMES)})
    pq.write_table(table, folder / "rows.parquet")
    found: dict[str, object] = score_files(
        detector, folder / "rows.parquet", folder / "scores", **how
    )
    return found


@given(st.lists(st.sampled_from([0.0, 1.0, 1.5, 7.0]), min_size=1, max_size=60))
def test_bins_are_those_of_a_histogram_open_on_the_left(values: list[float]) -> None:
    x = np.array(values, np.float32)[:, None]
    edges = np.quantile(x, np.arange(1, 10) / 10, axis=0, method="inverted_cdf")
    found = drift.bin_counts(edges, x)[:, 0]
    by_hand = np.bincount(np.searchsorted(edges[:, 0], x[:, 0], side="left"), minlength=10)
    np.testing.assert_array_equal(found, by_hand)
    assert found.sum() == len(values)


def test_normal_rows_have_not_drifted(tmp_path: Path) -> None:
    summary = job(tmp_path, fitted(), rows(3000, 1))
    assert summary["features_drifted"] == 0
    assert summary["alarms"] == []
    assert max(summary["feature_stability"].values()) < 0.05


def test_rows_of_which_none_has_a_score(tmp_path: Path) -> None:
    x = np.full((200, 6), np.nan)
    summary = job(tmp_path, fitted(), x)
    assert (summary["rows"], summary["bad_rows"]) == (200, 200)
    (alarm,) = summary["alarms"]
    assert "have no score" in alarm
    assert "feature_stability" not in summary


def test_features_that_moved_are_named(tmp_path: Path) -> None:
    detector, x = fitted(), rows(500, 1)
    x[:, 1] += 1
    x[:, 5] = np.random.default_rng(2).random(500) < 0.6
    summary = job(tmp_path, detector, x)
    assert summary["features_drifted"] == 2
    assert set(list(summary["feature_stability"])[:2]) == {"b", "f"}
    usual = drift.UsualValues(**detector.variables["normal"]["values"])
    # All rows are counted where a block has few.
    counts = np.histogram(x[:, 1], [-np.inf, *usual.edges[:, 1], np.inf])[0]
    expected = population_stability(counts, usual.shares[:, 1])
    assert summary["feature_stability"]["b"] == pytest.approx(expected, rel=1e-5)
    assert any("and 1 more features are distributed unlike" in alarm for alarm in summary["alarms"])


def test_a_stopped_job_says_the_same(tmp_path: Path) -> None:
    detector, x = fitted(), rows(5000, 3)
    (tmp_path / "whole").mkdir()
    how = {"part_rows": 1024, "batch_size": 256}
    whole = job(tmp_path / "whole", detector, x, **how)
    blocks = iter([False, True])
    with pytest.raises(Exception, match="stopped scoring"):
        job(tmp_path, detector, x, should_stop=lambda: next(blocks, True), **how)
    resumed = job(tmp_path, detector, x, **how)
    assert resumed["resumed_at_row"] > 0
    assert resumed["feature_stability"] == whole["feature_stability"]


def test_what_is_not_measured() -> None:
    few = rows(99, 0)
    table = aejax.Schema(shape=(6,))
    assert drift.usual_values(few, table) is None
    assert drift.usual_values(rows(100, 0), table) is not None
    image = aejax.Schema(shape=(2, 3, 1), kind="image")
    assert drift.usual_values(rows(200, 0).reshape(-1, 2, 3, 1), image) is None


def test_older_detectors_and_saved_ones(tmp_path: Path) -> None:
    detector = fitted()
    detector.save(tmp_path / "new")
    loaded = aejax.load(tmp_path / "new")
    np.testing.assert_array_equal(
        loaded.variables["normal"]["values"]["shares"],
        detector.variables["normal"]["values"]["shares"],
    )
    configs = [
        plain_config(model=Dense(hidden=(8, 3)), train=Train(epochs=1, seed=seed))
        for seed in range(2)
    ]
    schema = aejax.Schema(shape=(6,), names=NAMES)
    ensemble = aejax.fit_population(configs, rows(2000, 0), schema=schema).ensemble(rows(500, 1))
    (tmp_path / "job").mkdir()
    assert job(tmp_path / "job", ensemble, rows(500, 2))["features_drifted"] == 0

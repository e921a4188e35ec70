"""The benchmark of groups is right: its rows, its loops and its table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import groups, population


def test_groups_have_their_own_rows_and_anomalies() -> None:
    rows = groups.make_groups(5, 40)
    assert rows.train.shape == rows.test.shape == (200, groups.FEATURES)
    for group in range(5):
        own = rows.train_groups == group
        assert own.sum() == 40
        assert rows.is_anomaly[own].sum() == 20
        shift = rows.test[own & rows.is_anomaly].mean(axis=0) - rows.test[
            own & ~rows.is_anomaly
        ].mean(axis=0)
        assert shift[:3].mean() > shift[3:].mean() + 0.5


def test_where_a_larger_population_stops_paying() -> None:
    def points(*seconds: float) -> list[dict[str, float]]:
        return [{"models": 4**at, "seconds_a_model": one} for at, one in enumerate(seconds)]

    assert population.stops_paying(points(1.0, 0.5, 0.49, 0.2)) == 4
    assert population.stops_paying(points(1.0, 0.5, 0.4)) is None
    assert population.stops_paying(points(1.0, 1.1)) == 1


@pytest.mark.slow
def test_the_suite_with_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    population.main(
        [
            *("--members", "2", "--rows", "64", "--epochs", "1", "--curve", "1", "2"),
            *("--repeats", "1", "--peers", "sklearn", "--groups", "3", "--group-rows", "20"),
            *("--looped", "2", "--json", str(tmp_path / "found.json")),
        ]
    )
    table = capsys.readouterr().out
    assert "3 groups of 20 rows" in table
    found = json.loads((tmp_path / "found.json").read_text())
    together, alone, sklearn = found["groups"]
    assert [one["groups_measured"] for one in found["groups"]] == [3, 2, 2]
    assert sklearn["name"].startswith("scikit-learn")
    for one in (together, alone, sklearn):
        assert 0 <= one["mean_auroc"] <= 1
        assert one["train_seconds_a_group"] > 0
    assert np.isfinite([point["seconds_a_model"] for point in found["curve"]]).all()

"""What the comparison of the digit experiments says follows from the runs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import published


def test_the_nearest_run_is_judged_by_its_worse_half() -> None:
    rates = {"normal": np.array([0.99, 0.98]), "anomalous": np.array([0.80, 0.88])}
    assert published.nearest(rates, (0.985, 0.90)) == (
        "best run: 98.00 / 88.00 % misses the published 98.50 / 90.00 % by 0.50 and 2.00 points"
    )
    # 1,120 of 1,135 are published as 98.68 %.
    rates = {"normal": np.array([1120 / 1135]), "anomalous": np.array([0.98])}
    assert "reaches" in published.nearest(rates, (0.9868, 0.97))


@pytest.mark.parametrize("middle", [np.mean, np.median])
def test_an_interval_holds_the_difference(middle) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(0)
    a, b = random.normal(1, 0.1, 30), random.normal(0, 0.1, 30)
    found, low, high = published.difference(a, b, middle)
    assert found == pytest.approx(middle(a) - middle(b))
    assert low < 1 < high
    assert high - low < 0.3

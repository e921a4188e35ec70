"""Thresholds against NumPy, their rules, and what they refuse."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aejax import MeanStd, Quantile
from aejax.config import InputError
from aejax.detection.threshold import Threshold, fit_threshold

SCORES = np.random.default_rng(0).gamma(2, size=501).astype(np.float32)


@given(st.floats(0, 1, exclude_min=True), st.integers(1, 501))
def test_quantile_is_numpys(q: float, n: int) -> None:
    found = fit_threshold(Quantile(q=q), SCORES[:n])
    scores = SCORES[:n].astype(np.float64)
    assert found == Threshold(
        value=float(np.quantile(scores, q)),
        rule=Quantile(q=q),
        rows=n,
        deciles=tuple(float(np.quantile(scores, share / 10)) for share in range(1, 10)),
        above=int((scores > np.quantile(scores, q)).sum()),
    )


@given(st.floats(0, 10), st.integers(1, 501))
def test_mean_std_is_numpys(k: float, n: int) -> None:
    scores = SCORES[:n].astype(np.float64)
    found = fit_threshold(MeanStd(k=k), SCORES[:n])
    assert found.value == pytest.approx(np.mean(scores) + k * np.std(scores), rel=1e-12)
    assert found.rows == n


def test_large_scores_lose_no_digits() -> None:
    scores = (np.arange(4) + 2**23).astype(np.float32)
    assert fit_threshold(MeanStd(k=1.0), scores).value == pytest.approx(
        2**23 + 1.5 + np.sqrt(1.25), rel=1e-12
    )


def test_share_above_the_quantile_is_what_was_asked_for() -> None:
    found = fit_threshold(Quantile(q=0.9), SCORES)
    assert found.flags(SCORES).mean() == pytest.approx(0.1, abs=0.002)


def test_a_score_at_the_threshold_is_not_flagged() -> None:
    highest = fit_threshold(Quantile(q=1.0), SCORES)
    assert not highest.flags(SCORES).any()
    assert highest.flags(np.nextafter(SCORES.max(), np.float32(9))[None]).all()
    threshold = Threshold(value=1.0, rule=Quantile(), rows=1)
    assert threshold.flags(np.float32([0.5, 1.0, 1.5])).tolist() == [False, False, True]


def test_nan_is_not_flagged_and_shapes_are_kept() -> None:
    threshold = Threshold(value=1.0, rule=Quantile(), rows=1)
    assert threshold.flags(np.float32([[np.nan, 2.0]])).tolist() == [[False, True]]
    assert threshold.flags(np.zeros((0,), np.float32)).shape == (0,)


def test_no_scores_are_refused() -> None:
    with pytest.raises(InputError, match="calibration scores: found 0; allowed: at least 1"):
        fit_threshold(Quantile(), np.zeros(0))


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
def test_a_wild_score_is_named(wild: float) -> None:
    scores = SCORES.copy()
    scores[17] = wild
    with pytest.raises(InputError, match=rf"calibration scores: row 17 is {wild}; allowed: finite"):
        fit_threshold(MeanStd(), scores)


@given(
    st.floats(-1e30, 1e30),
    st.builds(MeanStd, k=st.floats(0, 9)) | st.builds(Quantile, q=st.floats(0.01, 1)),
)
def test_json_gives_the_same_threshold_back(value: float, rule: Any) -> None:
    threshold = Threshold(value=value, rule=rule, rows=3)
    assert Threshold.from_dict(json.loads(json.dumps(threshold.to_dict()))) == threshold


GOOD = Threshold(value=1.0, rule=Quantile(), rows=1).to_dict()


@pytest.mark.parametrize(
    "written",
    [
        {},
        [],
        3,
        {**GOOD, "value": "high"},
        {**GOOD, "value": None},
        {**GOOD, "value": float("nan")},
        {**GOOD, "value": float("inf")},
        {**GOOD, "rows": None},
        {**GOOD, "rule": None},
        {**GOOD, "rule": {"kind_name": "guess"}},
        {**GOOD, "rule": {"kind_name": ["quantile"]}},
        {**GOOD, "rule": {"kind_name": "quantile", "q": 2}},
        {**GOOD, "rule": {"kind_name": "quantile", "k": 2}},
    ],
)
def test_what_is_no_threshold_is_refused(written: Any) -> None:
    with pytest.raises(InputError):
        Threshold.from_dict(written)

"""The rules Contamination and BestF1, labels, named thresholds, and rates on real scores."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

import aejax
from aejax import BestF1, Conformal, Contamination, PeaksOverThreshold, Quantile
from aejax.config import InputError, Rule
from aejax.detection.detector import Detector
from aejax.detection.threshold import Threshold, fit_threshold
from tests.plain import plain_config


@given(st.integers(0, 99), st.integers(1, 300))
def test_contamination_flags_exact_counts(percent: int, n: int) -> None:
    scores = np.random.default_rng(n).permutation(n) * 0.1
    found = fit_threshold(Contamination(rate=percent / 100), scores)
    assert found.flags(scores).sum() == ceil(Fraction(percent, 100) * (n - 1))
    assert found.value == pytest.approx(np.percentile(scores, 100 - percent), abs=1e-9)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1))
def test_a_contamination_of_0_flags_nothing(values: list[float]) -> None:
    assert not fit_threshold(Contamination(rate=0.0), values).flags(np.float32(values)).any()


LABELLED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(LABELLED)
def test_best_f1_is_the_best_of_all(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    labels = np.array([label for _, label in rows])
    every_cut = [scores > cut for cut in (-np.inf, *scores)]
    best = max(f1_score(labels, flags, zero_division=0) for flags in every_cut)
    found = fit_threshold(BestF1(), scores, labels)
    assert f1_score(labels, found.flags(scores)) == pytest.approx(best, abs=1e-12)


def test_best_f1_lies_halfway_between_scores() -> None:
    assert fit_threshold(BestF1(), [1.0, 2.0, 4.0, 5.0], [0, 0, 1, 1]).value == 3.0
    neighbours = np.nextafter(np.float32(1), np.float32([0, 1, 2]))
    found = fit_threshold(BestF1(), neighbours, [0, 0, 1])
    assert found.flags(neighbours).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("rule", "labels", "message"),
    [
        (BestF1(), None, "rule is 'best-f1' but there are no labels"),
        (BestF1(), [0, 0], "is_anomaly holds 0 only; allowed: both classes"),
        (BestF1(), [1, 1], "is_anomaly holds 1 only; allowed: both classes"),
        (BestF1(), [0, 2], r"is_anomaly has 2 values, \[0 2\]; allowed: 2 values, each 0 or 1"),
        (BestF1(), [0, 1, 1], "is_anomaly has 3 values, .* allowed: 2 values"),
        (Quantile(q=0.5), [0, 1], r"is_anomaly is given but the rule is 'quantile:0\.5'"),
    ],
)
def test_labels_that_do_not_fit_are_named(rule: Rule, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_threshold(rule, [1.0, 2.0], labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rule",
    [Contamination(rate=0.0), PeaksOverThreshold(risk=1e-4, level=0.9), Conformal(), BestF1()],
)
def test_json_gives_every_rule_back(rule: Rule) -> None:
    scores = np.random.default_rng(0).normal(size=500)
    labels = scores > 2 if isinstance(rule, BestF1) else None
    threshold = fit_threshold(rule, scores, labels)
    assert Threshold.from_dict(json.loads(json.dumps(threshold.to_dict()))) == threshold


def test_a_threshold_written_by_the_first_release_is_read() -> None:
    written = {"value": 0.5, "rule": {"kind_name": "mean-std", "k": 3.0}, "rows": 9}
    threshold = Threshold.from_dict(written)
    assert threshold == Threshold(value=0.5, rule=aejax.MeanStd(k=3.0), rows=9)
    assert threshold.to_dict() == written


CONFIG = plain_config(model=aejax.Dense(hidden=(3,)), train=aejax.Train(epochs=1))


def rows(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return aejax.fit(CONFIG, rows())


def test_a_detector_keeps_thresholds_by_name(detector: Detector, tmp_path: Path) -> None:
    found = (
        detector.calibrate(rows(), rule=Conformal(alpha=0.05), name="night")
        .calibrate(rows(), rule=Quantile(q=0.9), name="day")
        .calibrate(rows(), rule=Quantile(q=0.5))
    )
    assert list(found.thresholds) == ["night", "day"]
    assert found.predict(rows()).sum() == 100
    assert found.use("day").predict(rows()).sum() == 20
    found.use("night").save(tmp_path)
    loaded = aejax.load(tmp_path)
    assert loaded.thresholds == found.thresholds
    assert loaded.threshold == found.thresholds["night"]
    np.testing.assert_array_equal(loaded.p_values(rows()), found.use("night").p_values(rows()))
    with pytest.raises(InputError, match=r"threshold is 'nigth'; did you mean 'night'\?"):
        found.use("nigth")


def test_a_detectors_p_values_and_discoveries(detector: Detector) -> None:
    found = detector.calibrate(rows(999, seed=1), rule=Conformal(alpha=0.01))
    assert found.threshold is not None
    x = rows(300, seed=2)
    x[:30] *= 50
    p_values = found.p_values(x)
    np.testing.assert_array_equal(found.predict(x), p_values <= 0.01)
    flagged = found.discoveries(x, rate=0.1)
    np.testing.assert_array_equal(flagged, stats.false_discovery_control(p_values) <= 0.1)
    assert flagged[:30].mean() > 0.8


def test_best_f1_calibrates_a_detector(detector: Detector) -> None:
    x = rows(100, seed=3)
    labels = np.arange(100) < 10
    x[:10] *= 50
    found = detector.calibrate(x, rule=BestF1(), is_anomaly=labels)
    assert f1_score(labels, found.predict(x)) > 0.8


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (BestF1(), "rule is 'best-f1' but there are no labels"),
        (Conformal(alpha=0.01), r"found 20; allowed: at least 99 for rule conformal:0\.01"),
    ],
)
def test_a_rule_that_cannot_be_fitted_is_refused_before_training(
    rule: Rule, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aejax.detection.fit_one.train", None)
    with pytest.raises(InputError, match=message):
        aejax.fit(dataclasses.replace(CONFIG, rule=rule), rows())


@pytest.fixture(scope="module")
def ecg_scores(data_dir: Path) -> np.ndarray:
    """Scores of 1,919 normal heartbeats by a model trained on the 1,000 others."""
    x = np.loadtxt(data_dir / "ecg5000" / "ecg.csv", delimiter=",", dtype=np.float32)
    normal = np.random.default_rng(0).permutation(x[x[:, -1] == 1][:, :-1])
    config = plain_config(model=aejax.Dense(hidden=(16,)), train=aejax.Train(epochs=20))
    return aejax.fit(config, normal[:1000]).score(normal[1000:])


@pytest.mark.parametrize("alpha", [0.02, 0.1])
def test_conformal_keeps_its_promise_on_real_scores(ecg_scores: np.ndarray, alpha: float) -> None:
    random, shares = np.random.default_rng(1), []
    for _ in range(200):
        shuffled = random.permutation(ecg_scores)
        threshold = fit_threshold(Conformal(alpha=alpha), shuffled[:919])
        shares.append(threshold.flags(shuffled[919:]).mean())
    # Each share is a mean over 1,000 rows and over its calibration set (Vovk 2012).
    deviation = np.sqrt(alpha * (1 - alpha) * (1 / 1000 + 1 / 920) / len(shares))
    assert np.mean(shares) <= alpha + 3 * deviation
    assert np.mean(shares) >= alpha - 1 / 920 - 3 * deviation


@pytest.mark.parametrize("risk", [0.005, 0.01])
def test_peaks_over_threshold_on_real_scores(ecg_scores: np.ndarray, risk: float) -> None:
    random, shares = np.random.default_rng(2), []
    for _ in range(100):
        shuffled = random.permutation(ecg_scores)
        threshold = fit_threshold(PeaksOverThreshold(risk=risk, level=0.95), shuffled[:919])
        shares.append(threshold.flags(shuffled[919:]).mean())
    assert risk / 2 < np.mean(shares) < risk * 2

"""Thresholds in one pass: as in memory where scores fit, and as promised where they don't."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from aejax import BestF1, Conformal, Contamination, MeanStd, PeaksOverThreshold, Quantile
from aejax.config import InputError, Rule
from aejax.detection.threshold import fit_threshold, fit_threshold_streaming

SCORES = np.random.default_rng(0).gamma(2, size=200_000).astype(np.float32)
RULES = [
    MeanStd(k=3.0),
    Quantile(q=0.9),
    Quantile(q=1.0),
    Quantile(q=0.01),
    Contamination(rate=0.05),
    Contamination(rate=0.0),
    PeaksOverThreshold(risk=1e-3),
    Conformal(alpha=0.02),
]


def blocks(scores: np.ndarray, size: int = 700) -> Iterator[np.ndarray]:
    for first in range(0, len(scores), size):
        yield scores[first : first + size]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_fits_in_memory_is_exact(rule: Rule) -> None:
    scores = SCORES[:5000]
    found = fit_threshold_streaming(rule, blocks(scores), kept_scores=5000)
    expected = fit_threshold(rule, scores)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert (found.rule, found.rows) == (expected.rule, expected.rows)
    assert found.calibration == expected.calibration


@pytest.mark.parametrize(
    "rule",
    [
        MeanStd(k=3.0),
        Quantile(q=0.995),
        Quantile(q=1.0),
        Contamination(rate=0.001),
        Contamination(rate=0.0),
        PeaksOverThreshold(risk=1e-4, level=0.995),
    ],
    ids=str,
)
def test_what_the_largest_scores_decide_is_exact(rule: Rule) -> None:
    found = fit_threshold_streaming(rule, blocks(SCORES), kept_scores=2000)
    assert found.value == pytest.approx(fit_threshold(rule, SCORES).value, rel=1e-12)
    assert found.rows == len(SCORES)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.02])
def test_other_quantiles_keep_the_stated_error(share: float) -> None:
    for rule in (Quantile(q=1 - share), Contamination(rate=share)):
        found = fit_threshold_streaming(rule, blocks(SCORES, 10_000), kept_scores=2000)
        assert found.flags(SCORES).mean() == pytest.approx(share, rel=0.008)


def test_peaks_beyond_what_is_kept_raise_the_level() -> None:
    rule = PeaksOverThreshold(risk=1e-4, level=0.9)
    found = fit_threshold_streaming(rule, blocks(SCORES), kept_scores=2000)
    assert 0.5 < stats.gamma(2).sf(found.value) / rule.risk < 2


def test_conformal_keeps_its_promise_on_a_sample() -> None:
    """New scores against a sample of each stream: alarms are binomial."""
    random = np.random.default_rng(1)
    alarms, seeds = 0, 1000
    for seed in range(seeds):
        scores = random.normal(size=301)
        found = fit_threshold_streaming(
            Conformal(alpha=0.05), blocks(scores[1:], 50), kept_scores=99, seed=seed
        )
        assert found.calibration is not None
        assert (found.rows, found.calibration.rows) == (300, 99)
        alarms += int(found.flags(scores[:1])[0])
    assert stats.binom.ppf(0.0001, seeds, 0.05) <= alarms <= stats.binom.ppf(0.9999, seeds, 0.05)


def test_the_sample_is_uniform() -> None:
    counts = np.zeros(60)
    for seed in range(400):
        found = fit_threshold_streaming(
            Conformal(alpha=0.5), blocks(np.arange(60.0), 7), kept_scores=20, seed=seed
        )
        assert found.calibration is not None
        counts[np.int64(found.calibration.scores)] += 1
    assert counts.sum() == 400 * 20
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_no_scores_are_refused(rule: Rule) -> None:
    with pytest.raises(InputError, match="calibration scores: found 0; allowed: at least"):
        fit_threshold_streaming(rule, [])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_wild_score_is_named_by_its_place_in_the_stream(rule: Rule) -> None:
    scores = SCORES[:2000].copy()
    scores[1234] = np.nan
    with pytest.raises(InputError, match="calibration scores: row 1234 is nan; allowed: finite"):
        fit_threshold_streaming(rule, blocks(scores))


def test_labels_cannot_stream() -> None:
    with pytest.raises(InputError, match="rule is 'best-f1' but there are no labels"):
        fit_threshold_streaming(BestF1(), [])

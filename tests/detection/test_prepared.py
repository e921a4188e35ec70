"""A prepared scorer gives the detector's scores and makes nothing anew from call to call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import aejax
from aejax.config import InputError
from aejax.core import steps
from tests.plain import plain_config

QUICK = plain_config(model=aejax.Dense(hidden=(4,)), train=aejax.Train(epochs=1))
X = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)


def single() -> tuple[aejax.Detector, np.ndarray]:
    return aejax.fit(QUICK, X), X


def vote() -> tuple[aejax.Detector, np.ndarray]:
    return aejax.fit(QUICK, X, members=3), X


def far_away() -> tuple[aejax.Detector, np.ndarray]:
    # Seconds since 1970: float32 holds none of their digits.
    x = X.astype(np.float64) + 1.7e9
    return aejax.fit(QUICK, x), x


def pictures() -> tuple[aejax.Detector, np.ndarray]:
    x = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
    config = plain_config(model=aejax.Dense(hidden=(4,)), train=aejax.Train(epochs=1))
    return aejax.fit(config, x), x


@pytest.mark.parametrize("make", [single, vote, far_away, pictures])
def test_it_gives_the_detectors_scores(
    make: Callable[[], tuple[aejax.Detector, np.ndarray]],
) -> None:
    detector, x = make()
    score = detector.scorer()
    one_by_one = np.concatenate([score(x[at : at + 1]) for at in range(20)])
    assert one_by_one.dtype == np.float32
    np.testing.assert_allclose(one_by_one, detector.score(x[:20]), rtol=1e-5)
    five = detector.scorer(batch=5)
    np.testing.assert_allclose(five(x[:5]), one_by_one[:5], rtol=1e-5)


def test_calls_trace_nothing_and_threads_may_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, x = single()
    score = detector.scorer()
    monkeypatch.setattr(steps.Compiled, "__call__", None)
    monkeypatch.setattr(steps.Compiled, "on", None)
    monkeypatch.setattr(steps.compiled_score, "_function", None)
    started = threading.Barrier(4)

    def some(first: int) -> list[np.ndarray]:
        started.wait()
        with jax.transfer_guard("disallow"):
            return [score(x[at : at + 1]) for at in range(first, 80, 4)]

    with ThreadPoolExecutor(4) as threads:
        each = list(threads.map(some, range(4)))
    monkeypatch.undo()
    expected = detector.score(x[:80])
    for first, scores in enumerate(each):
        np.testing.assert_allclose(np.concatenate(scores), expected[first::4], rtol=1e-5)


def test_what_it_does_not_take_is_refused() -> None:
    detector, x = single()
    score = detector.scorer()
    for rows in (x[:2], x[:1, :5], x[0], x[:1].astype(np.float64)):
        with pytest.raises(InputError, match=r"rows are float.*allowed: float32\[1, 6\]"):
            score(rows)
    with pytest.raises(InputError, match="batch is 0; allowed: at least 1"):
        detector.scorer(batch=0)
    groups = aejax.fit(QUICK, x, groups=np.arange(90) % 2)
    with pytest.raises(InputError, match=r"one of groups; allowed: .*member\(NAME\)\.scorer"):
        groups.scorer()
    assert groups.member("1").scorer()(x[:1]) == pytest.approx(
        groups.score(x[:1], groups=[1]), rel=1e-5
    )

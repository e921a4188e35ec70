"""What is measured of promises, and the prototype's thresholds where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import aejax
from aejax.config import write_config
from benchmarks import promises


@pytest.mark.parametrize("law", [stats.chi2(4), stats.expon(), stats.lognorm(0.7), stats.uniform()])
@pytest.mark.parametrize("rows", [75, 300, 3000])
@pytest.mark.parametrize("rate", promises.RATES)
def test_a_threshold_is_passed_as_often_as_promised(law: object, rows: int, rate: float) -> None:
    random = np.random.default_rng(0)
    passed = [law.sf(promises.beyond(law.rvs(rows, random_state=random), rate)) for _ in range(400)]
    assert 0.9 * rate < np.mean(passed) < 1.7 * rate
    if rate * rows >= promises.ENOUGH:
        assert np.mean([rate / 2 < one < rate * 2 for one in passed]) > 0.9


def test_ties_are_no_tail() -> None:
    scores = np.repeat([0.0, 1.0], [90, 10])
    # A tenth of the rows have the largest score: none of them may be flagged at 1 %.
    assert 1 <= promises.beyond(scores, 0.01) < 1.1
    assert promises.beyond(np.ones(50), 0.01) == 1


def test_promises_are_compared_with_what_is_flagged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(1).normal(size=(820, 3)) @ np.ones((3, 3))
    np.savez(tmp_path / "made.npz", X=x, y=np.repeat([0, 1], [800, 20]))
    train = aejax.Train(epochs=40, learning_rate=3e-3)
    write_config(aejax.Config(model=aejax.Dense(hidden=(4,)), train=train), tmp_path / "c.json")
    promises.main(
        [
            *("--folder", str(tmp_path), "--config", str(tmp_path / "c.json")),
            *("--json", str(tmp_path / "kept.json")),
        ]
    )
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert [line["threshold"] for line in kept["lines"]] == ["fit"] * 2 + ["cross-fitted"] * 2
    for line in kept["lines"]:
        assert (line["train_rows"], line["test_rows"]) == (400, 400)
        assert line["low"] <= line["flagged"] <= line["high"]
    # Of 400 rows 4 flags are expected at 1 %: too few to tell.
    assert [one["promised"] for one in kept["summary"]] == [0.05, 0.05]
    flagged = kept["lines"][3]["flagged"]
    assert kept["summary"][1]["mean"] == pytest.approx(flagged)
    assert 0.02 < flagged < 0.1
    assert "| cross-fitted | 5% | 1 |" in capsys.readouterr().out

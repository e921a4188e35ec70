"""What is measured of promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import aejax
from aejax.config import write_config
from benchmarks import promises


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
    assert [line["threshold"] for line in kept["lines"]] == ["held-out"] * 2 + ["auto"] * 2
    for line in kept["lines"]:
        assert (line["train_rows"], line["test_rows"]) == (400, 400)
        assert line["low"] <= line["flagged"] <= line["high"]
    # Of 400 rows 4 flags are expected at 1 %: too few to tell.
    assert [one["promised"] for one in kept["summary"]] == [0.05, 0.05]
    flagged = kept["lines"][3]["flagged"]
    assert kept["summary"][1]["mean"] == pytest.approx(flagged)
    assert 0.02 < flagged < 0.1
    assert "| auto | 5% | 1 |" in capsys.readouterr().out

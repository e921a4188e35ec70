"""The worked numbers follow from the folder that they are worked out from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aejax
from benchmarks import scale
from tests.plain import plain_config


def test_numbers_follow_from_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "LINES", 50)
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    config = plain_config(model=aejax.Dense(hidden=(2,)), train=aejax.Train(epochs=1))
    np.save(tmp_path / "x.npy", x)
    aejax.score_files(aejax.fit(config, x), tmp_path / "x.npy", tmp_path / "s", part_rows=250)
    assert (
        scale.main([str(tmp_path / "s"), "--rows", "1e6", "--nodes", "10", "--part-rows", "250"])
        == 0
    )
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    found = {name: float(value.replace(",", "")) for name, value in printed.items()}
    size = sum(part.stat().st_size for part in (tmp_path / "s").glob("part-*"))
    assert found["bytes_per_row"] == pytest.approx(size / 1000, rel=1e-3)
    assert found["parts"] == 1e6 / 250
    journal = (tmp_path / "s" / "_parts.jsonl").stat().st_size
    assert found["journal_megabytes"] == pytest.approx(journal / 4 * 4000 / 1e6, rel=1e-3)
    assert found["scoring_hours"] == pytest.approx(1e6 / (1e6 * 10) / 3600, rel=1e-3)
    assert found["scores_terabytes"] == pytest.approx(size / 1000 * 1e6 / 1e12, rel=1e-3)

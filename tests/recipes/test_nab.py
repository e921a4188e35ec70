"""The series of a machine, as the recipe runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aejax import recipes
from aejax.config import InputError
from aejax.data.datasets import load_nab
from aejax.recipes.nab_machine_temperature import FILE, WEEK
from aejax.recipes.runner import run_recipe


def test_the_machine_is_read_and_reported(data_dir: Path, tmp_path: Path) -> None:
    raw = np.genfromtxt(
        data_dir / "nab" / FILE, delimiter=",", skip_header=1, usecols=1, dtype=np.float64
    )
    nab = load_nab(FILE)
    np.testing.assert_array_equal(nab.values, raw)
    # Four windows of 567 points each, none of them in the first week.
    assert nab.is_anomaly.sum() == 4 * 567
    assert not nab.is_anomaly[:WEEK].any()
    result = run_recipe(recipes.find("nab_machine_temperature"), tmp_path / "run", quick=True)
    assert result["metrics"]["rows"] == 2 * WEEK
    assert result["measured"]["stretches"] == 2
    page = Path(result["report"]).read_text()
    assert "Scores over time" in page
    assert "temperature[-" in page


def test_what_is_not_the_benchmarks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEJAX_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"can't be read .*; see https://github.com/numenta/NAB"):
        load_nab(FILE)
    monkeypatch.delenv("AEJAX_DATA_DIR")
    with pytest.raises(InputError, match="AEJAX_DATA_DIR is not set"):
        load_nab(FILE)

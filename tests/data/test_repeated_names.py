"""Two columns of one name: nothing tells which is meant, so they are refused before anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

import aejax
from aejax.config import Columns, Config, Dense, InputError, Train
from aejax.estimator import AutoEncoder, PyODAutoEncoder
from tests.plain import plain_config

X = np.random.default_rng(0).normal(size=(60, 4))
NUMBERS = plain_config(model=Dense(hidden=(3,)), train=Train(epochs=1, batch_size=16))
MIXED = dataclasses.replace(NUMBERS, columns=Columns(kinds="mixed"))
GROUPS = np.arange(len(X)) % 2
TWICE = "more than one column 'a'; allowed: each name once"


def frame(*names: Any) -> pd.DataFrame:
    return pd.DataFrame(X[:, np.arange(len(names)) % 4], columns=list(names))


def arrow(*names: str) -> pa.Table:
    return pa.table([pa.array(X[:, at % 4]) for at in range(len(names))], names=list(names))


FITS: list[Callable[[Any], Any]] = [
    lambda x: aejax.fit(NUMBERS, x),
    lambda x: aejax.fit(MIXED, x),
    lambda x: aejax.fit(NUMBERS, x, members=2),
    lambda x: aejax.fit_population([NUMBERS], x),
    lambda x: aejax.fit(NUMBERS, x, groups=GROUPS),
    lambda x: AutoEncoder(steps=2).fit(x),
    lambda x: AutoEncoder(steps=2, columns="mixed").fit(x),
    lambda x: PyODAutoEncoder(steps=2).fit(x),
]


@pytest.mark.parametrize("fit", FITS)
def test_training_refuses_them(fit: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError, match=TWICE):
        fit(frame("a", "b", "a", "c"))


def test_names_that_are_one_as_text_are_one_name() -> None:
    """What was scored would be the first of the two, twice."""
    for config in (NUMBERS, MIXED):
        with pytest.raises(InputError, match="more than one column '1'"):
            aejax.fit(config, frame(1, "1", 2, 3))


@pytest.mark.parametrize("config", [NUMBERS, MIXED], ids=["numbers", "mixed"])
def test_scoring_refuses_them_where_they_matter(config: Config, tmp_path: Path) -> None:
    detector = aejax.fit(config, frame("a", "b", "c"))
    wanted = detector.score(frame("a", "b", "c"))
    tables = [frame] if config is NUMBERS else [frame, arrow]
    for table in tables:
        for call in (detector.score, detector.predict, detector.explain):
            with pytest.raises(InputError, match=TWICE):
                call(table("a", "b", "c", "a"))
        # Of columns that the detector doesn't know, any may be there twice.
        found = detector.score(table("a", "b", "c", "z", "z"))
        np.testing.assert_array_equal(found, wanted)
        assert len(detector.explain(table("a", "b", "c", "z", "z"))) == len(X)


@pytest.mark.parametrize("config", [NUMBERS, MIXED], ids=["numbers", "mixed"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_with_them_are_refused(config: Config, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"twice.{suffix}"
    if suffix == "csv":
        frame("a", "b", "a", "c").to_csv(path, index=False)
    else:
        pyarrow.parquet.write_table(arrow("a", "b", "a", "c"), path)
    with pytest.raises(InputError, match=TWICE):
        aejax.fit(config, path)
    detector = aejax.fit(config, frame("a", "b"))
    with pytest.raises(InputError, match=TWICE):
        aejax.score_files(detector, path, tmp_path / "scores")
    assert not (tmp_path / "scores" / "_SUCCESS").exists()


def test_a_schema_has_each_name_once() -> None:
    with pytest.raises(InputError, match=TWICE):
        aejax.Schema(shape=(2,), names=("a", "a"))
    # A part of a date, and a column that is called so.
    dates = pd.date_range("2026-01-01", periods=60, freq="7h")
    with pytest.raises(InputError, match=r"more than one column 'when\.hour'"):
        aejax.fit(MIXED, pd.DataFrame({"when": dates, "when.hour": X[:, 0]}))

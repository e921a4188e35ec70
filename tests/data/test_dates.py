"""Dates that are text are those that pandas writes, whatever order they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from aejax.config import Columns, Dialect, InputError
from aejax.data import frames
from aejax.data.files import open_rows, read
from aejax.data.inference import infer_schema_of_files
from aejax.data.rows import Selection

MIXED = Columns(kinds="mixed")
RANDOM = np.random.default_rng(1)
WHEN = pd.Series(
    pd.Timestamp("2023-01-01") + pd.to_timedelta(RANDOM.integers(0, 700 * 1440, 400), unit="min")
)
LOAD = RANDOM.normal(size=400)
PARTS = np.stack([WHEN.dt.hour + WHEN.dt.minute / 60, WHEN.dt.day_of_week, WHEN.dt.month], axis=1)
FORMATS = {
    "%Y-%m-%d %H:%M:%S": "",
    "%Y-%m-%dT%H:%M:%S.%f": "",
    "%Y-%m-%dT%H:%MZ": "",
    "%Y/%m/%d %H:%M": "",
    "%d/%m/%Y %H:%M": "day",
    "%m/%d/%Y %H:%M:%S": "month",
    "%m/%d/%y %I:%M %p": "month",
    "%d.%m.%Y %H:%M": "day",
    "%d-%m-%Y %H:%M": "day",
    "%d-%b-%Y %H:%M": "",
}


def table(form: str, when: pd.Series = WHEN) -> pd.DataFrame:
    return pd.DataFrame({"when": when.dt.strftime(form), "load": LOAD[: len(when)]})


@pytest.mark.parametrize("form", FORMATS)
def test_dates_as_text(form: str, tmp_path: Path) -> None:
    made = table(form)
    made.to_csv(tmp_path / "rows.csv", index=False)
    made.to_parquet(tmp_path / "rows.parquet")
    schema = frames.schema_of_frame(made, MIXED)
    assert schema is not None
    names = ("when.hour", "when.weekday", "when.month", "load")
    assert schema.names == names
    assert {column.order for column in (schema.columns or ())[:3]} == {FORMATS[form]}
    for frame in (made, pl.from_pandas(made)):
        np.testing.assert_allclose(frames.rows_of_frame(frame, schema)[:, :3], PARTS, rtol=1e-6)
    for kind in ("csv", "parquet"):
        path = tmp_path / f"rows.{kind}"
        assert infer_schema_of_files(path, Selection(), MIXED) == schema
        np.testing.assert_allclose(read(path, expected=schema)[0][:, :3], PARTS, rtol=1e-6)


@pytest.mark.parametrize("day_first", [True, False])
def test_an_order_that_nothing_tells_is_asked_for(day_first: bool, tmp_path: Path) -> None:
    few = WHEN[WHEN.dt.day <= 12].reset_index(drop=True)
    made = table("%d/%m/%Y %H:%M" if day_first else "%m/%d/%Y %H:%M", few)
    made.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InputError, match="whether the day or the month comes first"):
        frames.schema_of_frame(made, MIXED)
    chosen = Selection(dialect=Dialect(day_first=day_first))
    schema = infer_schema_of_files(tmp_path / "rows.csv", chosen, MIXED)
    assert schema is not None
    x, _, _ = read(tmp_path / "rows.csv", expected=schema)
    at = schema.names.index("when.hour") if schema.names else 0
    np.testing.assert_allclose(x[:, at], few.dt.hour + few.dt.minute / 60, rtol=1e-6)
    column = (schema.columns or ())[at]
    assert column.order == ("day" if day_first else "month")


def test_training_decides_the_order_and_other_cells_are_bad(tmp_path: Path) -> None:
    schema = frames.schema_of_frame(table("%d/%m/%Y"), MIXED)
    today = pd.DataFrame({"when": ["03/04/2026", "12/25/2026", "?"], "load": 1.0})
    today.to_csv(tmp_path / "today.csv", index=False)
    (block,) = open_rows(tmp_path / "today.csv", Selection(bad_cells="null"), schema).blocks(9)
    assert dict(block.bad) == {1: "when is '12/25/2026', not a date, the day first"}
    month = schema.names.index("when.month") if schema and schema.names else 0
    np.testing.assert_array_equal(block.x[:, month], [4, np.nan, np.nan])


@pytest.mark.parametrize("words", [["3/4", "1/2"], ["20200101", "20200202"], ["1.2.3", "4.5.6"]])
def test_what_only_looks_like_dates(words: list[str]) -> None:
    made = pd.DataFrame({"code": words * 40, "load": LOAD[:80]})
    schema = frames.schema_of_frame(made, MIXED)
    assert schema is not None
    assert [column.kind for column in schema.columns or ()] == ["category", "number"]

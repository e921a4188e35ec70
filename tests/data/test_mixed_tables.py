"""What a mixed table's columns are taken for, and its cells as numbers: against pandas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aejax
from aejax.config import Columns, Config, Dense, InputError, NoiseConditioned
from aejax.data import files, frames
from aejax.data.columns import Column
from aejax.data.inference import infer_schema_of_files
from aejax.data.rows import Selection
from aejax.data.schema import Schema

MIXED = Columns(kinds="mixed", indicator=True)


def table(rows: int = 500, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "country": random.choice(["FR", "DE", "US"], rows, p=[0.5, 0.3, 0.2]),
            "amount": random.normal(100, 15, rows).round(3),
            "member": (random.random(rows) < 0.5).astype(object),
            "when": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(random.integers(0, 360 * 86_400, rows), unit="s"),
            "version": 3,
            "id": [f"row-{i}" for i in range(rows)],
        }
    )
    for name in ("country", "amount", "member", "when"):
        made.loc[random.random(rows) < 0.2, name] = None
    return made


def written(made: pd.DataFrame, folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    made.to_csv(path, index=False) if kind == "csv" else made.to_parquet(path, index=False)
    return path


def expected_cells(made: pd.DataFrame) -> np.ndarray:
    when = made["when"].dt
    columns = [
        made["country"].map({"FR": 0, "DE": 1, "US": 2}),
        made["amount"],
        made["member"].map({True: 1, False: 0}),
        when.hour + when.minute / 60,
        when.day_of_week,
        when.month,
    ]
    return np.stack([column.to_numpy(np.float64, na_value=np.nan) for column in columns], axis=1)


def test_every_format_and_frame_gives_the_same_schema_and_cells(tmp_path: Path) -> None:
    made = table()
    schema = frames.schema_of_frame(made, MIXED)
    assert [(column.name, column.kind) for column in schema.columns or ()] == [
        ("country", "category"),
        ("amount", "number"),
        ("member", "boolean"),
        ("when.hour", "cycle"),
        ("when.weekday", "cycle"),
        ("when.month", "cycle"),
    ]
    assert dict(schema.dropped) == {
        "version": "always 3",
        "id": "text that names rows: 500 values in 500 rows",
    }
    assert Schema.from_dict(schema.to_dict()) == schema
    wanted = expected_cells(made)
    for frame in (made, pl.from_pandas(made), pa.Table.from_pandas(made)):
        assert frames.schema_of_frame(frame, MIXED) == schema
        np.testing.assert_allclose(frames.rows_of_frame(frame, schema), wanted, rtol=1e-6)
    for kind in ("csv", "parquet"):
        path = written(made, tmp_path, kind)
        assert infer_schema_of_files(path, Selection(), MIXED) == schema
        x, _, _ = files.read(path, expected=schema)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, wanted, rtol=1e-6)


def test_columns_are_found_by_name_and_others_are_passed_over(tmp_path: Path) -> None:
    made = table()
    schema = frames.schema_of_frame(made, MIXED)
    other = made.drop(columns=["version", "id"])[["when", "member", "amount", "country"]]
    other["new"] = "anything"
    for kind in ("csv", "parquet"):
        x, _, _ = files.read(written(other, tmp_path, kind), expected=schema)
        np.testing.assert_allclose(x, expected_cells(made), rtol=1e-6)
    with pytest.raises(InputError, match="lacks the column\\(s\\) 'country'"):
        files.open_rows(written(other.drop(columns="country"), tmp_path, "csv"), expected=schema)
    with pytest.raises(InputError, match="no column 'country'"):
        frames.rows_of_frame(other.drop(columns="country"), schema)


def test_anomalies_teach_no_categories(tmp_path: Path) -> None:
    made = table().drop(columns=["id", "version"])
    made["label"] = 0
    made.loc[:20, ["country", "label"]] = ["ZZ", 1]
    made.loc[:20, "amount"] = 1e9
    path = written(made, tmp_path, "csv")
    schema = infer_schema_of_files(path, Selection(label_column="label"), MIXED)
    assert schema.columns is not None
    assert schema.columns[0].categories == ("FR", "DE", "US")
    x, y, _ = files.read(path, Selection(label_column="label"), schema)
    assert y is not None
    assert (x[y == 1][:, 0] == 3).all()


def test_rare_values_are_one_value_together() -> None:
    words = [f"v{i}" for i in range(30) for _ in range(30 - i)]
    made = pd.DataFrame({"word": words, "n": range(len(words))})
    schema = frames.schema_of_frame(made, Columns(kinds="mixed", most_categories=4))
    assert schema.columns is not None
    word = schema.columns[0]
    assert (word.categories, word.rare) == (("v0", "v1", "v2", "v3"), 26)
    codes = frames.rows_of_frame(made, schema)[:, 0]
    assert (codes == [min(int(name[1:]), 4) for name in words]).all()
    assert word.text(4) == "a value rarely or never seen"


def test_numbers_that_are_names_are_categories_in_any_format(tmp_path: Path) -> None:
    made = table().drop(columns=["id"])
    made["shop"] = np.arange(len(made)) % 3 * 7
    made.loc[::5, "shop"] = np.nan
    whole = made.assign(shop=made["shop"].astype("Int64"))
    settings = Columns(kinds="mixed", categories=("shop",))
    schema = frames.schema_of_frame(made, settings)
    shop = (schema.columns or ())[-1]
    assert sorted(shop.categories) == ["0", "14", "7"]
    wanted = frames.rows_of_frame(made, schema)
    np.testing.assert_array_equal(np.isnan(wanted[:, -1]), made["shop"].isna())
    for path in (written(whole, tmp_path, "csv"), written(whole, tmp_path, "parquet")):
        assert infer_schema_of_files(path, Selection(), settings) == schema
        np.testing.assert_allclose(files.read(path, expected=schema)[0], wanted, rtol=1e-6)
    with pytest.raises(InputError, match="'shp'; did you mean 'shop'"):
        frames.schema_of_frame(made, Columns(kinds="mixed", categories=("shp",)))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_bad_cell_is_a_bad_row_and_a_missing_one_is_not(tmp_path: Path, kind: str) -> None:
    made = table().drop(columns=["id"]).astype({"amount": str, "when": str, "member": str})
    made = made.replace({"nan": None, "NaT": None, "None": None})
    made.loc[3, "amount"], made.loc[5, "when"], made.loc[7, "member"] = "oops", "soon", "maybe"
    made.loc[9, "country"] = "ZZ"
    schema = frames.schema_of_frame(table(), MIXED)
    path = written(made, tmp_path, kind)
    rows = files.open_rows(path, Selection(bad_cells="null"), schema)
    (block,) = rows.blocks(10_000)
    assert sorted(block.bad) == [3, 5, 7]
    assert "amount is 'oops', not a number" in block.bad[3]
    assert "when is 'soon', not a date" in block.bad[5]
    assert "member is 'maybe'" in block.bad[7]
    # Without what is the row's own.
    kinds = ["amount is not a number", "when is not a date", "member is not true or false"]
    assert [block.bad[row].kind for row in (3, 5, 7)] == kinds
    assert block.x[9, 0] == 3
    good = np.delete(np.arange(500), [3, 5, 7, 9])
    np.testing.assert_allclose(block.x[good], expected_cells(table())[good], rtol=1e-6)
    with pytest.raises(InputError, match="oops"):
        files.read(path, expected=schema)


def test_names_of_columns_may_hold_what_formats_do() -> None:
    made = table().rename(columns={"amount": "amount {} {0}"})
    schema = frames.schema_of_frame(made, MIXED)
    made = made.astype({"amount {} {0}": object})
    made["amount {} {0}"] = made["amount {} {0}"].astype(str)
    made.loc[41, "amount {} {0}"] = "12 EUR"
    with pytest.raises(InputError, match=r"row 41: amount \{\} \{0\} is '12 EUR', not a number"):
        frames.rows_of_frame(made, schema)


def test_a_bad_cell_of_a_frame_is_refused_by_row_and_column() -> None:
    schema = frames.schema_of_frame(table(), MIXED)
    made = table().astype({"amount": object})
    made["amount"] = made["amount"].map(lambda value: None if value != value else str(value))
    made.loc[41, "amount"] = "12 EUR"
    with pytest.raises(InputError, match="row 41: amount is '12 EUR', not a number"):
        frames.rows_of_frame(made, schema)


def test_a_table_in_which_nothing_varies_is_refused() -> None:
    made = pd.DataFrame({"a": [1.0] * 9, "b": ["x"] * 9, "c": [None] * 9})
    with pytest.raises(
        InputError, match=r"0 columns that vary .*a: always 1, b: always 'x', c: no"
    ):
        frames.schema_of_frame(made, MIXED)
    with pytest.raises(InputError, match="allowed with mixed columns: a data frame"):
        frames.schema_of_frame(np.ones((3, 2)), MIXED)


def test_dates_with_a_zone_have_the_hour_of_their_place() -> None:
    when = pd.Series(pd.date_range("2024-03-30", periods=60, freq="97min", tz="Europe/Berlin"))
    made = pd.DataFrame({"when": when})
    schema = frames.schema_of_frame(made, MIXED)
    found = frames.rows_of_frame(made, schema)[:, 0]
    np.testing.assert_allclose(found, when.dt.hour + when.dt.minute / 60, rtol=1e-6)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (Column(name="a", kind="number", source="a"), 1234.5678, "1234.57"),
        (Column(name="a", kind="boolean", source="a"), 0.4, "false"),
        (Column(name="a", kind="category", source="a", categories=("x", "y")), 1.0, "y"),
        (
            Column(name="a", kind="category", source="a", categories=("x",)),
            1.0,
            "a value never seen",
        ),
        (Column(name="a.hour", kind="cycle", source="a", part="hour"), 23.999, "00:00"),
        (Column(name="a.weekday", kind="cycle", source="a", part="weekday"), 6.2, "Sunday"),
        (Column(name="a.month", kind="cycle", source="a", part="month"), 0.1, "December"),
        (Column(name="a", kind="number", source="a"), math.nan, "missing"),
    ],
)
def test_cells_are_written_as_a_person_would(column: Column, value: float, text: str) -> None:
    assert column.text(value) == text


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "a"},
        {"name": "a", "source": "a", "kind": "text"},
        {"name": "a", "source": "a", "kind": "category"},
        {"name": "a", "source": "a", "kind": "cycle"},
        {"name": "a", "source": "a", "kind": "number", "part": "year"},
        {"name": "a", "source": "a", "kind": "number", "rare": -1},
        "a",
    ],
)
def test_what_is_no_column_is_refused(broken: object) -> None:
    written = frames.schema_of_frame(table(), MIXED).to_dict()
    with pytest.raises(InputError):
        Schema.from_dict({**written, "columns": [broken, *written["columns"][1:]]})


def test_without_mixed_columns_a_table_of_text_says_how(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"--drop-columns country when id, or aejax train --columns.kinds mixed"
    ):
        files.open_rows(written(table(), tmp_path, "csv"))


def test_mixed_columns_are_advised_where_the_network_is_nobodys_choice(tmp_path: Path) -> None:
    """The default network takes none, and makes way for one that does."""
    path = written(table(), tmp_path, "csv")
    own = Config(model=NoiseConditioned(network=Dense(hidden=(4,))))
    for config, advised in ((Config(), True), (own, False)):
        with pytest.raises(InputError, match="--drop-columns country when") as caught:
            aejax.fit(config, path)
        assert ("or aejax train --columns.kinds mixed" in str(caught.value)) == advised

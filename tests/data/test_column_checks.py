"""Which columns are taken for keys, counters and times, and which aren't: real tables included."""

from __future__ import annotations

import datetime
import logging
import os
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from aejax.config import Columns, InputError
from aejax.data.column_checks import counting, named_as_key, uncovered
from aejax.data.frames import schema_of_frame
from aejax.data.inference import infer_schema_of_files
from aejax.data.rows import Selection
from aejax.data.schema import Schema

ROWS = 2000
NUMBERS, MIXED = Columns(), Columns(kinds="mixed")
RANDOM = np.random.default_rng(0)
COUNT = np.arange(ROWS)
# Columns of whole numbers that say which row it is.
KEYS = {
    "from 0": COUNT,
    "from 1, as floats": COUNT + 1.0,
    "from a billion": 1_000_000_000 + COUNT,
    "above what floats tell apart": 2**53 + COUNT,
    "tens": 10 * COUNT,
    "down": 5000 - COUNT,
    "with gaps": np.cumsum(RANDOM.integers(1, 5, ROWS)),
    "with wide gaps": np.cumsum(RANDOM.integers(1, 20_000, ROWS)),
    "minutes since 1970": 1_790_000_000 + 60 * COUNT,
    "milliseconds since 1970": 1_790_000_000_000 + np.cumsum(RANDOM.integers(1, 90_000, ROWS)),
    "shuffled": RANDOM.permutation(ROWS),
    "shuffled, a third of a range": RANDOM.choice(3 * ROWS, ROWS, replace=False),
    "shuffled, but for rows that are there twice": np.append(
        RANDOM.permutation(ROWS - 20), COUNT[:20]
    ),
    "one file after another": np.concatenate([np.arange(1000, 2000), np.arange(7000, 8000)]),
    "three that were sorted apart": np.concatenate([COUNT[::3], COUNT[1::3], COUNT[2::3]]),
}
# Columns that are measurements, whatever they look like.
MEASURED = {
    "fractions, all different": RANDOM.normal(size=ROWS),
    "fractions, sorted": np.sort(RANDOM.normal(size=ROWS)),
    "counts": RANDOM.poisson(3, ROWS),
    "large whole numbers": RANDOM.integers(0, 10**9, ROWS),
    "whole numbers with few repeats": RANDOM.integers(0, 50_000, ROWS),
    "ages, sorted": np.sort(RANDOM.integers(18, 90, ROWS)),
    "seconds, sorted, with repeats": np.sort(RANDOM.integers(0, 3600, 2 * ROWS))[:ROWS],
    "hours": COUNT % 24,
    "days of the year": COUNT % 365,
    "a walk": np.cumsum(RANDOM.integers(-3, 4, ROWS)),
    "grams of a few parcels": np.where(COUNT < 49, 7 * COUNT, np.nan),
    "a switch": COUNT > 1000,
}


def frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({**columns, "load": RANDOM.normal(size=len(next(iter(columns.values()))))})


def written(made: pd.DataFrame, folder: Path, kind: str, **how: object) -> Path:
    path = folder / f"rows.{kind}"
    made.to_csv(path, **how) if kind == "csv" else made.to_parquet(path, **how)  # type: ignore
    return path


def schemas(made: pd.DataFrame, folder: Path, settings: Columns) -> dict[str, Schema]:
    """The schema that every kind of table has."""
    found = {"pandas": schema_of_frame(made, settings)}
    found["polars"] = schema_of_frame(pl.from_pandas(made), settings)
    for kind in ("csv", "parquet"):
        path = written(made, folder, kind, index=False)
        found[kind] = infer_schema_of_files(path, Selection(), settings)
    assert all(schema is not None for schema in found.values())
    return {where: schema for where, schema in found.items() if schema is not None}


@pytest.mark.parametrize("settings", [NUMBERS, MIXED], ids=["numbers", "mixed"])
def test_keys_and_counters_are_no_features(settings: Columns, tmp_path: Path) -> None:
    for where, schema in schemas(frame(KEYS), tmp_path, settings).items():
        assert set(KEYS) <= set(dict(schema.dropped)), where
        assert schema.names is not None
        assert schema.names[-1] == "load"
        assert all(reason.startswith("whole numbers") for _, reason in schema.dropped)


@pytest.mark.parametrize("settings", [NUMBERS, MIXED], ids=["numbers", "mixed"])
def test_measurements_are_features(settings: Columns, tmp_path: Path) -> None:
    for where, schema in schemas(frame(MEASURED), tmp_path, settings).items():
        assert not schema.dropped, where
        assert schema.names == (*MEASURED, "load")


def test_nothing_is_dropped_from_the_published_tables() -> None:
    home = Path(os.environ.get("AEJAX_DATA_DIR", "none")) / "adbench"
    if not home.is_dir():
        pytest.skip("the published tables are not there")
    for path in sorted(home.glob("*.npz")):
        with np.load(path) as file:
            x, y = file["X"], file["y"].ravel()
        for rows in (x, x[y == 0]):
            table = pd.DataFrame(rows, columns=[f"f{i}" for i in range(x.shape[1])])
            schema = schema_of_frame(table, NUMBERS)
            assert schema is not None
            assert not schema.dropped, path.name
            assert not counting(rows[: 1 << 16]), path.name


def test_missing_cells_and_other_types_hide_no_key() -> None:
    made = frame({"a": COUNT}).astype({"a": "Int64"})
    made.loc[::7, "a"] = pd.NA
    for table in (made, made.astype({"a": "float64"}), made.astype({"a": "float32"})):
        schema = schema_of_frame(table, MIXED)
        assert schema is not None
        assert dict(schema.dropped) == {"a": "whole numbers that count up from row to row"}
    unsigned = frame({"a": (2**64 - ROWS + COUNT.astype(np.uint64)).astype(np.uint64)})
    schema = schema_of_frame(unsigned, NUMBERS)
    assert schema is not None
    assert "a" in dict(schema.dropped)


@pytest.mark.parametrize("rows", [2, 10, 49])
def test_of_few_rows_only_names_count(rows: int) -> None:
    made = frame({"celsius": 5 * np.arange(rows), "grams": RANDOM.permutation(rows)})
    schema = schema_of_frame(made.assign(probe_id=np.arange(rows)), NUMBERS)
    assert schema is not None
    assert dict(schema.dropped) == {"probe_id": "named as a key"}


def test_names_of_keys() -> None:
    for name in (
        "id",
        "ID",
        "pump_id",
        "pumpId",
        "PumpID",
        "pump id",
        "uuid",
        "orderKey",
        "row_nr",
    ):
        assert named_as_key(name), name
    for name in ("grid", "valid", "humidity", "key", "monkey", "index", "uv_index", "row", "solid"):
        assert not named_as_key(name), name
    # A number that is named as a key, but repeats, is none that could be compared.
    made = frame({"pump_id": COUNT % 40, "bid": COUNT % 40, "id": RANDOM.normal(size=ROWS)})
    for settings in (NUMBERS, MIXED):
        schema = schema_of_frame(made, settings)
        assert schema is not None
        assert dict(schema.dropped) == {"pump_id": "named as a key"}
    of_categories = schema_of_frame(made, Columns(kinds="mixed", categories=("pump_id",)))
    assert of_categories is not None
    assert not of_categories.dropped


def test_text_that_names_rows_is_no_feature_of_a_table_of_numbers_either(tmp_path: Path) -> None:
    made = frame({"flow": RANDOM.normal(size=ROWS)})
    made["pump"] = [f"P-{i:05d}" for i in range(ROWS)]
    made["event"] = [str(uuid.UUID(int=int(i))) for i in RANDOM.integers(0, 2**62, ROWS)]
    made["pump_id"] = [f"P-{i % 40}" for i in range(ROWS)]
    made["currency"] = "EUR"
    for schema in schemas(made, tmp_path, NUMBERS).values():
        assert schema.names == ("flow", "load")
        assert dict(schema.dropped) == {
            "pump": f"text that names rows: {ROWS} values in {ROWS} rows",
            "event": f"text that names rows: {ROWS} values in {ROWS} rows",
            "pump_id": "named as a key",
            "currency": "always 'EUR'",
        }


def test_row_labels_written_with_a_table(tmp_path: Path) -> None:
    made = pd.DataFrame(RANDOM.normal(size=(ROWS, 2)), columns=["flow", "heat"])
    dates = pd.date_range("2026-01-01", periods=ROWS, freq="h")
    labels = "row labels, written beside the columns"
    for index in (COUNT, COUNT % 7, RANDOM.normal(size=ROWS), [f"r{i % 9}" for i in COUNT], dates):
        path = written(made.set_index(pd.Index(index)), tmp_path, "csv")
        for settings in (NUMBERS, MIXED):
            schema = infer_schema_of_files(path, Selection(), settings)
            assert schema is not None
            assert (schema.names, dict(schema.dropped)) == (("flow", "heat"), {"": labels})
        schema = schema_of_frame(pd.read_csv(path), NUMBERS)
        assert schema is not None
        assert dict(schema.dropped) == {"Unnamed: 0": labels}
    # Parquet keeps a frame's index as a column that has a name, and says so.
    path = written(made.set_index(pd.Index(COUNT % 7, name="pump")), tmp_path, "parquet")
    schema = infer_schema_of_files(path, Selection(), NUMBERS)
    assert schema is not None
    assert (schema.names, dict(schema.dropped)) == (("flow", "heat"), {"pump": labels})


def test_what_is_kept_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = frame({"n": COUNT, "pump_id": COUNT % 40, "same": np.full(ROWS, 7)})
    keep = ("n", "pump_id", "same")
    for kinds in ("numbers", "mixed"):
        for schema in schemas(made, tmp_path, Columns(kinds=kinds, keep=keep)).values():
            assert schema.names == (*keep, "load")
            assert not schema.dropped
    assert not caplog.records
    with pytest.raises(InputError, match=r"Columns.keep names 'pump'; did you mean 'pump_id'"):
        schema_of_frame(made, Columns(keep=("pump",)))


@pytest.mark.parametrize("settings", [NUMBERS, MIXED])
def test_numbers_that_pandas_read_as_text_are_called_so(settings: Columns) -> None:
    """One "?" among them, and a column of a frame is text; a file's isn't."""
    words = RANDOM.normal(size=ROWS).round(6).astype(str).astype(object)
    words[5] = "?"
    names = [f"{at}.x" for at in range(ROWS)]
    schema = schema_of_frame(frame({"chol": words, "name": names}), settings)
    assert schema is not None
    left = dict(schema.dropped)
    assert left["chol"].startswith("numbers that are text: make them numbers, as pandas.to_numeric")
    assert left["name"].startswith("text that names rows")


def test_one_line_says_what_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    made = frame({f"unused_{i}": np.full(ROWS, i) for i in range(30)} | {"pump_id": COUNT})
    with caplog.at_level(logging.WARNING, "aejax"):
        schema = schema_of_frame(made, NUMBERS)
    assert schema is not None
    assert schema.names == ("load",)
    assert len(schema.dropped) == 31
    (record,) = caplog.records
    said = record.getMessage()
    assert "'unused_0', 'unused_1', 'unused_2' and 27 more (the same in all rows)" in said
    assert "'pump_id' (whole numbers that count up from row to row)" in said
    assert "--columns.keep" in said


def test_a_person_is_asked_about_what_may_be_a_time(caplog: pytest.LogCaptureFixture) -> None:
    made = frame(
        {"epoch": np.sort(RANDOM.integers(0, 900, ROWS)), "t": np.cumsum(RANDOM.random(ROWS))}
    )
    with caplog.at_level(logging.WARNING, "aejax"):
        schema = schema_of_frame(made, NUMBERS)
        schema_of_frame(made.sample(frac=1, random_state=0), NUMBERS)
        schema_of_frame(made, Columns(keep=("epoch", "t")))
    assert schema is not None
    assert schema.names == ("epoch", "t", "load")
    (record,) = caplog.records
    assert "look at: 'epoch', 't' (changes in one direction" in record.getMessage()
    caplog.clear()
    days = pd.date_range("2026-01-01", periods=150).strftime("%Y%m%d").astype(int)
    dated = made.assign(day=RANDOM.choice(days, ROWS), code=RANDOM.choice(days + 50, ROWS))
    with caplog.at_level(logging.WARNING, "aejax"):
        schema_of_frame(dated.drop(columns=["epoch", "t"]), NUMBERS)
    assert "look at: 'day' (reads as dates, such as 20260105" in caplog.text
    assert "'code'" not in caplog.text
    caplog.clear()
    sites = made.assign(site_id=np.array(["A", "B"])[COUNT % 2])
    with caplog.at_level(logging.WARNING, "aejax"):
        schema = schema_of_frame(sites.drop(columns=["epoch", "t"]), MIXED)
    assert schema is not None
    assert schema.names == ("load", "site_id")
    assert "'site_id' (named as a key" in caplog.text


def test_arrays_keep_their_features_and_a_warning_names_counters() -> None:
    x = RANDOM.normal(size=(ROWS, 4))
    x[:, 1], x[:, 3] = COUNT, RANDOM.permutation(ROWS)
    assert list(counting(x)) == [1, 3]
    assert not counting(x[:, [0, 2]])


def test_only_doubtful_columns_are_read_to_the_end(tmp_path: Path) -> None:
    """What the first rows say is not what all say: of constants, keys, order and fractions."""
    rows = 300_000
    late = np.arange(rows) > rows - 3
    made = pd.DataFrame(
        {
            "changes late": np.where(late, 8, 7),
            "never changes": 7,
            "repeats late": np.where(
                np.arange(rows) < 100_000, np.arange(rows), np.arange(rows) % 9
            ),
            "fraction late": np.arange(rows) + np.where(late, 0.5, 0),
            "counts": np.arange(rows),
            "load": RANDOM.normal(size=rows).round(3),
        }
    )
    for kind in ("csv", "parquet"):
        schema = infer_schema_of_files(
            written(made, tmp_path, kind, index=False), Selection(), NUMBERS
        )
        assert schema is not None
        assert set(dict(schema.dropped)) == {"never changes", "counts"}


def test_constants_are_compared_in_full(tmp_path: Path) -> None:
    made = frame(
        {
            "epoch": 1_790_000_000 + RANDOM.integers(-60, 60, ROWS),
            "one": 1_790_000_000.5 + 0 * COUNT,
        }
    )
    for settings in (NUMBERS, MIXED):
        for where, schema in schemas(made, tmp_path, settings).items():
            assert list(dict(schema.dropped)) == ["one"], where


def test_cells_that_are_no_numbers_hide_and_invent_nothing(tmp_path: Path) -> None:
    lines = ["same,n,load,odd"]
    lines += [
        f"{'?' if i == 700 else 4},{'-' if i == 9 else i},{i % 13}.5, {i % 2}" for i in range(900)
    ]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n1,2\n")
    schema = infer_schema_of_files(path, Selection(), NUMBERS)
    assert schema is not None
    assert (schema.names, set(dict(schema.dropped))) == (("load", "odd"), {"same", "n"})


def days(first: str, count: int, step: int = 1) -> np.ndarray:
    start = datetime.date.fromisoformat(first).toordinal() - datetime.date(1970, 1, 1).toordinal()
    return start + step * np.arange(count)


@pytest.mark.parametrize(
    ("found", "left_out"),
    [
        (days("2026-01-05", 1), {"hour", "weekday", "month"}),
        (days("2026-01-05", 2), {"hour", "weekday", "month"}),
        (days("2026-01-05", 3), {"weekday", "month"}),
        (days("2026-01-04", 20), {"weekday", "month"}),
        (days("2026-01-05", 21), {"month"}),
        (days("2026-01-05", 35), {"month"}),
        (days("2026-01-05", 6, step=7), {"month"}),
        (days("2026-01-05", 2, step=150), {"hour", "weekday", "month"}),
        (days("2026-01-05", 325), {"month"}),
        (days("2026-01-05", 334), set()),
        (days("1969-01-05", 800), set()),
    ],
)
def test_parts_of_dates_are_used_where_they_are_covered(
    found: np.ndarray, left_out: set[str]
) -> None:
    parts = ("hour", "weekday", "month")
    assert {part for part in parts if uncovered(part, found)} == left_out

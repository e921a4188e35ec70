"""An instant is one, whatever zone it is written in; a time of day without one is no instant."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

import aejax
from aejax.config import Columns, Dense, InputError, Train
from aejax.data.columns import Column
from tests.plain import plain_config

CONFIG = plain_config(
    model=Dense(hidden=(4,)),
    train=Train(epochs=1, batch_size=64),
    columns=Columns(kinds="mixed"),
)
ZONES = ["Europe/Berlin", "UTC", "Asia/Kolkata", "America/Los_Angeles", "+05:30"]
RANDOM = np.random.default_rng(0)
# Over both changes of daylight saving in Berlin, and at all hours.
BERLIN = pd.Series(
    pd.date_range("2026-01-01", periods=400, freq="21h37min", tz="UTC").tz_convert("Europe/Berlin")
)
ROWS = pd.DataFrame({"when": BERLIN, "value": RANDOM.normal(size=len(BERLIN))})


def in_zone(zone: str | None) -> pd.DataFrame:
    when = ROWS["when"].dt.tz_convert(zone or "UTC")
    return ROWS.assign(when=when if zone else when.dt.tz_localize(None))


def as_text(zone: str, form: str = "%Y-%m-%dT%H:%M:%S%z") -> pd.DataFrame:
    return ROWS.assign(when=ROWS["when"].dt.tz_convert(zone).dt.strftime(form))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> aejax.Detector:
    """Trained on times in Berlin, saved and loaded: the zone travels along."""
    folder = tmp_path_factory.mktemp("detector")
    aejax.fit(CONFIG, ROWS).save(folder)
    return aejax.load(folder)


@pytest.mark.parametrize("zone", ZONES)
def test_the_same_instants_have_the_same_scores(
    detector: aejax.Detector, zone: str, tmp_path: Path
) -> None:
    wanted = detector.score(ROWS)
    rows = in_zone(zone)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    assert table.schema.field("when").type.tz == zone
    found: dict[str, Any] = {"pandas": rows, "arrow": table, "text": as_text(zone)}
    if zone[0] != "+":
        found["polars"] = pl.from_pandas(rows)
    for name, x in found.items():
        np.testing.assert_array_equal(detector.score(x), wanted, err_msg=name)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    as_text(zone).to_csv(tmp_path / "text.csv", index=False)
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    for name in ("rows.csv", "text.csv", "rows.parquet"):
        out = tmp_path / f"scores of {name}"
        assert aejax.score_files(detector, tmp_path / name, out)["rows"] == len(rows)
        scored = pyarrow.parquet.read_table(out, columns=["score"])["score"].to_numpy()
        np.testing.assert_allclose(scored, wanted, rtol=1e-5, err_msg=name)


def test_the_hour_is_that_of_the_training_rows_zone(detector: aejax.Detector) -> None:
    """As pandas tells it, in summer and in winter."""
    rows = in_zone("America/Los_Angeles").iloc[[0, 200]]
    for reasons, when in zip(detector.explain(rows, top=4), BERLIN.iloc[[0, 200]], strict=True):
        hour = next(reason.found for reason in reasons if reason.feature == "when.hour")
        assert hour == when.strftime("%H:%M")
    assert {column.zone for column in detector.schema.columns or ()} == {"Europe/Berlin", ""}


def test_text_with_offsets_is_an_instant_in_training_too(tmp_path: Path) -> None:
    """Offsets say no zone: parts are those of UTC, however the rows were written."""
    paths = []
    for zone in ("Europe/Berlin", "Asia/Kolkata"):
        paths.append(tmp_path / f"{zone[:4]}.csv")
        as_text(zone).to_csv(paths[-1], index=False)
    one, other = (aejax.fit(CONFIG, path) for path in paths)
    assert one.schema == other.schema
    assert {column.zone for column in one.schema.columns or ()} == {"UTC", ""}
    np.testing.assert_array_equal(one.score(ROWS), other.score(ROWS))


def test_files_of_two_zones_train_in_the_first_ones(tmp_path: Path) -> None:
    for at, zone in enumerate(("Europe/Berlin", "UTC")):
        pyarrow.parquet.write_table(
            pa.Table.from_pandas(in_zone(zone)[at::2]), tmp_path / f"{at}.parquet"
        )
    trained = aejax.fit(CONFIG, tmp_path)
    assert {column.zone for column in trained.schema.columns or ()} == {"Europe/Berlin", ""}
    pyarrow.parquet.write_table(pa.Table.from_pandas(in_zone(None)), tmp_path / "2.parquet")
    with pytest.raises(InputError, match=r"column 'when' has no time zone; allowed: one"):
        aejax.fit(CONFIG, tmp_path)


NAIVE = {
    "pandas": in_zone(None),
    "text": ROWS.assign(when=in_zone(None)["when"].dt.strftime("%Y-%m-%dT%H:%M:%S")),
    "days": ROWS.assign(when=[day.date() for day in BERLIN]),
}


@pytest.mark.parametrize("kind", list(NAIVE))
def test_times_without_a_zone_are_not_taken_for_instants(
    detector: aejax.Detector, kind: str
) -> None:
    with pytest.raises(InputError, match=r"when.* time zone") as error:
        detector.score(NAIVE[kind])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [in_zone("UTC"), as_text("UTC"), as_text("Asia/Kolkata")])
def test_and_instants_not_for_times_without_one(given: pd.DataFrame) -> None:
    trained = aejax.fit(CONFIG, NAIVE["pandas"])
    np.testing.assert_array_equal(trained.score(NAIVE["text"]), trained.score(NAIVE["pandas"]))
    with pytest.raises(InputError, match=r"when.* time zone"):
        trained.score(given)


def test_a_file_says_which_rows_have_none(detector: aejax.Detector, tmp_path: Path) -> None:
    rows = as_text("UTC")
    rows.loc[7, "when"] = "2026-01-07T08:00:00"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    aejax.score_files(detector, tmp_path / "rows.csv", tmp_path / "scores")
    scored = pyarrow.parquet.read_table(tmp_path / "scores").to_pandas()
    assert list(scored.index[scored["score"].isna()]) == [7]
    assert "without a time zone" in scored["reason"][7]


def test_a_zone_belongs_to_a_date() -> None:
    written = Column(name="a", kind="number", source="a").to_dict()
    with pytest.raises(InputError, match=r"zone is 'UTC'; allowed: with a part of a date"):
        Column.from_dict({**written, "zone": "UTC"})


def test_a_machine_that_lacks_a_zone_says_so(detector: aejax.Detector) -> None:
    columns = tuple(
        dataclasses.replace(column, zone="Mars/Base") if column.zone else column
        for column in detector.schema.columns or ()
    )
    elsewhere = dataclasses.replace(
        detector, schema=dataclasses.replace(detector.schema, columns=columns)
    )
    with pytest.raises(InputError, match=r"column 'when': .*Mars/Base"):
        elsewhere.score(ROWS)

"""Whatever has named columns is read by name: in every method, in any order, with more columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aejax
from aejax.config import Columns, Dense, InputError, Train
from aejax.detection.detector import Detector
from aejax.estimator import AutoEncoder, PyODAutoEncoder
from tests.plain import plain_config

CONFIG = plain_config(model=Dense(hidden=(4, 2)), train=Train(epochs=3, batch_size=64))
MIXED = dataclasses.replace(CONFIG, columns=Columns(kinds="mixed"))


def table(rows: int = 200, seed: int = 0) -> pd.DataFrame:
    """Columns whose levels differ so much that a swapped one is seen at once."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "low": random.normal(size=rows),
            "high": random.normal(1000, 5, rows),
            "mid": random.normal(50, 2, rows),
        }
    )


class Stream:
    """What offers a stream of Arrow's and nothing else."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.table = pa.Table.from_pandas(frame, preserve_index=False)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class Struct(Stream):
    """What offers one batch of Arrow's and nothing else."""

    __arrow_c_stream__ = None  # type: ignore[assignment]

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.table.to_batches()[0].__arrow_c_array__(requested_schema)


del Struct.__arrow_c_stream__


def chunked(frame: pd.DataFrame) -> pa.Table:
    return pa.concat_tables([pa.Table.from_pandas(part) for part in (frame[:7], frame[7:])])


def structs(frame: pd.DataFrame) -> np.ndarray:
    """A structured array with numbers in another order of bytes."""
    return np.array(
        list(frame.itertuples(index=False, name=None)), [(name, ">f8") for name in frame]
    )


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "pyarrow.Table": pa.Table.from_pandas,
    "in pieces": chunked,
    "RecordBatch": pa.RecordBatch.from_pandas,
    "RecordBatchReader": lambda frame: pa.Table.from_pandas(frame).to_reader(),
    "stream": Stream,
    "struct": Struct,
    "dict of arrays": lambda frame: {name: frame[name].to_numpy() for name in frame},
    "dict of lists": lambda frame: {name: frame[name].tolist() for name in frame},
    "dict of series": lambda frame: {name: pl.Series(frame[name].to_numpy()) for name in frame},
    "records": lambda frame: frame.to_records(index=False),
    "structs": structs,
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Callable[[pd.DataFrame], Any]:
    return FORMS[request.param]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return aejax.fit(CONFIG, table())


@pytest.fixture(scope="module")
def ensemble() -> Detector:
    return aejax.fit(CONFIG, table(), members=2)


def shuffled(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The same rows with their columns in other orders, and with a further one."""
    yield frame[["mid", "low", "high"]]
    yield frame.assign(more=7.0)[["more", "high", "mid", "low"]]


METHODS: dict[str, Callable[[Detector, Any], Any]] = {
    "score": lambda detector, x: detector.score(x),
    "predict": lambda detector, x: detector.predict(x),
    "explain": lambda detector, x: [
        [(reason.feature, reason.error) for reason in row] for row in detector.explain(x)
    ],
    "encode": lambda detector, x: detector.encode(x),
    "reconstruct": lambda detector, x: np.concatenate(detector.reconstruct(x)),
    "states": lambda detector, x: detector.states(x, next(iter(detector.layers))),
    "prepare": lambda detector, x: detector.prepare(x),
    "calibrate": lambda detector, x: detector.calibrate(x).threshold,
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, form: Callable[[pd.DataFrame], Any], detector: Detector) -> None:
    rows = table(50, seed=1)
    wanted = METHODS[method](detector, rows.to_numpy())
    for other in shuffled(rows):
        found = METHODS[method](detector, form(other))
        if isinstance(wanted, np.ndarray):
            np.testing.assert_array_equal(found, wanted)
        else:
            assert found == wanted


def test_training_and_validation(form: Callable[[pd.DataFrame], Any], detector: Detector) -> None:
    rows, held = table(), table(50, seed=1)
    found = aejax.fit(CONFIG, form(rows))
    assert found.schema.names == ("low", "high", "mid")
    assert found.fingerprint == detector.fingerprint
    wanted = aejax.fit(CONFIG, rows, x_validation=held, x_scale=held, x_calibrate=held)
    for other in shuffled(held):
        parts = {f"x_{part}": form(other) for part in ("validation", "scale", "calibrate")}
        given = aejax.fit(CONFIG, form(rows), **parts)
        assert given.fingerprint == wanted.fingerprint
        assert given.threshold == wanted.threshold


def test_ensembles_and_populations(form: Callable[[pd.DataFrame], Any], ensemble: Detector) -> None:
    rows = table(50, seed=1)
    (other, _) = shuffled(rows)
    np.testing.assert_array_equal(ensemble.spread(form(other)), ensemble.spread(rows))
    found = aejax.fit(CONFIG, form(table()), members=2, x_validation=form(other))
    wanted = aejax.fit(CONFIG, table(), members=2, x_validation=rows)
    assert found.fingerprint == wanted.fingerprint
    found = aejax.fit(CONFIG, form(table()), members=2, x_calibrate=form(other))
    wanted = aejax.fit(CONFIG, table(), members=2, x_calibrate=rows)
    assert found.threshold == wanted.threshold
    assert found.threshold.rows == len(rows)
    population = aejax.fit_population([CONFIG], form(table()), x_calibrate=form(other))
    by_frame = aejax.fit_population([CONFIG], table(), x_calibrate=rows)
    assert population.detectors[0].threshold == by_frame.detectors[0].threshold
    population = aejax.fit_population([CONFIG], form(table()))
    assert population.ensemble(form(other)).threshold == population.ensemble(rows).threshold


def test_groups(form: Callable[[pd.DataFrame], Any]) -> None:
    rows, names = table(), np.arange(200) % 2
    found = aejax.fit(CONFIG, form(rows), groups=names)
    assert found.schema.names == ("low", "high", "mid")
    for other in shuffled(rows):
        np.testing.assert_array_equal(
            found.score(form(other), groups=names), found.score(rows, groups=names)
        )
        np.testing.assert_array_equal(
            found.predict(form(other), groups=names), found.predict(rows, groups=names)
        )
        assert found.explain(form(other), groups=names) == found.explain(rows, groups=names)
        again, wanted = (found.calibrate(x, groups=names) for x in (form(other), rows))
        assert again.threshold == wanted.threshold
        assert again.groups == wanted.groups


def test_exports(form: Callable[[pd.DataFrame], Any], detector: Detector, tmp_path: Path) -> None:

    aejax.export(detector, tmp_path / "export")
    exported, rows = aejax.load(tmp_path / "export"), table(50, seed=1)
    for other in shuffled(rows):
        np.testing.assert_array_equal(exported.score(form(other)), detector.score(rows))
        np.testing.assert_array_equal(exported.predict(form(other)), detector.predict(rows))


def test_mixed_tables(form: Callable[[pd.DataFrame], Any]) -> None:
    rows = table()
    rows["kind"] = np.where(rows["low"] > 0, "up", "down")
    if form is structs:
        pytest.skip("it holds numbers only")
    found = aejax.fit(MIXED, form(rows))
    assert found.schema.names == ("low", "high", "mid", "kind")
    scores = found.score(rows)
    for other in (rows[["kind", "mid", "low", "high"]], rows.assign(more="x")[::1]):
        np.testing.assert_array_equal(found.score(form(other)), scores)
        assert found.explain(form(other[:9])) == found.explain(rows[:9])


@pytest.mark.parametrize("columns", ["numbers", "mixed"])
@pytest.mark.parametrize("kind", [AutoEncoder, PyODAutoEncoder])
def test_estimators(kind: Any, columns: str, form: Callable[[pd.DataFrame], Any]) -> None:
    """As scikit-learn has it: names are kept, and asked of every later table in their order."""
    widths = "hidden" if kind is AutoEncoder else "hidden_neuron_list"
    made = kind(steps=5, **{widths: (4, 2)}, columns=columns).fit(form(table()))
    assert made.feature_names_in_.tolist() == ["low", "high", "mid"]
    rows = table(50, seed=1)
    np.testing.assert_array_equal(made.decision_function(form(rows)), made.decision_function(rows))
    for other in shuffled(rows):
        with pytest.raises(ValueError, match="feature names should match"):
            made.decision_function(form(other))


def test_numbers_of_any_type_are_converted_column_by_column(detector: Detector) -> None:
    rows = table(20, seed=1).round(0)
    wanted = detector.score(rows)
    types = {"low": pa.int8(), "high": pa.decimal128(9, 1), "mid": pa.uint16()}
    cells = [pa.array(rows[name]).cast(types[name]) for name in rows]
    given: dict[str, Any] = {
        "Arrow's types": pa.table(cells, list(rows)),
        "dictionary": pa.table([cells[0].dictionary_encode(), *cells[1:]], list(rows)),
        "nullable": rows.astype({"low": "Int64", "mid": "Float32"}),
        "objects": rows.astype({"low": object}),
        "polars": pl.from_pandas(rows).with_columns(pl.col("mid").cast(pl.UInt8)),
    }
    for name, x in given.items():
        np.testing.assert_array_equal(detector.score(x), wanted, err_msg=name)
    flags = rows.assign(low=rows["low"] > 0)
    np.testing.assert_array_equal(
        detector.score(flags), detector.score(flags.assign(low=flags["low"].astype(float)))
    )


REFUSED: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "a column that isn't there": (
        lambda frame: pa.Table.from_pandas(frame[["low", "mid"]]),
        "rows have no column 'high'; found: low, mid",
    ),
    "one of a dict": (lambda frame: {"low": [1.0]}, "rows have no column 'high'; found: low"),
    "a name twice": (
        lambda frame: pa.table([frame["low"]] * 2 + [frame["mid"]], ["low", "low", "high"]),
        "rows have more than one column 'low'; allowed: each name once",
    ),
    "a name twice in pandas": (
        lambda frame: pd.concat([frame, frame[["low"]]], axis=1),
        "rows have more than one column 'low'",
    ),
    "text": (
        lambda frame: pa.Table.from_pandas(frame.assign(mid="x")),
        "rows: column 'mid' is of type .*string; allowed: numbers$",
    ),
    "dates": (
        lambda frame: frame.assign(mid=pd.Timestamp("2026-01-01")),
        "rows: column 'mid' is of type timestamp.*; allowed: numbers",
    ),
    "durations": (
        lambda frame: frame.assign(mid=pd.to_timedelta(frame["mid"], unit="s")),
        "rows: column 'mid' is of type duration.*; allowed: numbers$",
    ),
    "intervals": (
        lambda frame: frame.assign(mid=pd.cut(frame["mid"], 5)),
        "rows: column 'mid' is of type .*interval.*; allowed: numbers$",
    ),
    "a word among numbers": (
        lambda frame: frame.assign(mid=[*frame["mid"][:-1], "broken"]),
        "row 49, mid is 'broken'; allowed: finite numbers",
    ),
    "series in other orders": (
        lambda frame: {**frame, "mid": frame["mid"][::-1]},
        "rows: columns 'low' and 'mid' have the same index in different orders",
    ),
    "several tables": (lambda frame: [frame, frame], "rows are a list of tables; allowed: one"),
    "a path": (lambda frame: Path("rows.csv"), "rows are .*rows.csv.*score_files"),
    "lists": (lambda frame: {**frame, "mid": [[1.0]] * len(frame)}, "'mid' is of type list"),
    "matrices": (
        lambda frame: {**frame, "mid": np.zeros((len(frame), 2))},
        r"rows: column 'mid' has shape \[50, 2\]; allowed: \[rows\]",
    ),
    "columns of other lengths": (
        lambda frame: {"low": [1.0], "high": [1.0, 2.0], "mid": [1.0]},
        "rows: Column 1 named high expected length 1 but got length 2",
    ),
    "missing cells": (
        lambda frame: pa.table({**frame, "mid": pa.array([None] * len(frame), pa.float64())}),
        "row 0, mid is nan; allowed: finite numbers",
    ),
    "lazy frames": (
        lambda frame: pl.from_pandas(frame).lazy(),
        r"rows are a LazyFrame; allowed: a data frame .* as its \.collect\(\) gives",
    ),
    "a single column": (
        lambda frame: frame["low"],
        r"rows have shape \[50\]; allowed: \[rows, 3\]",
    ),
    "a column of Arrow's": (
        lambda frame: pa.chunked_array([frame["low"]]),
        r"rows have shape \[50\]; allowed: \[rows, 3\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_refused_in_one_line(name: str, detector: Detector) -> None:
    make, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        detector.score(make(table(50, seed=1)))
    assert "\n" not in str(caught.value)


def test_masked_cells_of_a_dict_are_missing() -> None:
    rows = table()
    rows["kind"] = np.where(rows["low"] > 0, "up", "down")
    found = aejax.fit(MIXED, rows)
    hidden = np.arange(len(rows)) % 3 == 0
    given = {**rows, "mid": np.ma.masked_array(rows["mid"].to_numpy(), hidden)}
    wanted = rows.assign(mid=rows["mid"].mask(hidden))
    np.testing.assert_array_equal(found.score(given), found.score(wanted))


def test_rows_without_names_count_by_position(detector: Detector) -> None:
    rows = table(50, seed=1)
    plain = aejax.fit(CONFIG, table().to_numpy())
    assert plain.schema.names is None
    np.testing.assert_array_equal(plain.score(rows), detector.score(rows.to_numpy()))
    np.testing.assert_array_equal(
        plain.score(pa.Table.from_pandas(rows)), detector.score(rows.to_numpy())
    )

"""What can't be scored in Python has NaN on request, as null in files; or says what to do."""

from __future__ import annotations

import decimal
import logging
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp

import aejax
from tests.plain import plain_config

RANDOM = np.random.default_rng(0)
NUMBERS = pd.DataFrame(RANDOM.normal(size=(200, 3)), columns=list("abc"))
MIXED = NUMBERS.assign(site=RANDOM.choice(["x", "y"], 200))
TRAIN = aejax.Train(epochs=1)
DENSE = aejax.Dense(hidden=(4, 2))


@pytest.fixture(scope="module")
def detector() -> aejax.Detector:
    return aejax.fit(plain_config(model=DENSE, train=TRAIN), NUMBERS)


@pytest.fixture(scope="module")
def mixed() -> aejax.Detector:
    columns = aejax.Columns(kinds="mixed")
    return aejax.fit(plain_config(model=DENSE, train=TRAIN, columns=columns), MIXED)


def test_a_bad_row_leaves_the_others_their_scores(
    detector: aejax.Detector, caplog: pytest.LogCaptureFixture
) -> None:
    odd = NUMBERS.copy()
    odd.loc[3, "b"], odd.loc[7, "c"] = np.nan, np.inf
    for x in (odd, odd.to_numpy(), pl.from_pandas(odd)):
        with pytest.raises(aejax.InputError, match="row 3"):
            detector.score(x)
        with caplog.at_level(logging.WARNING, "aejax"):
            scores = detector.score(x, on_bad_row="null")
        assert np.flatnonzero(np.isnan(scores)).tolist() == [3, 7]
        assert "2 of 200 rows have no score, the first being row 3: b is nan" in caplog.text
        kept = ~np.isnan(scores)
        np.testing.assert_allclose(scores[kept], detector.score(NUMBERS)[kept], rtol=1e-6)
        flags = detector.predict(x, on_bad_row="null")
        assert np.flatnonzero(flags.mask).tolist() == [3, 7]
        np.testing.assert_array_equal(flags[kept], detector.predict(NUMBERS)[kept])
    assert detector.bad_rows(odd) == {3: "b is nan", 7: "c is inf"}
    assert detector.bad_rows(NUMBERS) == {}


def test_a_bad_row_of_a_mixed_table(mixed: aejax.Detector) -> None:
    odd = MIXED.astype(object)
    odd.loc[2, "a"] = "broken"
    odd.loc[5] = None
    odd["a"] = odd["a"].map(lambda cell: None if cell is None else str(cell))
    scores = mixed.score(odd, on_bad_row="null")
    assert np.flatnonzero(np.isnan(scores)).tolist() == [2, 5]
    assert mixed.bad_rows(odd) == {
        2: "a is 'broken', not a number",
        5: "it has no value in any column",
    }


def test_objects_that_are_numbers(detector: aejax.Detector) -> None:
    wanted = detector.score(NUMBERS)
    for x in (NUMBERS.to_numpy(object), NUMBERS.map(lambda v: decimal.Decimal(repr(v))).to_numpy()):
        np.testing.assert_allclose(detector.score(x), wanted, rtol=1e-5)
    holes = NUMBERS.to_numpy(object).copy()
    holes[1, 0], holes[4, 2] = None, pd.NA
    scores = detector.score(holes, on_bad_row="null")
    assert np.flatnonzero(np.isnan(scores)).tolist() == [1, 4]


@pytest.mark.parametrize("dtype", ["f4", "f8", "O"])
def test_masked_cells_of_an_array_are_missing(dtype: str, detector: aejax.Detector) -> None:
    """NumPy's own mark: what lies below a mask is no number to score."""
    rows = np.ma.masked_array(NUMBERS.to_numpy(dtype).copy(), False)
    np.testing.assert_array_equal(detector.score(rows), detector.score(NUMBERS.to_numpy(dtype)))
    rows[4, 1] = np.ma.masked
    rows.data[4, 1] = 1e6
    assert detector.bad_rows(rows) == {4: "b is nan"}
    with pytest.raises(aejax.InputError, match="row 4, b is nan"):
        detector.score(rows)
    with pytest.raises(aejax.InputError, match=r"row 4, .* is nan"):
        aejax.fit(detector.config, rows)
    estimator = aejax.estimator.AutoEncoder(steps=1, hidden=2)
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(rows)


def test_what_is_no_number_among_objects_is_a_bad_row(
    detector: aejax.Detector, mixed: aejax.Detector
) -> None:
    """As in files: one cell, and not the table, is refused."""
    odd = NUMBERS.astype(object)
    odd.loc[3, "b"], odd.loc[5, "a"], odd.loc[9, "c"] = "broken", [1.0], 2**63
    reasons = {3: "b is 'broken'", 5: "a is '[1.0]'"}
    columns = {name: odd[name].tolist() for name in odd}
    for x in (odd, columns, odd.to_records(index=False)):
        assert detector.bad_rows(x) == reasons
        assert np.flatnonzero(np.isnan(detector.score(x, on_bad_row="null"))).tolist() == [3, 5]
    assert list(detector.bad_rows(odd.to_numpy())) == [3, 5]
    odd.loc[5, "a"] = 1.0
    reasons = mixed.bad_rows(odd.assign(site="x"))
    assert reasons == {3: "b is 'broken', not a number"}


class Loader:
    """As torch's DataLoader: batches one after the other."""

    def __iter__(self) -> Any:
        yield from np.array_split(NUMBERS.to_numpy(), 4)


class Tensor:
    """As torch's of bfloat16."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Got unsupported ScalarType BFloat16")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (Tensor(), "a Tensor can't be made an array: Got unsupported ScalarType BFloat16; allowed"),
        ([[1.0, 2.0, 3.0], [1.0]], "a list can't be made an array: .*; allowed: numbers"),
        (sp.csr_matrix(NUMBERS.to_numpy()), r"csr_matrix; allowed: .*\.toarray\(\)"),
        (sp.coo_array(NUMBERS.to_numpy()), r"coo_array; allowed: .*\.toarray\(\)"),
        (pl.from_pandas(NUMBERS).lazy(), r"LazyFrame; allowed: .*\.collect\(\)"),
        (NUMBERS.to_dict("records"), r"list of dicts; allowed: .*from_pylist"),
        (Loader(), r"Loader, which gives them .*numpy\.concatenate"),
        (iter(NUMBERS.to_numpy()), r"numpy\.concatenate"),
        (np.array([["a", "b", "c"]], object), "rows are object; allowed: numbers"),
    ],
)
def test_containers_that_are_no_rows_say_what_to_call(
    x: Any, message: str, detector: aejax.Detector
) -> None:
    with pytest.raises(aejax.InputError, match=message):
        detector.score(x)
    with pytest.raises(aejax.InputError, match=message):
        aejax.fit(detector.config, x)

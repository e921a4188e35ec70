"""NumPy's arrays to Arrow's and back, as pyarrow's own conversions give them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from aejax.data.arrow_types import array_of, array_of_text, floats_of

RANDOM = np.random.default_rng(0)
HIDDEN = RANDOM.random(37) < 0.4


@pytest.mark.parametrize(
    "x",
    [
        RANDOM.normal(size=37),
        RANDOM.normal(size=37).astype(np.float32),
        np.arange(37),
        np.arange(37, dtype=np.int32)[::-1],
        RANDOM.random(37) < 0.5,
        np.zeros(37, np.uint8),
    ],
    ids=lambda x: str(x.dtype),
)
@pytest.mark.parametrize("missing", [None, HIDDEN, np.zeros(37, bool), np.ones(37, bool)])
def test_arrays_are_those_of_pyarrow(x: np.ndarray, missing: np.ndarray | None) -> None:
    made = array_of(x, missing)
    made.validate(full=True)
    assert made.equals(pa.array(x, mask=missing))
    assert array_of(x[:0]).equals(pa.array(x[:0]))


def test_text_is_that_of_pyarrow() -> None:
    for cells in ([], ["a", "", "größe", "日本"]):
        made = array_of_text(cells)
        made.validate(full=True)
        assert made.equals(pa.array(cells, pa.string()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("start", [0, 3, 8, 37])
def test_floats_are_those_of_pyarrow(dtype: type, start: int) -> None:
    x = RANDOM.normal(size=37).astype(dtype)
    x[5] = np.nan
    for array in (pa.array(x), pa.array(x, mask=HIDDEN), pa.nulls(37, pa.from_numpy_dtype(dtype))):
        part = array.slice(start, 20)
        np.testing.assert_array_equal(
            floats_of(part, dtype), part.to_numpy(zero_copy_only=False).astype(dtype)
        )
        assert floats_of(part, dtype).dtype == dtype

"""Keys that say the same are matched, whatever their types; those that don't aren't."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aejax.scoring.joining import match_keys

MIDNIGHT = dt.datetime(2026, 1, 1)
ZONED = MIDNIGHT.replace(tzinfo=dt.UTC)
IN_BERLIN = ZONED.astimezone(dt.timezone(dt.timedelta(hours=1)))
CATEGORIES = pa.array(["x", "y"]).dictionary_encode()


def partners(left: Any, right: Any) -> list[list[int]]:
    """For every key of the left side, where the right side has it."""
    found = match_keys(pa.table({"key": left}), pa.table({"key": right}))
    return [np.flatnonzero((found.right == key) & (key >= 0)).tolist() for key in found.left]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (["a", "b", "a"], ["b", "a"], [[1], [0], [1]]),
        ([7, 8, 9], ["9", "7"], [[1], [], [0]]),
        ([7, 8], ["8.0", "7.0"], [[1], [0]]),
        ([7, 8], [8.0, 7.0], [[1], [0]]),
        ([7.0, 8.5], ["8.5", "7"], [[1], [0]]),
        (["7", "8"], ["8.0", "7.0"], [[1], [0]]),
        ([7, 8], ["008", "007"], [[1], [0]]),
        ([7], [" 7 "], [[0]]),
        ([1000, 0.5], ["5e-1", "1e3"], [[1], [0]]),
        ([decimal.Decimal("7.50"), decimal.Decimal("7.00")], ["7", "7.5"], [[1], [0]]),
        (CATEGORIES, pa.array(["y", "x"], pa.large_string()), [[1], [0]]),
        ([True, False], ["False", "True"], [[1], [0]]),
        # Leading zeros tell texts apart, as long as any texts are equal.
        (["007", "7"], ["7", "007"], [[1], [0]]),
        # Beyond float64's whole numbers nothing is rounded to a neighbour.
        ([2**53 + 1], [float(2**53)], [[]]),
        ([2**60 + 1], [str(2**60 + 1)], [[0]]),
        # What is empty equals nothing.
        ([None, "a", ""], ["", None, "a"], [[], [2], []]),
        ([1.0, float("nan")], ["nan", "1"], [[1], []]),
        ([MIDNIGHT], ["2026-01-01"], [[0]]),
        ([MIDNIGHT.date()], ["2026-01-01 00:00"], [[0]]),
        (["2026-01-01 00:00:00"], ["2026-01-01T00:00:00.000"], [[0]]),
        ([ZONED], ["2026-01-01T01:00:00+01:00"], [[0]]),
        ([ZONED], [IN_BERLIN], [[0]]),
        # Which hour a time without a zone means, nobody knows.
        ([MIDNIGHT], ["2026-01-01T00:00:00Z"], [[]]),
        (pa.array([1, 1001], pa.timestamp("ns")), pa.array([1], pa.timestamp("us")), [[], []]),
        (pa.array([-1500], pa.timestamp("ns")), ["1969-12-31 23:59:59.999998500"], [[0]]),
        (["2026-99-99", "b"], [5], [[], []]),
        ([b"a", b"b"], ["b", "a"], [[1], [0]]),
        ([b"\xff\x01", b"a"], [b"a", b"\xff\x01"], [[1], [0]]),
        (pa.array([uuid.UUID(int=7)], pa.uuid()), [str(uuid.UUID(int=7))], [[0]]),
        ([], ["a"], []),
    ],
)
def test_what_is_one_key(left: Any, right: Any, expected: list[list[int]]) -> None:
    assert partners(left, right) == expected
    back = [[at for at, own in enumerate(expected) if row in own] for row in range(len(right))]
    assert partners(right, left) == back


def test_keys_of_several_columns_are_equal_in_all() -> None:
    left = pa.table({"a": ["1", "1", "2", None], "b": [1, 2, 1, 1]})
    right = pa.table({"a": ["2", "1", None], "b": ["1.0", "2", "1"]})
    found = match_keys(left, right)
    assert [np.flatnonzero(found.right == key).tolist() for key in found.left[:3]] == [[], [1], [0]]
    assert found.left[3] == found.right[2] == -1
    # No two columns are glued together: "1" and "12" is not "11" and "2".
    for one, other in ((["1", "12"], ["11", "2"]), (["x\x1fy", "z"], ["x", "y\x1fz"])):
        sides = [pa.table({"a": [a], "b": [b]}) for a, b in (one, other)]
        found = match_keys(*sides)
        assert found.left[0] != found.right[0]


@given(st.lists(st.integers(-99, 99)), st.lists(st.integers(-99, 99)), st.data())
def test_whole_numbers_in_any_type(left: list[int], right: list[int], data: st.DataObject) -> None:
    kinds = [pa.int16(), pa.int64(), pa.float32(), pa.float64(), pa.string()]
    sides = [
        pa.array(side, pa.int64()).cast(data.draw(st.sampled_from(kinds))) for side in (left, right)
    ]
    expected = [[at for at, other in enumerate(right) if other == own] for own in left]
    assert partners(*sides) == expected
    assert match_keys(*(pa.table({"k": side}) for side in sides)).same_order == (
        bool(left) and left == right
    )

"""Blocks whose rows lie in memory column by column hold what other blocks do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from aejax.data.blocks import Block
from aejax.data.columns import Column
from aejax.data.files import Rows, open_rows
from aejax.data.rows import Selection
from aejax.data.schema import Schema

ROWS = 1_000


def table() -> pa.Table:
    """Numbers of all types, some of them missing, and a key."""
    random = np.random.default_rng(0)
    missing = random.random(ROWS) < 0.1
    return pa.table(
        {
            "id": [f"row {i}" for i in range(ROWS)],
            "single": pa.array(random.normal(size=ROWS).astype(np.float32)),
            "some": pa.array(random.normal(size=ROWS).astype(np.float32), mask=missing),
            "double": random.normal(size=ROWS) * 1e3,
            "whole": pa.array(random.integers(-9, 9, ROWS), mask=missing),
            "truth": random.random(ROWS) < 0.5,
            "nothing": pa.nulls(ROWS, pa.float32()),
        }
    )


def opened(folder: Path, kind: str) -> Rows:
    path = folder / f"rows.{kind}"
    match kind:
        case "parquet":
            pq.write_table(table(), path, row_group_size=230)
        case "feather":
            pyarrow.feather.write_feather(table(), str(path), chunksize=170)
        case "csv":
            table().to_pandas().to_csv(path, index=False)
    return open_rows(path, Selection(key_columns=("id",), bad_cells="null"))


def same(found: list[Block], expected: list[Block]) -> None:
    assert [len(block.x) for block in found] == [len(block.x) for block in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        assert (one.first_row, one.runs, one.bad) == (other.first_row, other.runs, other.bad)
        assert one.keys == other.keys
        assert one.x.dtype == other.x.dtype


@pytest.mark.parametrize("kind", ["parquet", "feather", "csv"])
@pytest.mark.parametrize(
    ("size", "start", "cut"), [(100, 0, None), (64, 333, 300), (5000, 1, None)]
)
def test_the_same_rows(tmp_path: Path, kind: str, size: int, start: int, cut: int | None) -> None:
    rows = opened(tmp_path, kind)
    found = list(rows.blocks(size, start, cut=cut, by_column=True))
    same(found, list(rows.blocks(size, start, cut=cut)))
    for block in found:
        assert block.by_column
        assert block.x.strides[0] == block.x.itemsize
        assert block.slice(1, 3).by_column


def test_files_with_bad_cells_and_several_files(tmp_path: Path) -> None:
    frame = table().to_pandas().astype({"whole": object})
    frame.loc[[5, 700], "whole"] = "wrong"
    for name, part in (("a.csv", frame[:400]), ("b.csv", frame[400:])):
        part.to_csv(tmp_path / name, index=False)
    rows = open_rows(tmp_path, Selection(key_columns=("id",), bad_cells="null"))
    found = list(rows.blocks(350, by_column=True))
    same(found, list(rows.blocks(350)))
    assert [sorted(block.bad) for block in found] == [[5], [], [0]]
    assert all(block.by_column for block in found)


def test_what_has_no_columns_of_numbers_comes_as_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((10, 3), np.float32))
    pd.DataFrame({"kind": ["a", "b"]}).to_parquet(tmp_path / "mixed.parquet")
    category = Column(name="kind", kind="category", source="kind", categories=("a", "b"))
    mixed = Schema(shape=(1,), names=("kind",), columns=(category,))
    for rows in (
        open_rows(tmp_path / "rows.npy"),
        open_rows(tmp_path / "mixed.parquet", expected=mixed),
    ):
        assert not any(block.by_column for block in rows.blocks(4, by_column=True))

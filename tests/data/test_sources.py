"""Folders, patterns, lists of files and partitions are read as one input, in a fixed order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aejax.config import InputError
from aejax.data.files import Selection, open_rows, read
from aejax.data.sources import find_sources


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    suffix=st.sampled_from([".csv", ".parquet"]),
    size=st.integers(1, 9),
    start=st.integers(0, 40),
    cut=st.none() | st.integers(1, 15),
)
def test_files_are_read_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    suffix: str,
    size: int,
    start: int,
    cut: int | None,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    values = np.arange(sum(lengths))
    ends = np.cumsum(lengths)
    for index, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        part = pd.DataFrame({"a": values[end - length : end]})
        path = folder / f"rows-{index}{suffix}"
        part.to_csv(path, index=False) if suffix == ".csv" else part.to_parquet(path)
    rows = open_rows(folder)
    blocks = list(rows.blocks(size, start, cut=cut))
    seen = np.concatenate([np.empty((0, 1)), *(block.x for block in blocks)])[:, 0]
    np.testing.assert_array_equal(seen, values[start:])
    position = start
    for block in blocks:
        assert block.first_row == position
        assert len(block.x) <= size
        if cut is not None:
            assert (position - start) // cut == (position - start + len(block.x) - 1) // cut
        position += len(block.x)
        inside = [
            int(ends[run.file]) - lengths[run.file] + run.first_row + step
            for run in block.runs
            for step in range(run.rows)
        ]
        np.testing.assert_array_equal(inside, block.x[:, 0])
    # From a row of a later file, without a look at those before it.
    last = len(lengths) - 1
    if last:
        (folder / f"rows-0{suffix}").unlink()
    again = list(rows.blocks(size, 0, file=last, first_row=100))
    assert again[0].first_row == 100
    tail = np.concatenate([block.x[:, 0] for block in again])
    np.testing.assert_array_equal(tail, values[ends[-1] - lengths[-1] :])


def test_partitions_are_columns_as_pyarrow_has_them(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": np.arange(6.0), "year": [2019, 2020] * 3, "site": list("xyxyzz")})
    pyarrow.dataset.write_dataset(
        pa.Table.from_pandas(table),
        tmp_path / "rows",
        format="parquet",
        partitioning=["year", "site"],
        partitioning_flavor="hive",
    )
    chosen = Selection(key_columns=("site",))
    rows = open_rows(tmp_path / "rows", chosen)
    assert rows.schema.names == ("a", "year")
    (block,) = rows.blocks(10)
    assert block.keys is not None
    expected = (
        pyarrow.dataset.dataset(tmp_path / "rows", partitioning="hive").to_table().to_pandas()
    )
    np.testing.assert_array_equal(block.x, expected[["a", "year"]])
    assert block.keys["site"].to_pylist() == expected["site"].tolist()
    labelled = Selection(label_column="site", normal_label="x")
    assert read(tmp_path / "rows", labelled)[1].sum() == 4  # type: ignore[union-attr]


def test_columns_are_matched_by_name_in_every_file(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0], "b": [2.0]}).to_parquet(tmp_path / "1.parquet")
    pd.DataFrame({"c": ["x"], "b": [4.0], "a": [3.0]}).to_parquet(tmp_path / "2.parquet")
    x, _, schema = read(tmp_path)
    assert schema.names == ("a", "b")
    np.testing.assert_array_equal(x, [[1, 2], [3, 4]])
    pd.DataFrame({"a": [5.0]}).to_parquet(tmp_path / "3.parquet")
    with pytest.raises(InputError, match=r"3\.parquet lacks the column\(s\) 'b'"):
        read(tmp_path)


def test_hidden_files_are_passed_by_and_the_order_is_that_of_names(tmp_path: Path) -> None:
    for name in ("b/2.csv", "b/10.csv", "a.csv", "_top/x.csv", ".tmp/x.csv", "_x.csv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("v\n1\n")
    found, many = find_sources(tmp_path)
    assert many
    assert [source.name for source in found] == ["a.csv", "b/10.csv", "b/2.csv"]
    found, many = find_sources(str(tmp_path / "b" / "*.csv"))
    assert many
    assert [source.name for source in found] == ["10.csv", "2.csv"]
    found, many = find_sources(tmp_path / "a.csv")
    assert not many


def test_inputs_that_name_no_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("v\n1\n")
    with pytest.raises(InputError, match=r"\*\.parquet holds no file of rows"):
        open_rows(tmp_path / "*.parquet")
    with pytest.raises(InputError, match="named twice"):
        open_rows([tmp_path / "a.csv", tmp_path / "a.csv"])
    with pytest.raises(InputError, match="0 files"):
        open_rows([])
    np.save(tmp_path / "b.npy", np.ones((2, 1)))
    with pytest.raises(InputError, match=r"files of 2 formats \(\.csv, \.npy\); allowed: one"):
        open_rows(tmp_path)
    (tmp_path / "k=1").mkdir()
    (tmp_path / "k=1" / "a.csv").write_text("v\n1\n")
    (tmp_path / "b.npy").unlink()
    with pytest.raises(InputError, match=r"k=1/a\.csv lies in folders for \['k'\]; allowed: \[\]"):
        open_rows(tmp_path)

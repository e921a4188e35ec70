"""Rows written by pandas and NumPy come back the same, in every format and block size."""

from __future__ import annotations

import decimal
import tracemalloc
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aejax.config import InputError
from aejax.data.files import Block, Rows, Selection, check_finite, open_rows, read
from aejax.data.schema import Schema

TABLES = (".csv", ".csv.gz", ".parquet")
CELLS = {
    "float64": st.none() | st.floats(-1e30, 1e30),
    "float32": st.none() | st.floats(-(2.0**99), 2.0**99, width=32),
    "Int64": st.none() | st.integers(-(2**53), 2**53),
    "int8": st.integers(-128, 127),
    "bool": st.booleans(),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Tables of 1 to 40 rows: an id, 1 to 5 features of mixed types with gaps, a label."""
    rows = draw(st.integers(1, 40))
    columns = {"id": pd.Series([f"{index:03d}" for index in range(rows)])}
    for index, dtype in enumerate(
        draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=5))
    ):
        cells = draw(st.lists(CELLS[dtype], min_size=rows, max_size=rows))
        columns[f"f {index}, {dtype}"] = pd.Series(cells, dtype=dtype)
    columns["label"] = pd.Series(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)))
    return pd.DataFrame(columns)


def write(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path, row_group_size=max(7, len(table) // 10))
    else:
        table.to_csv(path, index=False)
    return path


def numbers(table: pd.DataFrame) -> np.ndarray:
    """What pandas holds, as float32 with NaN for gaps."""
    return np.stack(
        [table[name].to_numpy(np.float64, na_value=np.nan) for name in table], axis=1
    ).astype(np.float32)


def joined(blocks: list[Block], rows: Rows) -> np.ndarray:
    return np.concatenate(
        [np.empty((0, *rows.schema.shape), np.float32), *(block.x for block in blocks)]
    )


@given(
    table=tables(),
    suffix=st.sampled_from(TABLES),
    size=st.integers(1, 50),
    start=st.integers(0, 45),
)
def test_any_table_comes_back_in_any_blocks(
    tmp_path_factory: pytest.TempPathFactory,
    table: pd.DataFrame,
    suffix: str,
    size: int,
    start: int,
) -> None:
    path = write(table, tmp_path_factory.mktemp("table") / f"rows{suffix}")
    rows = open_rows(path, Selection(label_column="label", key_columns=("id",)))
    blocks = list(rows.blocks(size, start))
    features = table.drop(columns=["id", "label"])
    assert rows.schema == Schema(
        shape=(features.shape[1],), names=tuple(features.columns), kind="table"
    )
    np.testing.assert_array_equal(joined(blocks, rows), numbers(features)[start:])
    assert [len(block.x) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert [block.first_row for block in blocks] == list(range(start, len(table), size))
    for block in blocks:
        part = table.iloc[block.first_row : block.first_row + len(block.x)]
        assert block.keys is not None
        assert block.y is not None
        assert block.keys.to_pydict() == {"id": part["id"].tolist()}
        np.testing.assert_array_equal(block.y, part["label"])
        assert block.x.dtype == np.float32
    x, y, _ = read(path, Selection(label_column="label", drop_columns=("id",)))
    np.testing.assert_array_equal(x, numbers(features))
    np.testing.assert_array_equal(y, table["label"])
    assert rows.rows == (len(table) if suffix == ".parquet" else None)


@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2)),
    axes=st.integers(2, 4),
    dtype=st.sampled_from(["uint8", "float32", "float64", ">f4", "int16", "bool", "float16"]),
    order=st.sampled_from(["C", "F"]),
    form=st.sampled_from(["npy", "stored", "compressed"]),
    size=st.integers(1, 40),
    start=st.integers(0, 35),
)
def test_any_array_comes_back_in_any_blocks(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    axes: int,
    dtype: str,
    order: Literal["C", "F"],
    form: str,
    size: int,
    start: int,
) -> None:
    generator = np.random.default_rng(7)
    saved = generator.normal(0, 50, shape[:axes]).clip(0, 255).astype(dtype, order=order)
    labels = generator.integers(0, 2, len(saved))
    folder = tmp_path_factory.mktemp("array")
    path = folder / ("rows.npy" if form == "npy" else "rows.npz")
    if form == "npy":
        np.save(path, saved)
    else:
        (np.savez if form == "stored" else np.savez_compressed)(path, X=saved, y=labels)
    rows = open_rows(path)
    blocks = list(rows.blocks(size, start))
    image = axes > 2
    expected = saved.astype("uint8" if image and dtype == "uint8" else "float32")
    expected = expected[..., np.newaxis] if axes == 3 else expected
    assert rows.rows == len(saved)
    assert rows.schema.kind == ("image" if image else "table")
    assert rows.schema.names is None
    assert rows.schema.dtype == expected.dtype.name
    np.testing.assert_array_equal(joined(blocks, rows), expected[start:])
    assert [block.first_row for block in blocks] == list(range(start, len(saved), size))
    for block in blocks:
        assert block.x.dtype == expected.dtype
        if form != "npy":
            np.testing.assert_array_equal(block.y, labels[block.first_row :][: len(block.x)])
    x, y, schema = read(path)
    np.testing.assert_array_equal(x, expected)
    assert schema == rows.schema
    assert (y is None) == (form == "npy")


@pytest.mark.parametrize("suffix", TABLES)
def test_a_detectors_columns_are_found_by_name(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame({"extra": ["x", "y"], "b": [1, 2], "a": [0.5, None]})
    path = write(table, tmp_path / f"rows{suffix}")
    expected = Schema(shape=(2,), names=("a", "b"), kind="table")
    x, _, schema = read(path, expected=expected)
    assert schema == expected
    np.testing.assert_array_equal(x, np.array([[0.5, 1], [np.nan, 2]], np.float32))
    with pytest.raises(InputError, match=r"lacks the column\(s\) 'c', 'd'; allowed: every column"):
        open_rows(path, expected=Schema(shape=(3,), names=("a", "c", "d"), kind="table"))
    with pytest.raises(InputError, match="has 2 feature columns; allowed: 140"):
        open_rows(path, Selection(drop_columns=("extra",)), Schema(shape=(140,), kind="series"))


def test_rows_take_the_expected_shape_and_type(tmp_path: Path) -> None:
    image = Schema(shape=(2, 2, 1), dtype="uint8", kind="image")
    write(pd.DataFrame(np.arange(8).reshape(2, 4)), tmp_path / "pixels.csv")
    x, _, _ = read(tmp_path / "pixels.csv", expected=image)
    np.testing.assert_array_equal(x, np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1))
    np.save(tmp_path / "pixels.npy", np.arange(8.0).reshape(2, 2, 2))
    np.testing.assert_array_equal(read(tmp_path / "pixels.npy", expected=image)[0], x)
    write(pd.DataFrame([[0, 1, 2, 3], [0, 1, 256, 3]]), tmp_path / "large.csv")
    with pytest.raises(
        InputError, match=r"row 1, 'pixel\[1,0\]' is 256\.0; allowed: whole numbers"
    ):
        read(tmp_path / "large.csv", expected=image)
    with pytest.raises(InputError, match=r"rows of shape \(2, 2\); allowed: \(4,\)"):
        open_rows(tmp_path / "pixels.npy", expected=Schema(shape=(4,)))


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize(
    ("labels", "normal", "flags"),
    [
        ([0, 1, 0], None, [0, 1, 0]),
        ([0.0, 1.0, 0.0], None, [0, 1, 0]),
        ([True, False, False], None, [1, 0, 0]),
        (["ok", "worn", "broken"], "ok", [0, 1, 1]),
        ([3.0, 1.0, 2.0], "1", [1, 0, 1]),
        ([10, 7, 7], "7", [1, 0, 0]),
    ],
)
def test_label_1_is_an_anomaly(
    tmp_path: Path, suffix: str, labels: list[object], normal: str | None, flags: list[int]
) -> None:
    path = write(pd.DataFrame({"a": [1, 2, 3], "state": labels}), tmp_path / f"rows{suffix}")
    _, y, _ = read(path, Selection(label_column="state", normal_label=normal))
    assert y is not None
    assert y.dtype == np.int8
    assert y.tolist() == flags


def test_labels_may_be_categories_or_an_npz_array_of_text(tmp_path: Path) -> None:
    states = ["ok", "worn", "ok"]
    table = pd.DataFrame({"a": [1, 2, 3], "state": pd.Categorical(states)})
    _, y, _ = read(
        write(table, tmp_path / "rows.parquet"), Selection(label_column="state", normal_label="ok")
    )
    assert y is not None
    assert y.tolist() == [0, 1, 0]
    np.savez(tmp_path / "rows.npz", rows=np.ones((3, 2)), state=np.array(states))
    _, y, _ = read(tmp_path / "rows.npz", Selection(label_column="state", normal_label="ok"))
    assert y is not None
    assert y.tolist() == [0, 1, 0]


def test_an_integer_column_may_turn_into_fractions_far_down(tmp_path: Path) -> None:
    rows = 600_000
    values = np.arange(rows, dtype=np.float64)
    values[-1] += 0.5
    with (tmp_path / "rows.csv").open("w") as file:
        file.write("id,a\n")
        file.writelines(f"00{index},{value:g}\n" for index, value in enumerate(values))
    opened = open_rows(tmp_path / "rows.csv", Selection(key_columns=("id",)))
    last = list(opened.blocks(1000, start=rows - 1500))[-1]
    assert last.keys is not None
    assert last.keys["id"][-1].as_py() == f"00{rows - 1}"
    assert last.x[-1, 0] == np.float32(f"{values[-1]:g}")
    assert len(last.x) == 500


def test_csv_without_a_header_and_with_quotes_marks_and_line_ends(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_bytes(b"1,2.5,0\r\n3,4.5,1\r\n\r\n")
    x, y, schema = read(tmp_path / "plain.csv", Selection(header=False, label_column="column_2"))
    assert schema.names == ("column_0", "column_1")
    assert x.tolist() == [[1, 2.5], [3, 4.5]]
    assert y is not None
    assert y.tolist() == [0, 1]
    (tmp_path / "marked.csv").write_bytes('﻿a,"b ""x"""\n 1 ,"2"\n'.encode())
    x, _, schema = read(tmp_path / "marked.csv")
    assert schema.names == ("a", 'b "x"')
    assert x.tolist() == [[1, 2]]
    (tmp_path / "data.csv").write_bytes(b"0.5,2,-1e-3\n3,4.5,1\n")
    with pytest.raises(InputError, match=r"first line holds numbers .* header=False"):
        open_rows(tmp_path / "data.csv")


def test_decimals_and_pandas_index_columns(tmp_path: Path) -> None:
    table = pa.table({"price": [decimal.Decimal("1.25"), None], "n": pa.array([1, 2], pa.uint64())})
    pq.write_table(table, tmp_path / "decimal.parquet")
    np.testing.assert_array_equal(
        read(tmp_path / "decimal.parquet")[0], np.array([[1.25, 1], [np.nan, 2]], np.float32)
    )
    kept = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}).iloc[[0, 2, 3]]
    kept.to_parquet(tmp_path / "kept.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "kept.parquet").names
    assert open_rows(tmp_path / "kept.parquet").schema.names == ("a",)


def test_check_finite_names_the_first_bad_cell(tmp_path: Path) -> None:
    path = write(pd.DataFrame({"a": [1.0, 2, 3], "b": [1.0, 1e39, None]}), tmp_path / "rows.csv")
    x, _, schema = read(path)
    with pytest.raises(InputError, match=r"rows\.csv: row 1, 'b' is inf; allowed: finite numbers"):
        check_finite(x, schema, path)
    x[1] = 0
    with pytest.raises(InputError, match="row 2, 'b' is nan"):
        check_finite(x, schema, path)
    check_finite(x[:2], schema, path)
    check_finite(np.zeros((1, 2), np.uint8), schema, path)


def test_the_fingerprint_follows_the_content_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("one.npy", 1.0), ("copy.npy", 1.0), ("other.npy", 2.0)):
        np.save(tmp_path / name, np.full((1000, 3), value))
    prints = [
        open_rows(tmp_path / name).fingerprint() for name in ("one.npy", "copy.npy", "other.npy")
    ]
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 64
    monkeypatch.setattr("aejax.data.rows.FINGERPRINT_WHOLE_BYTES", 1000)
    monkeypatch.setattr("aejax.data.rows.FINGERPRINT_SAMPLE_BYTES", 400)
    sampled = open_rows(tmp_path / "one.npy").fingerprint()
    assert sampled != prints[0]
    assert sampled == open_rows(tmp_path / "copy.npy").fingerprint()
    with (tmp_path / "copy.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    assert sampled != open_rows(tmp_path / "copy.npy").fingerprint()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_streaming_holds_a_block_not_the_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pieces that are small beside a small file, as the real ones are beside a real file.
    monkeypatch.setattr("aejax.data.csv_file.BLOCK_BYTES", 1 << 17)
    monkeypatch.setattr("aejax.data.batch_tables.BATCH_BYTES", 1 << 18)
    monkeypatch.setattr("aejax.data.arrays.CHUNK_BYTES", 1 << 17)
    rows, features = 40_000, 50
    x = np.random.default_rng(0).integers(0, 9, (rows, features)).astype(np.float32)
    path = tmp_path / f"rows{suffix}"
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".npz":
        np.savez_compressed(path, x=x)
    else:
        write(pd.DataFrame(x, columns=[f"c{index}" for index in range(features)]), path)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    total, arrow = 0.0, 0
    for block in open_rows(path).blocks(500):
        total += float(block.x.sum(dtype=np.float64))
        arrow = max(arrow, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == x.sum(dtype=np.float64)
    assert peak < x.nbytes / 4
    assert arrow < x.nbytes


def test_real_tables(data_dir: Path) -> None:
    x, y, schema = read(data_dir / "adbench" / "30_satellite.npz")
    with np.load(data_dir / "adbench" / "30_satellite.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(x, archive["X"])
        np.testing.assert_array_equal(y, archive["y"])
    assert schema == Schema(shape=(36,), kind="table")
    selection = Selection(header=False, label_column="column_140", normal_label="1")
    x, y, _ = read(data_dir / "ecg5000" / "ecg.csv", selection)
    assert y is not None
    assert x.shape == (4998, 140)
    assert np.count_nonzero(y == 0) == 2919

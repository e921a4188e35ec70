"""Files that cannot be used end in one InputError that says what is wrong and what is allowed."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aejax.config import InputError
from aejax.data.files import Selection, open_rows, read

ROWS = np.random.default_rng(3).normal(size=(300, 4)).round(4)
LABELS = np.arange(300) % 2


def saved(suffix: str) -> bytes:
    """A good file of each format."""
    table = pd.DataFrame(ROWS, columns=list("abcd")).assign(y=LABELS)
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, ROWS)
    elif suffix == ".npz":
        np.savez_compressed(buffer, X=ROWS, y=LABELS)
    elif suffix == ".parquet":
        table.to_parquet(buffer, row_group_size=100)
    elif suffix == ".csv":
        table.to_csv(buffer, index=False)
    else:
        buffer.write(gzip.compress(table.to_csv(index=False).encode(), mtime=0))
    return buffer.getvalue()


SUFFIXES = (".npy", ".npz", ".csv", ".csv.gz", ".parquet")
GOOD = {suffix: saved(suffix) for suffix in SUFFIXES}


def selection(suffix: str) -> Selection:
    return Selection(label_column=None if suffix.startswith(".np") else "y")


def rows_or_message(path: Path, chosen: Selection) -> np.ndarray | str:
    """What reading gives: rows, or the one line of its InputError; anything else is raised."""
    try:
        return read(path, chosen)[0]
    except InputError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_good_files_are_good(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"rows{suffix}").write_bytes(GOOD[suffix])
    x, y, _ = read(tmp_path / f"rows{suffix}", selection(suffix))
    np.testing.assert_array_equal(x, ROWS.astype(np.float32))
    if y is not None:
        np.testing.assert_array_equal(y, LABELS)


@given(
    suffix=st.sampled_from(SUFFIXES),
    share=st.floats(0, 1, exclude_max=True),
    from_end=st.booleans(),
)
def test_a_cut_file_is_an_input_error_or_a_prefix(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, share: float, from_end: bool
) -> None:
    content = GOOD[suffix]
    # Half of the cuts lie in the last bytes, where footers, directories and checksums are.
    cut = len(content) - 1 - int(share * 100) if from_end else int(share * len(content))
    path = tmp_path_factory.mktemp("cut") / f"rows{suffix}"
    path.write_bytes(content[:cut])
    x = rows_or_message(path, selection(suffix))
    if isinstance(x, str):
        return
    # Only plain text can lose its end unnoticed, and its last number some digits.
    assert suffix == ".csv"
    np.testing.assert_array_equal(x, ROWS[: len(x)].astype(np.float32))


@given(
    suffix=st.sampled_from(SUFFIXES),
    position=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
)
def test_a_changed_byte_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, position: float, byte: int
) -> None:
    content = bytearray(GOOD[suffix])
    # A power, because headers are more easily hurt than the numbers behind them.
    content[int(position**3 * len(content))] = byte
    path = tmp_path_factory.mktemp("changed") / f"rows{suffix}"
    path.write_bytes(content)
    rows_or_message(path, selection(suffix))


@given(suffix=st.sampled_from(SUFFIXES), content=st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("random") / f"rows{suffix}"
    path.write_bytes(content)
    rows_or_message(path, Selection())


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def npy(array: np.ndarray) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:  # np.save would add its own suffix to a path
            np.save(file, array, allow_pickle=True)

    return make


def npz(**arrays: np.ndarray) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    return make


def parquet(**columns: object) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


def promise(path: Path) -> None:
    """An array of 80 TB in a few bytes."""
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 10)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(80))


def packed_promise(path: Path) -> None:
    promise(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", content)


def repeated_names(path: Path) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)


LABEL = Selection(label_column="y")
BAD: list[tuple[str, Callable[[Path], object], Selection | None, str]] = [
    ("a.csv", lambda path: None, None, "does not exist"),
    ("a.csv", lambda path: path.mkdir(), None, "holds no file of rows; allowed: files ending in"),
    ("a.pdf", text("1"), None, r"ends in '\.pdf'; allowed: \.npy, \.npz, \.csv"),
    ("a.csv", text(""), None, "is empty"),
    ("a.csv", text("a,b\n"), None, "0 rows; allowed: at least 1"),
    ("a.csv", text("a,b\n1,2\n3\n"), None, "row 1: it has 1 cells, allowed: 2"),
    ("a.csv", text("a,b\n1,2\n3,4,5\n"), None, "row 1: it has 3 cells, allowed: 2"),
    ("a.csv", text("a,a\n1,2\n"), None, "more than one column 'a'"),
    (
        "a.csv",
        text("a,b\n1,x\n"),
        None,
        "column 'b' is of type string; allowed: numbers, or --drop-columns b",
    ),
    ("a.csv", text("a,day\n1,2020-01-31\n"), None, "column 'day' is of type date32"),
    (
        "a.csv",
        text("a\n" + "1\n" * 3_000_000 + "x\n"),
        None,
        "row 3000000: a is 'x', not a number; allowed",
    ),
    ("a.csv", text("y\n1\n"), LABEL, "has 0 feature columns of 1 columns"),
    ("a.csv", text("a,Y\n1,1\n"), LABEL, r"no column 'y' \(label_column\)"),
    (
        "a.csv",
        text("a,b\n1,1\n"),
        Selection(drop_columns=("c",)),
        r"no column 'c' \(drop_columns\)",
    ),
    ("a.csv", text("abc\n1\n"), Selection(key_columns=("abd",)), "did you mean 'abc'"),
    ("a.csv", text("a,y\n1,0\n1,2\n"), LABEL, "'y' holds '2' in row 1; allowed: 0 .normal. and 1"),
    ("a.csv", text("a,y\n1,0\n1,\n"), LABEL, "'y' holds an empty cell in row 1"),
    (
        "a.csv",
        text("a,y\n1,b\n"),
        Selection(label_column="y", normal_label="c"),
        "no row has the normal label 'c'",
    ),
    ("a.csv.gz", text("a\n1\n"), None, "not readable as CSV"),
    ("a.parquet", text("PAR1 but not really PAR1"), None, "not readable as Parquet"),
    ("a.parquet", parquet(a=pa.array([], pa.int64())), None, "0 rows"),
    ("a.parquet", parquet(a=[1], s=["x"]), None, "column 's' is of type string"),
    ("a.parquet", parquet(a=[1], s=[{"b": 1}]), None, "column 's' is of type struct"),
    ("a.parquet", parquet(a=[1], y=[0.5]), LABEL, "'y' holds 0.5 in row 0"),
    ("a.parquet", parquet(a=[1, 2], y=[1, None]), LABEL, "'y' holds an empty cell in row 1"),
    ("a.parquet", repeated_names, None, "more than one column 'a'"),
    ("a.npy", npy(np.array([[{}]])), None, "holds Python objects, which are never loaded"),
    (
        "a.npy",
        npy(np.zeros(3)),
        None,
        r"shape \(3,\); allowed: .* a single column has shape \(3, 1\)",
    ),
    ("a.npy", npy(np.zeros((0, 3))), None, "0 rows"),
    ("a.npy", npy(np.zeros((3, 0))), None, "at least 1 value in a row"),
    ("a.npy", npy(np.zeros((1, 1, 1, 1, 1))), None, r"shape \(1, 1, 1, 1, 1\); allowed"),
    (
        "a.npy",
        npy(np.zeros((3, 2), np.complex64)),
        None,
        "of type complex64; allowed: integers, floats",
    ),
    ("a.npy", npy(np.array([["a"]])), None, "of type <U1"),
    ("a.npy", npy(np.zeros((3, 2))), LABEL, "no named columns, but label_column is 'y'"),
    ("a.npy", npz(X=np.zeros((3, 2))), None, "not readable as npy"),
    ("a.npy", promise, None, "promises shape .*80000000000000 bytes; it holds 80"),
    ("a.npz", packed_promise, None, "promises shape .*80000000000000 bytes; it holds 80"),
    ("a.npz", npy(np.zeros((3, 2))), None, "not readable as npz|holds the arrays"),
    (
        "a.npz",
        npz(a=np.zeros((3, 2)), b=np.zeros((3, 2))),
        None,
        "the arrays 'a', 'b'; allowed: one named 'X'",
    ),
    ("a.npz", npz(), None, "holds the arrays none"),
    ("a.npz", npz(X=np.array([[{}]])), None, "holds Python objects"),
    ("a.npz", npz(X=np.zeros((3, 2)), y=np.zeros(2)), None, r"shape \(2,\); allowed: shape \(3,\)"),
    ("a.npz", npz(X=np.zeros((3, 2)), y=np.array([0, 3, 1])), None, "'y' holds 3 in row 1"),
    ("a.npz", npz(X=np.zeros((3, 2))), Selection(label_column="z"), "no label array 'z'"),
    (
        "a.npz",
        npz(X=np.zeros((3, 2))),
        Selection(drop_columns=("z",)),
        "no named columns, but drop_columns",
    ),
]


@pytest.mark.parametrize(
    ("name", "make", "chosen", "message"), BAD, ids=[f"{b[0]}-{b[3][:40]}" for b in BAD]
)
def test_bad_input_is_named_in_one_line(
    tmp_path: Path,
    name: str,
    make: Callable[[Path], object],
    chosen: Selection | None,
    message: str,
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=message) as raised:
        read(path, chosen)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_blocks_need_a_size_and_a_start(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    rows = open_rows(tmp_path / "a.npy")
    for size, start in ((0, 0), (1, -1)):
        with pytest.raises(InputError, match="allowed: size at least 1, start at least 0"):
            rows.blocks(size, start)
    assert list(rows.blocks(10, start=300)) == []

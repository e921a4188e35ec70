"""Training rows from files: the same in memory and on disk, bad ones counted and left out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from aejax.config import InputError
from aejax.data import arrays, spool, training_rows
from aejax.data.disk_rows import DiskRows
from aejax.data.rows import Selection
from aejax.data.training_rows import read_training

LABELLED = Selection(label_column="label")


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(500, 3)).astype(np.float32), columns=list("abc"))
    frame["label"] = (np.arange(500) % 10 == 0).astype(int)
    return frame


def write(frame: pd.DataFrame, folder: Path, kind: str) -> Path:
    if kind == "folder":
        (folder / "many").mkdir()
        for number, part in enumerate(np.array_split(np.arange(len(frame)), 3)):
            frame.iloc[part].to_parquet(folder / "many" / f"{number}.parquet", row_group_size=50)
        return folder / "many"
    path = folder / f"x.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["parquet", "folder", "csv", "csv.gz"])
@pytest.mark.parametrize("limit", [1 << 30, 1000, 0])
def test_rows_are_those_that_pandas_reads(
    table: pd.DataFrame,
    tmp_path: Path,
    kind: str,
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_rows, "READ_BYTES", 12 * 70)
    path = write(table, tmp_path, kind)
    found = read_training(path, LABELLED, folder=tmp_path / "run", memory_limit=limit)
    for rows, label in ((found.normal, 0), (found.anomalous, 1)):
        expected = table.loc[table.label == label, ["a", "b", "c"]].to_numpy()
        assert isinstance(rows, DiskRows) == (limit < 1 << 30)
        np.testing.assert_allclose(rows[:], expected, rtol=1e-6)
    assert found.schema.names == ("a", "b", "c")
    assert found.left_out is None
    assert (tmp_path / "run" / "rows").exists() == (limit < 1 << 30)
    assert not (tmp_path / "run" / spool.ASIDE).exists()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_bad_rows_are_counted_and_left_out(
    table: pd.DataFrame, tmp_path: Path, kind: str, limit: int
) -> None:
    table.loc[17, "b"] = np.nan
    table.loc[230, "c"] = np.inf
    path = write(table, tmp_path, kind)
    found = read_training(path, LABELLED, folder=tmp_path, memory_limit=limit)
    assert found.left_out is not None
    assert (found.left_out.rows, found.left_out.of) == (2, 500)
    assert found.left_out.first.startswith("17, 'b' is nan")
    good = table[np.isfinite(table[["a", "b", "c"]]).all(axis=1) & (table.label == 0)]
    np.testing.assert_allclose(found.normal[:], good[["a", "b", "c"]].to_numpy(), rtol=1e-6)
    with pytest.raises(InputError, match=r"row 17.*'b' is nan; allowed: finite numbers"):
        read_training(path, LABELLED, folder=tmp_path, memory_limit=limit, on_bad_row="error")


def test_a_cell_that_is_no_number_is_a_bad_row(table: pd.DataFrame, tmp_path: Path) -> None:
    path = write(table, tmp_path, "csv")
    lines = path.read_text().splitlines()
    # pyarrow types a column by its first block: the word must come behind numbers.
    lines[400] = "1.0,spam,2.0,0"
    path.write_text("\n".join(lines) + "\n")
    found = read_training(path, LABELLED, folder=tmp_path, memory_limit=0)
    assert found.left_out is not None
    assert found.left_out.rows == 1
    assert found.left_out.first.startswith("399")
    assert "spam" in found.left_out.first


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_no_usable_row_is_refused(tmp_path: Path, limit: int) -> None:
    np.save(tmp_path / "x.npy", np.full((9, 2), np.nan, np.float32))
    with pytest.raises(InputError, match="none of 9 rows is usable, the first being row 0"):
        read_training(tmp_path / "x.npy", folder=tmp_path / "run", memory_limit=limit)
    assert not list((tmp_path / "run").glob("*"))


def test_npy_rows_are_used_where_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    found = read_training(tmp_path / "x.npy", folder=tmp_path / "run", memory_limit=0)
    assert isinstance(found.normal, DiskRows)
    assert found.normal.path == tmp_path / "x.npy"
    np.testing.assert_array_equal(found.normal[:], x)
    assert len(found.anomalous) == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["float64", "fortran", "bad row", "big-endian"])
def test_npy_rows_that_cannot_be_picked_as_they_are_are_copied(tmp_path: Path, change: str) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    expected = x
    if change == "float64":
        x = x.astype(np.float64)
    elif change == "fortran":
        x = np.asfortranarray(x)
    elif change == "big-endian":
        x = x.astype(">f4")
    else:
        x[3, 1] = np.nan
        expected = np.delete(x, 3, axis=0)
    np.save(tmp_path / "x.npy", x)
    found = read_training(tmp_path / "x.npy", folder=tmp_path / "run", memory_limit=0)
    assert isinstance(found.normal, DiskRows)
    assert found.normal.path == tmp_path / "run" / "rows" / "normal.npy"
    np.testing.assert_array_equal(np.load(found.normal.path), expected)
    np.testing.assert_array_equal(found.normal[:], expected)


def test_a_spool_of_the_same_files_is_used_again(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = write(table, tmp_path, "csv"), tmp_path / "run"
    table.loc[3, "a"] = np.nan
    path = write(table, tmp_path, "csv")
    first = read_training(path, LABELLED, folder=run, memory_limit=0)
    written = (run / "rows" / "normal.npy").stat().st_mtime_ns
    with monkeypatch.context() as patched:
        patched.setattr(training_rows, "_blocks", None)  # Nothing is read again.
        again = read_training(path, LABELLED, folder=run, memory_limit=0)
    assert again == first
    assert again.left_out is not None
    # Other columns, other content, or a damaged copy: made anew.
    other = Selection(label_column="label", drop_columns=("c",))
    assert read_training(path, other, folder=run, memory_limit=0).schema.shape == (2,)
    read_training(path, LABELLED, folder=run, memory_limit=0)
    with (run / "rows" / "normal.npy").open("r+b") as file:
        file.truncate(200)
    whole = read_training(path, LABELLED, folder=run, memory_limit=0)
    np.testing.assert_array_equal(whole.normal[:], first.normal[:])
    assert (run / "rows" / "normal.npy").stat().st_mtime_ns > written
    table.loc[4, "a"] = 0.25
    write(table, tmp_path, "csv")
    changed = read_training(path, LABELLED, folder=run, memory_limit=0)
    assert 0.25 in changed.normal[:][:, 0]


@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz"])
def test_a_disk_without_room_is_refused_before_anything_is_copied(
    table: pd.DataFrame, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(pd.concat([table] * 20), tmp_path, kind)
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"has 1,000 bytes of room; allowed: at least") as raised:
        read_training(path, LABELLED, folder=tmp_path / "run", memory_limit=0)
    assert "\n" not in str(raised.value)
    needed = int(
        str(raised.value)
        .split("at least ")[1]
        .split(",  ")[0]
        .split(", for")[0]
        .removeprefix("about ")
        .replace(",", "")
    )
    assert needed == pytest.approx(10_000 * (12 + spool.ORDER_BYTES), rel=0.2)
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_is_reported_and_leaves_nothing(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(table, tmp_path, "parquet")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.os, "fsync", full)
    with pytest.raises(InputError, match="cannot take the training rows: No space left"):
        read_training(path, LABELLED, folder=tmp_path / "run", memory_limit=0)
    assert not list((tmp_path / "run").iterdir())


def test_an_unfinished_copy_is_no_spool(table: pd.DataFrame, tmp_path: Path) -> None:
    path, run = write(table, tmp_path, "parquet"), tmp_path / "run"
    (run / spool.ASIDE).mkdir(parents=True)
    (run / spool.ASIDE / "normal.npy").write_bytes(b"cut short")
    found = read_training(path, LABELLED, folder=run, memory_limit=0)
    assert len(found.normal) == 450
    described = json.loads((run / "rows" / "rows.json").read_text())
    assert (described["normal"], described["anomalous"]) == (450, 50)
    spool.remove_spool(run)
    assert not list(run.iterdir())


def test_lines_are_counted_by_their_length(tmp_path: Path) -> None:
    lines = ["a,b\n", *(f"{row},{row / 7:.6f}\n" for row in range(200_000))]
    (tmp_path / "x.csv").write_text("".join(lines))
    with gzip.open(tmp_path / "x.csv.gz", "wt") as file:
        file.writelines(lines)
    for name in ("x.csv", "x.csv.gz"):
        opened = training_rows.files.open_rows(tmp_path / name)
        about = spool._about_rows(opened.parts[0], opened.schema)
        assert about == pytest.approx(200_000, rel=0.15)


def test_a_plain_array_begins_behind_its_header(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2), np.float32))
    schema = training_rows.files.open_rows(tmp_path / "x.npy").schema
    assert arrays.plain_offset(tmp_path / "x.npy", schema) == 128

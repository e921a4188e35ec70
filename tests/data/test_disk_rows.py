"""Rows on disk are picked, sliced and split as the same rows in memory are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from aejax.config import InputError
from aejax.data import batches
from aejax.data.disk_rows import DiskRows
from aejax.data.schema import Schema

ROWS = 1000


@pytest.fixture
def stored(tmp_path: Path) -> tuple[np.ndarray, DiskRows]:
    x = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    offset = (tmp_path / "x.npy").stat().st_size - x.nbytes
    rows = DiskRows(
        path=tmp_path / "x.npy",
        schema=Schema(shape=(3,)),
        offset=offset,
        stored=ROWS,
        scratch=tmp_path / "scratch",
    )
    return x, rows


def same(found: DiskRows, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.nbytes == expected.nbytes
    np.testing.assert_array_equal(found[:], expected)
    picked = np.random.default_rng(1).integers(0, len(expected), 200)
    np.testing.assert_array_equal(found[picked], expected[picked])
    for part in (slice(10, 50), slice(None, None, 7), slice(5, 5), slice(90, None)):
        np.testing.assert_array_equal(found[part], expected[part])
    for block, wanted in zip(batches.in_blocks(found), batches.in_blocks(expected), strict=True):
        np.testing.assert_array_equal(block, wanted)


def test_all_rows(stored: tuple[np.ndarray, DiskRows]) -> None:
    same(stored[1], stored[0])


@pytest.mark.parametrize("fraction", [0.0, 1e-9, 0.1, 0.5, 0.999])
def test_a_split_is_that_of_arrays(stored: tuple[np.ndarray, DiskRows], fraction: float) -> None:
    x, rows = stored
    training, held = batches.validation_split(ROWS, fraction, seed=3)
    assert sorted([*training, *held]) == list(range(ROWS))
    for found, picked in zip(rows.split(fraction, 3), (training, held), strict=True):
        same(found, x[picked]) if len(picked) else None
        assert len(found) == len(picked)


def test_blocks_follow_the_bytes_of_a_row(
    stored: tuple[np.ndarray, DiskRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BLOCK_BYTES", 12 * 300)
    assert [len(block) for block in batches.in_blocks(stored[1])] == [300, 300, 300, 100]
    same(stored[1], stored[0])


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (7, 3), (1000, 64), (300_001, 4096)])
def test_the_order_is_numpys_permutation(rows: int, size: int) -> None:
    # The order decides a run's bits, so this pins it to another way of drawing it.
    expected = batches.host_random(3, "order", 2).permutation(rows)
    order = batches.epoch_order(rows, size, seed=3, epoch=2)
    assert order.dtype == np.int32
    assert order.shape == (-(-rows // size), size)
    np.testing.assert_array_equal(order.ravel()[:rows], expected)
    # The last batch is filled up with rows of its own, masked by their sign.
    last, padding = order[-1, : rows - (len(order) - 1) * size], order.ravel()[rows:]
    np.testing.assert_array_equal(~padding, np.resize(last, len(padding)))


def test_numbers_on_disk_leave_no_file(stored: tuple[np.ndarray, DiskRows]) -> None:
    _, rows = stored
    order = batches.epoch_order(ROWS, 64, 0, 0, new=rows.numbers)
    np.testing.assert_array_equal(order, batches.epoch_order(ROWS, 64, 0, 0))
    assert list(rows.scratch.iterdir()) == []


def test_no_room_for_numbers_is_reported(stored: tuple[np.ndarray, DiskRows]) -> None:
    with pytest.raises(InputError, match=r"has no room for \d+ bytes of row numbers"):
        stored[1].numbers(1 << 58, np.int32)


def test_a_file_cut_short_is_reported(stored: tuple[np.ndarray, DiskRows]) -> None:
    longer = dataclasses.replace(stored[1], stored=ROWS + 1)
    with pytest.raises(InputError, match="ends before row 1001"):
        longer[990:1001]

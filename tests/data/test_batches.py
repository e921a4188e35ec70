"""Every row once, padding that is masked, and a stream that keeps its order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aejax.data import batches

ROWS = st.integers(1, 300)
SIZES = st.integers(1, 70)
SEEDS = st.integers(0, 2**32 - 1)


@given(ROWS, SIZES, SEEDS, st.integers(0, 1000))
def test_an_epoch_holds_every_row_once(rows: int, size: int, seed: int, epoch: int) -> None:
    order = batches.epoch_order(rows, size, seed, epoch)
    assert order.dtype == np.int32
    assert order.shape == (-(-rows // size), size)
    flat = order.ravel()
    assert sorted(flat[flat >= 0]) == list(range(rows))
    # Padding is at the end of the last batch only, of rows of that batch, as ~position.
    assert (flat[:rows] >= 0).all()
    assert (flat[rows:] < 0).all()
    assert set(~flat[rows:]) <= set(order[-1])


def test_an_order_is_the_same_every_time_and_another_in_every_epoch_and_seed() -> None:
    first = batches.epoch_order(500, 32, 7, 3)
    np.testing.assert_array_equal(first, batches.epoch_order(500, 32, 7, 3))
    for other in ((7, 4), (8, 3), (3, 7)):
        assert not np.array_equal(first, batches.epoch_order(500, 32, *other))


def test_orders_are_shuffled_evenly() -> None:
    """A row's place has the mean of a uniform place, over many epochs."""
    places = np.mean([np.argsort(batches.epoch_order(20, 20, 0, e)[0]) for e in range(2000)], 0)
    deviation = np.sqrt((20**2 - 1) / 12 / 2000)
    assert np.abs(places - 9.5).max() < 5 * deviation


def test_random_streams_differ_by_name_seed_and_position() -> None:
    keys = [(0, "a"), (0, "b"), (1, "a"), (0, "a", 1), (0, "a", 2), (0, "a", 1, 2)]
    drawn = [batches.host_random(*key).integers(1 << 62) for key in keys]
    assert len(set(drawn)) == len(drawn)
    assert drawn == [batches.host_random(*key).integers(1 << 62) for key in keys]


@given(st.integers(2, 400), st.floats(0, 1, exclude_max=True), SEEDS)
def test_validation_split_is_a_partition(rows: int, fraction: float, seed: int) -> None:
    left, held = batches.validation_split(rows, fraction, seed)
    assert sorted([*left, *held]) == list(range(rows))
    assert (np.diff(left) > 0).all()
    assert (np.diff(held) > 0).all()
    assert len(left) >= 1
    assert len(held) == 0 if fraction == 0 else len(held) >= 1
    if fraction > 0:
        assert abs(len(held) - rows * fraction) <= 1


def test_validation_split_depends_on_the_seed_only() -> None:
    first, again, other = (batches.validation_split(100, 0.2, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@given(st.integers(0, 20), st.integers(0, 20), st.sampled_from(["uint8", "float32"]))
def test_pad(rows: int, more: int, dtype: str) -> None:
    x = np.random.default_rng(0).integers(1, 200, (rows, 3, 2)).astype(dtype)
    x, mask = batches.pad(x, rows + more)
    assert x.shape == (rows + more, 3, 2)
    assert x.dtype == dtype
    assert mask.dtype == bool
    assert mask.sum() == rows
    assert mask[:rows].all()
    assert (x[rows:] == 0).all()


def test_pad_of_a_full_batch_copies_nothing() -> None:
    x = np.zeros((4, 2))
    assert batches.pad(x, 4).x is x


@given(ROWS, SIZES)
def test_tiles_hold_the_rows_in_order(rows: int, size: int) -> None:
    x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2) + 1
    tiles, mask = batches.tiles(x, size)
    assert tiles.shape == (-(-rows // size), size, 2)
    assert mask.shape == tiles.shape[:2]
    np.testing.assert_array_equal(tiles[mask], x)
    assert (tiles[~mask] == 0).all()


@pytest.mark.parametrize(("rows", "size"), [(1, 4), (7, 3), (64, 8), (65, 8), (1000, 16)])
def test_stream_gives_the_order_exactly(rows: int, size: int) -> None:
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    order = batches.epoch_order(rows, size, 5, 1)
    found = list(batches.stream(x, order))
    assert len(found) == len(order)
    for batch, picked in zip(found, order, strict=True):
        assert batch.x.shape == (size, 3)
        assert batch.mask.dtype == bool
        np.testing.assert_array_equal(batch.mask, picked >= 0)
        np.testing.assert_array_equal(batch.x[batch.mask], x[picked[picked >= 0]])
        assert np.isfinite(batch.x).all()


def test_stream_reads_any_source_of_rows_and_only_what_is_asked_for() -> None:
    class Source:
        def __len__(self) -> int:
            return 10

        def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
            assert (rows >= 0).all()
            assert (rows < 10).all()
            return np.stack([rows, rows * rows], axis=1).astype(np.uint8)

    order = np.array([[9, 0], [3, 3], [4, -1]], np.int32)
    (first, second, third) = batches.stream(Source(), order)
    assert first.x.tolist() == [[9, 81], [0, 0]]
    assert second.x.tolist() == [[3, 9], [3, 9]]
    assert third.x[0].tolist() == [4, 16]
    assert third.mask.tolist() == [True, False]


def test_stream_of_a_memory_map(tmp_path: object) -> None:
    path = f"{tmp_path}/rows.npy"
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.save(path, x)
    order = batches.epoch_order(50, 8, 0, 0)
    found = batches.stream(np.load(path, mmap_mode="r"), order)
    np.testing.assert_array_equal(
        np.concatenate([batch.x[batch.mask] for batch in found]), x[order[order >= 0]]
    )


def test_stream_passes_on_what_the_source_raises() -> None:
    class Broken:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(batches.stream(Broken(), np.array([[0, 1], [2, 3]], np.int32)))

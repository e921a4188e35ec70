"""The published data sets against published numbers and against their raw files."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from aejax.config import InputError
from aejax.data import datasets, prepare


def idx_images(path: Path) -> np.ndarray:
    """LeCun's idx format, read here by hand: 16 bytes of header, then the pixels."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(
        -1, 28, 28, 1
    )


def idx_labels(path: Path) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=8)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(datasets.__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_unknown_names_and_splits_get_a_suggestion() -> None:
    with pytest.raises(
        InputError, match=r"'mnits'; did you mean 'mnist'\? allowed: digits, ecg5000"
    ):
        datasets.load("mnits", "train")
    with pytest.raises(InputError, match=r"split of mnist is 'tets'; did you mean 'test'\?"):
        datasets.load("mnist", "tets")
    with pytest.raises(InputError, match="data set is 'digits'; "):
        prepare.prepare("digits")
    assert set(datasets.names()) == {"digits", "mnist", "fashion_mnist", "ecg5000"}


def test_digits_are_scikit_learns_divided_by_16() -> None:
    from sklearn.datasets import load_digits

    split = datasets.load("digits", "all")
    assert split.x.shape == (1797, *split.schema.shape)
    assert split.x.dtype == np.float32
    assert split.y.dtype == np.int64
    np.testing.assert_array_equal(split.x.reshape(1797, 64) * 16, load_digits().data)
    assert (split.x.min(), split.x.max()) == (0, 1)


@pytest.mark.parametrize(
    ("name", "first_label", "ones", "mean"),
    [("mnist", 5, 6742, 33.318421), ("fashion_mnist", 9, 6000, 72.940352)],
)
def test_images_are_the_raw_files_in_their_order(
    data_dir: Path, name: str, first_label: int, ones: int, mean: float
) -> None:
    train, test = datasets.load(name, "train"), datasets.load(name, "test")
    assert train.y[0] == first_label
    assert np.count_nonzero(train.y == 1) == ones
    assert train.x.mean() == pytest.approx(mean, abs=1e-6)
    assert train.x.dtype == np.uint8
    assert train.y.dtype == np.int64
    raw = data_dir / name
    np.testing.assert_array_equal(train.x, idx_images(raw / "train-images-idx3-ubyte.gz"))
    np.testing.assert_array_equal(train.y, idx_labels(raw / "train-labels-idx1-ubyte.gz"))
    np.testing.assert_array_equal(test.x, idx_images(raw / "t10k-images-idx3-ubyte.gz"))
    np.testing.assert_array_equal(test.y, idx_labels(raw / "t10k-labels-idx1-ubyte.gz"))


def test_fashion_mnist_is_not_mnist(data_dir: Path) -> None:
    images = [datasets.load(name, "test").x for name in ("mnist", "fashion_mnist")]
    assert np.mean(images[0] == images[1]) < 0.6


def test_ecg5000_is_the_csv_file_row_by_row(data_dir: Path) -> None:
    split = datasets.load("ecg5000", "all")
    raw = np.genfromtxt(data_dir / "ecg5000" / "ecg.csv", delimiter=",")
    np.testing.assert_array_equal(split.x, raw[:, :140].astype(np.float32))
    np.testing.assert_array_equal(split.y, raw[:, 140])
    assert np.count_nonzero(split.y == 1) == 2919
    assert split.schema.kind == "series"
    assert split.x.dtype == np.float32
    assert split.y.dtype == np.int64


def test_a_later_load_imports_nothing_heavy(data_dir: Path) -> None:
    datasets.load("mnist", "train")
    code = (
        "import sys;"
        "from aejax.data.datasets import load; assert load('mnist', 'train').x.shape[0] == 60_000;"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'jax', 'sklearn'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    finished = run(code)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_two_processes_may_prepare_at_once(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEJAX_CACHE_DIR", str(tmp_path / "cache"))
    loaded: list[datasets.Split] = []
    threads = [
        threading.Thread(target=lambda: loaded.append(datasets.load("ecg5000", "all")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 2
    np.testing.assert_array_equal(loaded[0].x, loaded[1].x)
    folders = {path.relative_to(tmp_path / "cache") for path in (tmp_path / "cache").glob("*/*")}
    assert folders == {Path("arrays/ecg5000"), Path("tfds/ecg5000")}


def test_a_wrong_raw_file_is_named_with_both_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw" / "ecg5000").mkdir(parents=True)
    (tmp_path / "raw" / "ecg5000" / "ecg.csv").write_text("1,2,3\n")
    monkeypatch.setenv("AEJAX_DATA_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("AEJAX_CACHE_DIR", str(tmp_path / "cache"))
    found = hashlib.sha256(b"1,2,3\n").hexdigest()
    with pytest.raises(InputError, match=rf"ecg\.csv has sha256 {found}; allowed: 72ce7b040ca0"):
        datasets.load("ecg5000", "all")
    assert not list((tmp_path / "cache").glob("*/*"))


def test_an_unreachable_host_names_the_url_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AEJAX_DATA_DIR", raising=False)
    monkeypatch.setenv("AEJAX_CACHE_DIR", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    with pytest.raises(InputError) as raised:
        datasets.load("ecg5000", "all")
    assert "http://storage.googleapis.com/download.tensorflow.org/data/ecg.csv" in str(raised.value)
    assert "$AEJAX_DATA_DIR/ecg5000" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_records_are_decoded_without_tensorflow(data_dir: Path, tmp_path: Path) -> None:
    datasets.load("ecg5000", "all")
    (tmp_path / "tfds").symlink_to(datasets.cache_folder() / "tfds")
    code = (
        "import sys; from aejax.data.prepare import prepare; prepare('ecg5000');"
        "loaded = {'tensorflow', 'jax'} & set(sys.modules); assert not loaded, loaded"
    )
    finished = run(code, AEJAX_CACHE_DIR=str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    again = np.load(tmp_path / "arrays" / "ecg5000" / "all_x.npy", allow_pickle=False)
    np.testing.assert_array_equal(again, datasets.load("ecg5000", "all").x)


def test_a_damaged_cache_says_what_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEJAX_CACHE_DIR", str(tmp_path))
    folder = datasets.arrays_folder("ecg5000")
    folder.mkdir(parents=True)
    np.save(folder / "all_x.npy", np.zeros((2, 140), np.float32))
    np.save(folder / "all_y.npy", np.zeros(2, np.int64))
    with pytest.raises(
        InputError, match=r"arrays/ecg5000 holds all rows of shape \(2, 140\); delete it"
    ):
        datasets.load("ecg5000", "all")
    (folder / "all_x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"all_x\.npy is not readable.*delete .*arrays/ecg5000"):
        datasets.load("ecg5000", "all")


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEJAX_CACHE_DIR", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert datasets.cache_folder() == Path("/one")
    monkeypatch.delenv("AEJAX_CACHE_DIR")
    assert datasets.cache_folder() == Path("/two/aejax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert datasets.cache_folder() == Path.home() / ".cache" / "aejax"


def test_a_split_cannot_be_changed() -> None:
    split = datasets.load("digits", "all")
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.x = split.x[:1]  # type: ignore[misc]

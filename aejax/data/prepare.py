"""Prepares one published data set in the cache folder: `python -m aejax.data.prepare mnist`.

TensorFlow Datasets writes the set as array_record files (this needs TensorFlow), and the
records are then decoded into NumPy arrays (this doesn't). `aejax.data.datasets` runs this
file as a process of its own. Everything is made in a private folder and renamed into place
when it is complete, so that processes preparing the same set at once cannot harm each other.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import InputError, suggest
from aejax.config.checks import extra
from aejax.data.datasets import CATALOGUE, arrays_folder, cache_folder

RECORDS_AT_ONCE = 2_000
REACH_SECONDS = 10


def prepare(name: str) -> Path:
    """Prepare a data set, unless it is already there.

    Args:
        name: "mnist", "fashion_mnist" or "ecg5000".

    Returns:
        The folder of the set's arrays, `<split>_x.npy` and `<split>_y.npy`.

    Raises:
        InputError: if the name is unknown, a raw file is not the published one, a download
            fails, or TensorFlow is needed and isn't installed.
    """
    prepared = [known for known in CATALOGUE if known != "digits"]
    if name not in prepared:
        raise InputError(f"data set is {name!r}; {suggest(name, prepared)}")
    arrays = arrays_folder(name)
    if arrays.is_dir():
        return arrays
    records = cache_folder() / "tfds" / name
    if not records.is_dir():
        with _made_aside(records) as aside:
            _write_records(name, aside)
    with _made_aside(arrays) as aside:
        _write_arrays(name, records, aside)
    return arrays


@contextmanager
def _made_aside(target: Path) -> Iterator[Path]:
    """A private folder that becomes `target` when the block ends well, or is dropped."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    aside = scratch / target.name
    aside.mkdir()
    try:
        yield aside
        try:
            aside.rename(target)
        except OSError:
            # Another process was first, and its folder holds the same files.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_records(name: str, folder: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with extra("prepare"):
        import tensorflow  # noqa: F401  (TensorFlow Datasets writes records with it)
    with extra("recipes"):
        import requests
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
        from tensorflow_datasets.core.download.util import DownloadError

    tfds.display_progress_bar(False)
    # A data_dir and a download_dir for this set only: fashion_mnist has MNIST's file names, and
    # from a shared download folder it would be built of MNIST's extracted images.
    work = folder.parent / "work"
    builder = _builder(name, work / "data")
    # The published order; TFDS shuffles by a hash of the row index otherwise.
    builder.info.as_proto.disable_shuffling = True
    wanted = {url: info for url, info in builder.url_infos.items() if url.startswith(builder.URL)}
    raw = _raw_folder(name)
    missing = _check_raw_files(raw, wanted)
    files = ", ".join(info.filename for info in wanted.values())
    settings = tfds.download.DownloadConfig(
        manual_dir=None if raw is None else str(raw), try_download_gcs=False
    )
    try:
        # One short try first: TFDS itself goes on trying a host that isn't there for minutes.
        for url in missing[:1]:
            requests.head(url, timeout=REACH_SECONDS, allow_redirects=True).close()
        builder.download_and_prepare(download_dir=str(work / "downloads"), download_config=settings)
    except NonMatchingChecksumError as error:
        raise InputError(
            f"{name}: a download is not the published file: {_one_line(error)}"
        ) from error
    except (requests.RequestException, DownloadError, ConnectionError, TimeoutError) as error:
        url = next(iter(missing), builder.URL)
        raise InputError(
            f"{name}: cannot download {url} ({type(error).__name__}); "
            f"or put {files} in the folder $AEJAX_DATA_DIR/{name}"
        ) from error
    for path in Path(builder.data_dir).iterdir():
        path.rename(folder / path.name)


def _builder(name: str, data_dir: Path) -> Any:
    with extra("recipes"):
        import tensorflow_datasets as tfds

    if name == "ecg5000":
        from aejax.data.ecg5000 import Ecg5000

        return Ecg5000(data_dir=str(data_dir), file_format="array_record")
    return tfds.builder(name, data_dir=str(data_dir), file_format="array_record")


def _raw_folder(name: str) -> Path | None:
    root = os.environ.get("AEJAX_DATA_DIR")
    folder = Path(root).expanduser() / name if root else None
    return folder if folder is not None and folder.is_dir() else None


def _check_raw_files(folder: Path | None, wanted: Mapping[str, Any]) -> list[str]:
    """Check the files that are there; the URLs of those that aren't."""
    missing = []
    for url, info in wanted.items():
        path = None if folder is None else folder / info.filename
        if path is None or not path.exists():
            missing.append(url)
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != info.checksum:
            raise InputError(
                f"{path} has sha256 {digest}; allowed: {info.checksum}, the file at {url}"
            )
    return missing


def _write_arrays(name: str, records: Path, folder: Path) -> None:
    with extra("recipes"):
        import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(records))
    entry = CATALOGUE[name]
    row = "image" if entry.schema.kind == "image" else "x"
    for split, rows in entry.rows.items():
        source = builder.as_data_source(split="train" if split == "all" else split)
        if len(source) != rows:
            raise InputError(
                f"{records} holds {len(source)} {split} rows; allowed: {rows}; "
                "delete it to prepare it again"
            )
        x = np.empty((rows, *entry.schema.shape), dtype=entry.schema.dtype)
        y = np.empty(rows, dtype=np.int64)
        for start in range(0, rows, RECORDS_AT_ONCE):
            indices = range(start, min(start + RECORDS_AT_ONCE, rows))
            for index, record in zip(indices, source.__getitems__(list(indices)), strict=True):
                x[index], y[index] = record[row], record["label"]
        np.save(folder / f"{split}_x.npy", x, allow_pickle=False)
        np.save(folder / f"{split}_y.npy", y, allow_pickle=False)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the named data set; 0 when it is ready, 2 (and one line on stderr) for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m aejax.data.prepare", description="Prepare a data set once."
    )
    parser.add_argument("name")
    name = parser.parse_args(arguments).name
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        prepare(name)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

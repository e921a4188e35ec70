"""A detector on disk: one JSON file that names one folder of arrays.

    detector.json        configuration, schema, threshold, provenance, name of the arrays
    arrays-DIGEST/       scaler, parameters and batch statistics, written by Orbax

Arrays are written first, under the digest of their content; then `detector.json` is
replaced by a rename. Whatever interrupts this, the folder holds the old detector or the
new one. A new threshold replaces the JSON file only. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.config import InputError, read_json

FORMAT_VERSION = 1
JSON_NAME = "detector.json"
MAX_BYTES = 64 << 20


def digest(tree: Any) -> str:
    """SHA-256 of a pytree's names, types, shapes and values, in hexadecimal."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(jax.device_get(leaf))
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def write(folder: Path, described: dict[str, Any], arrays: Any) -> None:
    """Write or replace the detector in a folder.

    Of several processes all call this, with equal arrays; the first one writes.

    Args:
        folder: created where it doesn't exist.
        described: JSON-ready description.
        arrays: pytree of arrays.
    """
    from aejax.training import processes
    from aejax.training.checkpoint import save_arrays

    folder.mkdir(parents=True, exist_ok=True)
    name = f"arrays-{digest(arrays)[:16]}"
    if not (folder / name).is_dir():
        # Processes that save together name one folder, which one that was killed may have left.
        together = processes.are_joined()
        aside = folder / f".writing-{name if together else uuid.uuid4().hex}"
        if together and processes.is_first():
            shutil.rmtree(aside, ignore_errors=True)
        save_arrays(aside, arrays)
        if processes.is_first():
            aside.rename(folder / name)
    if not processes.is_first():
        return
    text = json.dumps({"format": FORMAT_VERSION, **described, "arrays": name}, indent=2) + "\n"
    aside = folder / f".{JSON_NAME}-{uuid.uuid4().hex}"
    aside.write_text(text, encoding="utf-8")
    aside.replace(folder / JSON_NAME)
    for old in folder.glob("arrays-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def read_description(folder: Path) -> dict[str, Any]:
    """The description in a detector's folder.

    Raises:
        InputError: if the folder holds no detector, a damaged one, or one of a newer format.
    """
    path = folder / JSON_NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no detector ({JSON_NAME} is missing)")
    written = read_json(path, MAX_BYTES)
    version = written.get("format")
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: format is {version!r}; allowed: {FORMAT_VERSION}")
    if not re.fullmatch(r"arrays-[0-9a-f]{16}", str(written.get("arrays"))):
        raise InputError(f"{path}: arrays is {written.get('arrays')!r}; allowed: arrays-DIGEST")
    return written


def read_arrays(folder: Path, name: str, like: Any) -> Any:
    """The arrays of a detector, as a pytree of NumPy arrays shaped `like`.

    Raises:
        InputError: if they are missing, damaged, or not the ones that the description names.
    """
    from aejax.training.checkpoint import load_arrays

    arrays = load_arrays(folder / name, like)
    found = f"arrays-{digest(arrays)[:16]}"
    if found != name:
        raise InputError(f"{folder / name}: content is {found}; allowed: {name} (damaged?)")
    return arrays

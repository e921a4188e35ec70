"""A detector on disk: one JSON file that names one folder of arrays.

    detector.json        configuration, schema, threshold, provenance, name of the arrays
    arrays-DIGEST/       scaler, parameters and batch statistics, written by Orbax

Arrays are written first, under the digest of their content; then `detector.json` is
replaced by a rename. Whatever interrupts this, the folder holds the old detector or the
new one. A new threshold replaces the JSON file only. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aejax.config import InputError, read_json
from aejax.config.durable import (
    ASIDE,
    aside_of,
    make_folder,
    refused_as_input,
    remove_folder,
    sync_folder,
    write_file,
)
from aejax.core.scaling import Scaler
from aejax.training.identity import digest

# 2: of mixed tables, whose schema earlier versions of this package would overlook. Others are
# still written as 1, and read by those versions.
FORMAT_VERSION, MIXED_FORMAT_VERSION = 1, 2
JSON_NAME = "detector.json"
MAX_BYTES = 64 << 20
# Of more groups than a person reads, a description without indentation is half as large.
MOST_INDENTED = 1000


def arrays_of(scaler: Scaler, variables: Any) -> dict[str, Any]:
    """A detector's arrays as the tree that is saved."""
    kept = scaler._asdict()
    if scaler.knots is None:
        # Detectors written before there were any have no such field.
        del kept["knots"]
    return {"scaler": kept, "variables": variables}


def write(folder: Path, described: dict[str, Any], arrays: Any) -> None:
    """Write or replace the detector in a folder.

    Of several processes all call this, with equal arrays; the first one writes.

    Args:
        folder: created where it doesn't exist.
        described: JSON-ready description.
        arrays: pytree of arrays.

    Raises:
        InputError: if the disk doesn't take them, or the description is too long to be read
            back; the folder then holds what it held.
    """
    from aejax.training import processes
    from aejax.training.checkpoint import save_arrays

    first = processes.is_first()
    make_folder(folder)
    name = f"arrays-{digest(arrays)[:16]}"
    written = {"format": _format_of(described), **described, "arrays": name}
    indent = 2 if len(described.get("groups", ())) <= MOST_INDENTED else None
    text = json.dumps(written, indent=indent) + "\n"
    if len(text) > MAX_BYTES:
        raise InputError(
            f"{folder / JSON_NAME} would take {len(text):,} bytes; allowed: {MAX_BYTES:,} "
            "(train fewer groups in one run)"
        )
    if not (folder / name).is_dir():
        aside = aside_of(folder / name)
        if first:
            _remove_unfinished(folder)
        try:
            with refused_as_input(folder):
                # Processes save together.
                save_arrays(aside, arrays)
                if first:
                    aside.rename(folder / name)
                    sync_folder(folder)
        except InputError:
            if first:
                _remove_unfinished(folder)
            raise
    if not first:
        return
    write_file(folder / JSON_NAME, text)
    # The new detector is there: what can't be removed now is removed by the next save.
    with contextlib.suppress(OSError):
        for old in folder.glob("arrays-*"):
            if old.name != name:
                remove_folder(old)
    _remove_unfinished(folder)


def _remove_unfinished(folder: Path) -> None:
    # Orbax adds an ending of its own to a name that isn't written yet.
    for left in folder.glob(f".arrays-*{ASIDE}*"):
        shutil.rmtree(left, ignore_errors=True)


def _format_of(described: Mapping[str, Any]) -> int:
    schema = described.get("schema")
    mixed = isinstance(schema, Mapping) and schema.get("columns") is not None
    return MIXED_FORMAT_VERSION if mixed else FORMAT_VERSION


def home(folder: Path) -> Path:
    """Where a folder's detector is: there, or in the `detector/` of a run."""
    inner = folder / "detector"
    return inner if not (folder / JSON_NAME).is_file() and inner.is_dir() else folder


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
    if version != (allowed := _format_of(written)):
        raise InputError(f"{path}: format is {version!r}; allowed: {allowed}")
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

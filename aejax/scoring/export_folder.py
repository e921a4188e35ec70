"""The folder of an export: what is in it, how it is written, and how it is read with suspicion.

export.json        format, schema, configuration, thresholds, provenance, metrics; size and
                   SHA-256 of every other file but the card, and of itself
MODEL_CARD.md      what a person should know; it may be edited
and, by the kind of export,
score.stablehlo    rows to scores, for any number of rows, on cpu, cuda and tpu
explain.stablehlo  rows to scores, features and their errors, where the model gives any
arrays.npz         scaler and parameters, the programs' first argument
scorer.py          scores with the files above, JAX and NumPy; never run by this package
model.onnx         the same scores as an ONNX graph, parameters and threshold inside
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aejax.config import InputError
from aejax.config.durable import exchange, sync_folder, written_aside

FORMAT_VERSION = 1
NAME, CARD = "export.json", "MODEL_CARD.md"
SCORE, EXPLAIN, ARRAYS, LOADER = "score.stablehlo", "explain.stablehlo", "arrays.npz", "scorer.py"
ONNX = "model.onnx"
# Bytes that a file may have: a name that isn't here is never opened.
LIMITS = {
    SCORE: 64 << 20,
    EXPLAIN: 64 << 20,
    ARRAYS: 16 << 30,
    LOADER: 1 << 20,
    ONNX: 2 << 30,
}
JSON_BYTES = 64 << 20
JSON_DEPTH = 32


def is_export(folder: Path) -> bool:
    """Whether a folder says that it is an export."""
    return (folder / NAME).is_file()


@contextlib.contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill that takes its name only when the block ends well, and else is gone.

    Args:
        out: its name.
        overwrite: replace an export that has it; nothing else is ever replaced.

    Raises:
        InputError: if the name is taken, or the disk doesn't take the files.
    """
    old = out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir())))
    if old and (out.is_symlink() or not is_export(out)):
        raise InputError(f"{out} is there and holds no export; allowed: a new or an empty folder")
    if old and not overwrite:
        raise InputError(f"{out} already holds an export; allowed: --overwrite to replace it")
    aside = out.parent / f".{out.name}-{uuid.uuid4().hex}.writing"
    try:
        aside.mkdir(parents=True)
        yield aside
        sync_folder(aside)
        if old:
            if not exchange(aside, out):
                _replace_in_two_steps(aside, out)
        else:
            aside.replace(out)
        sync_folder(out.parent)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace_in_two_steps(aside: Path, out: Path) -> None:
    """What stops between the two leaves the old export under its other name."""
    before = aside.with_suffix(".replaced")
    out.rename(before)
    try:
        aside.rename(out)
    except OSError:
        before.rename(out)
        raise
    shutil.rmtree(before, ignore_errors=True)


def write(folder: Path, described: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write files, and the description that vouches for them.

    Args:
        folder: from `new_folder`.
        described: JSON-ready; without "format" and "files".
        files: name -> content.
    """
    for name, content in files.items():
        with written_aside(folder / name) as file:
            file.write(content)
    # As it will be read: keys are text, tuples are lists.
    described = json.loads(
        json.dumps(
            {
                "format": FORMAT_VERSION,
                **described,
                "files": {
                    name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                    for name, content in sorted(files.items())
                },
            }
        )
    )
    text = json.dumps({**described, "sha256": _digest(described)}, indent=2) + "\n"
    with written_aside(folder / NAME) as file:
        file.write(text.encode())


def read_description(folder: Path) -> dict[str, Any]:
    """What an export says of itself.

    Raises:
        InputError: if the folder holds no export, a damaged one, or one of a newer format.
    """
    path = folder / NAME
    content = _read(path, JSON_BYTES)
    try:
        text = content.decode("utf-8")
        if _depth(text) > JSON_DEPTH:
            raise InputError(f"{path} is nested deeper than {JSON_DEPTH} levels")
        written = json.loads(text)
    except InputError:
        raise
    # ValueError: not UTF-8, not JSON, or a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(written, dict):
        raise InputError(f"{path} holds {type(written).__name__}; allowed: a JSON object")
    version = written.get("format")
    if version != FORMAT_VERSION or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT_VERSION
        hint = " (written by a newer aejax)" if newer else ""
        raise InputError(f"{path}: format is {version!r}; allowed: {FORMAT_VERSION}{hint}")
    found = written.pop("sha256", None)
    if found != _digest(written):
        raise InputError(f"{path}: its content is not the one that its sha256 names (changed?)")
    listed = written.get("files")
    if not isinstance(listed, dict):
        raise InputError(
            f"{path}: files is {str(listed)[:80]!r}; allowed: names with bytes, sha256"
        )
    for name, facts in listed.items():
        if name not in LIMITS:
            raise InputError(
                f"{path}: files names {name[:80]!r}; allowed: {', '.join(sorted(LIMITS))}"
            )
        if not (
            isinstance(facts, dict)
            and type(facts.get("bytes")) is int
            and 0 <= facts["bytes"] <= LIMITS[name]
            and re.fullmatch(r"[0-9a-f]{64}", str(facts.get("sha256")))
        ):
            raise InputError(
                f"{path}: files has {name} as {str(facts)[:80]}; "
                f"allowed: at most {LIMITS[name]} bytes, and a sha256"
            )
    return written


def read_files(folder: Path, described: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that a description names, each with the content that it vouches for.

    Raises:
        InputError: if one is missing, no plain file, or has another size or content.
    """
    contents = {}
    for name, facts in described["files"].items():
        path = folder / name
        content = _read(path, facts["bytes"])
        found = hashlib.sha256(content).hexdigest()
        if found != facts["sha256"]:
            raise InputError(
                f"{path}: sha256 is {found[:16]}...; allowed: {facts['sha256'][:16]}... "
                "(damaged or changed)"
            )
        contents[name] = content
    return contents


def _digest(described: Mapping[str, Any]) -> str:
    """SHA-256 of a description, however it was laid out."""
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _depth(text: str) -> int:
    """How deep brackets are nested, those in strings aside."""
    depth = deepest = 0
    for bracket in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in "]}":
            depth -= 1
    return deepest


def _read(path: Path, most: int) -> bytes:
    """A plain file's content: no link, no pipe, no device, and no byte more than announced."""
    try:
        descriptor = os.open(
            path,
            os.O_RDONLY
            | getattr(os, "O_NOFOLLOW", 0)
            | getattr(os, "O_NONBLOCK", 0)
            | getattr(os, "O_BINARY", 0),
        )
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except OSError as error:
        link = " (a symbolic link?)" if path.is_symlink() else ""
        raise InputError(f"{path} cannot be opened: {error.strerror}{link}") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is no plain file; allowed: a plain file")
        if found.st_size > most:
            raise InputError(f"{path} has {found.st_size} bytes; allowed: at most {most}")
        return file.read(most + 1)[: most + 1]

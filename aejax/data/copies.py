"""Copies of rows that are in no file here: standard input, pipes, and addresses such as s3://.

Rows are read more than once: to see what columns are, to tell later whether they are the same,
and to be scored. So what can be read once only, or from afar, is copied to a temporary folder
first, which is removed when the process ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from aejax.config import InputError
from aejax.data.formats import packed_suffix

# An address, and what is left of one where it went by way of a Path.
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
_copied: dict[str, list[tuple[Path, str]]] = {}
_folder: list[Path] = []

logger = logging.getLogger("aejax")


def copies_of(name: str) -> list[tuple[Path, str]] | None:
    """Copies of what an input names, each with its name there; None for files that are here.

    Raises:
        InputError: if it can't be copied, in words.
    """
    if name not in _copied:
        if name == "-" or _is_pipe(name):
            _copied[name] = [(_of_pipe(name), "stdin" if name == "-" else Path(name).name)]
        elif (match := ADDRESS.fullmatch(name)) and not os.path.exists(name):
            _copied[name] = _of_address(match[1].lower(), match[2], name)
        else:
            return None
    return _copied[name]


def _is_pipe(name: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def _new_folder() -> Path:
    if not _folder:
        _folder.append(Path(tempfile.mkdtemp(prefix="aejax-")))
        atexit.register(shutil.rmtree, _folder[0], ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=_folder[0]))


def _of_pipe(name: str) -> Path:
    if name == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise InputError("input is - and nothing is piped in; allowed: cat rows.csv | aejax ...")
    path = _new_folder() / "stdin"
    try:
        if name == "-":
            _copy(sys.stdin.buffer, path)
        else:
            with open(name, "rb") as pipe:
                _copy(pipe, path)
    except OSError as error:
        raise InputError(f"{name} cannot be copied: {error.strerror or error}") from error
    with path.open("rb") as file:
        suffix = packed_suffix(file.read(8))
    return path.rename(path.with_name(f"stdin{suffix}")) if suffix else path


def _copy(source: IO[bytes] | Any, path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _of_address(scheme: str, rest: str, name: str) -> list[tuple[Path, str]]:
    if scheme == "file":
        raise InputError(f"{name} is an address; allowed for a file that is here: /{rest}")
    if scheme in ("http", "https"):
        address = f"{scheme}://{rest}"
        raise InputError(
            f"{address} is a web address; allowed: curl -sL {address} | aejax ... --input -"
        )
    address = f"{scheme}://{rest}"
    from pyarrow import fs

    try:
        system, inside = _system(address)
        facts = system.get_file_info(inside)
        if facts.type == fs.FileType.NotFound:
            raise InputError(f"{address} does not exist")
        if facts.type == fs.FileType.Directory:
            every = system.get_file_info(fs.FileSelector(inside, recursive=True))
            files = [one for one in every if one.type == fs.FileType.File]
        else:
            files, inside = [facts], os.path.dirname(inside)
        size = sum(one.size or 0 for one in files)
        folder = _new_folder()
        if size > (free := shutil.disk_usage(folder).free):
            raise InputError(f"{address} has {size:,} bytes; allowed: the {free:,} of {folder}")
        logger.warning(
            "aejax: copying %d file(s), %s bytes, of %s", len(files), f"{size:,}", address
        )
        copies = []
        for one in files:
            path = folder / os.path.relpath(one.path, inside or ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            with system.open_input_stream(one.path, compression=None) as source:
                _copy(source, path)
            copies.append((path, path.relative_to(folder).as_posix()))
        return copies
    except InputError:
        raise
    except Exception as error:  # Whatever the libraries of stores raise.
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{address} cannot be read: {said}") from error


def _system(address: str) -> tuple[Any, str]:
    """The file system of an address: Arrow's own (s3, gs, abfs, hdfs) or one of fsspec's."""
    import pyarrow as pa
    from pyarrow import fs

    # By itself Arrow goes on for a quarter of an hour where nothing answers.
    patient = address.startswith(("gs://", "gcs://")) and "?" not in address
    try:
        system, inside = fs.FileSystem.from_uri(address + patient * "?retry_limit_seconds=20")
        return system, inside
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        try:
            system, inside = fs.FileSystem.from_uri(f"fsspec+{address}")
        except (ImportError, pa.ArrowInvalid):
            raise InputError(
                f"{address} is no file, and Arrow knows no such store ({error}); allowed: s3://, "
                "gs://, hdfs://, or what fsspec reads, where it is installed"
            ) from None
    return system, inside

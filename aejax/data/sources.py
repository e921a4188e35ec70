"""Which files an input names, their formats, and copies of rows that are in no file here."""

from __future__ import annotations

import atexit
import dataclasses
import glob
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, TypeGuard
from urllib.parse import unquote

from aejax.config import InputError
from aejax.config.checks import check_unicode

# What may follow the suffix of a format of text.
PACKED = (".gz", ".bz2", ".zst", ".xz", ".zip")
FORMATS = {
    "csv": (".csv", ".tsv", ".tab", ".txt", ".dat", ".data"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq", ".parq"),
    "arrow": (".feather", ".arrow", ".ipc"),
    "npy": (".npy",),
    "npz": (".npz",),
    "array_record": (".array_record",),
}
# Those whose columns have names.
TABLES = ("csv", "jsonl", "parquet", "arrow")
TEXT = ("csv", "jsonl")
# Any text may have such a name: a folder's notes, too.
VAGUE = (".txt", ".dat", ".data")
SAID = (
    ".npy, .npz, .csv, .tsv, .txt, .jsonl (also with .gz, .bz2, .zst, .xz, .zip), .parquet, "
    ".feather, .arrow, .array_record"
)
_MAGIC = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"\x93NUMPY", "npy"))
_MAGIC_PACKED = (
    (b"\x1f\x8b", ".gz"),
    (b"BZh", ".bz2"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"\xfd7zXZ", ".xz"),
)
_ELSE = {
    ".xlsx": "a workbook, which its program saves as CSV",
    ".xls": "a workbook, which its program saves as CSV",
    ".json": "JSON, which has to have an object a line, as .jsonl",
    ".pkl": "a pickle, which can run code",
    ".pickle": "a pickle, which can run code",
}
Input = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
# Copies of rows that are in no file here: standard input, pipes, and addresses such as s3://.
#
# Rows are read more than once: to see what columns are, to tell later whether they are the same,
# and to be scored. So what can be read once only, or from afar, is copied to a temporary folder
# first, which is removed when the process ends.
# An address, and what is left of one where it went by way of a Path.
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
_copied: dict[str, list[tuple[Path, str]]] = {}
_folder: list[Path] = []
logger = logging.getLogger("aejax")


def unpacked_name(name: str) -> str:
    """A name in small letters, without the suffix of a packer."""
    lowered = name.lower()
    return next((lowered.removesuffix(one) for one in PACKED if lowered.endswith(one)), lowered)


def format_by_name(name: str) -> str | None:
    """The format that a file's suffix says; None where it says none."""
    inner = unpacked_name(name)
    for kind, suffixes in FORMATS.items():
        if inner.endswith(suffixes) and (kind in TEXT or inner == name.lower()):
            return kind
    return None


def format_of(path: Path) -> str:
    """The format of a file of rows.

    Raises:
        InputError: if it has none of those that are read.
        OSError: if it can't be read.
    """
    if kind := format_by_name(path.name):
        return kind
    if path.is_file():
        with path.open("rb") as file:
            first = file.read(8)
        for magic, kind in _MAGIC:
            if first.startswith(magic):
                return kind
        if not Path(unpacked_name(path.name)).suffix:
            return "jsonl" if first.lstrip().startswith(b"{") else "csv"
    suffix = path.suffix.lower()
    raise InputError(
        f"{path} ends in {suffix!r}"
        + (f", {_ELSE[suffix]}" if suffix in _ELSE else "")
        + f"; allowed: {SAID}"
    )


def binary_suffix(first: bytes) -> str:
    """The suffix of what begins with such bytes and is no text; "" where it may be text."""
    kinds = (FORMATS[kind][0] for magic, kind in _MAGIC if first.startswith(magic))
    return next(kinds, "") or packed_suffix(first) or (".zip" if first[:4] == b"PK\3\4" else "")


def packed_suffix(first: bytes) -> str:
    """The suffix that tells how bytes are packed; "" where they aren't."""
    return next((suffix for magic, suffix in _MAGIC_PACKED if first.startswith(magic)), "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One file of an input.

    Args:
        path: where it is.
        name: its path inside the folder or pattern that it was found by.
        partition: what the folders on the way say of all its rows: "year=2020" in hive's way.
    """

    path: Path
    name: str
    partition: tuple[tuple[str, str | None], ...] = ()

    def __post_init__(self) -> None:
        check_unicode(self.path)


def find_sources(inputs: Input) -> tuple[list[Source], bool]:
    """The files of an input in a fixed order, and whether it could name more than one.

    Folders are searched to any depth. As everywhere with such folders, names that begin with
    a dot or an underscore are passed by. The files of a folder have one format.

    Raises:
        InputError: if there is no such file.
    """
    if not isinstance(inputs, (str, os.PathLike)):
        sources = [source for one in inputs for source in find_sources(one)[0]]
        if not sources:
            raise InputError("input names 0 files; allowed: at least 1")
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            # The same name in two folders: the whole paths differ.
            sources = [dataclasses.replace(one, name=one.path.as_posix()) for one in sources]
        if len({source.path for source in sources}) < len(sources):
            twice = next(
                one.path for one in sources if [s.path for s in sources].count(one.path) > 1
            )
            raise InputError(f"{twice} is named twice; allowed: once")
        return sources, True
    copies = copies_of(os.fspath(inputs))
    if copies is not None:
        taken = [one for one in copies if len(copies) == 1 or _is_table(Path(one[1]).name)]
        if not taken:
            raise InputError(f"{inputs} holds no file of rows; allowed: files ending in {SAID}")
        sources = [
            Source(path=path, name=name, partition=_partition(Path(name))) for path, name in taken
        ]
        return sorted(sources, key=lambda source: source.name), len(copies) > 1
    path = Path(inputs)
    if path.is_dir():
        return _in_folder(path), True
    if not path.exists() and glob.has_magic(str(path)):
        return _by_pattern(path), True
    return [Source(path=path, name=path.name)], False


def is_input(x: object) -> TypeGuard[Input]:
    """Whether something names files, and is no rows itself."""
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and all(isinstance(one, (str, os.PathLike)) for one in x)
    return isinstance(x, (str, os.PathLike))


def is_table(inputs: Input) -> bool:
    """Whether an input's files have columns with names; raises InputError where it has no file."""
    if isinstance(inputs, (str, os.PathLike)) and not Path(inputs).exists():
        from aejax.data import datasets

        if datasets.is_name(os.fspath(inputs)):
            return False
    return format_of(find_sources(inputs)[0][0].path) in TABLES


def _in_folder(folder: Path) -> list[Source]:
    paths: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        paths += [Path(parent, name) for name in names if _is_table(name)]
    clear = [path for path in paths if not unpacked_name(path.name).endswith(VAGUE)]
    paths = clear or paths
    return _of_one_format(folder, folder, paths)


def _by_pattern(pattern: Path) -> list[Source]:
    fixed, rest = Path(), list(pattern.parts)
    # A folder that is there is meant by its name, brackets and all, as a file is.
    while rest and (not glob.has_magic(rest[0]) or (fixed / rest[0]).exists()):
        fixed /= rest.pop(0)
    matches = glob.glob(os.path.join(*rest), root_dir=fixed, recursive=True)
    paths = [path for path in (fixed / match for match in matches) if not path.is_dir()]
    return _of_one_format(pattern, fixed, paths)


def _of_one_format(named: Path, root: Path, paths: list[Path]) -> list[Source]:
    if not paths:
        raise InputError(f"{named} holds no file of rows; allowed: files ending in {SAID}")
    paths = sorted(paths)
    formats = {format_by_name(path.name) or path.suffix: path for path in paths}
    if len(formats) > 1:
        suffixes = sorted(path.name[len(path.stem) :] for path in formats.values())
        raise InputError(
            f"{named} holds files of {len(formats)} formats ({', '.join(suffixes)}); "
            f"allowed: one, or a pattern such as {root / ('*' + suffixes[0])}"
        )
    sources = []
    for path in paths:
        inside = path.relative_to(root)
        sources.append(Source(path=path, name=inside.as_posix(), partition=_partition(inside)))
    return sorted(sources, key=lambda source: source.name)


def _is_table(name: str) -> bool:
    return not name.startswith((".", "_")) and format_by_name(name) is not None


def _partition(inside: Path) -> tuple[tuple[str, str | None], ...]:
    pairs = []
    for folder in inside.parts[:-1]:
        name, equals, value = folder.partition("=")
        if equals and name:
            text = unquote(value)
            pairs.append((unquote(name), None if text == _NULL_PARTITION else text))
    return tuple(pairs)


def partition_values(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """For every file, what its folders say of its rows, in one type for all files."""
    if not any(source.partition for source in sources):
        return [{} for _ in sources]
    names = [name for name, _ in sources[0].partition]
    for source in sources:
        if [name for name, _ in source.partition] != names:
            raise InputError(
                f"{source.path} lies in folders for {[name for name, _ in source.partition]}; "
                f"allowed: {names}, as {sources[0].path}"
            )
        if format_of(source.path) not in TABLES:
            raise InputError(
                f"{source.path} has no columns to add {names} to; allowed: CSV or Parquet files"
            )
    import pyarrow as pa

    partitions = [dict(source.partition) for source in sources]
    whole = {
        name: all(values[name] is None or _is_whole(str(values[name])) for values in partitions)
        for name in names
    }
    return [
        {
            name: pa.scalar(int(value), pa.int64())
            if whole[name] and value is not None
            else pa.scalar(value, pa.int64() if whole[name] else pa.string())
            for name, value in values.items()
        }
        for values in partitions
    ]


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 19


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

"""Which files an input names: a file, a folder, a pattern, or several of these."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import unquote

from aejax.config import InputError
from aejax.config.checks import check_unicode
from aejax.data.copies import copies_of
from aejax.data.formats import SAID, TABLES, VAGUE, format_by_name, format_of, unpacked_name

Input = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


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
        found = [source for one in inputs for source in find_sources(one)[0]]
        if not found:
            raise InputError("input names 0 files; allowed: at least 1")
        names = [source.name for source in found]
        if len(set(names)) < len(names):
            # The same name in two folders: the whole paths differ.
            found = [dataclasses.replace(one, name=one.path.as_posix()) for one in found]
        if len({source.path for source in found}) < len(found):
            twice = next(one.path for one in found if [s.path for s in found].count(one.path) > 1)
            raise InputError(f"{twice} is named twice; allowed: once")
        return found, True
    copies = copies_of(os.fspath(inputs))
    if copies is not None:
        taken = [one for one in copies if len(copies) == 1 or _is_table(Path(one[1]).name)]
        if not taken:
            raise InputError(f"{inputs} holds no file of rows; allowed: files ending in {SAID}")
        found = [
            Source(path=path, name=name, partition=_partition(Path(name))) for path, name in taken
        ]
        return sorted(found, key=lambda source: source.name), len(copies) > 1
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
        from aejax.data import named_rows

        if named_rows.is_name(os.fspath(inputs)):
            return False
    return format_of(find_sources(inputs)[0][0].path) in TABLES


def _in_folder(folder: Path) -> list[Source]:
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        found += [Path(parent, name) for name in names if _is_table(name)]
    clear = [path for path in found if not unpacked_name(path.name).endswith(VAGUE)]
    found = clear or found
    return _of_one_format(folder, folder, found)


def _by_pattern(pattern: Path) -> list[Source]:
    fixed, rest = Path(), list(pattern.parts)
    # A folder that is there is meant by its name, brackets and all, as a file is.
    while rest and (not glob.has_magic(rest[0]) or (fixed / rest[0]).exists()):
        fixed /= rest.pop(0)
    matches = glob.glob(os.path.join(*rest), root_dir=fixed, recursive=True)
    found = [path for path in (fixed / match for match in matches) if not path.is_dir()]
    return _of_one_format(pattern, fixed, found)


def _of_one_format(named: Path, root: Path, found: list[Path]) -> list[Source]:
    if not found:
        raise InputError(f"{named} holds no file of rows; allowed: files ending in {SAID}")
    found = sorted(found)
    formats = {format_by_name(path.name) or path.suffix: path for path in found}
    if len(formats) > 1:
        suffixes = sorted(path.name[len(path.stem) :] for path in formats.values())
        raise InputError(
            f"{named} holds files of {len(formats)} formats ({', '.join(suffixes)}); "
            f"allowed: one, or a pattern such as {root / ('*' + suffixes[0])}"
        )
    sources = []
    for path in found:
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
            given = unquote(value)
            pairs.append((unquote(name), None if given == _NULL_PARTITION else given))
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

    given = [dict(source.partition) for source in sources]
    whole = {
        name: all(values[name] is None or _is_whole(str(values[name])) for values in given)
        for name in names
    }
    return [
        {
            name: pa.scalar(int(value), pa.int64())
            if whole[name] and value is not None
            else pa.scalar(value, pa.int64() if whole[name] else pa.string())
            for name, value in values.items()
        }
        for values in given
    ]


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 19

"""Taking hold of a scores folder: a new job, or one that is continued, and no other process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aejax.config import InputError
from aejax.config.durable import ASIDE, refused_as_input, sync_folder
from aejax.scoring.manifest import (
    ADDED_TOP,
    CONTINUES,
    FILES,
    GROUPS,
    LOCK,
    NAME,
    PARTS,
    SUCCESS,
    SUMMARY,
    TOP,
    TOTALS,
    Manifest,
    drop_cut_line,
    read_description,
)


def claim(
    folder: Path,
    identity: dict[str, Any],
    files: Sequence[tuple[str, str]],
    *,
    restart: bool,
    append: bool,
) -> Manifest:
    """The manifest of a job in a folder: a new one, or that of the same job to be continued.

    Args:
        folder: created where it doesn't exist.
        identity: JSON-ready; what decides the scores, but for the input.
        files: name and SHA-256 of every input file, in order.
        restart: delete the scores that are there.
        append: score the files that are not among the job's, behind its rows.

    Raises:
        InputError: if the folder holds scores of another job (naming the first difference)
            or files that are not scores.
    """
    identity = json.loads(json.dumps(identity))
    with refused_as_input(folder, CONTINUES):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / NAME).is_file():
            foreign = [entry.name for entry in folder.iterdir() if entry.name != LOCK]
            if any(not name.endswith(ASIDE) for name in foreign):
                raise InputError(
                    f"{folder} is not empty and holds no scores; allowed: a new or empty folder"
                )
            return _new(folder, identity, files)
        if restart:
            _clear(folder)
            return _new(folder, identity, files)
        written = read_description(folder)
        for name in sorted({*identity, *written["identity"]}):
            found, wanted = written["identity"].get(name), identity.get(name)
            if found != wanted:
                raise InputError(
                    f"{folder} holds scores of another job: {name} was {found!r} and is "
                    f"{wanted!r}; allowed: another folder, or --restart to start over"
                )
        manifest = Manifest(
            folder, identity, written["segments"], written["parts"], written["runs"]
        )
        new = _new_files(manifest, files, append=append)
        drop_cut_line(folder / PARTS)
        _remove_unfinished(folder)
        _check_parts(manifest)
        if new:
            manifest.begin(new)
        return manifest


def _new(folder: Path, identity: dict[str, Any], files: Sequence[tuple[str, str]]) -> Manifest:
    manifest = Manifest(folder, identity, [], [], [])
    manifest.begin(files)
    return manifest


def _clear(folder: Path) -> None:
    # What says that the rest is complete goes first, then what lists the parts, then they.
    for name in (SUCCESS, SUMMARY, TOP, ADDED_TOP, FILES, GROUPS, TOTALS, PARTS):
        (folder / name).unlink(missing_ok=True)
        sync_folder(folder)
    for entry in folder.glob("part-*.parquet"):
        entry.unlink()
    _remove_unfinished(folder)


def _remove_unfinished(folder: Path) -> None:
    """Remove what a kill left of files that were being written; the folder is locked."""
    for entry in folder.rglob(".*" + ASIDE):
        entry.unlink()


def _new_files(
    manifest: Manifest, files: Sequence[tuple[str, str]], *, append: bool
) -> list[tuple[str, str]]:
    folder, given = manifest.folder, dict(files)
    known = {name: digest for segment in manifest.segments for name, digest in segment["files"]}
    scored = {
        name for segment in manifest.segments if segment["done"] for name, _ in segment["files"]
    }
    allowed = "allowed: another folder, or --restart to start over"
    for name, digest in known.items():
        # A file that is scored and gone is no loss to who appends.
        if name not in given and not (append and name in scored):
            raise InputError(f"{folder} holds scores of {name}, which is not in --input; {allowed}")
        if given.get(name, digest) != digest:
            raise InputError(
                f"{folder} holds scores of {name} as it was: it has changed; {allowed}"
            )
    new = [(name, digest) for name, digest in files if name not in known]
    if new and not append:
        more = f" and {len(new) - 1} more" if len(new) > 1 else ""
        raise InputError(
            f"{folder} holds scores of another input: {new[0][0]}{more} is new; "
            "allowed: --append to score what is new, another folder, or --restart to start over"
        )
    return new


def _check_parts(manifest: Manifest) -> None:
    listed = {part["name"] for part in manifest.parts}
    there = {entry.name for entry in manifest.folder.glob("part-*.parquet")}
    if missing := sorted(listed - there):
        raise InputError(
            f"{manifest.folder / missing[0]} is missing; allowed: --restart to start over"
        )
    for name in there - listed:
        # Renamed, but not yet listed when the process ended.
        (manifest.folder / name).unlink()


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a scores folder; the system releases it however the process ends.

    Raises:
        InputError: if another process holds it.
    """
    with refused_as_input(folder, CONTINUES):
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / LOCK).open("w")
    with opened as file:
        try:
            import fcntl
        except ImportError:  # Not POSIX: nothing to hold it with.
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder} is being written by another process") from None
        yield

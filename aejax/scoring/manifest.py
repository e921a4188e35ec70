"""The books of a scores folder: which parts are written, from what, by what.

_manifest.json         identity of the job and its finished parts; replaced by renames
part-NNNNNN.parquet    scores of a stated range of input rows; written aside, then renamed
_SUCCESS               an empty file: every part is there
.lock                  held while a process writes here
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aejax.config import InputError, read_json

FORMAT_VERSION = 1
# A leading underscore or dot keeps these out of sight of readers of the parts (pyarrow, Spark).
NAME, SUCCESS, LOCK, ASIDE = "_manifest.json", "_SUCCESS", ".lock", ".writing"
MAX_BYTES = 1 << 30


def part_name(number: int) -> str:
    """File name of a part."""
    return f"part-{number:06d}.parquet"


class Manifest:
    """A job's finished parts. A part that isn't listed here doesn't count, whatever is on disk.

    Args:
        folder: of the scores.
        identity: what decides the scores: fingerprints of model and input, threshold, settings.
        parts: those that are finished, in order: name, first_row, rows, and counts.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], parts: list[dict[str, Any]]) -> None:
        self.folder, self.identity, self.parts = folder, identity, parts

    @property
    def rows(self) -> int:
        """Input rows in the finished parts."""
        return sum(part["rows"] for part in self.parts)

    @property
    def done(self) -> bool:
        """Whether the job is complete."""
        return (self.folder / SUCCESS).is_file()

    def add(self, part: dict[str, Any]) -> None:
        """Record a part whose file is in place."""
        self.parts.append(part)
        self.write()

    def finish(self, summary: dict[str, Any]) -> None:
        """Record that every part is in place."""
        self.write(summary=summary)
        (self.folder / SUCCESS).touch()

    def write(self, **more: Any) -> None:
        """Write the books aside and rename them."""
        described = {
            "format": FORMAT_VERSION,
            "identity": self.identity,
            "parts": self.parts,
            **more,
        }
        aside = self.folder / f".{NAME}{ASIDE}"
        with aside.open("w", encoding="utf-8") as file:
            json.dump(described, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.folder / NAME)


def claim(folder: Path, identity: dict[str, Any], *, restart: bool) -> Manifest:
    """The books of a job in a folder: new ones, or those of the same job to be continued.

    Args:
        folder: created where it doesn't exist.
        identity: JSON-ready; what decides the scores.
        restart: delete the scores that are there.

    Raises:
        InputError: if the folder holds scores of another job (naming the first difference)
            or files that are not scores.
    """
    identity = json.loads(json.dumps(identity))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / NAME).is_file():
        foreign = [entry.name for entry in folder.iterdir() if entry.name != LOCK]
        if any(not name.endswith(ASIDE) for name in foreign):
            raise InputError(
                f"{folder} is not empty and holds no scores; allowed: a new or empty folder"
            )
        manifest = Manifest(folder, identity, [])
        manifest.write()
        return manifest
    written = read_description(folder)
    if restart:
        # The books go first: parts that no book lists don't count.
        Manifest(folder, identity, []).write()
        (folder / SUCCESS).unlink(missing_ok=True)
        for entry in (*folder.glob("part-*.parquet"), *folder.glob("*" + ASIDE)):
            entry.unlink()
        return Manifest(folder, identity, [])
    for name in sorted({*identity, *written["identity"]}):
        found, wanted = written["identity"].get(name), identity.get(name)
        if found != wanted:
            raise InputError(
                f"{folder} holds scores of another job: {name} was {found!r} and is {wanted!r}; "
                "allowed: another folder, or --restart to start over"
            )
    return Manifest(folder, identity, written["parts"])


def read_description(folder: Path) -> dict[str, Any]:
    """What the books of a scores folder say; raises InputError where they can't be read."""
    written = read_json(folder / NAME, MAX_BYTES)
    version = written.get("format")
    if version != FORMAT_VERSION:
        raise InputError(f"{folder / NAME}: format is {version!r}; allowed: {FORMAT_VERSION}")
    parts, identity = written.get("parts"), written.get("identity")
    if not isinstance(identity, dict) or not isinstance(parts, list):
        raise InputError(f"{folder / NAME}: allowed: identity and parts")
    for number, part in enumerate(parts):
        if not isinstance(part, dict) or part.get("name") != part_name(number):
            raise InputError(
                f"{folder / NAME}: part {number} is {part!r}; allowed: {part_name(number)}"
            )
    return written


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a scores folder; the system releases it however the process ends.

    Raises:
        InputError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
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

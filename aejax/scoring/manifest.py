"""What a scores folder says of itself: which parts are written, from what, by what.

_manifest.json         identity of the job, its input files in the order they are scored, and what
                       each run of the command that is finished added
_model.json            what made the scores
_parts.jsonl           a line for every finished part: its rows, and where in the input it ends
part-NNNNNN.parquet    scores of a stated range of input rows; written aside, then renamed
_summary.json          counts, quantiles and histogram of the whole
_top/rows.parquet      the most anomalous rows of the whole, where they were asked for
_top_added/rows.parquet    those of what was appended last
_files.csv             a line for every input file
_groups.csv            a line for every group, where each has a detector of its own
_events.csv            a line for every event of a series: flags that belong together
_SUCCESS               an empty file: every part is there
.totals                counts and top rows so far; counted again from the parts if it is lost
.lock                  held while a process writes here

The parts' lines are appended, one write a part, so that a million parts cost no more each
than ten do. A part that has no line doesn't count, whatever is on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aejax.config import InputError, read_json
from aejax.config.durable import ASIDE, refused_as_input, sync_folder, written_aside

FORMAT_VERSION = 5
# A leading underscore or dot keeps these out of sight of readers of the parts (pyarrow, Spark).
NAME, PARTS, SUMMARY, SUCCESS = "_manifest.json", "_parts.jsonl", "_summary.json", "_SUCCESS"
LOCK, TOTALS = ".lock", ".totals"
# In a folder of its own: DuckDB and Polars read whatever *.parquet matches, underscore or not.
TOP, ADDED_TOP = "_top/rows.parquet", "_top_added/rows.parquet"
MODEL = "_model.json"
FILES, GROUPS, EVENTS = "_files.csv", "_groups.csv", "_events.csv"
# Where a report of the scores is written, unless somebody says where.
REPORT = "_report"
MAX_BYTES = 1 << 30
CONTINUES = "; the same command continues once it can"


def part_name(number: int) -> str:
    """File name of a part."""
    return f"part-{number:06d}.parquet"


class Manifest:
    """A job's input files and finished parts.

    Args:
        folder: of the scores.
        identity: what decides the scores, but for the input: model, threshold, settings.
        segments: the input files of the job, and those of each time that it was appended to:
            "files", [name, SHA-256] each, "done", and the number of their "run", from 1. Files
            that are appended before a run has finished belong to it.
        parts: those that are finished, in order: name, segment, first_row, rows, end ([file of
            the segment, row in it]), flagged, bad, lowest, highest; files, of each its position in
            the segment and what `tabulation.PartRows` counts of its rows; and batch_limit where the
            device's memory made batches smaller than asked.
        runs: what a summary says of each finished run, in order.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        segments: list[dict[str, Any]],
        parts: list[dict[str, Any]],
        runs: list[dict[str, Any]],
    ) -> None:
        self.folder, self.identity, self.segments, self.parts = folder, identity, segments, parts
        self.runs = runs

    @property
    def rows(self) -> int:
        """Input rows in the finished parts."""
        return self.parts[-1]["first_row"] + self.parts[-1]["rows"] if self.parts else 0

    @property
    def newest_run(self) -> int:
        """The number of the run that added the last files."""
        number: int = self.segments[-1]["run"]
        return number

    def run_of(self, part: dict[str, Any]) -> int:
        """The number of the run that a part belongs to."""
        number: int = self.segments[part["segment"]]["run"]
        return number

    @property
    def done(self) -> bool:
        """Whether the job is complete."""
        return (self.folder / SUCCESS).is_file()

    def position(self, segment: int) -> tuple[int, int]:
        """File of a segment, and row in it, that the next part begins with."""
        if self.parts and self.parts[-1]["segment"] == segment:
            file, row = self.parts[-1]["end"]
            return file, row
        return 0, 0

    def add(self, part: dict[str, Any]) -> None:
        """Record a part whose file is in place."""
        append_line(self.folder / PARTS, json.dumps({**part, "check": checksum(part)}))
        self.parts.append(part)

    def begin(self, files: Sequence[tuple[str, str]]) -> None:
        """Record input files that are to be scored now."""
        (self.folder / SUCCESS).unlink(missing_ok=True)
        (self.folder / SUMMARY).unlink(missing_ok=True)
        # It would be of other scores.
        shutil.rmtree(self.folder / REPORT, ignore_errors=True)
        sync_folder(self.folder)
        # Known by what is written with the last run, and not by a file that is gone by now: a kill
        # here must not make these files part of an earlier run.
        run = len(self.runs) + 1
        self.segments.append({"files": [list(file) for file in files], "done": False, "run": run})
        self.write()

    def end(self, segment: int) -> None:
        """Record that all rows of a segment are scored."""
        self.segments[segment]["done"] = True
        # What a journal that lost its last lines is known by.
        self.segments[segment]["parts"] = _parts_of(self.parts, segment)
        self.write()

    def finish(self, summary: dict[str, Any]) -> None:
        """Record that every part is in place, and what the newest run added."""
        self.runs[self.newest_run - 1 :] = summary["runs"][:1]
        self.write()
        with refused_as_input(self.folder, CONTINUES):
            with written_aside(self.folder / SUMMARY) as file:
                file.write(json.dumps(summary, indent=1).encode())
            (self.folder / SUCCESS).touch()
            sync_folder(self.folder)

    def write(self) -> None:
        """Write what isn't a part."""
        described = {
            "format": FORMAT_VERSION,
            "identity": self.identity,
            "segments": self.segments,
            "runs": self.runs,
        }
        described["check"] = checksum(described)
        with (
            refused_as_input(self.folder, CONTINUES),
            written_aside(self.folder / NAME) as file,
        ):
            file.write(json.dumps(described, indent=1).encode())


def checksum(described: dict[str, Any]) -> str:
    """The checksum of a JSON-ready description, however its keys are ordered."""
    return f"{zlib.crc32(json.dumps(described, sort_keys=True).encode()):08x}"


def read_description(folder: Path) -> dict[str, Any]:
    """What manifest and journal of a folder say; raises InputError where they can't be read."""
    written = read_json(folder / NAME, MAX_BYTES)
    version = written.get("format")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder / NAME}: format is {version!r}; allowed: {FORMAT_VERSION}, another folder, "
            "or --restart to start over"
        )
    if written.pop("check", None) != checksum(written):
        raise InputError(f"{folder / NAME} is damaged: its checksum is another; allowed: --restart")
    segments, identity = written.get("segments"), written.get("identity")
    if not isinstance(identity, dict) or not isinstance(segments, list) or not segments:
        raise InputError(f"{folder / NAME}: allowed: identity and segments")
    parts: list[dict[str, Any]] = []
    rows = 0
    for number, line in enumerate(whole_lines(folder / PARTS)):
        try:
            part = json.loads(line)
            right = part.pop("check") == checksum(part)
            right = right and part["name"] == part_name(number) and part["first_row"] == rows
            rows += part["rows"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            right = False
        if not right:
            raise InputError(
                f"{folder / PARTS}: line {number + 1} is {line[:80]!r}; "
                f"allowed: {part_name(number)} from row {rows}"
            )
        parts.append(part)
    for number, segment in enumerate(segments):
        there, known = _parts_of(parts, number), segment.get("parts")
        if known is not None and there != known:
            raise InputError(
                f"{folder / PARTS} lists {there} parts of segment {number}; allowed: {known}, as "
                "the manifest says (--restart starts over)"
            )
    return {**written, "parts": parts}


def _parts_of(parts: Sequence[dict[str, Any]], segment: int) -> int:
    return sum(part.get("segment") == segment for part in parts)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; the disk has it when this returns.

    A line that a kill cut short has no line end; `whole_lines` leaves it out.
    """
    with path.open("ab") as file:
        before = file.tell()
        try:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that `append_line` finished; none where there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content[: content.rfind(b"\n") + 1].decode(errors="backslashreplace").split("\n")[:-1]


def drop_cut_line(path: Path) -> None:
    """Remove what a kill left of a last line, so that the next one begins a line."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


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
            held, wanted = written["identity"].get(name), identity.get(name)
            if held != wanted:
                raise InputError(
                    f"{folder} holds scores of another job: {name} was {held!r} and is "
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
    folder, digests = manifest.folder, dict(files)
    known = {name: digest for segment in manifest.segments for name, digest in segment["files"]}
    scored = {
        name for segment in manifest.segments if segment["done"] for name, _ in segment["files"]
    }
    allowed = "allowed: another folder, or --restart to start over"
    for name, digest in known.items():
        # A file that is scored and gone is no loss to who appends.
        if name not in digests and not (append and name in scored):
            raise InputError(f"{folder} holds scores of {name}, which is not in --input; {allowed}")
        if digests.get(name, digest) != digest:
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

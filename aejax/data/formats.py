"""Which format a file of rows has: by its suffix, or by its first bytes where it has none."""

from __future__ import annotations

from pathlib import Path

from aejax.config import InputError

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

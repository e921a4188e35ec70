"""The first bytes of a file of text, and their encoding."""

from __future__ import annotations

import re
from pathlib import Path

from aejax.config import InputError
from aejax.data.formats import binary_suffix
from aejax.data.text_input import open_text

HEAD_BYTES = 1 << 16
# A first line longer than that is refused.
LINE_BYTES = 1 << 26
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# In Western languages letters with marks stand between others.
_NOT_WESTERN = re.compile(rb"[\xc0-\xff]{3}")
_NOT_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def head_of(path: Path) -> tuple[bytes, bool]:
    """A file's first bytes, at least a line, and whether these are all."""
    head = bytearray()
    with open_text(path) as file:
        while len(head) < HEAD_BYTES or not re.search(rb"[\r\n]", head):
            piece = file.read(HEAD_BYTES)
            if not piece:
                return bytes(head), True
            head += piece
            if len(head) > LINE_BYTES:
                raise ValueError(f"its first line is longer than {LINE_BYTES} bytes")
    return bytes(head), False


def encoding_of(path: Path, head: bytes) -> str:
    """The encoding of a file of text, as Python names it: by its mark, or what its bytes can be.

    Args:
        path: the file, for messages.
        head: its first bytes.

    Raises:
        InputError: if they are neither UTF-8, UTF-16 nor Western, or of a file of another format.
    """
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if suffix := binary_suffix(head):
        raise InputError(
            f"{path} holds no text but begins as files ending in {suffix} do; "
            f"allowed: text, or a name that ends in {suffix}"
        )
    zeros = head[: 1 << 12].count(0)
    if zeros > len(head[: 1 << 12]) // 4:
        return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
    try:
        # A character may be cut at the end.
        head[: len(head) - 4 if len(head) >= HEAD_BYTES else len(head)].decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        if error.start >= len(head) - 8 and len(head) >= HEAD_BYTES:
            return "utf-8"
    if _NOT_CP1252.search(head) or _NOT_WESTERN.search(head):
        raise InputError(
            f"{path} is neither in UTF-8 nor, by its letters, in cp1252; allowed: any encoding "
            "that is named, as in --encoding cp1251"
        )
    return "cp1252"

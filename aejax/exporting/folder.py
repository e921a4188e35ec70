"""A folder that is filled aside and takes its name when it is whole."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from aejax.config import InputError
from aejax.config.durable import exchange, sync_folder
from aejax.detection.artifact import is_export


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

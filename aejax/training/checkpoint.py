"""Checkpoints of training runs: the only file that imports Orbax."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from aejax.config import InputError
from aejax.config.durable import make_folder, refused_as_input

logger = logging.getLogger(__name__)

# Orbax takes brackets and stars for patterns and some first folders and colons for buckets;
# TensorStore takes a backslash for a slash, and names in Unicode only.
PLAIN = re.compile(r"(?!/(gs|s3|az|hf)(/|$))([A-Za-z]:)?[\w /.,=+@-]*")


def host_copy(tree: object) -> Any:
    """A pytree's arrays as NumPy copies, which a later step that donates its state can't change."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), jax.device_get(tree))


class Checkpoints:
    """The checkpoints of one run; Orbax writes each aside and renames it when it is whole.

    Of several processes, all open it, save and read at the same steps, in one folder that all
    of them see; as the state is the same in each, Orbax has the first one write it.

    Args:
        folder: created where it doesn't exist.
        keep: how many of the latest to keep. Two, so that one that a failing disk
            damaged leaves another to continue from.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder = folder
        make_folder(folder)
        with contextlib.ExitStack() as stack:
            self._orbax = ocp.training.Checkpointer(
                stack.enter_context(_plainly_named(folder.absolute())),
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=ocp.training.preservation_policies.LatestN(keep),
                cleanup_tmp_directories=True,
            )
            self._names = stack.pop_all()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Closing raises once more what saving raised: it has been said.
        with (
            self._names,
            contextlib.suppress(Exception) if kind else _refused_as_input(self._folder),
        ):
            self._orbax.close()

    def save(self, step: int, tree: object, notes: dict[str, Any]) -> None:
        """Save a pytree of arrays and some JSON under a step number, unless it is there."""
        if self._orbax.latest is None or self._orbax.latest.step < step:
            copy = host_copy(tree)
            with _refused_as_input(self._folder):
                self._orbax.save(step, copy, custom_metadata=notes)

    def latest(
        self, like: object, why_not: Callable[[dict[str, Any]], str | None] = lambda notes: None
    ) -> tuple[Any, dict[str, Any]] | None:
        """The newest readable checkpoint and its notes, or None where there is none.

        Args:
            like: a pytree of the same structure, of arrays or `jax.ShapeDtypeStruct`.
            why_not: a checkpoint's notes -> why it is none to go on from, in a line, or None.

        Raises:
            InputError: if there are checkpoints but none can be read as `like`, or the newest
                whose notes can be read is none to go on from.
        """
        saved = sorted(self._orbax.checkpoints, key=lambda checkpoint: checkpoint.step)
        problem: Exception | None = None
        for checkpoint in reversed(saved):
            try:
                notes = dict(self._orbax.metadata(checkpoint.step).custom_metadata or {})
                if (reason := why_not(notes)) is None:
                    tree = self._orbax.load(checkpoint.step, _empty(like))
                    _check_shapes(tree, like)
            except Exception as error:  # Orbax raises what its storage layers raise.
                why = _first_line(error)
                logger.warning("checkpoint %d can't be read: %s", checkpoint.step, why)
                problem = error
                continue
            if reason is not None:
                raise InputError(reason)
            # An older one fits, so newer ones are damaged; left there, they would keep the
            # steps that they stand for from being saved again.
            for newer in saved[saved.index(checkpoint) + 1 :]:
                self._orbax.delete(newer.step)
            return tree, notes
        if problem is not None:
            why = _first_line(problem)
            raise InputError(f"{self._folder}: no checkpoint can be read: {why}")
        return None


@contextlib.contextmanager
def _plainly_named(folder: Path) -> Iterator[Path]:
    """A path to a folder that names nothing else to Orbax: its own, or a link's to it."""
    if PLAIN.fullmatch(folder.as_posix()):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="aejax-", ignore_cleanup_errors=True) as beside:
        link = Path(beside).absolute() / "checkpoints"
        if not PLAIN.fullmatch(link.as_posix()):
            raise InputError(f"TMPDIR is {beside}; allowed: a folder of letters, digits, _ and -")
        with refused_as_input(link):
            link.symlink_to(folder, target_is_directory=True)
        yield link


@contextlib.contextmanager
def _refused_as_input(folder: Path) -> Iterator[None]:
    """Say in one line what kept Orbax from writing."""
    try:
        yield
    except Exception as error:  # Orbax raises what its storage layers raise.
        raise InputError(f"{folder} cannot be written: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    # TensorStore tells its sources' lines around what the system said.
    system = re.search(r"\[OS error \d+: \w+ ([^]]+)]", said)
    return system[1] if system else said


def _empty(like: object) -> Any:
    """NumPy arrays of the same shapes: Orbax then restores NumPy arrays, without a device."""
    return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)


def _check_shapes(tree: Any, like: Any) -> None:
    def check(array: np.ndarray, wanted: Any) -> None:
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            raise InputError(
                f"an array is {array.dtype}{list(array.shape)}; "
                f"allowed: {np.dtype(wanted.dtype)}{list(wanted.shape)}"
            )

    jax.tree.map(check, tree, like)

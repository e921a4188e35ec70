"""Finished parts of a population's training, on disk: what a stopped run needn't train again.

parts.json         what is trained, and how many members a program and a part have
part-NNNNNN.npz    arrays of a part's members, and their histories as JSON

Parts train independently of each other, so a run that goes on ends with the bits of one that
was never stopped. A part that can't be read is trained anew. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.config import InputError, read_json
from aejax.config.durable import make_folder, refused_as_input, write_file, written_aside
from aejax.core.scaling import Scaler
from aejax.training.members import TrainedMember
from aejax.training.run_folder import MAX_BYTES, difference

logger = logging.getLogger(__name__)

FORMAT = 1
PLAN = "parts.json"
NOTES = "notes"


class KeptParts:
    """The finished parts of one training.

    Args:
        folder: created where it doesn't exist.
        identity: JSON-ready, what the caller knows of the training, for messages that name it;
            `claim` adds what decides the result.
        group_size: members in a program, unless the folder says it: which members train side by
            side may decide their last bits, and another machine might choose another number.
        part_size: members in a part, unless the folder says it.

    Attributes:
        group_size: members in a program.
        part_size: members in a part.

    Raises:
        InputError: if the folder holds parts of another training, naming the first difference.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], *, group_size: int, part_size: int
    ) -> None:
        self._folder = folder
        self._plan: dict[str, Any] = {
            "format": FORMAT,
            "group_size": group_size,
            "part_size": part_size,
            "identity": json.loads(json.dumps(identity)),
        }
        self._held: dict[str, Any] | None = None
        path = folder / PLAN
        if path.is_file():
            self._held = held = read_json(path, MAX_BYTES)
            if held.get("format") != FORMAT:
                raise InputError(f"{path}: format is {held.get('format')!r}; allowed: {FORMAT}")
            self._check("identity")
            for name in ("group_size", "part_size"):
                self._plan[name] = size = held.get(name)
                if type(size) is not int or size < 1:
                    raise InputError(f"{path}: {name} is {size!r}; allowed: at least 1")
        self.group_size: int = self._plan["group_size"]
        self.part_size: int = self._plan["part_size"]
        self._run = ""

    def claim(self, training: Mapping[str, Any]) -> None:
        """Make the folder this training's own, or find that it is; before parts are used.

        Args:
            training: JSON-ready, all that decides the result.

        Raises:
            InputError: if the folder holds parts of another training, naming the first difference.
        """
        self._plan["training"] = json.loads(json.dumps(training))
        self._run = hashlib.sha256(json.dumps(self._plan).encode()).hexdigest()
        if self._held is not None:
            self._check("training")
            return
        make_folder(self._folder)
        write_file(self._folder / PLAN, json.dumps(self._plan, indent=2) + "\n")

    def _check(self, name: str) -> None:
        assert self._held is not None
        other = difference(self._held.get(name), self._plan[name])
        if other is not None:
            raise InputError(
                f"{self._folder} holds parts of another training ({other}); "
                "allowed: another folder, or the same rows and settings"
            )

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.npz"

    def write(self, number: int, trained: Sequence[TrainedMember]) -> None:
        """Keep a part.

        Raises:
            InputError: if the disk doesn't take it.
        """
        arrays = _flat(
            {
                "variables": _stacked([member.variables for member in trained]),
                "scaler": {
                    name: leaf
                    for name, leaf in _stacked([m.scaler for m in trained])._asdict().items()
                    if leaf is not None
                },
            }
        )
        notes = {
            "run": self._run,
            "digest": _digest(arrays),
            "members": [
                {
                    "history": member.history,
                    "best_epoch": member.best_epoch,
                    "problem": member.problem,
                    "epochs_run": member.epochs_run,
                }
                for member in trained
            ],
        }
        written: dict[str, Any] = {
            NOTES: np.frombuffer(json.dumps(notes).encode(), np.uint8),
            **arrays,
        }
        path = self._path(number)
        with refused_as_input(path), written_aside(path) as file:
            np.savez(file, **written)

    def read(self, number: int, members: int) -> list[TrainedMember] | None:
        """A part's members; None if it isn't there, or can't be read.

        Args:
            number: of the part.
            members: how many it has.
        """
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            return self._read(path, members)
        except Exception as error:  # A damaged archive raises what zip and NumPy raise.
            logger.warning("%s can't be read and is trained anew: %s", path, error)
            return None

    def _read(self, path: Path, members: int) -> list[TrainedMember]:
        # NumPy leaves a file that it opened itself open where it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        notes = json.loads(arrays.pop(NOTES).tobytes())
        if notes["run"] != self._run:
            raise InputError("it is of another training")
        if notes["digest"] != _digest(arrays) or len(notes["members"]) != members:
            raise InputError("its content is not what was written")
        tree = _nested(arrays)
        fields = dict.fromkeys(Scaler._fields) | tree.get("scaler", {})
        held = (tree["variables"], Scaler(**fields))
        trained = []
        for at, facts in enumerate(notes["members"]):
            variables, scaler = jax.tree.map(lambda leaf, at=at: np.array(leaf[at]), held)
            trained.append(TrainedMember(variables=variables, scaler=scaler, **facts))
        return trained


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, np.ndarray]:
    leaves: dict[str, np.ndarray] = {}
    for name, inner in tree.items():
        if isinstance(inner, Mapping):
            leaves.update(_flat(inner, f"{above}{name}/"))
        else:
            leaves[above + name] = np.asarray(inner)
    return leaves


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *groups, last = name.split("/")
        owner = tree
        for group in groups:
            owner = owner.setdefault(group, {})
        owner[last] = array
    return tree


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape};".encode())
        total.update(array.tobytes())
    return total.hexdigest()

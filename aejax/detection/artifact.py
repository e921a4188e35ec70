"""A detector on disk: one JSON file that names one file of arrays.

    detector.json         configuration, schema, threshold, provenance, names of the other files
    arrays-DIGEST.npz     scaler, parameters and batch statistics; `numpy.load` reads it
    programs-DIGEST.npz   where the network is somebody's own: what it computes, as programs that
                          JAX reads (`core/programs.py`), so that it scores without its code; in
                          an export, what makes scores of rows
Arrays are written first, under the digest of their content, and read back; then `detector.json`
is replaced by a rename. Whatever interrupts this, the folder holds the old detector or the new
one. A new threshold replaces the JSON file only. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError, read_json, score_text
from aejax.config.durable import (
    ASIDE,
    aside_of,
    make_folder,
    refused_as_input,
    write_file,
    written_aside,
)
from aejax.config.scores import learns, score_object
from aejax.core import scaling, steps
from aejax.core.scaling import Scaler
from aejax.core.score import KEPT_OF_NORMAL, learnt_of
from aejax.data.packed import pack, unpack
from aejax.data.schema import Schema
from aejax.detection.drift import BINS, UsualValues
from aejax.models.backend import shapes_of
from aejax.models.network import Network
from aejax.training.identity import digest

# 1 and 2 had their arrays in a folder.
FORMAT_VERSION = 3
JSON_NAME = "detector.json"
# What an export's description has besides (`exporting/export.py`).
EXPORT = "export"
FILES = re.compile(r"(arrays|programs)-[0-9a-f]{16}\.npz")
MAX_BYTES = 64 << 20
# Of more groups than a person reads, a description without indentation is half as large.
MOST_INDENTED = 1000
MOST_LEARNT, MOST_AXES = 1 << 10, 8


def arrays_of(scaler: Scaler, variables: object) -> dict[str, Any]:
    """A detector's arrays as the tree that is saved."""
    kept = scaler._asdict()
    if scaler.knots is None:
        # Detectors written before there were any have no such field.
        del kept["knots"]
    return {"scaler": kept, "variables": variables}


def named(tree: object) -> dict[str, Any]:
    """A pytree's leaves by name: "variables/params/encoder_0/kernel" and so on."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def write(folder: Path, described: dict[str, Any], arrays: Any) -> None:
    """Write or replace the detector in a folder.

    Of several processes all call this, with equal arrays; the first one writes.

    Args:
        folder: created where it doesn't exist.
        described: JSON-ready description.
        arrays: pytree of arrays; under "programs", if there are any, their bytes as uint8.

    Raises:
        InputError: if the disk doesn't take them, or gives back others, or the description is
            too long to be read back, or an export is there, whose other files would not be of
            this detector; the folder then holds what it held.
    """
    from aejax.training import processes

    if not processes.is_first():
        return
    if EXPORT not in described and is_export(folder):
        raise InputError(f"{folder} is an export; allowed: save to another folder, and export that")
    make_folder(folder)
    arrays = jax.tree.map(np.asarray, jax.device_get(arrays))
    programs = arrays.pop("programs", None)
    trees = {"arrays": arrays} | ({"programs": programs} if programs else {})
    names = {kind: _name_of(kind, tree) for kind, tree in trees.items()}
    written = {"format": FORMAT_VERSION, **described, **names}
    if programs:
        written["sizes"] = {name: len(content) for name, content in programs.items()}
    indent = 2 if described.get("members", 1) <= MOST_INDENTED else None
    text = json.dumps(written, indent=indent) + "\n"
    if len(text) > MAX_BYTES:
        raise InputError(
            f"{folder / JSON_NAME} would take {len(text):,} bytes; allowed: {MAX_BYTES:,} "
            "(train fewer groups in one run)"
        )
    for kind, tree in trees.items():
        path = folder / names[kind]
        if not _holds(path, tree):
            with refused_as_input(path), written_aside(path) as file:
                pack(file, named(tree))
                file.flush()
                read_arrays(aside_of(path), tree, path.name)
    write_file(folder / JSON_NAME, text)
    # The new detector is there: what can't be removed now is removed by the next save.
    with contextlib.suppress(OSError):
        for left in folder.iterdir():
            unfinished = left.name.startswith((".arrays-", ".programs-"))
            unfinished = unfinished and left.name.endswith(ASIDE)
            if unfinished or (FILES.fullmatch(left.name) and left.name not in names.values()):
                left.unlink()


def _name_of(kind: str, tree: object) -> str:
    # By names in one level: a network without its code has variables of another structure.
    return f"{kind}-{digest(named(tree))[:16]}.npz"


def _holds(path: Path, arrays: object) -> bool:
    """Whether a file holds these very arrays: one of their name may have been damaged since."""
    try:
        read_arrays(path, arrays)
    except InputError:
        return False
    return True


def is_export(folder: Path) -> bool:
    """Whether a folder holds a detector that was exported."""
    path = folder / JSON_NAME
    with contextlib.suppress(InputError):
        return path.is_file() and isinstance(read_json(path, MAX_BYTES).get(EXPORT), dict)
    return False


def home(folder: Path) -> Path:
    """Where a folder's detector is: there, or in the `detector/` of a run."""
    inner = folder / "detector"
    return inner if not (folder / JSON_NAME).is_file() and inner.is_dir() else folder


def read_description(folder: Path) -> dict[str, Any]:
    """The description in a detector's folder.

    Raises:
        InputError: if the folder holds no detector, a damaged one, or one of a newer format.
    """
    path = folder / JSON_NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no detector ({JSON_NAME} is missing)")
    written = read_json(path, MAX_BYTES)
    version = written.get("format")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise InputError(f"{path}: format is {version!r}; allowed: {FORMAT_VERSION}")
    for kind in ("arrays", "programs"):
        name = written.get(kind, "")
        if (name or kind == "arrays") and not (
            FILES.fullmatch(str(name)) and str(name).startswith(kind)
        ):
            raise InputError(f"{path}: {kind} is {name!r}; allowed: {kind}-DIGEST.npz")
    return written


def read_programs(folder: Path, written: Mapping[str, Any]) -> dict[str, bytes]:
    """The programs of a network and of a score of somebody's own, by name; {} where there are none.

    Args:
        folder: of the detector.
        written: its description.

    Raises:
        InputError: if they are missing, damaged, or not the ones that the description names.
    """
    if "programs" not in written:
        return {}
    sizes = written.get("sizes")
    if not isinstance(sizes, dict) or not all(
        type(size) is int and 0 < size <= MAX_BYTES for size in sizes.values()
    ):
        raise InputError(f"{folder / JSON_NAME}: sizes is {sizes!r}; allowed: bytes of programs")
    like = {name: np.empty(size, np.uint8) for name, size in sizes.items()}
    read = read_arrays(folder / written["programs"], like)
    return {name: content.tobytes() for name, content in read.items()}


def read_arrays(path: Path, like: object, name: str = "") -> Any:
    """The arrays of a detector, as a pytree of NumPy arrays shaped `like`.

    Args:
        path: the file.
        like: a pytree of arrays or `jax.ShapeDtypeStruct`.
        name: what the description calls it, if that isn't the file's name.

    Raises:
        InputError: if they are missing, damaged, or not the ones that the description names.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no plain file; allowed: a plain file")
    try:
        with path.open("rb") as file:
            arrays = unpack(file, named(like), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    tree = jax.tree.unflatten(jax.tree.structure(like), list(arrays.values()))
    allowed = name or path.name
    if (content := _name_of(allowed.partition("-")[0], tree)) != allowed:
        raise InputError(f"{path}: content is {content}; allowed: {allowed} (damaged?)")
    return tree


def describe_normal(variables: Mapping[str, Any], *, stacked: bool) -> dict[str, Any]:
    """What a description says of what is known of normal rows; JSON-ready.

    Args:
        variables: of the detector.
        stacked: whether arrays have a leading axis of members or groups, which is left out.
    """
    learnt = named(learnt_of(variables))
    return {
        "normal": sorted(set(variables.get("normal", {})) & set(KEPT_OF_NORMAL)),
        "learnt": {name: list(np.shape(leaf)[stacked:]) for name, leaf in sorted(learnt.items())},
    }


def read_normal_like(folder: Path, written: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Shapes of what is known of normal rows, of one member, as `describe_normal` says them.

    Args:
        folder: of the detector.
        written: its description.
        schema: of its rows.

    Raises:
        InputError: if it doesn't, or arrays of such shapes are larger than the file.
    """
    place = folder / JSON_NAME
    # Detectors written before reasons were measured by usual errors have neither.
    names, learnt = written.get("normal", []), written.get("learnt", {})
    house: dict[str, Any] = {"error": jax.ShapeDtypeStruct((schema.features,), np.float32)}
    house["values"] = {
        name: jax.ShapeDtypeStruct((bins, schema.features), np.float32)
        for name, bins in zip(UsualValues._fields, (BINS - 1, BINS), strict=True)
    }
    if not isinstance(names, list) or not all(isinstance(n, str) and n in house for n in names):
        raise InputError(f"{place}: normal is {names!r}; allowed: {', '.join(map(repr, house))}")
    if not isinstance(learnt, dict) or len(learnt) > MOST_LEARNT:
        raise InputError(f"{place}: learnt is {learnt!r:.200}; allowed: shapes of arrays by name")
    like = {name: house[name] for name in names}
    most = path.stat().st_size if (path := folder / written["arrays"]).is_file() else 0
    for name, shape in learnt.items():
        if (
            not isinstance(shape, list)
            or len(shape) > MOST_AXES
            or not all(type(size) is int and size >= 1 for size in shape)
            or 4 * math.prod(shape) > most
        ):
            raise InputError(
                f"{place}: learnt.{name} is {shape!r:.200}; allowed: the shape of an array in "
                f"{written['arrays']}"
            )
        *above, last = name.split("/")
        tree = like
        for part in above:
            tree = tree.setdefault(part, {})
            if not isinstance(tree, dict):
                raise InputError(f"{place}: learnt has {name!r} twice; allowed: once")
        if last in tree or name in house:
            raise InputError(f"{place}: learnt has {name!r}; allowed: other names")
        tree[last] = jax.ShapeDtypeStruct(tuple(shape), np.float32)
    return like


def check_learnt(
    folder: Path, config: Config, schema: Schema, model: Network, variables: Mapping[str, Any]
) -> None:
    """Refuse a detector whose score can't be computed of what it is said to have learnt.

    Args:
        folder: of the detector, for messages.
        config: of the detector.
        schema: of its rows.
        model: its network.
        variables: shapes of one member's.
    """
    learnt, score = learnt_of(variables), score_object(config)
    if not hasattr(score, "apply") or not (learnt or learns(score)):
        return
    scorer = steps.Scorer(model=model, error=config.error, score=score)
    row = jax.ShapeDtypeStruct((1, *schema.shape), schema.dtype)
    try:
        shapes_of(
            lambda known, scaler, x: steps.score_rows(scorer, known, scaler, x),
            dict(variables),
            scaling.like(config.scale, schema.shape, mixed=schema.columns is not None),
            row,
        )
    except Exception as error:
        said = {name: list(leaf.shape) for name, leaf in named(learnt).items()}
        raise InputError(
            f"{folder / JSON_NAME}: learnt is {said!r:.200}; "
            f"allowed: what Config.score {score_text(score)!r} learns"
        ) from error

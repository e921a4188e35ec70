"""A saved detector, read back and checked; and the detector that a folder or object means."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Combine, Config, InputError, OwnNetwork
from aejax.config.own import in_one_line
from aejax.core import scaling, steps
from aejax.core.programs import ProgramNetwork
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.detection.artifact import arrays_of, check_learnt, read_normal_like
from aejax.detection.detector import Detector
from aejax.detection.groups import Groups
from aejax.detection.own_network import check_same_network, flat, with_network, with_programs
from aejax.detection.threshold import read_threshold
from aejax.models.backend import shapes_of
from aejax.models.build import build

MOST_MEMBERS = 1 << 16
# Of each member's scores of normal rows, kept to rank others by.
RANK_QUANTILES = 257


def load(folder: str | Path, *, network: object = None) -> Detector:
    """The detector that `Detector.save` or a run wrote.

    Nothing that is loaded runs Python code: where the network is somebody's own, the programs
    that were saved with it score. With the network itself the detector can be trained on, as
    in `fit(detector.config, x, initial=detector.variables)`.

    Args:
        folder: a detector's folder, or a run's folder that holds one in `detector/`.
        network: the network that it was trained with, as in `Config(model=...)`, if it is
            somebody's own; None takes the saved programs.

    Raises:
        InputError: if there is none, or it is damaged or of a newer format, or the network is
            another one.

    Example:
        >>> aejax.load("runs/pumps").score(rows).shape
        (300,)
    """
    folder = artifact.home(Path(folder))
    written = artifact.read_description(folder)
    try:
        fields = _fields(written)
    except InputError as error:
        raise InputError(f"{folder / artifact.JSON_NAME}: {error}") from None
    shape = fields["schema"].shape
    config = with_network(folder, written, fields["config"], shape, network)
    fields["config"] = config
    variables = read_variables_like(folder, written, config, fields["schema"])
    if fields["combine"] == "rank":
        quantiles = jax.ShapeDtypeStruct((RANK_QUANTILES,), np.float32)
        variables = {**variables, "calibration": {"scores": quantiles}}
    mixed = fields["schema"].columns is not None
    like = arrays_of(scaling.like(config.scale, shape, mixed=mixed), variables)
    if fields["combine"] is not None or fields["groups"] is not None:
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((fields["members"], *leaf.shape), leaf.dtype), like
        )
    try:
        arrays = artifact.read_arrays(folder / written["arrays"], like)
    except InputError as error:
        if network is None:
            raise
        raise InputError(
            f"network is {in_one_line(network)}; allowed: the one that {folder} was trained with "
            f"({error})"
        ) from None
    detector = _detector(fields, arrays)
    if network is not None:
        check_same_network(detector, artifact.read_programs(folder, written), folder)
    return detector


def read_variables_like(
    folder: Path, written: Mapping[str, Any], config: Config, schema: Schema
) -> dict[str, Any]:
    """Shapes of one model's variables, as a description of a detector has them.

    Args:
        folder: of the detector, for messages.
        written: its description.
        config: as described.
        schema: likewise.

    Raises:
        InputError: if the description of what is known of normal rows is none, or not of what
            the score learns.
    """
    model = build(config.model, schema)
    if isinstance(model, ProgramNetwork):
        variables = dict(model.like)
    else:
        variables = shapes_of(lambda: steps.new_variables(model, schema.shape, 0))
    normal = read_normal_like(folder, written, schema)
    if normal:
        variables = {**variables, "normal": normal}
    check_learnt(folder, config, schema, model, variables)
    if written.get("weighted", False):
        shape = jax.ShapeDtypeStruct(schema.shape, np.float32)
        variables = {**variables, "weights": {"features": shape}}
    return variables


def from_parts(described: Mapping[str, Any], arrays: Mapping[str, Any]) -> Detector:
    """The detector whose `to_parts` these are.

    Raises:
        InputError: if the description is none of a detector.
    """
    fields, arrays = _fields(described), dict(arrays)
    programs = {name: content.tobytes() for name, content in arrays.pop("programs", {}).items()}
    if programs:
        fields["config"] = with_programs(
            fields["config"], programs, fields["schema"].shape, "detector"
        )
        if isinstance(fields["config"].model, OwnNetwork):
            arrays["variables"] = flat(arrays["variables"])
    return _detector(fields, arrays)


def _detector(fields: Mapping[str, Any], arrays: Mapping[str, Any]) -> Detector:
    return Detector(scaler=Scaler(**arrays["scaler"]), variables=arrays["variables"], **fields)


def _fields(described: Mapping[str, Any]) -> dict[str, Any]:
    try:
        schema = Schema.from_dict(described["schema"])
        combine, members, groups = (described[name] for name in ("combine", "members", "groups"))
        if groups is not None:
            groups = Groups.from_dict(groups, schema.features)
        if combine not in (None, *typing.get_args(Combine)):
            raise InputError(f"combine is {combine!r}; allowed: {typing.get_args(Combine)}, null")
        most = len(groups) if groups is not None else MOST_MEMBERS
        least = most if groups is not None else 1
        if type(members) is not int or not least <= members <= most:
            raise InputError(f"members is {members!r}; allowed: {least} to {most}")
        count = None if groups is None else len(groups)
        return {
            "config": settings.from_dict(described["config"], Config),
            "schema": schema,
            "threshold": read_threshold(described["threshold"], count),
            "thresholds": {
                name: read_threshold(kept, count)
                for name, kept in dict(described["thresholds"]).items()
            },
            "provenance": dict(described["provenance"]),
            "history": list(described["history"]),
            "combine": combine,
            "members": members,
            "groups": groups,
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(str(error)) from None


def as_detector(source: object) -> Detector:
    """The detector of what somebody has at hand.

    Args:
        source: a detector, a fitted estimator of `aejax.estimator`, or the folder of a run, a
            detector or an export.

    Raises:
        InputError: if it is none of these, or not fitted.
    """
    if isinstance(source, Detector):
        return source
    if isinstance(source, (str, os.PathLike)):
        return load(os.fspath(source))
    if isinstance(fitted := getattr(source, "detector_", None), Detector):
        return fitted
    kind, allowed = type(source).__name__, "a detector, a fitted estimator, or a folder"
    if hasattr(source, "steps") and hasattr(source, "named_steps"):
        raise InputError(
            f"{kind} is given; allowed: its last step, pipeline[-1], with rows as the steps before "
            "it make them"
        )
    if hasattr(source, "fit") and hasattr(source, "get_params"):
        raise InputError(f"{kind} has no detector_; allowed: {allowed} (call fit first)")
    raise InputError(f"{kind} is given; allowed: {allowed}")

"""What a detector's description says of what it knows of normal rows, and what it must be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError, score_text
from aejax.config.scores import learns, score_object
from aejax.core import scaling, steps
from aejax.core.score import KEPT_OF_NORMAL, learnt_of
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.detection.drift import BINS
from aejax.detection.feature_drift import UsualValues
from aejax.models.backend import shapes_of
from aejax.models.network import Network

MOST_LEARNT, MOST_AXES = 1 << 10, 8


def describe_normal(variables: Mapping[str, Any], *, stacked: bool) -> dict[str, Any]:
    """What a description says of what is known of normal rows; JSON-ready.

    Args:
        variables: of the detector.
        stacked: whether arrays have a leading axis of members or groups, which is left out.
    """
    learnt = artifact.named(learnt_of(variables))
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
    place = folder / artifact.JSON_NAME
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
        said = {name: list(leaf.shape) for name, leaf in artifact.named(learnt).items()}
        raise InputError(
            f"{folder / artifact.JSON_NAME}: learnt is {said!r:.200}; "
            f"allowed: what Config.score {score_text(score)!r} learns"
        ) from error

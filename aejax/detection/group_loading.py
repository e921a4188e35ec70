"""Saved detectors of groups, read back and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from aejax import config as settings
from aejax.config import Config, InputError
from aejax.core import scaling
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.detection.detector import arrays_of
from aejax.detection.group import Group
from aejax.detection.groups import GroupDetector
from aejax.detection.loading import read_variables_like
from aejax.detection.own_network import with_network

MOST_GROUPS = 1 << 20


def load_groups(folder: str | Path, *, network: Any = None) -> GroupDetector:
    """The detectors that `GroupDetector.save` or `aejax train --group-column` wrote.

    Args:
        folder: theirs, or a run's folder that holds it in `detector/`.
        network: as in `load`.

    Raises:
        InputError: if there is none, or it is damaged or of a newer format.
    """
    folder = artifact.home(Path(folder))
    written = artifact.read_description(folder)
    place = folder / artifact.JSON_NAME
    if written.get("kind") != "groups":
        raise InputError(f"{place} describes a single detector; allowed: load it with load")
    try:
        config = settings.from_dict(written["config"], Config)
        schema = Schema.from_dict(written["schema"])
        groups = tuple(Group.from_dict(group) for group in written["groups"])
        described: dict[str, Any] = {
            "column": str(written["column"]),
            "skipped": {str(name): str(why) for name, why in written["skipped"].items()},
            "history": list(written.get("history", ())),
            "provenance": dict(written["provenance"]),
        }
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{place}: {error}") from None
    if not 1 <= len(groups) <= MOST_GROUPS:
        raise InputError(f"{place}: groups are {len(groups)}; allowed: 1 to {MOST_GROUPS}")
    for group in groups:
        if group.offset is not None and len(group.offset) != schema.features:
            raise InputError(
                f"{place}: the offset of group {group.name!r} has {len(group.offset)} numbers; "
                f"allowed: {schema.features}"
            )
    config = with_network(folder, written, config, schema.shape, network)
    variables = read_variables_like(folder, written, config, schema)
    like = arrays_of(scaling.like(config.scale, schema.shape), variables)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((len(groups), *leaf.shape), leaf.dtype), like
    )
    arrays = artifact.read_arrays(folder / written["arrays"], like)
    return GroupDetector(
        config=config,
        schema=schema,
        groups=groups,
        scaler=Scaler(**arrays["scaler"]),
        variables=arrays["variables"],
        **described,
    )


def is_groups(folder: str | Path) -> bool:
    """Whether a folder holds detectors of groups."""
    home = artifact.home(Path(folder))
    if not (home / artifact.JSON_NAME).is_file():
        return False
    return artifact.read_description(home).get("kind") == "groups"

"""A network or a score of somebody's own in a saved detector: its programs, and the network."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from aejax.config import Config, InputError, OwnNetwork, score_text
from aejax.config.own import Own
from aejax.config.own_network import own_network
from aejax.config.scores import is_built_in
from aejax.core.programs import (
    ProgramNetwork,
    ProgramScore,
    lower_network,
    lower_own_score,
    own_variables,
    read_network,
    read_own_score,
)
from aejax.core.score import Scorer
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.models.build import build
from aejax.models.network import Network

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

logger = logging.getLogger(__name__)

# Rows on which a network is compared with the programs that were saved with a detector.
COMPARED_ROWS, TOLERANCE = 8, 1e-3
# The name of a score's program among a network's.
SCORE = "score"


def own_programs(
    network: Network, variables: Mapping[str, Any], shape: tuple[int, ...], settings: Any
) -> dict[str, bytes]:
    """What a network of somebody's own computes, as programs by name; {} of built-in ones.

    A network that can't be exported has none, which is said: its detector scores only where
    `load` is given the network.

    Args:
        network: of a detector.
        variables: of one member.
        shape: of one row.
        settings: of the network, for its name.
    """
    if isinstance(network, ProgramNetwork):
        return network.contents
    if not network.is_own:
        return {}
    try:
        return lower_network(network, variables, shape)
    except Exception as error:  # What JAX can't export has no common type.
        logger.warning(
            "aejax: warning: %s can't be exported (%s): what is saved holds its arrays, and scores "
            "only where load is given the network",
            settings.name,
            _reason(error),
        )
        return {}


def own_score_programs(
    scorer: Scorer, variables: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, bytes]:
    """What a score of somebody's own computes, as {"score": program}; {} of built-in ones.

    A score that can't be exported has none, which is said.

    Args:
        scorer: of a detector.
        variables: of one member.
        shape: of one row.
    """
    if isinstance(scorer.score, ProgramScore):
        return {SCORE: scorer.score.content}
    if is_built_in(scorer.score) or isinstance(scorer.score, Own):
        return {}
    try:
        if hasattr(scorer.score, "shared"):
            raise ValueError("members share a part of it")
        return {SCORE: lower_own_score(scorer, variables, shape)}
    except Exception as error:  # What JAX can't export has no common type.
        logger.warning(
            "aejax: warning: score %s can't be exported (%s): what is saved scores only after it "
            "was fitted anew with the score",
            score_text(scorer.score),
            _reason(error),
        )
        return {}


def _reason(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:200]


def code_digest(programs: Mapping[str, bytes]) -> str:
    """SHA-256 of programs as they read, whichever process and source file they were made in."""
    total = hashlib.sha256()
    for name in sorted(programs):
        total.update(programs[name])
    return total.hexdigest()


def with_programs(
    config: Config, programs: Mapping[str, bytes], shape: tuple[int, ...], where: object
) -> Config:
    """A configuration whose own network and score are the programs that were saved with it."""
    of_network = {name: content for name, content in programs.items() if name != SCORE}
    described: Any = config.model
    if isinstance(described, OwnNetwork) and of_network:
        made = read_network(of_network, shape, where)
        config = _with(config, dataclasses.replace(described, network=made, kind="network"))
    if isinstance(config.score, Own) and SCORE in programs:
        score = read_own_score(config.score, programs[SCORE], shape, where)
        config = dataclasses.replace(config, score=score)
    return config


def with_network(
    folder: Path,
    written: Mapping[str, Any],
    config: Config,
    shape: tuple[int, ...],
    network: Any,
) -> Config:
    """The configuration of a saved detector, with what its network computes.

    Args:
        folder: of the detector.
        written: its description.
        config: as described: a network of somebody's own is a description there.
        shape: of one row.
        network: the network itself, or None for the saved programs.

    Raises:
        InputError: if a network is given for a built-in one, or there are neither.
    """
    where = folder / artifact.JSON_NAME
    programs, described = artifact.read_programs(folder, written), config.model
    if not isinstance(described, OwnNetwork):
        if network is not None:
            raise InputError(
                f"network is given, and {where} describes {type(described).__name__}, "
                "a built-in network; allowed: without"
            )
    elif network is not None:
        config = _with(config, own_network(network))
        programs = {name: content for name, content in programs.items() if name == SCORE}
    elif not set(programs) - {SCORE}:
        raise InputError(
            f"{where}: its network {described.name} was saved without programs; "
            "allowed: load(folder, network=...) with the network itself"
        )
    return with_programs(config, programs, shape, where)


def check_same_network(detector: Detector, programs: Mapping[str, bytes], folder: Path) -> None:
    """Refuse a network that computes something else than the programs saved with a detector."""
    programs = {name: content for name, content in programs.items() if name != SCORE}
    if not programs:
        return
    schema: Schema = detector.schema
    saved = read_network(programs, schema.shape, folder)
    given = build(detector.config.model, schema)
    one = detector.variables
    if detector.combine is not None:
        one = jax.tree.map(lambda leaf: leaf[0], one)
    rows = np.random.default_rng(0).normal(size=(COMPARED_ROWS, *schema.shape))
    x: Any = rows.astype(np.float32)
    name: str = detector.config.model.name  # type: ignore[union-attr]
    theirs, ours = (
        np.asarray(network.apply(variables, x))
        for network, variables in ((saved, flat(one)), (given, one))
    )
    apart = float(np.max(np.abs(ours - theirs)) / max(float(np.max(np.abs(theirs))), 1e-12))
    if not apart <= TOLERANCE:
        raise InputError(
            f"network is {name}, whose reconstructions differ by "
            f"{apart:.1g} from those of the network that {folder} was trained with; "
            "allowed: the same network"
        )


def flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables as a network without its code has them: named in one level a collection."""
    own = own_variables(variables)
    beside = {name: tree for name, tree in variables.items() if name not in own}
    return {**{name: artifact.named(tree) for name, tree in own.items()}, **beside}


def _with(config: Config, model: OwnNetwork) -> Config:
    return dataclasses.replace(config, model=model)

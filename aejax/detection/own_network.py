"""A network of somebody's own in a saved detector: its programs, and the network itself."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from aejax.config import Config, InputError, OwnNetwork
from aejax.config.own import Own, describe
from aejax.config.own_network import own_network
from aejax.config.scores import is_built_in
from aejax.core.programs import (
    ProgramError,
    ProgramNetwork,
    ProgramScore,
    lower_error,
    lower_network,
    lower_own_score,
    own_variables,
    read_error,
    read_network,
    read_own_score,
)
from aejax.core.score import Scorer
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.models.build import build
from aejax.training.identity import digest

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

logger = logging.getLogger(__name__)

# Rows on which a network is compared with the programs that were saved with a detector.
COMPARED_ROWS, TOLERANCE = 8, 1e-3
ERROR, SCORE = "error", "score"
# Rows as stored to scores: in exports, for those who score with JAX alone.
SCORING = "scoring"


def own_programs(
    scorer: Scorer, variables: Mapping[str, Any], shape: tuple[int, ...], config: Config
) -> dict[str, bytes]:
    """What a network, an error and a score of somebody's own compute, as programs by name.

    What can't be exported has none, which is said: its detector scores only where its code is.

    Args:
        scorer: of a detector.
        variables: of one member.
        shape: of one row.
        config: of the detector.

    Returns:
        "apply", "encode" and "decode" of a network, "error", "score"; {} of built-in ones.
    """
    network, score = scorer.model, scorer.score
    programs: dict[str, bytes] = {}
    if isinstance(network, ProgramNetwork):
        programs |= network.contents
    elif network.is_own:
        settings: Any = config.model
        programs |= _tried(settings.name, lambda: lower_network(network, variables, shape))
    error: Any = config.error
    if isinstance(error, ProgramError):
        programs[ERROR] = error.content
    elif not isinstance(error, str | Own):
        programs |= _tried(describe(error).own, lambda: {ERROR: lower_error(error, shape)})
    if isinstance(score, ProgramScore):
        programs[SCORE] = score.content
    elif not (is_built_in(score) or isinstance(score, Own)):
        programs |= _tried(
            describe(score).own, lambda: {SCORE: lower_own_score(scorer, variables, shape)}
        )
    return programs


def _tried(name: str, lower: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
    try:
        return lower()
    except Exception as error:  # What JAX can't export has no common type.
        reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
        logger.warning(
            "aejax: warning: %s can't be exported (%s): what is saved holds its arrays, and scores "
            "only where its code is",
            name,
            reason,
        )
        return {}


def with_saved_programs(arrays: dict[str, Any], programs: Mapping[str, bytes]) -> dict[str, Any]:
    """Arrays as they are saved, with programs as uint8 beside them, if there are any."""
    if not programs:
        return arrays
    packed = {name: np.frombuffer(content, np.uint8) for name, content in programs.items()}
    return {**arrays, "programs": packed}


def content_digest(arrays: Mapping[str, Any], programs: Mapping[str, bytes]) -> str:
    """SHA-256 of a detector's arrays and programs, whether its network's code is here or not."""
    if not programs:
        return digest(arrays)
    return digest(artifact.named(arrays)) + code_digest(programs)


def code_digest(programs: Mapping[str, bytes]) -> str:
    """SHA-256 of programs as they read, whichever process and source file they were made in."""
    total = hashlib.sha256()
    for name in sorted(programs):
        total.update(programs[name])
    return total.hexdigest()


def with_programs(
    config: Config, programs: Mapping[str, bytes], shape: tuple[int, ...], where: object
) -> Config:
    """A configuration whose own network, error and score are the programs saved with a detector."""
    described: Any = config.model
    if isinstance(described, OwnNetwork) and described.network is None:
        made = read_network(_of_network(programs), shape, where)
        described = dataclasses.replace(described, network=made, kind="network")
    error: Any = config.error
    if isinstance(error, Own) and ERROR in programs:
        error = read_error(programs[ERROR], shape, error, where)
    score: Any = config.score
    if isinstance(score, Own) and SCORE in programs:
        score = read_own_score(programs[SCORE], shape, score, where)
    return dataclasses.replace(config, model=described, error=error, score=score)


def _of_network(programs: Mapping[str, bytes]) -> dict[str, bytes]:
    others = (ERROR, SCORE, SCORING)
    return {name: content for name, content in programs.items() if name not in others}


def with_network(
    folder: Path,
    written: Mapping[str, Any],
    config: Config,
    shape: tuple[int, ...],
    network: object,
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
    if not isinstance(config.model, OwnNetwork):
        if network is not None:
            raise InputError(
                f"network is given, and {where} describes {type(config.model).__name__}, "
                "a built-in network; allowed: without"
            )
    elif network is not None:
        config = dataclasses.replace(config, model=own_network(network))
    programs = artifact.read_programs(folder, written)
    described: Any = config.model
    missing = isinstance(described, OwnNetwork) and described.network is None
    if missing and not _of_network(programs):
        raise InputError(
            f"{where}: its network {described.name} was saved without programs; "
            "allowed: load(folder, network=...) with the network itself"
        )
    return with_programs(config, programs, shape, where)


def check_same_network(detector: Detector, programs: Mapping[str, bytes], folder: Path) -> None:
    """Refuse a network that computes something else than the programs saved with a detector."""
    if not _of_network(programs):
        return
    schema: Schema = detector.schema
    saved = read_network(_of_network(programs), schema.shape, folder)
    own = build(detector.config.model, schema)
    one = detector.variables
    if detector.is_stacked:
        one = jax.tree.map(lambda leaf: leaf[0], one)
    rows = np.random.default_rng(0).normal(size=(COMPARED_ROWS, *schema.shape))
    x: Any = rows.astype(np.float32)
    name: str = detector.config.model.name  # type: ignore[union-attr]
    theirs, ours = (
        np.asarray(network.apply(variables, x))
        for network, variables in ((saved, flat(one)), (own, one))
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

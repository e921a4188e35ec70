"""What each of many members trains on, what it lacks, and what its training leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError
from aejax.core import steps
from aejax.core.masks import Mask
from aejax.core.scaling import Scaler
from aejax.data import batches
from aejax.models.backend import shapes_of
from aejax.models.dense import DenseAutoencoder
from aejax.models.network import Network
from aejax.training.course import Orders, course, rows_of_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One model to train.

    Attributes:
        config: all settings; those that a program is compiled for are shared by all members.
        training: positions of its training rows.
        validation: positions of its validation rows; empty for none.
        scaling: positions of the rows that its scaler is fitted on; None takes those that
            it trains on.
        mask: what it has of the model; None for all of it.
    """

    config: Config
    training: np.ndarray
    validation: np.ndarray
    scaling: np.ndarray | None = None
    mask: Mask | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedMember:
    """What a member's training leaves.

    Attributes:
        variables: the parameters (and batch statistics) to use.
        scaler: fitted on its training rows.
        history: one dict an epoch: epoch, loss, and validation_loss where there are
            validation rows.
        best_epoch: the epoch whose variables these are, or None for the last.
        problem: why the member is of no use (its loss was not finite), or None.
        epochs_run: epochs that a program had a place for it, those after it stopped included.
    """

    variables: dict[str, Any]
    scaler: Scaler
    history: list[dict[str, Any]]
    best_epoch: int | None
    problem: str | None
    epochs_run: int = 0


def member_orders(member: Member, epochs: range, per_epoch: int) -> np.ndarray:
    """Positions in all rows, int32 [epochs, per_epoch, B], of the batches it sees alone."""
    train = member.config.train
    orders = np.full((len(epochs), per_epoch, train.batch_size), -1, np.int32)
    order_of = Orders(train=train, rows=len(member.training))
    for at, epoch in enumerate(epochs):
        order = order_of(epoch)
        picked = member.training[np.maximum(order, ~order)]
        orders[at, : len(order)] = np.where(order >= 0, picked, ~picked)
    return orders


def validation_tiles(
    positions: Sequence[np.ndarray], batch_size: int, most: int
) -> np.ndarray | None:
    """Each member's validation rows as int32 [members, tiles, B], padded with -1; or None.

    Args:
        positions: of each member's rows.
        batch_size: most rows in a tile.
        most: rows that there must be room for.
    """
    if not most:
        return None
    size = min(batch_size, most)
    tiles = np.full((len(positions), -(-most // size) * size), -1, np.int32)
    for at, member in enumerate(positions):
        tiles[at, : len(member)] = member
    return tiles.reshape(len(positions), -1, size)


def history_of(loss: np.ndarray, check: np.ndarray | None, member: Member) -> list[dict[str, Any]]:
    """A member's history, as `TrainedMember` has it.

    Args:
        loss: of every step of the epochs that counted, [epochs, steps].
        check: validation loss of every epoch, of at least these, or None.
        member: whose it is.
    """
    epochs, per_epoch = loss.shape
    counts = np.zeros(loss.size)
    steps = min(course(member.config.train, len(member.training)).steps, loss.size)
    counts[:steps] = rows_of_steps(member.config.train, len(member.training), steps)
    history: list[dict[str, Any]] = []
    for epoch, of_epoch in enumerate(counts.reshape(epochs, per_epoch)):
        mean = float(loss[epoch] @ of_epoch / of_epoch.sum())
        row: dict[str, Any] = {"epoch": epoch + 1}
        if member.config.train.unit == "steps":
            row["step"] = min((epoch + 1) * per_epoch, steps)
        row["loss"] = mean
        if check is not None:
            row["validation_loss"] = float(check[epoch])
        history.append(row)
    return history


def problem_of(loss: np.ndarray, variables: object) -> str | None:
    """What isn't finite in a member's losses and parameters, in words, or None.

    Args:
        loss: of every step, [epochs, steps].
        variables: that its training left.
    """
    wrong = np.flatnonzero(~np.isfinite(loss.ravel()))
    if len(wrong):
        return f"the loss became {loss.ravel()[wrong[0]]} at step {wrong[0] + 1}"
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        return "the parameters are not finite after the last step"
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What a member has of a fully connected autoencoder; None for all.

    Attributes:
        features: bool [features], those that it sees.
        hidden: units of each hidden layer up to the latent one: the first ones are kept.
        decoder: units of those after it; None mirrors `hidden` where the model does.
        connections: probability that a weight is kept.
        seed: of the connections.
    """

    features: np.ndarray | None = None
    hidden: tuple[int, ...] | None = None
    decoder: tuple[int, ...] | None = None
    connections: float | None = None
    seed: int = 0


def described(parts: Parts) -> dict[str, Any]:
    """A member's parts as a JSON-ready dict, for its provenance."""
    features = None if parts.features is None else np.flatnonzero(parts.features).tolist()
    return {
        "features": features,
        "hidden": None if parts.hidden is None else list(parts.hidden),
        "decoder": None if parts.decoder is None else list(parts.decoder),
        "connections": parts.connections,
    }


def mask_of(parts: Parts, network: Network, shape: tuple[int, ...]) -> Mask:
    """The mask of a member's parts.

    Args:
        parts: what it has.
        network: built for its settings.
        shape: of one row.

    Raises:
        InputError: if the model is of another kind, or the parts are not parts of it.
    """
    module = getattr(network, "module", None)
    if not isinstance(module, DenseAutoencoder):
        raise InputError(
            f"parts of a {type(module).__name__} were asked for; allowed: of a Dense model"
        )
    count = int(np.prod(shape))
    features = np.ones(count, bool) if parts.features is None else np.asarray(parts.features)
    if features.shape != (count,) or features.dtype != bool or not features.any():
        raise InputError(
            f"Parts.features is {features.dtype}{list(features.shape)} with {features.sum()} "
            f"features; allowed: bool [{count}], at least one"
        )
    hidden = _widths("hidden", parts.hidden, module.hidden)
    decoder = parts.decoder
    if decoder is None and module.decoder == module.hidden[-2::-1]:
        decoder = hidden[-2::-1]
    widths = [features, *(_first(*pair) for pair in zip(hidden, module.hidden, strict=True))]
    after = _widths("decoder", decoder, module.decoder)
    widths += [_first(*pair) for pair in zip(after, module.decoder, strict=True)]
    widths.append(features)
    names = [f"encoder_layers_{at}" for at in range(len(hidden))]
    names += [f"decoder_layers_{at}" for at in range(len(after))]
    names.append("output_layer")
    random = batches.host_random(parts.seed, "connections")
    kept: dict[str, dict[str, np.ndarray]] = {}
    for name, before, behind in zip(names, widths[:-1], widths[1:], strict=True):
        kernel = before[:, None] & behind
        if parts.connections is not None:
            kernel = kernel & (random.random(kernel.shape) < parts.connections)
        kept[name] = {"kernel": kernel, "bias": behind}
    params = shapes_of(lambda: steps.new_variables(network, shape, 0))["params"]

    def one(path: Any, leaf: Any) -> np.ndarray:
        layer, kind = (str(part.key) for part in path)
        # Normalised units that are 0 come out as 0, and their outgoing weights are 0.
        return kept.get(layer, {}).get(kind, np.ones(leaf.shape, bool))

    weights = features.reshape(shape) * np.float32(count / features.sum())
    return Mask(weights.astype(np.float32), jax.tree_util.tree_map_with_path(one, params))


def _widths(name: str, asked: tuple[int, ...] | None, most: tuple[int, ...]) -> tuple[int, ...]:
    if asked is None:
        return most
    if len(asked) != len(most) or any(not 1 <= a <= b for a, b in zip(asked, most, strict=True)):
        raise InputError(f"Parts.{name} is {asked}; allowed: from 1 to each of {most}")
    return asked


def _first(count: int, size: int) -> np.ndarray:
    kept: np.ndarray = np.arange(size) < count
    return kept

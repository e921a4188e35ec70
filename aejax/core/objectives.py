"""What training minimises, as one loss per row. The caller masks and averages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from aejax import config
from aejax.config import ErrorName
from aejax.core import errors, masks
from aejax.core.optimizers import Numbers
from aejax.models import dropout
from aejax.models.heads import Head, heads_of_model

Variables = dict[str, Any]
ObjectiveName = Literal["reconstruct", "elbo", "classify", "predict"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What is static in a loss; hashable, compared by value.

    Attributes:
        name: which of `OBJECTIVES`.
        loss: error of a reconstruction.
        noise_on: what noise is added to, or None.
        bounds: range of what noise was added to.
        hide: share of the cells that the model is not shown.
        drops: whether hidden units are dropped; `Numbers.dropout` says how many.
    """

    name: ObjectiveName = "reconstruct"
    loss: ErrorName = "squared"
    noise_on: Literal["input", "target"] | None = None
    bounds: tuple[float, float] | None = None
    hide: float = 0.0
    drops: bool = False


class Fed(NamedTuple):
    """What a loss is computed of.

    Attributes:
        x: scaled rows, float32 [B, ...].
        target: int32 [B], each row's class, or None where rows are their own target.
        mask: bool [B]; padding must not enter batch statistics.
        key: of this batch; noise, dropout and samples are folded out of it.
        values: the run's numbers.
    """

    x: jax.Array
    target: jax.Array | None
    mask: jax.Array
    key: jax.Array
    values: Numbers


Loss = Callable[[Objective, nn.Module, Variables, Fed, bool], tuple[jax.Array, Variables]]


def objective_of(settings: config.Config) -> Objective:
    """The objective of a configuration: its model decides which."""
    names: dict[type, ObjectiveName] = {
        config.Variational: "elbo",
        config.Classifier: "classify",
        config.Context: "predict",
    }
    train = settings.train
    return Objective(
        name=names.get(type(settings.model), "reconstruct"),
        loss=train.loss,
        noise_on=train.noise_on if train.noise > 0 else None,
        bounds=train.noise_range,
        hide=train.hide,
        drops=config.dropout_of(settings.model) > 0,
    )


def row_losses(
    objective: Objective, model: nn.Module, variables: Variables, fed: Fed, *, train: bool
) -> tuple[jax.Array, Variables]:
    """Loss of every row.

    Args:
        objective: which.
        model: the network.
        variables: its parameters and batch statistics.
        fed: rows and what belongs to them.
        train: batch statistics, dropout and samples as in training.

    Returns:
        float32 [B], and the model's other variables after this batch ({} unless `train`).
    """
    losses, changed = OBJECTIVES[objective.name](objective, model, variables, fed, train)
    return errors.of_shape(losses, fed.mask.shape, "the losses of a batch are"), changed


def corrupt(
    x: jax.Array,
    key: jax.Array,
    deviation: jax.Array | float,
    bounds: tuple[float, float] | None,
) -> jax.Array:
    """Rows with normal noise added: the input of a denoising autoencoder (Vincent et al. 2008).

    Args:
        x: scaled rows, float32 [B, ...].
        key: of this batch's noise.
        deviation: standard deviation of the noise.
        bounds: lowest and highest value of the result, or None.
    """
    noisy = x + deviation * jax.random.normal(key, x.shape, x.dtype)
    return noisy if bounds is None else jnp.clip(noisy, *bounds)


def _apply(
    objective: Objective,
    model: nn.Module,
    variables: Variables,
    x: jax.Array,
    fed: Fed,
    train: bool,
    **how: Any,
) -> tuple[Any, Variables]:
    """What a model makes of rows, and its other variables after this batch."""
    streams = {"dropout": jax.random.fold_in(fed.key, 1), "samples": jax.random.fold_in(fed.key, 2)}
    if not train:
        return model.apply(variables, x, train=False, rngs=streams, **how), {}
    if objective.drops:
        variables = {**variables, **dropout.rates(model, fed.values.dropout)}
    found: Any = model.apply(
        variables, x, train=True, mask=fed.mask, mutable=["batch_stats"], rngs=streams, **how
    )
    return found


def _noisy(
    objective: Objective, fed: Fed, heads: tuple[Head, ...] | None = None
) -> tuple[jax.Array, jax.Array]:
    """What the model sees, and what its output is compared with."""
    seen = target = fed.x
    if objective.noise_on is not None:
        noisy = corrupt(fed.x, jax.random.fold_in(fed.key, 0), fed.values.noise, objective.bounds)
        if heads is not None:
            # A code with noise added is no code.
            noisy = jnp.where(np.array([head.kind == "number" for head in heads]), noisy, fed.x)
        seen, target = (noisy, fed.x) if objective.noise_on == "input" else (fed.x, noisy)
    if objective.hide > 0:
        hidden = jax.random.bernoulli(jax.random.fold_in(fed.key, 3), objective.hide, seen.shape)
        seen = jnp.where(hidden, 0.0 if heads is None else jnp.nan, seen)
    return seen, target


def reconstruct(
    objective: Objective, model: nn.Module, variables: Variables, fed: Fed, train: bool
) -> tuple[jax.Array, Variables]:
    """Reconstruction error of every row: the mean over its features."""
    heads = heads_of_model(model)
    seen, target = _noisy(objective, fed, heads)
    y, changed = _apply(objective, model, variables, seen, fed, train)
    if heads is not None:
        return errors.row_error(objective.loss, target, y, heads), changed
    error = masks.weighted(variables, errors.feature_error(objective.loss, target, y))
    return errors.row_mean(error), changed


def elbo(
    objective: Objective, model: nn.Module, variables: Variables, fed: Fed, train: bool
) -> tuple[jax.Array, Variables]:
    """Negative evidence lower bound of every row, in nats, with one sample of the posterior.

    -log p(row | sample) + beta * KL(posterior, prior), summed over features and latent
    dimensions (Kingma and Welling 2014, equation 10).
    """
    seen, target = _noisy(objective, fed)
    terms, changed = _apply(
        objective, model, variables, seen, fed, train, target=target, method="negative_elbo"
    )
    reconstruction, divergence = terms
    return reconstruction + fed.values.beta * divergence, changed


def classify(
    objective: Objective, model: nn.Module, variables: Variables, fed: Fed, train: bool
) -> tuple[jax.Array, Variables]:
    """Cross-entropy of every row's class, in nats."""
    seen, _ = _noisy(objective, fed)
    logits, changed = _apply(objective, model, variables, seen, fed, train)
    assert fed.target is not None
    logits = errors.of_shape(logits, (fed.x.shape[0], None))
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), fed.target[:, None], axis=1)
    return -chosen[:, 0], changed


def predict(
    objective: Objective, model: nn.Module, variables: Variables, fed: Fed, train: bool
) -> tuple[jax.Array, Variables]:
    """Surprise of the middle of every window, in nats, or its estimate by negative sampling."""
    return _apply(objective, model, variables, fed.x, fed, train)


OBJECTIVES: dict[ObjectiveName, Loss] = {
    "reconstruct": reconstruct,
    "elbo": elbo,
    "classify": classify,
    "predict": predict,
}

"""Scoring: rows to scores, of one model or of an ensemble. Pure and unjitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from aejax import config
from aejax.config import Combine
from aejax.core import errors, masks, neighbours, scaling
from aejax.core.errors import Error
from aejax.core.keys import named_key
from aejax.core.scaling import Scaler
from aejax.models.heads import Head
from aejax.models.network import Network
from aejax.models.variational import divergence

ScoreKind = Literal[
    "error",
    "residual-distance",
    "latent-distance",
    "residual-and-latent-distance",
    "error-and-neighbours",
    "negative-elbo",
    "reconstruction-probability",
    "log-odds",
    "distrust",
    "surprise",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """What a scoring program is specialised on; hashable, compared by value.

    Attributes:
        model: the network.
        error: error of a feature.
        kind: which of `SCORES` a row's score is.
        combine: None for one model. Otherwise variables and scaler have a leading axis of
            members, and this is how their scores become one.
    """

    model: Network
    error: Error
    kind: ScoreKind = "error"
    combine: Combine | None = None

    @property
    def reconstructs(self) -> bool:
        """Whether the model gives reconstructions, and so an error for every feature."""
        return self.model.reconstructs

    @property
    def maps(self) -> bool:
        """Whether `jax.vmap` over members works: programs read from files have no rule for it."""
        return self.model.maps and not isinstance(getattr(self.error, "content", None), bytes)

    @property
    def heads(self) -> tuple[Head, ...] | None:
        """Of the columns of a mixed table; None for other rows."""
        return self.model.heads


def kind_of(settings: config.Config) -> ScoreKind:
    """What a row's score is, by a configuration: some models have one of their own."""
    own: Any = settings.model.own_score
    return own or settings.score


def _score_one(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    scores = SCORES[scorer.kind](scorer, variables, scaling.apply(scaler, x))
    return errors.of_shape(scores, x.shape[:1], "the scores of a batch are")


def _error(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    y: Any = scorer.model.apply(variables, x)
    if scorer.heads is not None:
        return errors.row_error(scorer.error, x, y, scorer.heads)
    return errors.row_mean(masks.weighted(variables, errors.feature_error(scorer.error, x, y)))


def _error_and_neighbours(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    return _geometric_mean(_error(scorer, variables, x), _nearest_distance(variables, x))


def _geometric_mean(error: jax.Array, distance: jax.Array) -> jax.Array:
    # Of a wild row the product would be infinite.
    return jnp.sqrt(error) * jnp.sqrt(distance)


def _nearest_distance(variables: dict[str, Any], x: jax.Array) -> jax.Array:
    return neighbours.nearest_distance(variables["normal"]["neighbours"], x.reshape(x.shape[0], -1))


def _whitened(learnt: dict[str, jax.Array], values: jax.Array) -> jax.Array:
    """Squared Mahalanobis distance of float32 [B, n] from the rows that were learnt from."""
    centred = values - learnt["mean"]
    white = jnp.matmul(centred, learnt["whitening"], precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(jnp.square(white), axis=1)


def _residual_and_latent(
    scorer: Scorer, variables: dict[str, Any], x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    latent: Any = scorer.model.call("encode", variables, x)
    y: Any = scorer.model.call("decode", variables, latent)
    residual = x - errors.of_shape(y, x.shape)
    return residual.reshape(x.shape[0], -1), latent.reshape(x.shape[0], -1)


def _residual_distance(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    residual, _ = _residual_and_latent(scorer, variables, x)
    return _whitened(variables["normal"]["residual"], residual) / residual.shape[1]


def _latent_distance(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    latent: Any = scorer.model.call("encode", variables, x)
    latent = latent.reshape(x.shape[0], -1)
    return _whitened(variables["normal"]["latent"], latent) / latent.shape[1]


def _both_distances(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    residual, latent = _residual_and_latent(scorer, variables, x)
    normal = variables["normal"]
    return 0.5 * (_whitened(normal["residual"], residual) + _whitened(normal["latent"], latent))


def _sampled(
    scorer: Scorer, variables: dict[str, Any], x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Both terms of the negative evidence lower bound, averaged over the model's samples."""
    model: Any = scorer.model
    posterior: Any = model.call("posterior", variables, x)
    mean, log_variance = posterior
    deviation = jnp.exp(0.5 * log_variance)

    def one(noise: jax.Array) -> jax.Array:
        found: Any = model.call("negative_log_likelihood", variables, x, mean + deviation * noise)
        return found

    # One seed for all rows and all runs: a score depends on the model and the row only. One
    # after the other: side by side, the decodings would leave the cache, and a program with
    # sixteen of them takes minutes to compile.
    noise = jax.random.normal(named_key(0, "score"), (model.module.samples, mean.shape[1]))
    return jnp.mean(jax.lax.map(one, noise), axis=0), divergence(mean, log_variance)


def _negative_elbo(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    reconstruction, divergence = _sampled(scorer, variables, x)
    total: jax.Array = reconstruction + divergence
    return total


def _reconstruction_probability(
    scorer: Scorer, variables: dict[str, Any], x: jax.Array
) -> jax.Array:
    reconstruction: jax.Array = _sampled(scorer, variables, x)[0]
    return reconstruction


def _log_odds(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    logits: Any = scorer.model.apply(variables, x)
    logits = errors.of_shape(logits, (x.shape[0], None))
    return logits[:, 1] - logits[:, 0]


def _distrust(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    logits: Any = scorer.model.apply(variables, x)
    return 1 - jnp.max(jax.nn.softmax(errors.of_shape(logits, (x.shape[0], None))), axis=1)


def _surprise(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    surprise: Any = scorer.model.apply(variables, x)
    return surprise


SCORES: dict[ScoreKind, Callable[[Scorer, dict[str, Any], jax.Array], jax.Array]] = {
    "error": _error,
    "residual-distance": _residual_distance,
    "latent-distance": _latent_distance,
    "residual-and-latent-distance": _both_distances,
    "error-and-neighbours": _error_and_neighbours,
    "negative-elbo": _negative_elbo,
    "reconstruction-probability": _reconstruction_probability,
    "log-odds": _log_odds,
    "distrust": _distrust,
    "surprise": _surprise,
}


def member_scores(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Every member's score of every row, or its rank where ranks are combined: [members, B].

    Members take turns over one batch, which stays in cache; side by side, their
    reconstructions would not.
    """
    members = (variables, scaler)
    if scorer.kind == "error-and-neighbours":
        # The members hold the first one's rows between them, which are looked through once.
        first = jax.tree.map(lambda leaf: leaf[0], scaler)
        rows = variables["normal"]["neighbours"]
        pool = {"normal": {"neighbours": rows.reshape(-1, rows.shape[2])}}
        distance = _nearest_distance(pool, scaling.apply(first, x))
        alone = dataclasses.replace(scorer, kind="error")
        error = jax.lax.map(lambda member: _score_one(alone, member[0], member[1], x), members)
        return ranked(scorer, variables, _geometric_mean(error, distance))
    scores = jax.lax.map(lambda member: _score_one(scorer, member[0], member[1], x), members)
    return ranked(scorer, variables, scores)


def scores_by_row(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """What `member_scores` gives, by row: [B, members]."""
    return member_scores(scorer, variables, scaler, x).T


def ranked(scorer: Scorer, variables: dict[str, Any], scores: jax.Array) -> jax.Array:
    """Members' scores [members, B] as they are combined: with "rank", as `rank_among` has them."""
    if scorer.combine != "rank":
        return scores
    return jax.vmap(rank_among)(variables["calibration"]["scores"], scores)


def rank_among(quantiles: jax.Array, scores: jax.Array) -> jax.Array:
    """The share of normal rows that have a smaller score, between 0 and 1; and further up.

    Above the largest, a rank grows on with the score's distance from it, in units of the
    largest's distance from the median: anomalies stay ordered.

    Args:
        quantiles: of one member's scores of normal rows, float32 [n], ascending, evenly spaced
            from the smallest to the largest.
        scores: float32 [B].

    Returns:
        float32 [B].
    """
    count = quantiles.shape[0]
    rank = jnp.interp(scores, quantiles, jnp.linspace(0, 1, count))
    largest = quantiles[-1]
    unit = jnp.maximum(largest - quantiles[count // 2], jnp.finfo(jnp.float32).tiny)
    beyond = jnp.maximum(scores - largest, 0) / unit
    # A row without a score has no rank either.
    return jnp.where(jnp.isnan(scores), jnp.nan, rank + beyond)


def combined(scorer: Scorer, scores: jax.Array) -> jax.Array:
    """One score a row, float32 [B], of what `member_scores` gives."""
    return jnp.median(scores, axis=0) if scorer.combine == "median" else jnp.mean(scores, axis=0)


def score_rows(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Score of every row: larger is more anomalous.

    Args:
        scorer: model, error, and how members' scores become one.
        variables: parameters and batch statistics.
        scaler: fitted on training rows.
        x: rows as stored, [B, ...].

    Returns:
        float32 [B].
    """
    if scorer.combine is None:
        return _score_one(scorer, variables, scaler, x)
    return combined(scorer, member_scores(scorer, variables, scaler, x))

"""Scoring: rows to scores, of one model or of an ensemble. Pure and unjitted."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from aejax.config import SCORES, Combine, Config, InputError, score_text
from aejax.config.own import call, describe, in_one_line, require_here
from aejax.config.scores import DEFAULT, is_built_in, score_object
from aejax.core import errors, masks, scaling
from aejax.core.errors import Error
from aejax.core.scaling import Scaler
from aejax.models.heads import Head
from aejax.models.network import Network

# What the package itself keeps of normal rows; everything else there is what the score learnt.
KEPT_OF_NORMAL = ("error", "values")


def default_score() -> Any:
    """The mean error."""
    return SCORES[DEFAULT]()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """What a scoring program is specialised on; hashable, compared by value.

    Attributes:
        model: the network.
        error: error of a feature.
        score: what a row's score is: an object that is an `aejax.config.Score`.
        combine: None for one model. Otherwise variables and scaler have a leading axis of
            members, and this is how their scores become one.
    """

    model: Network
    error: Error
    score: Any = dataclasses.field(default_factory=default_score)
    combine: Combine | None = None

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.model, self.error, self.score, self.combine))

    def __hash__(self) -> int:
        # Asked at every call of a program: found once, because it takes as long as few rows do.
        return self._hash

    @property
    def reconstructs(self) -> bool:
        """Whether the model gives reconstructions, and so an error for every feature."""
        return self.model.reconstructs

    @property
    def maps(self) -> bool:
        """Whether `jax.vmap` over members works: programs read from files have no rule for it."""
        parts = (self.error, self.score)
        programs = any(isinstance(getattr(part, "content", None), bytes) for part in parts)
        return self.model.maps and not programs

    @property
    def is_mean_error(self) -> bool:
        """Whether a score is the mean of the errors of a row's features, by one of the names."""
        mean = is_built_in(self.score) and getattr(self.score, "is_mean_error", False)
        return bool(mean and isinstance(self.error, str) and self.combine is None)

    @property
    def takes_columns(self) -> bool:
        """Whether `score_columns` gives what `score_rows` does."""
        return self.is_mean_error and self.model.takes_columns and self.heads is None

    @property
    def heads(self) -> tuple[Head, ...] | None:
        """The heads of the columns of a mixed table; None for other rows."""
        return self.model.heads


class FeatureErrors:
    """The error that a configuration names, as one member counts it."""

    def __init__(self, scorer: Scorer, variables: dict[str, Any]) -> None:
        self._scorer, self._variables = scorer, variables

    def __call__(self, x: jax.Array, y: Any) -> jax.Array:
        """Error of every feature, float32 [B, ...], of scaled rows and what the network gave."""
        scorer = self._scorer
        each = errors.feature_error(scorer.error, x, y, scorer.heads)
        return masks.weighted(self._variables, each)

    def mean(self, x: jax.Array, y: Any) -> jax.Array:
        """The mean of every row's, float32 [B]; in a mixed table over the cells that are there."""
        if self._scorer.heads is not None:
            return errors.row_error(self._scorer.error, x, y, self._scorer.heads)
        return errors.row_mean(self(x, y))


def learnt_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What a score learnt of normal rows, of what is kept among variables."""
    normal = variables.get("normal", {})
    return {name: tree for name, tree in normal.items() if name not in KEPT_OF_NORMAL}


def check_score(config: Config, network: Network) -> None:
    """Refuse, before anything is trained, a score that can't be learnt or computed of a network.

    Raises:
        InputError: if the network lacks what the score needs, or the score's code isn't here.
    """
    score = score_object(config)
    described = describe(score) if isinstance(getattr(score, "content", None), bytes) else score
    require_here(described, "Config.score", "to fit with, the object itself, or another score")
    missing = [name for name in getattr(score, "needs", ()) if not network.has(name)]
    if missing:
        raise InputError(
            f"Config.score is {score_text(score)!r}, which needs {' and '.join(missing)}; "
            f"allowed: with a network that has {' and '.join(score.needs)}"
        )


def _shared(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array | None:
    """What members, with a leading axis in variables and scaler, need compute only once."""
    if not hasattr(scorer.score, "shared"):
        return None
    first = jax.tree.map(lambda leaf: leaf[0], scaler)
    parts: Any = _called(
        scorer, scorer.score.shared, x=scaling.apply(first, x), learnt=learnt_of(variables)
    )
    return parts


def _joined(scorer: Scorer, scores: jax.Array, shared: object) -> jax.Array:
    if not hasattr(scorer.score, "shared"):
        return scores
    joined: Any = _called(scorer, scorer.score.join, scores=scores, shared=shared)
    return errors.of_shape(joined, scores.shape, _what(scorer, "join"))


def _score_one(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    return score_scaled(scorer, variables, scaling.apply(scaler, x))


def score_scaled(scorer: Scorer, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    """What a score's `apply` gives for scaled rows by one member, float32 [B]."""
    require_apply(scorer.score)
    scores = _called(
        scorer,
        scorer.score.apply,
        network=scorer.model,
        variables=variables,
        x=x,
        learnt=learnt_of(variables),
        error=FeatureErrors(scorer, variables),
    )
    return errors.of_shape(scores, x.shape[:1], _what(scorer, "apply"))


def _what(scorer: Scorer, function: str) -> str:
    if is_built_in(scorer.score):
        return "the scores of a batch are"
    return f"Config.score is {score_text(scorer.score)}, whose {function} gives"


def require_apply(score: object) -> None:
    """Refuse a score that was saved without what it computes."""
    if not hasattr(score, "apply"):
        require_here(
            score, "Config.score", "its code (it was saved without a program), or another score"
        )


def _called(scorer: Scorer, function: Callable[..., Any], **known: Any) -> Any:
    if is_built_in(scorer.score):
        return call(function, **known)
    try:
        return call(function, **known)
    except InputError:
        raise
    except Exception as error:
        name = getattr(function, "__name__", "apply")
        raise InputError(
            f"Config.score is {score_text(scorer.score)}, whose {name} failed "
            f"({type(error).__name__}: {in_one_line(error, str)}); allowed: scores float32 [B]"
        ) from error


def member_scores(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """Every member's score of every row, or its rank where ranks are combined: [members, B].

    Members take turns over one batch, which stays in cache; side by side, their
    reconstructions would not.
    """
    shared = _shared(scorer, variables, scaler, x)
    scores = jax.lax.map(
        lambda member: _score_one(scorer, member[0], member[1], x), (variables, scaler)
    )
    scores = _joined(scorer, scores, shared)
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
        one = jax.tree.map(lambda leaf: leaf[None], (learnt_of(variables), scaler))
        shared = _shared(scorer, {"normal": one[0]}, one[1], x)
        return _joined(scorer, _score_one(scorer, variables, scaler, x), shared)
    return combined(scorer, member_scores(scorer, variables, scaler, x))


def score_columns(
    scorer: Scorer, variables: dict[str, Any], scaler: Scaler, x: jax.Array
) -> jax.Array:
    """As `score_rows`, of rows that lie side by side, where the scorer takes them.

    Nothing is turned: each product's result has the batch last, as the rows have it, and errors
    are added up over the first axis.

    Args:
        scorer: whose `takes_columns` is true.
        variables: as in `score_rows`.
        scaler: as in `score_rows`.
        x: rows as stored, [features, B].

    Returns:
        float32 [B].
    """
    # Only elementwise operations lie between a transpose and the next: the compiler drops both.
    scaled = scaling.apply(scaler, x.T).T
    y = errors.of_shape(scorer.model.apply_columns(variables, scaled), scaled.shape)
    each = errors.feature_error(scorer.error, scaled, y)
    return jnp.mean(masks.weighted(variables, each.T).T, axis=0)

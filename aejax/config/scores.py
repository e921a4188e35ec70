"""What a row's score is: what a score has, the built-in ones by name, and their text."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from aejax.config.checks import InputError
from aejax.config.own import Own, in_one_line, make_named, require_hashable, text_of
from aejax.config.registry import Registry

DEFAULT = "error"
# By what network they are of: any that reconstructs, one that has a posterior, one that is given
# the noise's level, and one that reconstructs nothing and chooses its score itself
# (`NetworkSettings.own_score`).
_OF_AUTOENCODERS = {
    "error": "aejax.row_scores.error:Error",
    "residual-distance": "aejax.row_scores.distances:ResidualDistance",
    "latent-distance": "aejax.row_scores.distances:LatentDistance",
    "residual-and-latent-distance": "aejax.row_scores.distances:ResidualAndLatentDistance",
    "error-and-neighbours": "aejax.row_scores.neighbours:ErrorAndNeighbours",
}
_OF_VARIATIONAL = {
    "negative-elbo": "aejax.row_scores.variational:NegativeElbo",
    "reconstruction-probability": "aejax.row_scores.variational:ReconstructionProbability",
}
_OF_NOISE_LEVELS = {
    "noise-levels": "aejax.row_scores.noise_levels:NoiseLevels",
    "noise-levels-and-neighbours": "aejax.row_scores.noise_levels:NoiseLevelsAndNeighbours",
    "noise-levels-and-norm": "aejax.row_scores.norm:NoiseLevelsAndNorm",
}
_OF_THEIR_NETWORKS = {
    "log-odds": "aejax.row_scores.outputs:LogOdds",
    "distrust": "aejax.row_scores.outputs:Distrust",
    "surprise": "aejax.row_scores.outputs:Surprise",
}
SCORES = Registry({**_OF_AUTOENCODERS, **_OF_VARIATIONAL, **_OF_NOISE_LEVELS, **_OF_THEIR_NETWORKS})
CHOICES = (*_OF_AUTOENCODERS, *_OF_VARIATIONAL, *_OF_NOISE_LEVELS)
ALLOWED = f"{', '.join(map(repr, CHOICES))}, or an object with apply(...)"
# What `apply` may ask for, by these names.
KEYWORDS = ("network", "variables", "x", "learnt", "error")


class Score(Protocol):
    """What a row's score is: any hashable object with `apply`, as a frozen dataclass.

    `apply` gives the scores of a batch, float32 [B], larger where a row is more anomalous. It is
    traced and compiled, so it has to be pure JAX, and is passed those of these that it names:

        network: `network.apply(variables, x)` gives reconstructions float32 [B, ...], and
            `network.encode(variables, x)` and `network.decode(variables, latent)` what the
            network has of these.
        variables: of the network.
        x: rows as they are scaled, float32 [B, ...].
        learnt: what `learn` gave, as arrays.
        error: `error(x, y)` gives the error that the configuration names, of every feature,
            float32 [B, ...], and `error.mean(x, y)` its mean over each row, float32 [B].

    What else it may have:

        learn(known): what it must know of normal rows, once after training, on the host: a dict
            of arrays of finite numbers (or of dicts of these). `known` offers what was not
            trained on where there is some, as NumPy arrays, each computed when it is asked for:
            `rows` (scaled, float32 [n, ...]), `reconstructions` and `residuals` (the same shape),
            `errors` (of every feature, float [n, features]), `latent` (of networks that encode),
            and `training(most)`: at most so many of the rows trained on, scaled and evenly spread.
        most_rows: how many of the normal rows `known` has at most, 65,536 if there is none.
        least: fewest training rows that it can learn of, 1 if there is none.
        of_training_rows: True if it asks `known` for nothing but `training`, so that a threshold
            can be set on rows that weren't held out (`Config.calibration`). False if there is none.
        needs: names of what the network must have, as ("encode", "decode").
        text: one line that shows it. Its `repr` if there is none.
        batch_rows(features, on_cpu): most rows that a batch should have.
        shared(x, learnt), join(scores, shared): what the members of an ensemble need not each
            compute for a batch, and the scores made of what `apply` gave, [members, B], and of
            it. `learnt` has a leading axis of members (of one, and scores none, if there is one
            model), and x is scaled as by the first.
        stack(learnt, ensemble): what several detectors learnt, a list, as one dict of arrays with
            a leading axis: of an ensemble's members, or (False) of groups. `np.stack` if there is
            none, for which shapes have to be equal.
        words: what a row is scored by, in words, with {model} and {rows} for its card.
        is_mean_error: True if it is the mean error itself.
        normal_class: of a classifier, the class of rows that thresholds are set on.

    Another score is saved as the line that shows it, and with what `apply` computes as a program.

    Example:
        >>> import dataclasses
        >>> @dataclasses.dataclass(frozen=True)
        ... class InUsualErrors:
        ...     def learn(self, known):
        ...         return {"usual": known.errors.mean(axis=0) + 1e-6}
        ...
        ...     def apply(self, network, variables, x, learnt, error):
        ...         each = error(x, network.apply(variables, x))
        ...         return (each.reshape(len(x), -1) / learnt["usual"]).max(axis=1)
        >>> from aejax.config import Config
        >>> Config(score=InUsualErrors()).score
        InUsualErrors()
    """

    def apply(self, *arguments: Any, **optional: Any) -> Any:
        """Scores float32 [B]."""


def score_object(config: Any) -> Any:
    """What scores the rows of a configuration: some networks have a score of their own."""
    chosen = config.model.own_score or config.score
    return SCORES[chosen]() if isinstance(chosen, str) else chosen


def is_built_in(score: Any) -> bool:
    """Whether a score is one that a name stands for."""
    return SCORES.name_of(type(score)) is not None


def is_mean_error(score: Any) -> bool:
    """Whether a score is the mean error of a row's features."""
    return bool(getattr(score, "is_mean_error", False))


def learns(score: Any) -> bool:
    """Whether a score needs to know of normal rows."""
    return callable(getattr(score, "learn", None))


def check_training_rows(score: Any, rows: int) -> None:
    """Raise InputError where a score can't learn of so few training rows."""
    if rows < (least := int(getattr(score, "least", 1))):
        raise InputError(
            f"training rows: found {rows}; "
            f"allowed with Config.score {score_text(score)}: at least {least}"
        )


def checked_score(value: Any, model: Any) -> Any:
    """A configuration's score as it is kept: the name of a built-in one, or the object.

    Args:
        value: what a person gave.
        model: settings of the network.

    Raises:
        InputError: if it is none, or none of such a network.
    """
    # The place of a class is known without loading it.
    value = SCORES.name_of(type(value)) or value
    shown = in_one_line(value)
    if isinstance(value, str):
        if value not in CHOICES:
            raise InputError(f"Config.score is {shown}; allowed: {ALLOWED}")
        if value in _OF_VARIATIONAL and not model.generates:
            raise InputError(f"Config.score is {shown}; allowed: with a variational model")
        if value in _OF_NOISE_LEVELS and not model.takes_levels:
            raise InputError(f"Config.score is {shown}; allowed: with a noise-conditioned model")
    elif not isinstance(value, Own):
        _check_own(value, shown)
    if value != DEFAULT and not model.reconstructs:
        raise InputError(
            f"Config.score is {shown}; allowed: {DEFAULT!r} with a model that reconstructs nothing"
        )
    return value


def _check_own(value: Any, shown: str) -> None:
    apply = getattr(value, "apply", None)
    if not callable(apply) or isinstance(value, type):
        raise InputError(f"Config.score is {shown}; allowed: {ALLOWED}")
    try:
        signature = inspect.signature(apply)
    except (TypeError, ValueError):  # Of some compiled functions nothing is known.
        signature = None
    for name, one in {} if signature is None else signature.parameters.items():
        fills = one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) or one.default is not one.empty
        if not fills and (name not in KEYWORDS or one.kind is one.POSITIONAL_ONLY):
            raise InputError(
                f"Config.score is {shown}, which has apply{signature}; "
                f"allowed: arguments named {', '.join(KEYWORDS)}"
            )
    hashable = "a frozen dataclass, whose fields are numbers, text or tuples of these"
    require_hashable(value, f"Config.score is {shown}", hashable)
    needs = getattr(value, "needs", ())
    if not isinstance(needs, tuple) or not all(isinstance(name, str) for name in needs):
        raise InputError(
            f"Config.score.needs is {in_one_line(needs)}; allowed: a tuple of names, as ('encode',)"
        )
    for name in ("most_rows", "least"):
        count = getattr(value, name, 1)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise InputError(
                f"Config.score.{name} is {in_one_line(count)}; allowed: a whole number, at least 1"
            )


def parse_score(text: str) -> Any:
    """A score from text of a command line: a name, or "package.module:Class".

    Numbers after a class, as in "my_scores:Scaled:2", are its first arguments. Runs that code.

    Raises:
        InputError: if it can't be imported or made.
    """
    module, *rest = text.split(":")
    if text in CHOICES or not rest:
        return text
    return make_named(text, f"{module}:{rest[0]}", rest[1:], "score")


def score_text(score: Any) -> str:
    """One line that shows a score; of a built-in one its name."""
    if isinstance(score, str):
        return score
    name = SCORES.name_of(type(score))
    if name is not None:
        return name
    if isinstance(score, Own):
        return score.text
    text = getattr(score, "text", None)
    return in_one_line(text, str) if isinstance(text, str) else text_of(score)

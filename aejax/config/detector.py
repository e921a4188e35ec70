"""All settings of a detector in one object."""

from __future__ import annotations

import dataclasses
from typing import Literal

from aejax.config.checks import InputError, check, check_choices
from aejax.config.models import MODELS, Classifier, Context, Dense, Model, Variational
from aejax.config.rules import RULES, Quantile, Rule
from aejax.config.training import ErrorName, Scale, Train

Precision = Literal["float32", "bfloat16"]
Combine = Literal["mean", "median", "rank"]
ScoreName = Literal[
    "error",
    "residual-distance",
    "latent-distance",
    "residual-and-latent-distance",
    "negative-elbo",
    "reconstruction-probability",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a detector.

    Args:
        model: the network.
        scale: how rows are scaled before the model.
        train: how it is trained.
        error: error of a feature when scoring; a row's score is its mean over features.
        score: what a row's score is. "error": its mean reconstruction error (a classifier
            and a context model have a score of their own). "residual-distance": squared
            Mahalanobis distance of its residual from those of normal rows, over the number
            of features; it sees errors that are small but unusual together, which helps
            where features are correlated and there are many more normal rows than
            features. "latent-distance": the same of its latent values, which sees rows that
            are reconstructed well but lie where no normal row does.
            "residual-and-latent-distance": half the sum of both squared distances, the
            negative log density of two independent normal distributions up to a constant.
            Of a variational model also
            "negative-elbo" (upper bound of -log p(row), in nats) and
            "reconstruction-probability" (its negative: mean of -log p(row | latent) over
            the posterior's samples; An and Cho, "Variational autoencoder based anomaly
            detection using reconstruction probability", 2015).
        rule: how the first threshold is set, on validation rows where there are any.
        precision: type of the products when scoring; "bfloat16" accumulates in float32.
    """

    model: Model = Dense()
    scale: Scale = Scale()
    train: Train = Train()
    error: ErrorName = "squared"
    score: ScoreName = "error"
    rule: Rule = Quantile()
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_choices(self)
        for name, kinds in (
            ("model", tuple(MODELS.values())),
            ("scale", Scale),
            ("train", Train),
            ("rule", tuple(RULES.values())),
        ):
            allowed = " or ".join(
                k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,))
            )
            check(self, name, allowed, isinstance(getattr(self, name), kinds))
        self._check_bernoulli()
        sampled = self.score in ("negative-elbo", "reconstruction-probability")
        if sampled and not isinstance(self.model, Variational):
            raise InputError(f"Config.score is {self.score!r}; allowed: with a variational model")
        if self.score != "error" and isinstance(self.model, Classifier | Context):
            raise InputError(
                f"Config.score is {self.score!r}; allowed: 'error' with a model that "
                "reconstructs nothing"
            )

    def _check_bernoulli(self) -> None:
        """Refuse a likelihood of values in [0, 1] where scaling puts them anywhere."""
        named: dict[str, str] = {"error": self.error, "train.loss": self.train.loss}
        if isinstance(self.model, Variational):
            named["model.likelihood"] = self.model.likelihood
        for name, value in named.items():
            if value == "bernoulli" and self.scale.kind == "standard":
                raise InputError(
                    f"Config.scale.kind is 'standard' and {name} is 'bernoulli'; allowed: a scale "
                    "into [0, 1] ('unit', 'min-max', 'min-max-all', or 'none' for values there)"
                )

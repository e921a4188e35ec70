"""All settings of a detector in one object, its windows and what an ensemble varies among them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from aejax.config.checks import (
    InputError,
    check,
    check_choices,
    check_counts,
    is_count,
    is_number,
)
from aejax.config.columns import Columns
from aejax.config.effort import Effort, settings_beside, settings_of
from aejax.config.models import MODELS, Model
from aejax.config.own import check_part
from aejax.config.own_network import OwnNetwork, own_network
from aejax.config.rules import Rule, check_is_rule, default_rule
from aejax.config.scores import DEFAULT as DEFAULT_SCORE
from aejax.config.scores import Score, checked_score
from aejax.config.training import SCALES_OF_COLUMNS, ErrorName, Scale, Train

PointScores = Literal["causal", "centred"]
Precision = Literal["float32", "tensorfloat32", "bfloat16"]
PrecisionSetting = Literal["float32", "tensorfloat32", "bfloat16", "fastest"]
Combine = Literal["mean", "median", "rank"]
Calibration = Literal["held-out", "cross-fitted", "auto"]
# Decided when a configuration is made: by the effort "standard", or to suit the network.
_DECIDED: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """Windows of a series: rows of a table that follow each other in time, a channel a column.

    A network sees `length` consecutive points at once. No window reaches over a gap in time, over
    a point that can't be used, or from one series to another.

    Args:
        length: points in a window; None takes the period of the training rows, as
            `aejax.data.series_columns` finds it.
        stride: points from one training window to the next. Scoring takes every window.
        time: the column of times, no feature: dates, text that is dates, or numbers that rise.
            Without it rows are taken to be evenly spaced and in order.
        series: the column that names the series a row belongs to, where a table holds several; no
            feature. All of them share one network.
        scores: from windows to points. "causal": a point has the score of the window that ends
            with it, so that only the past counts, as alarms need it. "centred": the mean over all
            windows that hold it, which tells better where something was, afterwards.
        gap: steps in time that are longer than so many usual ones end a window.
        order: what becomes of rows whose times don't rise: "refuse" names the first; "sort" sorts
            rows that are in memory, and leaves out those whose time another row has.

    Example:
        >>> window = aejax.Window(length=48, time="time")
        >>> aejax.Config(model=aejax.Dense(), window=window).window.scores
        'causal'
    """

    length: int | None = None
    stride: int = 1
    time: str | None = None
    series: str | None = None
    scores: PointScores = "causal"
    gap: float = 3.0
    order: Literal["refuse", "sort"] = "refuse"

    def __post_init__(self) -> None:
        check_choices(self)
        long = self.length is None or (is_count(self.length) and self.length >= 2)
        check(self, "length", "a whole number, at least 2, or None", long)
        check_counts(self, "stride")
        check(self, "gap", "a number, at least 1", is_number(self.gap) and self.gap >= 1)
        for field in ("time", "series"):
            name = getattr(self, field)
            named = name is None or (isinstance(name, str) and name != "")
            check(self, field, "the name of a column, or None", named)
        if self.time is not None:
            check(self, "series", "another column than time", self.series != self.time)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vary:
    """Parts that each member of an ensemble is given of everything; None gives it all.

    Attributes:
        features: each member sees a random subset of the features, of a random size between
            this share and all but one ("feature bagging": Lazarevic and Kumar, "Feature
            bagging for outlier detection", KDD 2005, with a share of 0.5).
        units: each hidden layer of a member has a random number of units between this share
            and all.
        connections: each weight between two layers is kept with this probability (compare
            RandNet: Chen, Sathe, Aggarwal and Turaga, "Outlier detection with autoencoder
            ensembles", SDM 2017, whose connections are drawn with replacement).
        rows: share of the training rows that a member trains on, drawn without replacement.

    Example:
        >>> aejax.fit(config, x, members=8, vary=aejax.Vary(features=0.5))  # doctest: +SKIP
        >>> aejax.Vary(features=0.5).rows is None
        True
    """

    features: float | None = None
    units: float | None = None
    connections: float | None = None
    rows: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"Vary.{field.name} is {value!r}; allowed: above 0, at most 1")

    @property
    def masks(self) -> bool:
        """Whether members lack parts of the network."""
        return any(part is not None for part in (self.features, self.units, self.connections))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a detector.

    Without a `model` these are the settings of the effort "standard" (`of_effort`); whichever of
    `scale`, `train` and `score` is named beside it stands in its place. With a `model`, nothing is
    put on it that was chosen for another: it is trained by `Train()`, its rows are scaled by
    `Scale()`, and it is scored by its error, or one that is given its noise's level by
    "noise-levels-and-neighbours". What was decided stands in the fields.

    Args:
        model: the network: settings of a built-in one, or one of your own (a Flax Linen or NNX
            module, an Equinox module, or `aejax.network(init, apply)`; docs/extending.md).
        scale: how rows are scaled before the model.
        train: how it is trained.
        error: error of a feature when scoring; a row's score is its mean over features. A name,
            or a function of rows and reconstructions, float32 [B, ...], that gives [B, ...].
        score: what a row's score is. "error": its mean reconstruction error (a classifier
            and a context model have a score of their own). "residual-distance": squared
            Mahalanobis distance of its residual from those of normal rows, over the number
            of features; it sees errors that are small but unusual together, which helps
            where features are correlated and there are many more normal rows than
            features. "latent-distance": the same of its latent values, which sees rows that
            are reconstructed well but lie where no normal row does.
            "residual-and-latent-distance": half the sum of both squared distances, the
            negative log density of two independent normal distributions up to a constant.
            "error-and-neighbours": the geometric mean of its mean error and, twice, its mean
            squared distance (per scaled value) from the 5 nearest training rows, at most 16,384
            of which are kept, over the square root of the space that these have around them; it
            sees rows that are rebuilt well but lie where no training row does, needs no common
            scale of the two, and takes longer, as it searches those rows (Ramaswamy, Rastogi and
            Shim, "Efficient algorithms for mining outliers from large data sets", 2000).
            Of a variational model also
            "negative-elbo" (upper bound of -log p(row), in nats) and
            "reconstruction-probability" (its negative: mean of -log p(row | latent) over
            the posterior's samples; An and Cho, "Variational autoencoder based anomaly
            detection using reconstruction probability", 2015).
            Of a noise-conditioned model also "noise-levels": the mean error of a row that is
            restored from noise, over levels of noise, the same noise for all rows; and
            "noise-levels-and-neighbours": the geometric mean of it and, twice, the distance from
            the nearest training rows, as above; and "noise-levels-and-norm": of it, the mean
            square of the scaled row and its distance from the rows that lie closest together,
            where there may be anomalies among the training rows.
            Any object that is a `Score` is one, too (docs/extending.md).
        rule: how the first threshold is set, on validation rows where there are any: a built-in
            rule, or any object that is a `Rule`.
        calibration: whose scores set the first threshold, where no rows are given for it:
            "held-out", those of `train.validation_fraction` of the rows, which don't train;
            "cross-fitted", those of all rows, each by a network that is trained without its
            fold, one of 5, beside the network that is kept, which is trained on all rows: five
            trainings more, so that few rows say what is usual; "auto", cross-fitted for up to
            2,000 rows (of each group), where that can be done. It can't with `train.patience`,
            a classifier, rows on disk, a conformal rule or one that isn't of normal rows, a
            score that learns of rows held out, or fewer than 10 rows.
        precision: type of the inputs of products when scoring; all accumulate in float32.
            "float32" is float32 on every device, also on those whose own default is less.
            "tensorfloat32" rounds to 10 bits on devices that can (NVIDIA's since Ampere), and is
            float32 elsewhere; "bfloat16" rounds to 7 bits. "fastest" has `aejax.fit` measure
            them on the machine that trains, and the detector's configuration names the one
            that was taken.
        columns: how the columns of a table are read: numbers only, or mixed.
        window: how rows that follow each other in time become windows, which the network takes
            for its rows; None scores each row by itself.

    Example:
        >>> config = aejax.Config(model=aejax.Dense(hidden=(8, 2)), rule=aejax.Quantile(q=0.99))
        >>> config.score, aejax.Config().score
        ('error', 'noise-levels-and-neighbours')
    """

    model: Model | OwnNetwork | Any = None
    scale: Scale = _DECIDED
    train: Train = _DECIDED
    error: ErrorName | Any = "squared"
    score: Score | str = _DECIDED
    # An object of a person's own need not be hashable.
    rule: Rule = dataclasses.field(default_factory=default_rule, hash=False)
    calibration: Calibration = "auto"
    precision: PrecisionSetting = "float32"
    columns: Columns = Columns()
    window: Window | None = None

    @classmethod
    def of_effort(
        cls, effort: Effort | str, *, contaminated: bool = False, **settings: Any
    ) -> Config:
        """The settings that one dial decides together: network, training, score and clipping.

        One network that is given the level of its noise, and its score beside the distance from
        the nearest training rows: "quick" trains 400 steps, "standard" 1,500, and "best" is four
        such networks, which `aejax.fit` makes where it is given the name itself, as in
        `aejax.fit("best", x)`. Rows of mixed columns get a plain network and its error, which
        takes no neighbours. docs/guides/effort.md says what each costs and gives.

        Args:
            effort: "quick", "standard" or "best".
            contaminated: whether there may be anomalies among the rows: then training is short and
                leaves out the largest losses, the score is "noise-levels-and-norm", and the
                threshold flags a tenth of the rows that set it.
            settings: others of the configuration, which are taken as they are: with a `model`,
                training and score are those that suit it.

        Raises:
            InputError: if it is none of these.

        Example:
            >>> Config.of_effort("quick").train.steps
            400
        """
        model: Any = settings.get("model")
        if model is not None and not isinstance(model, tuple(MODELS.values())):
            model = settings["model"] = own_network(model)
        columns = settings.get("columns", Columns())
        mixed = columns.kinds == "mixed"
        decided = settings_of(effort, model=model, mixed=mixed, contaminated=contaminated)
        return cls(**{**decided, **settings})

    @property
    def products(self) -> Precision:
        """Type of the products as long as none was measured to be faster."""
        return "float32" if self.precision == "fastest" else self.precision

    def __post_init__(self) -> None:
        if self.model is not None and not isinstance(self.model, tuple(MODELS.values())):
            object.__setattr__(self, "model", own_network(self.model))
        check(self, "columns", "Columns", isinstance(self.columns, Columns))
        decided = settings_beside(self.model, mixed=self.columns.kinds == "mixed")
        for name, value in decided.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        check_choices(self)
        check_part(self, "error", ErrorName, "a function of row and reconstruction", callable)
        for name, kind in (("scale", Scale), ("train", Train)):
            check(self, name, kind.__name__, isinstance(getattr(self, name), kind))
        window = self.window is None or isinstance(self.window, Window)
        check(self, "window", "Window or None", window)
        object.__setattr__(self, "score", checked_score(self.score, self.model))
        check_is_rule(self.rule, "Config.rule")
        self._check_bernoulli()
        if self.columns.kinds == "mixed":
            self._check_mixed()

    def _check_bernoulli(self) -> None:
        """Refuse a likelihood of values in [0, 1] where scaling puts them anywhere."""
        named: dict[str, Any] = {"error": self.error, "train.loss": self.train.loss}
        if self.model.likelihood is not None:
            named["model.likelihood"] = self.model.likelihood
        for name, value in named.items():
            if value == "bernoulli" and self.scale.kind in (
                "auto",
                "standard",
                "robust",
                "quantile",
            ):
                raise InputError(
                    f"Config.scale.kind is {self.scale.kind!r} and {name} is 'bernoulli'; "
                    "allowed: a scale into [0, 1] ('unit', 'min-max', 'min-max-all', or 'none' for "
                    "values there)"
                )

    def _check_mixed(self) -> None:
        """Refuse what has no meaning for columns of different kinds."""
        allowed = {
            "model": (type(self.model).__name__, ("Dense",)),
            "model.output": (getattr(self.model, "output", "linear"), ("linear",)),
            "score": (self.score, (DEFAULT_SCORE,)),
            "error": (self.error, ("squared", "absolute")),
            "train.loss": (self.train.loss, ("squared", "absolute")),
            "train.noise_on": (self.train.noise_on, ("input",)),
            "scale.kind": (self.scale.kind, SCALES_OF_COLUMNS),
            "window": (self.window, (None,)),
        }
        for name, (value, choices) in allowed.items():
            if value not in choices:
                raise InputError(
                    f"Config.{name} is {value!r}; "
                    f"allowed with columns.kinds 'mixed': {', '.join(map(repr, choices))}"
                )

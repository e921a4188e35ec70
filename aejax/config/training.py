"""How rows are scaled and a model is trained."""

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
from aejax.config.own import check_part

ErrorName = Literal["squared", "absolute", "bernoulli"]
OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["constant", "cosine", "warmup-cosine", "linear", "rise-and-fall"]
# Scales that treat every column by itself.
SCALES_OF_COLUMNS = ("auto", "none", "min-max", "standard", "robust", "quantile")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How stored rows become the numbers that the model sees; fitted on training rows.

    Args:
        kind: "auto" ("min-max-all" of images, whose pixels keep their relations, "standard" of
            other rows); "none"; "unit" (integers divided by their type's maximum); "min-max" (each
            feature to [0, 1]); "min-max-all" (one range for all features); "standard"
            (each feature to mean 0 and standard deviation 1); "robust" (each feature's median
            to 0 and the distance between its quartiles to 1.349, as it is of normal values
            with standard deviation 1: a few wild values don't move it); "quantile" (each
            feature to its rank among the training rows, spread evenly with mean 0 and
            standard deviation 1; all that lies beyond the training rows has one value).
        clip: largest absolute value after scaling, or None; bounds what one wild cell can do.

    Example:
        >>> aejax.Config(scale=aejax.Scale(kind="robust", clip=20.0)).scale.clip
        20.0
    """

    kind: Literal[
        "auto", "none", "unit", "min-max", "min-max-all", "standard", "robust", "quantile"
    ] = "auto"
    clip: float | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        valid = self.clip is None or (is_number(self.clip) and self.clip > 0)
        check(self, "clip", "a number above 0, or None", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """How a model is trained.

    Args:
        epochs: passes over the training rows. Either these or the steps are counted: the other is
            None. Where both are set, the one that is its default gives way.
        steps: steps of training, whatever the number of rows; the passes that they take follow,
            and the last one may end early. Loss, validation loss and patience go by fiftieths of
            the steps then, which the history calls epochs.
        batch_size: rows in one step; a ragged last batch is padded and masked.
        loss: error minimised, averaged over features and rows; a variational, classifier
            or context model has its own loss. A name, or a function of target and output,
            both float32 [B, ...], that gives [B, ...] or [B].
        noise: standard deviation of normal noise added to the (scaled) input while the
            clean row stays the target; 0 trains a plain autoencoder.
        noise_range: lowest and highest value of the noisy rows, or None for no bounds.
        noise_on: "input" trains a denoising autoencoder; "target" adds the noise to what
            the output is compared with instead.
        hide: share of the cells that the model is not shown while it has to restore them,
            drawn anew for every batch, in [0, 1) (masking noise; Vincent et al., "Stacked
            denoising autoencoders", 2010). A hidden cell of a mixed table counts as missing;
            of others it is 0 after scaling.
        trim: share of every batch's rows, those with the largest losses, that are left out of
            the loss, in [0, 0.5]: for training rows that hold anomalies (least trimmed squares,
            Rousseeuw 1984; Shen and Sanghavi, "Learning with bad training data via iterative
            trimmed loss minimization", 2019). Choose it at least as large as their share.
        beta: weight of a variational autoencoder's divergence from the prior (Higgins et
            al., "beta-VAE", 2017).
        optimizer: "adam", "adamw" or "sgd" (momentum 0.9); or an
            `optax.GradientTransformation`, which brings its learning rate, schedule, weight
            decay and clipping itself.
        learning_rate: the schedule's highest value.
        schedule: "constant"; "cosine" (down to 0 at the last step); "warmup-cosine"
            (up from 0 over the first 10 % of the steps, then cosine); "linear" (down to 0);
            "rise-and-fall" (linearly from a hundredth up to the highest value over the first
            eighth of the steps, then linearly down to a tenth). Or a function of the step
            (int32, from 0) that gives the learning rate, as optax's schedules are.
        weight_decay: decoupled (AdamW's); must be 0 with "adam".
        clip_norm: largest global norm of a gradient, or None.
        validation_fraction: share of the training rows held out when no validation rows are given.
        patience: epochs (fiftieths of `steps`) without a better validation loss before training
            stops and the best parameters are restored; None trains all and keeps the last.
        seed: the one seed of the run; parameters, order, noise and dropout derive from it.
        frozen: parameters that training leaves as they are, bit by bit: beginnings of
            their paths, as in ("network/encoder_layers_0",).
        feed: "device" keeps all rows in device memory and compiles whole epochs; "stream"
            reads batches ahead; "auto" picks "device" when the rows fit.

    Example:
        >>> train = aejax.Train(steps=1500, optimizer="adamw", schedule="cosine")
        >>> train.epochs is None
        True
    """

    epochs: int | None = 50
    steps: int | None = None
    batch_size: int = 128
    loss: ErrorName | Any = "squared"
    noise: float = 0.0
    noise_range: tuple[float, float] | None = None
    noise_on: Literal["input", "target"] = "input"
    hide: float = 0.0
    trim: float = 0.0
    beta: float = 1.0
    optimizer: OptimizerName | Any = "adam"
    learning_rate: float = 1e-3
    schedule: ScheduleName | Any = "constant"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    validation_fraction: float = 0.1
    patience: int | None = None
    seed: int = 0
    frozen: tuple[str, ...] = ()
    feed: Literal["auto", "device", "stream"] = "auto"

    def __post_init__(self) -> None:
        check_choices(self)
        check_part(self, "loss", ErrorName, "a function of target and output", callable)
        check_part(
            self, "optimizer", OptimizerName, "an optax.GradientTransformation", is_optimizer
        )
        check_part(self, "schedule", ScheduleName, "a function of the step", callable)
        self._check_brought()
        self._count_one()
        check_counts(self, "steps" if self.epochs is None else "epochs", "batch_size")
        for name in ("noise", "weight_decay", "beta"):
            value = getattr(self, name)
            check(self, name, "a number, at least 0", is_number(value) and value >= 0)
        hidden = is_number(self.hide) and 0 <= self.hide < 1
        check(self, "hide", "a number in [0, 1)", hidden)
        check(self, "trim", "a number in [0, 0.5]", is_number(self.trim) and 0 <= self.trim <= 0.5)
        check(
            self,
            "learning_rate",
            "a number above 0",
            is_number(self.learning_rate) and self.learning_rate > 0,
        )
        check(
            self,
            "clip_norm",
            "a number above 0, or None",
            self.clip_norm is None or (is_number(self.clip_norm) and self.clip_norm > 0),
        )
        check(
            self,
            "validation_fraction",
            "a number in [0, 1)",
            is_number(self.validation_fraction) and 0 <= self.validation_fraction < 1,
        )
        check(
            self,
            "patience",
            "a whole number, at least 1, or None",
            self.patience is None or is_count(self.patience),
        )
        check(
            self,
            "seed",
            "a whole number from 0 to 2**32 - 1",
            isinstance(self.seed, int)
            and not isinstance(self.seed, bool)
            and 0 <= self.seed < 1 << 32,
        )
        named = isinstance(self.frozen, tuple) and all(isinstance(f, str) for f in self.frozen)
        check(self, "frozen", "a tuple of names", named)
        bounds = self.noise_range
        check(
            self,
            "noise_range",
            "a lowest and a higher highest number, or None",
            bounds is None
            or (
                isinstance(bounds, tuple)
                and len(bounds) == 2
                and all(map(is_number, bounds))
                and bounds[0] < bounds[1]
            ),
        )
        check(
            self,
            "weight_decay",
            "0 with optimizer 'adam' (use 'adamw')",
            self.weight_decay == 0 or self.optimizer != "adam",
        )

    def _count_one(self) -> None:
        """Leave one of epochs and steps."""
        if self.epochs is None or self.steps is None:
            if self.epochs is None and self.steps is None:
                raise InputError(
                    "Train.epochs is None and so is Train.steps; allowed: a number for one of them"
                )
            return
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        unset = [n for n in ("epochs", "steps") if getattr(self, n) == defaults[n]]
        if not unset:
            raise InputError(
                f"Train.steps is {self.steps!r} beside Train.epochs {self.epochs!r}; "
                "allowed: one of them, the other None"
            )
        object.__setattr__(self, unset[-1], None)

    @property
    def length(self) -> int:
        """How many of what is counted, epochs or steps."""
        length = self.steps if self.epochs is None else self.epochs
        assert length is not None
        return length

    @property
    def unit(self) -> Literal["epochs", "steps"]:
        """What is counted."""
        return "steps" if self.epochs is None else "epochs"

    def of_length(self, length: int) -> Train:
        """The same settings with another number of what is counted."""
        if self.epochs is None:
            return dataclasses.replace(self, steps=length)
        return dataclasses.replace(self, epochs=length)

    def _check_brought(self) -> None:
        """Refuse what an optimizer or a schedule of a person's own brings itself."""
        brought: tuple[str, ...] = ()
        if not isinstance(self.optimizer, str):
            brought = ("learning_rate", "schedule", "weight_decay", "clip_norm")
        elif not isinstance(self.schedule, str):
            brought = ("learning_rate",)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in brought and value != field.default:
                owner = "a schedule" if len(brought) == 1 else "an optimizer"
                raise InputError(
                    f"Train.{field.name} is {value!r} beside {owner} of your own, which brings its "
                    f"own; allowed: {field.default!r}"
                )


def is_optimizer(value: object) -> bool:
    """Whether an object has what an `optax.GradientTransformation` has."""
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))

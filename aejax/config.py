"""Every setting of a run, as frozen dataclasses that validate themselves and travel as JSON.

This file imports neither JAX nor NumPy: a configuration can be read, checked and
written on a machine that will never train.

Example:
    >>> config = Config(model=Dense(hidden=(32, 16, 8)), train=Train(epochs=20, batch_size=512))
    >>> config == from_dict(to_dict(config))
    True
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

FORMAT_VERSION = 1
MAX_JSON_BYTES = 1 << 20

Activation = Literal["relu", "gelu", "silu", "tanh", "sigmoid", "linear"]
ErrorName = Literal["squared", "absolute"]
Precision = Literal["float32", "bfloat16"]
Combine = Literal["mean", "median"]


class InputError(ValueError):
    """What a person gave cannot be used: the message names it, and what is found and allowed."""


def _check(owner: object, field: str, allowed: str, valid: bool) -> None:
    if not valid:
        value = getattr(owner, field)
        raise InputError(f"{type(owner).__name__}.{field} is {value!r}; allowed: {allowed}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # A whole number beyond the range of floats.
        return False


def _check_choices(owner: Any) -> None:
    """Check every field that is annotated with a `Literal` or as bool against its choices."""
    for name, hint in typing.get_type_hints(type(owner)).items():
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
            _check(owner, name, ", ".join(map(repr, choices)), getattr(owner, name) in choices)
        elif hint is bool:
            _check(owner, name, "True, False", isinstance(getattr(owner, name), bool))


def _check_sizes(owner: object, field: str, at_least: int = 1) -> None:
    sizes = getattr(owner, field)
    valid = isinstance(sizes, tuple) and len(sizes) >= at_least and all(map(_is_count, sizes))
    _check(owner, field, "a tuple of whole numbers, each at least 1", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense:
    """A fully connected autoencoder; rows of any shape are flattened and restored.

    Args:
        hidden: widths of the hidden layers from the input to the latent layer.
        decoder: widths of the hidden layers after the latent one; None mirrors `hidden`.
        activation: after every hidden layer.
        output: after the last layer; "sigmoid" needs rows scaled to [0, 1].
        batch_norm: normalise every hidden layer over the batch (before the activation).
        dropout: share of hidden units dropped while training, in [0, 1).
    """

    hidden: tuple[int, ...] = (128, 64)
    decoder: tuple[int, ...] | None = None
    activation: Activation = "relu"
    output: Activation = "linear"
    batch_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_sizes(self, "hidden")
        if self.decoder is not None:
            _check_sizes(self, "decoder", at_least=0)
        _check(
            self,
            "dropout",
            "a number in [0, 1)",
            _is_number(self.dropout) and 0 <= self.dropout < 1,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolutional autoencoder for images of shape [height, width, channels].

    "stride": strided convolutions down and strided transposed convolutions up, then
    one convolution to the image's channels (the TensorFlow tutorial's denoiser).
    "pool": convolution and 2x2 max-pooling down, convolution and 2x nearest
    up-sampling up, one more convolution, then one to the image's channels.

    Args:
        channels: channels of each level going down; mirrored going up. Height and
            width must be divisible by 2 to the number of levels.
        kernel: height and width of every kernel, in pixels.
        down: how each level halves the image.
        activation: after every hidden convolution.
        output: after the last convolution.
        batch_norm: normalise after the activation of every hidden convolution.
    """

    channels: tuple[int, ...] = (16, 8)
    kernel: int = 3
    down: Literal["stride", "pool"] = "stride"
    activation: Activation = "relu"
    output: Activation = "sigmoid"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_sizes(self, "channels")
        odd = _is_count(self.kernel) and self.kernel % 2 == 1
        _check(self, "kernel", "an odd whole number, at least 1", odd)


Model = Dense | Conv
MODELS: dict[str, type] = {"dense": Dense, "conv": Conv}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How stored rows become the numbers that the model sees; fitted on training rows.

    Args:
        kind: "none"; "unit" (integers divided by their type's maximum); "min-max" (each
            feature to [0, 1]); "min-max-all" (one range for all features); "standard"
            (each feature to mean 0 and standard deviation 1).
        clip: largest absolute value after scaling, or None; bounds what one wild cell can do.
    """

    kind: Literal["none", "unit", "min-max", "min-max-all", "standard"] = "standard"
    clip: float | None = None

    def __post_init__(self) -> None:
        _check_choices(self)
        valid = self.clip is None or (_is_number(self.clip) and self.clip > 0)
        _check(self, "clip", "a number above 0, or None", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """How a model is trained.

    Args:
        epochs: passes over the training rows.
        batch_size: rows in one step; a ragged last batch is padded and masked.
        loss: error minimised, averaged over features and rows.
        noise: standard deviation of normal noise added to the (scaled) input while the
            clean row stays the target; 0 trains a plain autoencoder.
        noise_range: lowest and highest value of the noisy input, or None for no bounds.
        optimizer: "adam", "adamw" or "sgd" (momentum 0.9).
        learning_rate: the schedule's highest value.
        schedule: "constant"; "cosine" (down to 0 at the last step); "warmup-cosine"
            (up from 0 over the first 10 % of the steps, then cosine); "linear" (down to 0).
        weight_decay: decoupled (AdamW's); must be 0 with "adam".
        clip_norm: largest global norm of a gradient, or None.
        validation_fraction: share of the training rows held out when no validation rows are given.
        patience: epochs without a better validation loss before training stops and the
            best parameters are restored; None trains all epochs and keeps the last.
        seed: the one seed of the run; parameters, order, noise and dropout derive from it.
        feed: "device" keeps all rows in device memory and compiles whole epochs; "stream"
            reads batches through Grain; "auto" picks "device" when the rows fit.
    """

    epochs: int = 50
    batch_size: int = 128
    loss: ErrorName = "squared"
    noise: float = 0.0
    noise_range: tuple[float, float] | None = None
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine", "warmup-cosine", "linear"] = "constant"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    validation_fraction: float = 0.1
    patience: int | None = None
    seed: int = 0
    feed: Literal["auto", "device", "stream"] = "auto"

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in ("epochs", "batch_size"):
            _check(self, name, "a whole number, at least 1", _is_count(getattr(self, name)))
        for name in ("noise", "weight_decay"):
            value = getattr(self, name)
            _check(self, name, "a number, at least 0", _is_number(value) and value >= 0)
        _check(
            self,
            "learning_rate",
            "a number above 0",
            _is_number(self.learning_rate) and self.learning_rate > 0,
        )
        _check(
            self,
            "clip_norm",
            "a number above 0, or None",
            self.clip_norm is None or (_is_number(self.clip_norm) and self.clip_norm > 0),
        )
        _check(
            self,
            "validation_fraction",
            "a number in [0, 1)",
            _is_number(self.validation_fraction) and 0 <= self.validation_fraction < 1,
        )
        _check(
            self,
            "patience",
            "a whole number, at least 1, or None",
            self.patience is None or _is_count(self.patience),
        )
        _check(
            self,
            "seed",
            "a whole number from 0 to 2**32 - 1",
            isinstance(self.seed, int)
            and not isinstance(self.seed, bool)
            and 0 <= self.seed < 1 << 32,
        )
        bounds = self.noise_range
        _check(
            self,
            "noise_range",
            "a lowest and a higher highest number, or None",
            bounds is None
            or (
                isinstance(bounds, tuple)
                and len(bounds) == 2
                and all(map(_is_number, bounds))
                and bounds[0] < bounds[1]
            ),
        )
        _check(
            self,
            "weight_decay",
            "0 with optimizer 'adam' (use 'adamw')",
            self.weight_decay == 0 or self.optimizer != "adam",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanStd:
    """Threshold at the mean plus `k` standard deviations of the calibration scores."""

    k: float = 3.0

    def __post_init__(self) -> None:
        _check(self, "k", "a number, at least 0", _is_number(self.k) and self.k >= 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantile:
    """Threshold at the `q` quantile of the calibration scores (linear interpolation)."""

    q: float = 0.99

    def __post_init__(self) -> None:
        _check(self, "q", "a number in (0, 1]", _is_number(self.q) and 0 < self.q <= 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contamination:
    """Threshold that flags the `rate` share of the calibration scores; 0 flags none of them.

    It is the (1 - rate) quantile that scikit-learn's and PyOD's `contamination` stands for.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        valid = _is_number(self.rate) and 0 <= self.rate < 1
        _check(self, "rate", "a number in [0, 1)", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeaksOverThreshold:
    """Threshold that a normal score passes with probability `risk`, by extreme value theory.

    A generalised Pareto tail is fitted to the calibration scores above their `level`
    quantile, so `risk` may be smaller than one over the number of scores (Siffer et al.,
    "Anomaly detection in streams with extreme value theory", KDD 2017).

    Args:
        risk: probability that a normal score is flagged.
        level: quantile above which scores count as peaks.
    """

    risk: float = 1e-3
    level: float = 0.98

    def __post_init__(self) -> None:
        valid = _is_number(self.level) and 0.5 <= self.level < 1
        _check(self, "level", "a number in [0.5, 1)", valid)
        valid = _is_number(self.risk) and 0 < self.risk < 1 - self.level
        _check(self, "risk", f"a number above 0 and below 1 - level = {1 - self.level:g}", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conformal:
    """Threshold that a normal score passes with probability at most `alpha`, guaranteed.

    The guarantee holds for any distribution and any number of calibration scores, on
    average over calibration sets; 1 / alpha - 1 scores are the fewest that can give it.
    Keeps what p-values need (Bates et al., "Testing for outliers with conformal p-values",
    Annals of Statistics 51, 2023).
    """

    alpha: float = 0.01

    def __post_init__(self) -> None:
        valid = _is_number(self.alpha) and 0 < self.alpha < 1
        _check(self, "alpha", "a number in (0, 1)", valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestF1:
    """Threshold with the best F1 on calibration scores whose labels are known."""


Rule = MeanStd | Quantile | Contamination | PeaksOverThreshold | Conformal | BestF1
RULES: dict[str, type] = {
    "mean-std": MeanStd,
    "quantile": Quantile,
    "contamination": Contamination,
    "peaks-over-threshold": PeaksOverThreshold,
    "conformal": Conformal,
    "best-f1": BestF1,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a detector.

    Args:
        model: the network.
        scale: how rows are scaled before the model.
        train: how it is trained.
        error: error of a feature when scoring; a row's score is its mean over features.
        rule: how the first threshold is set, on validation rows where there are any.
        precision: type of the products when scoring; "bfloat16" accumulates in float32.
    """

    model: Model = Dense()
    scale: Scale = Scale()
    train: Train = Train()
    error: ErrorName = "squared"
    rule: Rule = Quantile()
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        _check_choices(self)
        for name, kinds in (
            ("model", tuple(MODELS.values())),
            ("scale", Scale),
            ("train", Train),
            ("rule", tuple(RULES.values())),
        ):
            allowed = " or ".join(
                k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,))
            )
            _check(self, name, allowed, isinstance(getattr(self, name), kinds))


_KINDS: dict[str, type] = {**MODELS, **RULES}
_KIND_NAMES = {kind: name for name, kind in _KINDS.items()}
Settings = TypeVar("Settings")


def to_dict(settings: Any) -> dict[str, Any]:
    """Settings as a JSON-ready dict; a choice among classes is told apart by its "kind"."""
    written: dict[str, Any] = {}
    if type(settings) in _KIND_NAMES:
        written["kind_name"] = _KIND_NAMES[type(settings)]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        written[field.name] = list(value) if isinstance(value, tuple) else value
    return written


def from_dict(written: Mapping[str, Any], kind: type[Settings] = Config) -> Settings:  # type: ignore[assignment]
    """The settings that `to_dict` wrote.

    Raises:
        InputError: naming the field, where a field is unknown, of a wrong type or out of range.
    """
    if not isinstance(written, Mapping):
        raise InputError(f"{kind.__name__} is {written!r}; allowed: a JSON object")
    hints = typing.get_type_hints(kind)
    given = {name: value for name, value in written.items() if name != "kind_name"}
    for name in given:
        if name not in hints:
            raise InputError(f"{kind.__name__} has no field {name!r}; {suggest(name, hints)}")
    return kind(
        **{
            name: _read(value, hints[name], f"{kind.__name__}.{name}")
            for name, value in given.items()
        }
    )


def _read(value: Any, hint: Any, field: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    classes = [option for option in options if dataclasses.is_dataclass(option)]
    if classes:
        if not isinstance(value, Mapping):
            raise InputError(f"{field} is {value!r}; allowed: a JSON object")
        if len(classes) == 1:
            return from_dict(value, classes[0])  # type: ignore[arg-type]
        names = {_KIND_NAMES[option]: option for option in classes}  # type: ignore[index]
        name = value.get("kind_name")
        if not isinstance(name, str) or name not in names:
            raise InputError(
                f"{field}.kind_name is {name!r}; allowed: {', '.join(map(repr, names))}"
            )
        return from_dict(value, names[name])  # type: ignore[arg-type]
    if any(typing.get_origin(option) is tuple for option in options):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{field} is {value!r}; allowed: a list")
        return tuple(value)
    if bool in options and not isinstance(value, bool):
        raise InputError(f"{field} is {value!r}; allowed: true or false")
    return value


def suggest(name: str, known: typing.Iterable[str]) -> str:
    """A line that lists what is allowed and, where one is near, what was probably meant."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed: {', '.join(names)}"


def parse_rule(text: str) -> Rule:
    """A threshold rule from text such as "quantile:0.99", "mean-std:3" or "best-f1".

    A rule's first number has to be there; those after it may be left out, as in
    "peaks-over-threshold:0.001" for "peaks-over-threshold:0.001:0.98".

    Raises:
        InputError: if the rule is unknown or a number is missing, too many or out of range.
    """
    name, *numbers = text.split(":")
    if name not in RULES:
        raise InputError(
            f"rule is {text!r}; {suggest(name, RULES)}, most with a number, as in quantile:0.99"
        )
    fields = [field.name for field in dataclasses.fields(RULES[name])]
    form = name + ":NUMBER" * min(1, len(fields)) + "[:NUMBER]" * (len(fields) - 1)
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if len(values) != len(numbers) or not min(1, len(fields)) <= len(values) <= len(fields):
        example = f", as in {rule_text(RULES[name]())}" if fields else ""
        raise InputError(f"rule is {text!r}; allowed: {form}{example}")
    return typing.cast(Rule, RULES[name](**dict(zip(fields, values, strict=False))))


def rule_text(rule: Rule) -> str:
    """The text from which `parse_rule` reads this rule."""
    values = [getattr(rule, field.name) for field in dataclasses.fields(rule)]
    return ":".join([_KIND_NAMES[type(rule)], *map(repr, values)])


def write_config(config: Config, path: Path) -> None:
    """Write a configuration as JSON, aside first and then renamed."""
    aside = path.with_name(path.name + ".writing")
    aside.write_text(json.dumps({"format": FORMAT_VERSION, **to_dict(config)}, indent=2) + "\n")
    aside.replace(path)


def read_config(path: Path) -> Config:
    """Read a configuration that `write_config` wrote.

    Raises:
        InputError: if the file is missing, too large, not JSON, of a newer format or wrong.
    """
    written = read_json(path)
    version = written.pop("format", None)
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: format is {version!r}; allowed: {FORMAT_VERSION}")
    try:
        return from_dict(written)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a file of bounded size.

    Raises:
        InputError: if the file is missing, larger than `max_bytes` or not a JSON object.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"{path} has {size} bytes; allowed: at most {max_bytes}")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except InputError:
        raise
    # ValueError: not UTF-8, not JSON, or a number of thousands of digits.
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {type(value).__name__}; allowed: a JSON object")
    return value

"""Settings validate themselves, travel as JSON unchanged, and name what is wrong with them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aejax import (
    BestF1,
    Conformal,
    Contamination,
    FalseAlarms,
    Fixed,
    MeanStd,
    PeaksOverThreshold,
    Quantile,
)
from aejax import config as settings
from aejax.config import (
    Classifier,
    Columns,
    Config,
    Context,
    Conv,
    Dense,
    InputError,
    NoiseConditioned,
    Scale,
    SuperResolution,
    Temporal,
    Train,
    Variational,
    Window,
    from_dict,
    parse_rule,
    read_config,
    read_json,
    rule_text,
    suggest,
    to_dict,
    write_config,
)

ACTIVATIONS = st.sampled_from(["relu", "gelu", "silu", "tanh", "sigmoid", "linear"])
ERRORS = st.sampled_from(["squared", "absolute", "bernoulli"])
WIDTHS = st.lists(st.integers(1, 4096), min_size=1, max_size=5).map(tuple)


def numbers(low: float, high: float, **bounds: bool) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **bounds)


POSITIVE = numbers(0, 1e30, exclude_min=True)
BOUNDS = st.tuples(numbers(-1e9, 0, exclude_max=True), numbers(0, 1e9))
DENSE = st.builds(
    Dense,
    hidden=WIDTHS,
    decoder=st.none() | st.lists(st.integers(1, 4096), max_size=3).map(tuple),
    activation=ACTIVATIONS,
    output=ACTIVATIONS,
    batch_norm=st.booleans(),
    dropout=numbers(0, 1, exclude_max=True),
)
CONV = st.builds(
    Conv,
    channels=WIDTHS,
    kernel=st.sampled_from([1, 3, 5, 7]),
    down=st.sampled_from(["stride", "pool"]),
    activation=ACTIVATIONS,
    output=ACTIVATIONS,
    batch_norm=st.booleans(),
)
TRAIN = st.builds(
    Train,
    epochs=st.integers(1, 10**6),
    batch_size=st.integers(1, 10**6),
    loss=ERRORS,
    noise=numbers(0, 1e6),
    noise_range=st.none() | BOUNDS,
    optimizer=st.sampled_from(["adamw", "sgd"]),
    learning_rate=POSITIVE,
    schedule=st.sampled_from(["constant", "cosine", "warmup-cosine", "linear", "rise-and-fall"]),
    noise_on=st.sampled_from(["input", "target"]),
    beta=numbers(0, 1e6),
    frozen=st.lists(st.text(max_size=20), max_size=3).map(tuple),
    weight_decay=numbers(0, 1),
    clip_norm=st.none() | POSITIVE,
    validation_fraction=numbers(0, 1, exclude_max=True),
    patience=st.none() | st.integers(1, 1000),
    seed=st.integers(0, 2**32 - 1),
    feed=st.sampled_from(["auto", "device", "stream"]),
)
OTHERS = (
    st.builds(SuperResolution, levels=st.integers(1, 4), batch_norm=st.booleans())
    | st.builds(Temporal, channels=WIDTHS, pool=st.integers(1, 99))
    | st.builds(Variational, network=DENSE | CONV, likelihood=st.just("normal"))
    | st.builds(NoiseConditioned, network=DENSE, lowest=numbers(1e-3, 0.5), highest=numbers(0.6, 9))
    | st.builds(Classifier, network=DENSE | CONV, classes=st.integers(2, 1000))
    | st.builds(Context, vocabulary=st.integers(2, 10**6), hidden=WIDTHS | st.just(()))
)
SHARE = numbers(0, 1, exclude_min=True, exclude_max=True)
RULE = (
    st.builds(MeanStd, k=numbers(0, 100))
    | st.builds(Fixed, value=numbers(-1e30, 1e30))
    | st.builds(Quantile, q=numbers(0, 1, exclude_min=True))
    | st.builds(Contamination, rate=numbers(0, 1, exclude_max=True))
    | st.builds(PeaksOverThreshold, level=numbers(0.5, 0.98), risk=numbers(1e-6, 0.01))
    | st.builds(Conformal, alpha=SHARE)
    | st.builds(BestF1)
)


def fitting(scale: Scale, train: Train, error: str, **others: Any) -> Config:
    """Settings that go together: a Bernoulli likelihood is of values in [0, 1]."""
    if scale.kind in ("auto", "standard") and "bernoulli" in (error, train.loss):
        scale = dataclasses.replace(scale, kind="min-max")
    return Config(scale=scale, train=train, error=error, **others)


CONFIG = st.builds(
    fitting,
    model=DENSE | CONV | OTHERS,
    scale=st.builds(
        Scale,
        kind=st.sampled_from(["none", "unit", "min-max", "min-max-all", "standard"]),
        clip=st.none() | POSITIVE,
    ),
    train=TRAIN,
    error=ERRORS,
    rule=RULE,
    precision=st.sampled_from(["float32", "bfloat16", "fastest"]),
)


@given(CONFIG)
def test_json_gives_the_same_settings_back(config: Config) -> None:
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert hash(from_dict(json.loads(json.dumps(to_dict(config))))) == hash(config)


@given(CONFIG)
def test_file_gives_the_same_settings_back(
    tmp_path_factory: pytest.TempPathFactory, config: Config
) -> None:
    path = tmp_path_factory.mktemp("config") / "config.json"
    write_config(config, path)
    assert read_config(path) == config
    assert [entry.name for entry in path.parent.iterdir()] == ["config.json"]


def test_what_is_left_out_takes_its_default() -> None:
    assert from_dict({}) == Config()
    assert from_dict({"train": {"epochs": 3}}) == Config(train=Train(epochs=3))


def test_the_default_is_one_effort_in_code_and_in_files() -> None:
    standard = Config.of_effort("standard")
    assert Config() == from_dict({}) == standard
    assert (standard.train.steps, standard.calibration) == (1500, "auto")
    assert Config(train=Train(epochs=3)) == dataclasses.replace(standard, train=Train(epochs=3))
    mixed = Columns(kinds="mixed")
    assert Config(columns=mixed) == Config.of_effort("standard", columns=mixed)


@pytest.mark.parametrize(
    "model",
    [Dense(), Conv(), NoiseConditioned(), Variational(likelihood="normal", network=Dense())],
)
def test_nothing_that_was_chosen_for_another_network_is_put_on_one_that_is_named(
    model: Any,
) -> None:
    config = Config(model=model)
    assert (config.train, config.scale) == (Train(), Scale())
    levels = isinstance(model, NoiseConditioned)
    assert config.score == ("noise-levels-and-neighbours" if levels else "error")


def test_another_network_in_the_place_of_the_default_names_its_score() -> None:
    with pytest.raises(InputError, match="allowed: with a noise-conditioned model"):
        dataclasses.replace(Config(), model=Dense())
    assert dataclasses.replace(Config(), model=Dense(), score=None).score == "error"


BAD_FIELDS: list[tuple[type, str, Any]] = [
    *((Dense, "hidden", bad) for bad in ((), (0,), (-1,), (2.0,), (True,), [8], 8, "8", None)),
    *((Dense, "decoder", bad) for bad in ((0,), (1.5,), 3, "8")),
    *((Dense, "activation", bad) for bad in ("rellu", "", None, 1, ["relu"])),
    *((Dense, "output", bad) for bad in ("softmax", None)),
    *((Dense, "dropout", bad) for bad in (1, 1.0, -0.1, float("nan"), "0.1", None, True)),
    *((Conv, "channels", bad) for bad in ((), (0,), [8], None)),
    *((Conv, "kernel", bad) for bad in (0, 2, -1, 3.0, True, "3", None)),
    *((Conv, "down", bad) for bad in ("maxpool", None)),
    (Conv, "activation", "selu"),
    (Conv, "output", 0),
    *((Scale, "kind", bad) for bad in ("minmax", "", None)),
    *((Scale, "clip", bad) for bad in (0, -1, float("inf"), float("nan"), "5", True)),
    *((Train, "epochs", bad) for bad in (0, -1, 1.0, True, "5", None)),
    *((Train, "steps", bad) for bad in (0, -1, 1.0, True, "5")),
    *((Train, "batch_size", bad) for bad in (0, 0.5, None)),
    *((Train, "loss", bad) for bad in ("mse", None)),
    *((Train, "noise", bad) for bad in (-0.1, float("nan"), float("inf"), None, "1")),
    *((Train, "noise_range", bad) for bad in ((1, 0), (0, 0), (0,), (0, 1, 2), (0, "1"), "01")),
    (Train, "noise_range", (0, float("inf"))),
    *((Train, "optimizer", bad) for bad in ("Adam", None)),
    *((Train, "learning_rate", bad) for bad in (0, -1e-3, float("nan"), float("inf"), None, "1")),
    *((Train, "schedule", bad) for bad in ("cos", None)),
    *((Train, "weight_decay", bad) for bad in (-1, float("nan"), None, 0.1)),
    *((Train, "clip_norm", bad) for bad in (0, -1, float("inf"), "1")),
    *((Train, "validation_fraction", bad) for bad in (1, -0.1, float("nan"), None)),
    *((Train, "patience", bad) for bad in (0, -1, 1.5, True)),
    *((Train, "seed", bad) for bad in (-1, 2**32, 0.0, True, None)),
    *((Train, "feed", bad) for bad in ("host", None)),
    *((Fixed, "value", bad) for bad in (float("nan"), float("inf"), None, "0.1", True)),
    *((MeanStd, "k", bad) for bad in (-1, float("nan"), None, "3")),
    *((Quantile, "q", bad) for bad in (0, 1.01, -1, float("nan"), None)),
    *((Contamination, "rate", bad) for bad in (1, -0.1, float("nan"), None)),
    *((FalseAlarms, "rate", bad) for bad in (0, 1, -0.1, float("nan"), None)),
    *((Config, "calibration", bad) for bad in ("cross", None)),
    *((PeaksOverThreshold, "level", bad) for bad in (0.4, 1, float("nan"), None)),
    *((PeaksOverThreshold, "risk", bad) for bad in (0, 0.5, float("nan"), None)),
    *((Conformal, "alpha", bad) for bad in (0, 1, float("nan"), None)),
    *((Config, "model", bad) for bad in ("dense", Dense)),
    (Config, "scale", "standard"),
    (Config, "train", 3),
    *((Config, "rule", bad) for bad in (None, "quantile:0.9")),
    *((Config, "error", bad) for bad in ("mse", None)),
    *((Config, "precision", bad) for bad in ("float16", None)),
    *((Train, "noise_range", bad) for bad in (0.5, [0, 1])),
    *((Train, "noise_on", bad) for bad in ("output", None)),
    *((Train, "beta", bad) for bad in (-1, float("nan"), None)),
    *((Train, "frozen", bad) for bad in ("head", ["head"], (1,), None)),
    *((Config, "score", bad) for bad in ("elbo", "negative-elbo")),
    *((Temporal, "channels", bad) for bad in ((), (0,), 8)),
    *((Temporal, "kernel", bad) for bad in (0, 2, None)),
    *((Temporal, "latent", bad) for bad in (0, 1.5)),
    *((Temporal, "pool", bad) for bad in (0, None)),
    (Temporal, "activation", "selu"),
    (Temporal, "output", "softmax"),
    *((SuperResolution, "levels", bad) for bad in (0, 1.0, True, None)),
    *((SuperResolution, "convolutions", bad) for bad in (0, "2")),
    *((SuperResolution, "channels", bad) for bad in (0, (8,), None)),
    *((SuperResolution, "kernel", bad) for bad in (0, 2, None)),
    *((SuperResolution, "activation", bad) for bad in ("selu", None)),
    *((SuperResolution, "output", bad) for bad in ("softmax", None)),
    *((SuperResolution, "batch_norm", bad) for bad in (1, None)),
    *((Variational, "network", bad) for bad in (None, "dense", SuperResolution())),
    (Variational, "network", Dense(output="linear")),
    *((Variational, "latent", bad) for bad in (0, 2.0, None)),
    *((Variational, "samples", bad) for bad in (0, None)),
    *((Variational, "likelihood", bad) for bad in ("gaussian", None)),
    *((NoiseConditioned, "network", bad) for bad in (None, "dense", Conv())),
    *((NoiseConditioned, "lowest", bad) for bad in (0, -0.1, None, float("nan"))),
    *((NoiseConditioned, "highest", bad) for bad in (0.05, 0, None, float("inf"))),
    *((NoiseConditioned, "levels", bad) for bad in (0, 2.0, None)),
    *((Classifier, "network", bad) for bad in (None, Variational())),
    *((Classifier, "classes", bad) for bad in (1, 2.0, None)),
    *((Context, "vocabulary", bad) for bad in (1, 10.0, None)),
    *((Context, "window", bad) for bad in (0, None)),
    *((Context, "width", bad) for bad in (0, None)),
    *((Context, "hidden", bad) for bad in (8, [8], (0,))),
    *((Context, "combine", bad) for bad in ("max", None)),
    *((Context, "positions", bad) for bad in (True, 1.0, 3, None)),
    *((Context, "negatives", bad) for bad in (-1, 1.5, None)),
    *((Train, "hide", bad) for bad in (1, -0.1, float("nan"), None)),
    *((Train, "trim", bad) for bad in (0.51, -0.1, "0.1", None)),
    *((Config, "columns", bad) for bad in ("mixed", None)),
    *((Columns, "kinds", bad) for bad in ("text", None)),
    *((Columns, "categories", bad) for bad in ("shop", ["shop"], (1,), None)),
    *((Columns, "most_categories", bad) for bad in (1, 4097, 8.0, None)),
    *((Columns, "dates", bad) for bad in ("circle", None)),
    *((Columns, "date_parts", bad) for bad in ((), ("day",), ["hour"], "hour", None)),
    *((Columns, "keep", bad) for bad in ("id", ["id"], (1,), None)),
    *((Window, "length", bad) for bad in (1, 0, 8.0, "auto", True)),
    *((Window, "stride", bad) for bad in (0, 1.5, None)),
    *((Window, "time", bad) for bad in ("", 1, ("when",))),
    *((Window, "series", bad) for bad in ("", 1)),
    *((Window, "scores", bad) for bad in ("past", None)),
    *((Window, "gap", bad) for bad in (0.5, -1, float("inf"), "3", None)),
    *((Window, "order", bad) for bad in ("any", None)),
    *((Config, "window", bad) for bad in (64, "auto", Columns())),
    *((Columns, "embedding", bad) for bad in (-1, 2.0, True, None)),
    *((Columns, "indicator", bad) for bad in (1, None)),
    *((Dense, "batch_norm", bad) for bad in ("no", 1, None)),
    *((Conv, "batch_norm", bad) for bad in ("no", 0)),
    (Train, "learning_rate", 10**400),
    (Scale, "clip", 10**400),
]


def name_of(case: Any) -> str:
    return case.__name__ if isinstance(case, type) else repr(case)[:20]


@pytest.mark.parametrize(
    ("kind", "field", "bad"),
    BAD_FIELDS,
    ids=name_of,
)
def test_bad_field_is_named_with_its_value_and_what_is_allowed(
    kind: type, field: str, bad: Any
) -> None:
    with pytest.raises(InputError) as caught:
        kind(**{field: bad})
    message = str(caught.value)
    assert message.startswith((f"{kind.__name__}.{field} is ", f"{kind.__name__}.{field}."))
    assert "allowed: " in message
    assert "\n" not in message


def test_every_field_has_a_bad_value_above() -> None:
    tried = {(kind, field) for kind, field, _ in BAD_FIELDS}
    kinds = (
        Scale,
        Train,
        Columns,
        Window,
        Config,
        *settings.MODELS.values(),
        *settings.RULES.values(),
    )
    known = {(kind, field.name) for kind in kinds for field in dataclasses.fields(kind)}
    assert tried == known


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"trian": {}}, r"Config has no field 'trian'; did you mean 'train'\?"),
        ({"train": {"epoch": 3}}, r"Train has no field 'epoch'; did you mean 'epochs'\?"),
        ({"train": 3}, r"Config\.train is 3; allowed: a JSON object"),
        ({"train": None}, r"Config\.train is None; allowed: a JSON object"),
        ({"train": {"epochs": None}}, r"Train\.epochs is None"),
        ({"train": {"epochs": "3"}}, r"Train\.epochs is '3'"),
        ({"model": {}}, r"Config\.model\.kind_name is None; allowed: 'dense', 'conv'"),
        ({"model": {"kind_name": "quantile"}}, r"Config\.model\.kind_name is 'quantile'"),
        ({"model": {"kind_name": ["dense"]}}, r"Config\.model\.kind_name is \['dense'\]"),
        ({"model": {"kind_name": "dense", "hidden": 8}}, r"Dense\.hidden is 8; allowed: a list"),
        ({"model": {"kind_name": "dense", "hidden": [[8]]}}, r"Dense\.hidden is \(\[8\],\)"),
        ({"model": {"kind_name": "dense", "batch_norm": 1}}, r"Dense\.batch_norm is 1; allowed"),
        ({"model": {"kind_name": "conv", "hidden": [8]}}, "Conv has no field 'hidden'"),
        ({"rule": {"kind_name": "mean-std", "q": 0.5}}, "MeanStd has no field 'q'"),
    ],
)
def test_bad_json_is_named(written: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(written)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FIELD_NAMES = st.sampled_from(
    sorted({field.name for kind in (Config, Dense, Train) for field in dataclasses.fields(kind)})
)


@given(st.dictionaries(FIELD_NAMES, JSON_VALUES | st.dictionaries(FIELD_NAMES, JSON_VALUES)))
def test_any_json_is_settings_or_an_input_error(written: dict[str, Any]) -> None:
    for kind in (Config, Train, Dense):
        try:
            settings_read = from_dict(written, kind)
        except InputError:
            continue
        assert isinstance(settings_read, kind)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("quantile:0.99", Quantile(q=0.99)),
        ("quantile:1", Quantile(q=1.0)),
        ("mean-std:3", MeanStd(k=3.0)),
        ("mean-std:0", MeanStd(k=0.0)),
        ("mean-std:2.5e0", MeanStd(k=2.5)),
        ("contamination:0", Contamination(rate=0.0)),
        ("peaks-over-threshold:1e-4", PeaksOverThreshold(risk=1e-4)),
        ("peaks-over-threshold:1e-4:0.9", PeaksOverThreshold(risk=1e-4, level=0.9)),
        ("conformal:0.05", Conformal(alpha=0.05)),
        ("best-f1", BestF1()),
    ],
)
def test_rules_are_read_from_text(text: str, rule: settings.Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantil:0.9", r"rule is 'quantil:0\.9'; did you mean 'quantile'\?"),
        ("", "rule is ''; allowed: .*mean-std, .*quantile"),
        ("quantile", r"rule is 'quantile'; allowed: quantile:NUMBER, as in quantile:0\.99"),
        ("quantile:", "allowed: quantile:NUMBER"),
        ("mean-std:x", r"allowed: mean-std:NUMBER, as in mean-std:3\.0"),
        ("quantile:1.5", r"Quantile\.q is 1\.5; allowed"),
        ("quantile:nan", r"Quantile\.q is nan; allowed"),
        ("mean-std:inf", r"MeanStd\.k is inf; allowed"),
        ("mean-std:-1", r"MeanStd\.k is -1\.0; allowed"),
        ("quantile:0.9:1", "allowed: quantile:NUMBER"),
        ("contamination:1", r"Contamination\.rate is 1\.0; allowed: a number in \[0, 1\)"),
        ("peaks-over-threshold", r"allowed: peaks-over-threshold:NUMBER\[:NUMBER\], as in"),
        ("peaks-over-threshold:0.1", r"risk is 0\.1; .* below 1 - level = 0\.02"),
        ("best-f1:1", "rule is 'best-f1:1'; allowed: best-f1$"),
    ],
)
def test_bad_rules_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_rule(text)


@given(RULE)
def test_the_text_of_a_rule_is_read_as_the_rule(rule: settings.Rule) -> None:
    assert parse_rule(rule_text(rule)) == rule


def test_suggestions() -> None:
    assert suggest("epoch", ["epochs", "seed"]) == "did you mean 'epochs'? allowed: epochs, seed"
    assert suggest("zzz", ["seed", "epochs"]) == "allowed: epochs, seed"


class TestReadJson:
    def test_an_object(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text('{"a": [1, 2]}')
        assert read_json(tmp_path / "a.json") == {"a": [1, 2]}

    @pytest.mark.parametrize("size", [99, 100, 101])
    def test_size_is_bounded(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "a.json"
        path.write_text("{" + " " * (size - 2) + "}")
        if size <= 100:
            assert read_json(path, 100) == {}
        else:
            with pytest.raises(InputError, match="has 101 bytes; allowed: at most 100"):
                read_json(path, 100)

    @pytest.mark.parametrize("text", ["", "{", "[1, 2", "{'a': 1}", "\x00", '{"a": 1} x'])
    def test_what_is_not_json(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match=r"a\.json is not readable as JSON"):
            read_json(tmp_path / "a.json")

    @pytest.mark.parametrize("text", ["[]", "1", "null", '"text"'])
    def test_what_is_not_an_object(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match="allowed: a JSON object"):
            read_json(tmp_path / "a.json")

    def test_bytes_that_are_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_bytes(b'{"a": "\xff\xfe"}')
        with pytest.raises(InputError, match="not readable as JSON"):
            read_json(tmp_path / "a.json")

    def test_a_missing_file_and_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="does not exist"):
            read_json(tmp_path / "a.json")
        with pytest.raises(InputError, match="not readable as JSON"):
            read_json(tmp_path)

    def test_a_number_of_too_many_digits(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text('{"a": ' + "9" * 5000 + "}")
        with pytest.raises(InputError, match="not readable as JSON"):
            read_json(tmp_path / "a.json")

    @pytest.mark.parametrize("depth", [50, 200, 300, 400, 900, 1000, 5000, 100_000, 400_000])
    @pytest.mark.parametrize("brackets", ["[]", "{}"])
    def test_deep_nesting_is_an_input_error(
        self, tmp_path: Path, depth: int, brackets: str
    ) -> None:
        opening = "[" if brackets == "[]" else '{"a":'
        inner = opening * depth + ("" if brackets == "[]" else "0") + brackets[1] * depth
        path = tmp_path / "config.json"
        path.write_text('{"format": 1, "train": {"epochs": ' + inner + "}}")
        with pytest.raises(InputError):
            read_config(path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused(tmp_path: Path, version: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"format": version, **to_dict(Config())}))
    with pytest.raises(InputError, match=rf"format is {version!r}; allowed: 1"):
        read_config(tmp_path / "config.json")


def test_a_bad_field_of_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1, "train": {"epochs": 0}}')
    with pytest.raises(InputError, match=r"config\.json: Train\.epochs is 0; allowed"):
        read_config(tmp_path / "config.json")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    write_config(Config(), path)

    def fail(source: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises((OSError, InputError), match="disk full"):
        write_config(Config(train=Train(epochs=3)), path)
    assert read_config(path) == Config()

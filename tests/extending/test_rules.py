"""Threshold rules of a person's own: everywhere that a built-in one goes, and where they fail."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import json
import pickle
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.cli import main
from aejax.config import RULES, from_dict, parse_rule, rule_text, to_dict
from aejax.config.own import Own, describe
from aejax.data.rows import Selection
from aejax.data.training_rows import read_training
from aejax.detection import threshold as thresholds
from aejax.detection.calibration import calibrate
from aejax.detection.threshold import (
    Threshold,
    check_rule,
    fit_threshold,
    fit_threshold_streaming,
)
from aejax.estimator import AutoEncoder, PyODAutoEncoder
from aejax.training.search_space import parse_space
from tests.plain import plain_config

CODE = '''
import dataclasses

import numpy as np


@dataclasses.dataclass
class MedianMad:
    """Not hashable, as a dataclass that isn't frozen."""

    k: float = 3.0

    def fit(self, scores):
        median = np.median(scores)
        return median + self.k * np.median(np.abs(scores - median))
'''
COLUMNS = list("abcd")


def mad(scores: np.ndarray, k: float) -> float:
    scores = np.float64(scores)
    return float(np.median(scores) + k * np.median(np.abs(scores - np.median(scores))))


def rows(n: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


class MedianMad:
    """As a person may write it: no dataclass, no annotations, not hashable."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, k: float = 3.0) -> None:
        self.k = k

    def fit(self, scores: Any) -> Any:
        return mad(scores, self.k)


def config(rule: Any = None, **others: Any) -> aejax.Config:
    return plain_config(
        model=aejax.Dense(hidden=(3,)),
        train=aejax.Train(epochs=1, validation_fraction=0.2),
        rule=MedianMad(k=2.0) if rule is None else rule,
        **others,
    )


@pytest.fixture(scope="module")
def detector() -> aejax.Detector:
    return aejax.fit(config(), rows())


def test_a_detector_is_fitted_calibrated_and_judges_by_it(detector: aejax.Detector) -> None:
    assert detector.threshold is not None
    assert detector.threshold.rule is detector.config.rule
    assert detector.threshold.rows == 60
    assert len(detector.threshold.deciles or ()) == 9
    x = rows(100, seed=1)
    found = detector.calibrate(x, rule=MedianMad(k=1.5), name="night")
    scores = detector.score(x)
    assert found.threshold is not None
    assert found.threshold.value == mad(scores, 1.5)
    np.testing.assert_array_equal(found.predict(x), scores > mad(scores, 1.5))
    assert found.use("night").threshold == found.threshold
    assert detector.calibrate(x).threshold.value == mad(scores, 2.0)  # type: ignore[union-attr]
    with pytest.raises(aejax.InputError, match=r"rule is 'MedianMad\(k=1.5\)', which gives no p-v"):
        found.p_values(x)


ELSEWHERE = """
import sys
import numpy as np
import aejax
from aejax.cli import main
from aejax.config import rule_text

detector = aejax.load("run")
assert "own_rules" not in sys.modules
assert rule_text(detector.threshold.rule) == rule_text(detector.config.rule) == "MedianMad(k=2.5)"
assert detector.threshold.rule.own == "own_rules.MedianMad"
x = np.loadtxt("rows.csv", delimiter=",", skiprows=1)
np.save("flags.npy", detector.predict(x))
said = "rule is own_rules.MedianMad, which this process doesn't have; allowed: calibrate with rule"
for use in (detector.calibrate, lambda x: aejax.fit(detector.config, x)):
    try:
        use(x)
    except aejax.InputError as error:
        assert str(error).startswith(said), error
    else:
        raise AssertionError(use)
detector.save("again")
assert aejax.load("again") .threshold == detector.threshold
again = detector.calibrate(x, rule=aejax.Quantile(q=0.5))
assert again.predict(x).mean() == 0.5
assert main(["score", "run", "--input", "rows.parquet", "--out", "scores", "--quiet"]) == 0
assert main(["inspect", "run"]) == 0
assert main(["export", "run", "--out", "exported"]) == 0
assert main(["calibrate", "again", "--input", "rows.csv", "--rule", "quantile:0.9"]) == 0
"""


def test_the_command_line_takes_it_and_what_it_made_needs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_rules.py").write_text(CODE)
    x = rows(240, seed=2)
    table = pd.DataFrame(x, columns=COLUMNS)
    table.to_csv("rows.csv", index=False)
    table.to_parquet("rows.parquet", index=False)
    rule = ("--rule", "own_rules:MedianMad:2.5")
    flags = ["--hidden", "3", "--epochs", "1", "--quiet", "--calibration", "held-out"]
    assert main(["train", "--input", "rows.csv", "--out", "run", *rule, *flags]) == 0
    for name in ("report.html", "MODEL_CARD.md"):
        assert "MedianMad(k=2.5)" in Path("run", name).read_text(), name
    detector = aejax.load("run")
    assert detector.config.rule == Own(own="own_rules.MedianMad", text="MedianMad(k=2.5)")
    capsys.readouterr()
    assert main(["calibrate", "run", "--input", "rows.csv", *rule, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rule"] == "MedianMad(k=2.5)"
    assert said["threshold"] == mad(detector.score(x), 2.5)
    del sys.modules["own_rules"]
    (tmp_path / "own_rules.py").unlink()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    scores = detector.score(x)
    np.testing.assert_array_equal(np.load("flags.npy"), scores > mad(scores, 2.5))
    written = pd.read_parquet("scores")
    np.testing.assert_array_equal(written["is_anomaly"], scores > mad(scores, 2.5))
    assert aejax.load("again").threshold.rule == aejax.Quantile(q=0.9)  # type: ignore[union-attr]
    # The same run goes on with the same rule, and not with another.
    (tmp_path / "own_rules.py").write_text(CODE)
    assert main(["train", "--input", "rows.csv", "--out", "run", *rule, *flags]) == 0
    other = ("--rule", "own_rules:MedianMad")
    assert main(["train", "--input", "rows.csv", "--out", "run", *other, *flags]) == 2
    assert "config.rule.text is 'MedianMad(k=2.5)' there" in capsys.readouterr().err
    del sys.modules["own_rules"]


def test_groups_ensembles_and_populations_take_it(tmp_path: Path) -> None:
    x = rows(90, seed=3)
    stores = np.repeat(["north", "south", "west"], 30)
    groups = aejax.fit(config(), x, groups=stores)
    changed = groups.calibrate(x, groups=stores, rule=MedianMad(k=1.0))
    scores = groups.score(x, groups=stores)
    for store, threshold in zip(groups.groups.names, changed.threshold.each, strict=True):
        assert threshold.value == mad(scores[stores == store], 1.0)
    changed.save(tmp_path)
    loaded = aejax.load(tmp_path)
    assert {rule_text(threshold.rule) for threshold in loaded.threshold.each} == {
        "MedianMad(k=1.0)"
    }
    np.testing.assert_array_equal(
        loaded.predict(x, groups=stores), changed.predict(x, groups=stores)
    )
    with pytest.raises(aejax.InputError, match=r"group 'north': rule is .*MedianMad, which this"):
        loaded.calibrate(x, groups=stores)
    ensemble = aejax.fit(config(), x, members=2)
    population = aejax.fit_population([config()] * 2, x)
    for found in (ensemble, *population.detectors):
        assert found is not None
        assert found.threshold is not None
        assert rule_text(found.threshold.rule) == "MedianMad(k=2.0)"


@pytest.mark.parametrize("kind", [AutoEncoder, PyODAutoEncoder])
def test_estimators_take_it(kind: type) -> None:
    x = rows(100, seed=4)
    found = pickle.loads(pickle.dumps(kind(rule=MedianMad(k=1.0), steps=10).fit(x)))
    scores = found.detector_.score(x)
    flagged = found.predict(x) == (-1 if kind is AutoEncoder else 1)
    np.testing.assert_array_equal(flagged, scores > mad(scores, 1.0))
    assert copy.deepcopy(found).get_params()["rule"].k == 1.0
    if kind is PyODAutoEncoder:
        assert found.predict_confidence(x).shape == (100,)


def test_tuning_keeps_it() -> None:
    base = config()
    space = parse_space({"train.learning_rate": {"choices": [1e-3, 1e-2]}}, base)
    assert space.config({"train.learning_rate": 1e-2}).rule is base.rule
    found = aejax.tune(space, rows(40), configurations=2, folds=2).best.drawn.config
    assert found.rule is base.rule
    named = parse_space(
        {"rule.kind_name": "mean-std", "rule.k": 2.0, "train.epochs": {"choices": [1]}}, base
    )
    assert named.base.rule == aejax.MeanStd(k=2.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rule.k": 2.0}, r"rule\.k is set but rule is .*MedianMad; allowed: rule\.kind_name"),
        ({"rule.kind_name": "os:remove"}, r"rule\.kind_name is 'os:remove'; allowed: 'mean-std'"),
        ({"rule": "x"}, "Config.rule is 'x'; allowed"),
    ],
)
def test_a_file_of_settings_runs_no_code(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(aejax.InputError, match=message):
        parse_space({**setting, "train.epochs": {"choices": [1, 2]}}, config())


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """500 rows that are picked from disk."""
    folder = tmp_path_factory.mktemp("on-disk")
    pd.DataFrame(rows(500, seed=5), columns=COLUMNS).to_parquet(folder / "rows.parquet")
    read = read_training(folder / "rows.parquet", Selection(), folder=folder, memory_limit=100)
    return read.normal


class Blockwise(MedianMad):
    """Takes more scores than are kept: the mean of the blocks' largest."""

    def fit_blocks(self, blocks: Any) -> float:
        return float(np.mean([block.max() for block in blocks]))


def test_scores_of_files_are_an_array_while_they_fit(
    detector: aejax.Detector, on_disk: Any
) -> None:
    scores = detector.score(rows(500, seed=5))
    found = calibrate(detector, on_disk).threshold
    assert found is not None
    assert (found.value, found.rows) == (mad(scores, 2.0), 500)
    message = r"MedianMad\(k=2.0\) is fitted on all scores at once and there are more than 400;"
    with pytest.raises(aejax.InputError, match=message):
        calibrate(detector, on_disk, kept_scores=400)
    blockwise = dataclasses.replace(detector, config=config(Blockwise()))
    found = calibrate(blockwise, on_disk, kept_scores=400).threshold
    assert found is not None
    assert (found.value, found.rows) == (scores.max(), 500)
    assert len(found.deciles or ()) == 9


def test_too_many_scores_of_files_are_refused_before_training(
    on_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aejax.detection.fit_one.train", None)
    monkeypatch.setattr(thresholds, "KEPT_SCORES", 99)
    message = (
        r"at once and there are 100; allowed: at most 99 of rows on disk, or a rule with fit_b"
    )
    with pytest.raises(aejax.InputError, match=message):
        aejax.fit(config(), on_disk)
    check_rule(MedianMad(), 100)
    check_rule(Blockwise(), 100, on_disk=True)


def test_a_rule_is_passed_what_its_signature_names() -> None:
    seen: dict[str, Any] = {}

    class Plain:
        def fit(self, scores: Any) -> float:
            seen["plain"] = scores
            return 1.0

    class Labels:
        def fit(self, scores: Any, is_anomaly: Any) -> float:
            seen["labels"] = is_anomaly
            return 1.0

    class Anything:
        def fit(self, *scores: Any, **optional: Any) -> float:
            seen["anything"] = optional
            return 1.0

    class Sampled(Plain):
        def fit_blocks(self, blocks: Any, seed: int) -> float:
            seen["seed"] = seed
            return 1.0

    fit_threshold(Plain(), np.float32([[1, 2]]))
    assert seen["plain"].dtype == np.float64
    assert seen["plain"].tolist() == [1.0, 2.0]
    fit_threshold(Labels(), [1.0, 2.0])
    assert seen["labels"] is None
    fit_threshold(Labels(), [1.0, 2.0], [0, 1])
    assert seen["labels"].tolist() == [False, True]
    fit_threshold(Anything(), [1.0], [1])
    assert list(seen["anything"]) == ["is_anomaly"]
    # A function that NumPy compiled has no signature to read.
    largest = types.SimpleNamespace(fit=np.max)
    assert fit_threshold(largest, [1.0, 3.0]).value == 3.0
    assert fit_threshold(types.SimpleNamespace(fit=functools.partial(mad, k=0.0)), [1.0]).rows == 1
    # It needn't look at all blocks.
    found = fit_threshold_streaming(Sampled(), [[1.0, 2.0], [3.0]], seed=7)
    assert (found.rows, seen["seed"]) == (3, 7)


def test_what_a_rule_asks_for_is_kept() -> None:
    class Asks:
        needs_labels = True
        least = 3

        def fit(self, scores: Any, is_anomaly: Any) -> float:
            return float(scores[is_anomaly].min())

    rule = Asks()
    with pytest.raises(aejax.InputError, match=r"rule is 'Asks\(\)' but there are no labels"):
        check_rule(rule, 9)
    with pytest.raises(aejax.InputError, match=r"found 2; allowed: at least 3 for rule Asks\(\)"):
        fit_threshold(rule, [1.0, 2.0], [0, 1])
    found = fit_threshold(rule, [1.0, 2.0, 3.0], [0, 1, 0])
    assert (found.value, found.deciles) == (2.0, None)


def test_rules_that_need_labels_or_no_scores_on_a_file(
    detector: aejax.Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    code = """
class Labelled:
    needs_labels = True
    def fit(self, scores, is_anomaly):
        assert len(scores) == 100
        return scores[is_anomaly].min()

class Chosen:
    least = 0
    def __init__(self, value=0.25):
        self.value = value
    def fit(self, scores):
        assert len(scores) == 0
        return self.value
"""
    Path("labelled_rules.py").write_text(code)
    x = rows(100, seed=6)
    table = pd.DataFrame(x, columns=COLUMNS)
    table["label"] = np.arange(100) % 10 == 0
    table.to_csv("rows.csv", index=False)
    detector.save("run")
    read = ["--input", "rows.csv", "--label-column", "label"]
    assert main(["calibrate", "run", *read, "--rule", "labelled_rules:Labelled"]) == 0
    assert aejax.load("run").threshold.value == detector.score(x)[::10].min()  # type: ignore[union-attr]
    assert main(["calibrate", "run", "--rule", "labelled_rules:Chosen:0.5"]) == 0
    assert aejax.load("run").threshold.value == 0.5  # type: ignore[union-attr]
    assert main(["calibrate", "run", *read, "--rule", "labelled_rules:Chosen"]) == 2
    assert "a file is given but the rule is 'Chosen(value=0.25)'" in capsys.readouterr().err
    assert main(["calibrate", "run", "--rule", "labelled_rules:Labelled"]) == 2
    assert "allowed: without it a rule that needs no scores" in capsys.readouterr().err
    del sys.modules["labelled_rules"]


def test_its_p_values_outlive_its_code(tmp_path: Path, detector: aejax.Detector) -> None:
    class Rare:
        text = "one in twenty"

        def fit(self, scores: Any) -> Any:
            return np.quantile(scores, 0.95), aejax.Calibration.of(scores)

    x = rows(99, seed=7)
    scores = detector.score(x)
    detector.calibrate(x, rule=Rare()).save(tmp_path)
    loaded = aejax.load(tmp_path)
    assert loaded.threshold is not None
    assert rule_text(loaded.threshold.rule) == "one in twenty"
    at_least = (scores[None] >= scores[:, None]).sum(axis=1)
    np.testing.assert_allclose(loaded.p_values(x), (1 + at_least) / 100)


def test_scores_may_be_changed_by_a_rule() -> None:
    class Sorts:
        def fit(self, scores: Any) -> float:
            scores.sort()
            scores -= scores[0]
            return float(scores[-1])

    scores = np.array([3.0, 1.0, 2.0])
    found = fit_threshold(Sorts(), scores)
    assert found.value == 2.0
    assert scores.tolist() == [3.0, 1.0, 2.0]
    assert found.deciles == fit_threshold(aejax.Fixed(), scores).deciles


class Gives:
    """A rule whose `fit` gives a value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def fit(self, scores: Any) -> Any:
        return self.value


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2), np.array(2.0)])
def test_numbers_that_a_rule_may_give(value: Any) -> None:
    assert fit_threshold(Gives(value), [1.0]).value == 2.0


@pytest.mark.parametrize(
    "value",
    [
        np.nan,
        np.inf,
        -np.inf,
        None,
        "2",
        True,
        2j,
        [2.0],
        np.ones(1),
        (2.0, 3.0),
        10**99,
        MedianMad,
    ],
    ids=repr,
)
def test_what_a_rule_may_not_give_names_the_rule(value: Any) -> None:
    message = r"^rule Gives\(value=.*\) gives .*; allowed: one finite number, or a pair of it and a"
    for fit in (
        lambda: fit_threshold(Gives(value), [1.0, 2.0]),
        lambda: fit_threshold_streaming(Gives(value), [[1.0], [2.0]]),
    ):
        with pytest.raises(aejax.InputError, match=message) as caught:
            fit()
        assert "\n" not in str(caught.value)


class Fails:
    def fit(self, scores: Any) -> float:
        raise ZeroDivisionError("no\nspread")

    def fit_blocks(self, blocks: Any) -> float:
        return sum(block.sum() for block in blocks) / 0


def test_what_fails_in_a_rule_names_the_rule() -> None:
    message = r"^rule Fails\(\) failed \(ZeroDivisionError: no spread\)$"
    with pytest.raises(aejax.InputError, match=message) as caught:
        fit_threshold(Fails(), [1.0])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with (
        np.errstate(divide="raise"),
        pytest.raises(aejax.InputError, match=r"^rule Fails\(\) failed"),
    ):
        fit_threshold_streaming(Fails(), [[1.0]])


def test_what_fails_in_the_blocks_does_not_name_the_rule() -> None:
    def blocks() -> Iterator[Any]:
        yield [1.0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fit_threshold_streaming(Fails(), blocks())
    with pytest.raises(aejax.InputError, match=r"^calibration scores: row 1 is nan"):
        fit_threshold_streaming(Fails(), [[1.0], [np.nan]])


def with_fit(fit: Any, **others: Any) -> Any:
    return type("Odd", (), {"fit": fit, "__repr__": lambda self: "Odd()", **others})()


NO_RULES = [
    (None, " is None; allowed: MeanStd, .*Fixed, or an object with fit"),
    (3, " is 3; allowed: MeanStd, .*Fixed, or an object with fit"),
    ("quantile:0.9", " is 'quantile:0.9'; allowed: MeanStd, .*, or an object with fit"),
    (with_fit(3), r" is Odd\(\); allowed: MeanStd, .*, or an object with fit"),
    (np.zeros((2, 9)), r" is array\(.*; allowed: MeanStd, .*, or an object with fit"),
    (MedianMad, r" is <class .*, which has fit\(self, scores.*; allowed: an object with fit\(sc"),
    (aejax.Quantile, r" is <class .*, which has fit\(self, scores.*; allowed: an object with fit"),
    (with_fit(lambda self: 1), r" is Odd\(\), which has fit\(\); allowed: an object with fit"),
    (with_fit(lambda self, a, b: 1), r" is Odd\(\), which has fit\(a, b\); allowed: an object"),
    (with_fit(lambda self, a: 1, least=-1), r"\.least is -1; allowed: a whole number, at least 0"),
    (with_fit(lambda self, a: 1, least=None), r"\.least is None; allowed: a whole number"),
    (with_fit(lambda self, a: 1, needs_labels="no"), r"\.needs_labels is 'no'; allowed: True, Fal"),
    (with_fit(lambda self, a: 1, normal_rows=1), r"\.normal_rows is 1; allowed: True, False"),
]


@pytest.mark.parametrize(("value", "message"), NO_RULES, ids=lambda case: repr(case)[:20])
def test_what_is_no_rule_is_refused_where_it_is_given(
    value: Any, message: str, detector: aejax.Detector
) -> None:
    with pytest.raises(aejax.InputError, match=r"^Config\.rule" + message) as caught:
        plain_config(rule=value)
    assert "\n" not in str(caught.value)
    uses = [
        lambda: fit_threshold(value, [1.0]),
        lambda: fit_threshold_streaming(value, [[1.0]]),
        lambda: check_rule(value, 9),
    ]
    if value is not None:  # There it stands for the configuration's.
        uses.append(lambda: detector.calibrate(rows(), rule=value))
    for use in uses:
        with pytest.raises(aejax.InputError, match="^rule" + message):
            use()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_such_module:Rule", r"rule is 'no_such_module:Rule', which can't be imported \(No mod"),
        ("aejax.config:Rul", r"rule is 'aejax\.config:Rul', which can't be imported \(module"),
        ("aejax.config:RULES", "rule is .*Registry.*; allowed: MeanStd, .*, or an object with fit"),
        ("fractions:Fraction:x", r"which can't be made: allowed: numbers after its name"),
        ("fractions:Fraction:1:2:3:4:5", r"which can't be made: allowed: at most \d numbers after"),
        ("fractions:Fraction:1:0", r"rule is 'fractions:Fraction:1:0', which can't be made: "),
        ("fractions:Fraction", r"rule is Fraction\(0, 1\); allowed: MeanStd, .*, or an object"),
        ("own", r"rule is 'own'; allowed: best-f1, .*, or package\.module:Class"),
    ],
)
def test_text_that_makes_no_rule_is_refused(text: str, message: str) -> None:
    with pytest.raises(aejax.InputError, match=message) as caught:
        parse_rule(text)
    assert "\n" not in str(caught.value)


def test_a_configuration_is_hashable_and_its_description_is_the_same_in_every_process() -> None:
    rule = MedianMad(k=2.0)
    assert hash(config(rule)) == hash(config(rule))
    assert config(rule) == config(rule)
    written = to_dict(config(rule))["rule"]
    assert written == {"own": f"{__name__}.MedianMad", "text": "MedianMad(k=2.0)"}
    assert to_dict(config(MedianMad(k=2.0)))["rule"] == written
    read = from_dict(json.loads(json.dumps(to_dict(config(rule)))))
    assert read.rule == Own(**written)
    assert to_dict(read)["rule"] == written
    assert hash(read) == hash(config(rule))
    # A subclass of a built-in rule is somebody's own: its settings alone wouldn't make it.
    strict = type("Strict", (aejax.Quantile,), {})(q=0.5)
    assert to_dict(config(strict))["rule"]["own"].endswith("Strict")
    assert fit_threshold(strict, [1.0, 3.0]).value == 2.0


def test_a_description_is_one_bounded_line_whatever_the_object() -> None:
    class Large:
        def __init__(self) -> None:
            self.weights = np.zeros((200, 200))

    class Unprintable:
        def __repr__(self) -> str:
            raise RuntimeError

    for value in (Large(), Unprintable(), np.zeros((99, 99)), lambda scores: 0, mad):
        text = describe(value).text
        assert text
        assert "\n" not in text
        assert "0x" not in text
        assert len(text) <= 300
    assert describe(mad).own == f"{__name__}.mad"


@pytest.mark.parametrize(
    "written",
    [
        {"own": 3, "text": "a"},
        {"own": "a"},
        {"own": "a", "text": None},
        {"own": "a", "text": "", "k": 1},
    ],
)
def test_what_is_no_description_is_refused(written: dict[str, Any]) -> None:
    with pytest.raises(aejax.InputError, match=r"^Config\.rule is .*; allowed: own and text, as t"):
        from_dict({"rule": written})
    with pytest.raises(aejax.InputError, match=r"^threshold\.rule is .*; allowed: own and text"):
        Threshold.from_dict({"value": 1.0, "rows": 1, "rule": written})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Largest:
    """What a file of a new built-in rule would hold."""

    times: float = 1.0

    def fit(self, scores: np.ndarray) -> float:
        return float(scores.max() * self.times)


def test_one_line_of_the_registry_makes_a_rule_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "largest", types.ModuleType("largest"))
    monkeypatch.setattr(sys.modules["largest"], "Largest", Largest, raising=False)
    monkeypatch.setattr(Largest, "__module__", "largest")
    monkeypatch.setitem(RULES.places, "largest", "largest:Largest")
    rule = parse_rule("largest:2")
    assert rule == Largest(times=2.0)
    assert rule_text(rule) == "largest:2.0"
    written = to_dict(plain_config(rule=rule))
    assert written["rule"] == {"kind_name": "largest", "times": 2.0}
    assert from_dict(json.loads(json.dumps(written))).rule == rule
    threshold = fit_threshold(rule, [1.0, 3.0])
    assert threshold.value == 6.0
    assert Threshold.from_dict(threshold.to_dict()) == threshold
    named = parse_space({"rule.kind_name": "largest", "train.epochs": {"choices": [1, 2]}})
    assert named.base.rule == Largest()
    with pytest.raises(aejax.InputError, match="did you mean 'largest'"):
        parse_rule("larges:2")
    with pytest.raises(aejax.InputError, match="Largest, or an object with fit"):
        plain_config(rule=3)  # type: ignore[arg-type]


def test_no_code_asks_what_class_a_rule_is_of() -> None:
    package = Path(aejax.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked: list[ast.AST] = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "isinstance",
                "issubclass",
            ):
                asked = [node.args[1]]
            elif isinstance(node, ast.MatchClass):
                asked = [node.cls]
            elif isinstance(node, ast.Compare):
                asked = [node.left, *node.comparators]
            names = {
                ast.unparse(inner).rpartition(".")[2]
                for part in asked
                for inner in ast.walk(part)
                if isinstance(inner, ast.Name | ast.Attribute)
            }
            if names & {*RULES.attributes, "Rule"}:
                found.append(f"{path.relative_to(package)}:{node.lineno}")
    assert found == []

"""Scores of a person's own: everywhere that a built-in one goes, and where they fail."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.cli import main
from aejax.config import SCORES, from_dict, parse_score, score_text, to_dict
from aejax.config.own import Own
from tests.plain import plain_config

CODE = '''
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class InUsualErrors:
    """The largest error of a feature, over the error that the feature usually has."""

    power: float = 1.0

    def learn(self, known):
        return {"usual": known.errors.mean(axis=0) + 1e-3}

    def apply(self, network, variables, x, learnt, error):
        each = error(x, network.apply(variables, x)).reshape(x.shape[0], -1)
        return (each / learnt["usual"]).max(axis=1) ** self.power
'''
COLUMNS = list("abcdef")
TRAIN = aejax.Train(epochs=2, batch_size=64, validation_fraction=0.2)


def rows(n: int = 300, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    causes = np.random.default_rng(9).normal(size=(2, 6))
    return (random.normal(size=(n, 2)) @ causes + random.normal(size=(n, 6))).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class InUsualErrors:
    power: float = 1.0

    def learn(self, known: Any) -> Any:
        return {"usual": known.errors.mean(axis=0) + 1e-3}

    def apply(self, network: Any, variables: Any, x: Any, learnt: Any, error: Any) -> Any:
        each = error(x, network.apply(variables, x)).reshape(x.shape[0], -1)
        return (each / learnt["usual"]).max(axis=1) ** self.power


@dataclasses.dataclass(frozen=True)
class FromMeanLatent:
    needs: ClassVar[tuple[str, ...]] = ("encode",)

    def learn(self, known: Any) -> Any:
        assert known.latent.shape == (len(known.rows), 3)
        assert known.training(7).shape == (7, 6)
        np.testing.assert_array_equal(known.residuals, known.rows - known.reconstructions)
        return {"latent": {"mean": known.latent.mean(axis=0)}}

    def apply(self, x: Any, network: Any, learnt: Any, variables: Any) -> Any:
        apart = network.encode(variables, x) - learnt["latent"]["mean"]
        return jnp.sqrt(jnp.sum(jnp.square(apart), axis=1))


class Plain:
    """As a person may write it: no dataclass, nothing learnt; hashable as objects are."""

    def apply(self, network: Any, variables: Any, x: Any) -> Any:
        return jnp.abs(x - network.apply(variables, x)).max(axis=1)


def config(score: Any = None, **others: Any) -> aejax.Config:
    return plain_config(
        model=aejax.Dense(hidden=(8, 3)),
        train=TRAIN,
        score=InUsualErrors() if score is None else score,
        **others,
    )


def expected(detector: aejax.Detector, x: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Scores of `InUsualErrors`, in float64."""

    def errors(rows: np.ndarray) -> np.ndarray:
        scaled, found = detector.reconstruct(rows)
        return np.square(np.float64(scaled) - found)

    usual = np.float32(errors(normal).mean(axis=0) + 1e-3)
    return np.asarray((errors(x) / usual).max(axis=1))


@pytest.fixture(scope="module")
def detector() -> aejax.Detector:
    # Without rows held out, what is learnt is of the training rows.
    train = dataclasses.replace(TRAIN, validation_fraction=0.0)
    return aejax.fit(dataclasses.replace(config(), train=train), rows())


def test_it_scores_judges_and_explains(detector: aejax.Detector) -> None:
    x = rows(100, seed=1)
    np.testing.assert_allclose(detector.score(x), expected(detector, x, rows()), rtol=1e-4)
    for size in (1, 7, 64):
        np.testing.assert_allclose(detector.score(x, batch_size=size), detector.score(x), rtol=1e-5)
    again = detector.calibrate(x, rule=aejax.Quantile(q=0.5))
    assert again.predict(x).mean() == 0.5
    reasons = detector.explain(x, top=2)
    by_error = dataclasses.replace(
        detector, config=dataclasses.replace(detector.config, score="error")
    )
    assert [r.feature for r in reasons[0]] == [r.feature for r in by_error.explain(x, top=2)[0]]
    np.testing.assert_allclose(detector.explain_rows(x, top=2)[0], detector.score(x), rtol=1e-5)
    assert detector.config == dataclasses.replace(detector.config, score=InUsualErrors())
    assert detector.config != dataclasses.replace(detector.config, score=InUsualErrors(2.0))


def test_it_may_learn_of_everything_that_is_known() -> None:
    x = rows()
    found = aejax.fit(config(FromMeanLatent()), x)
    latent, mean = found.encode(x), found.variables["normal"]["latent"]["mean"]
    held_out = found.threshold.rows  # type: ignore[union-attr]
    assert held_out == 60
    np.testing.assert_allclose(
        found.score(x), np.linalg.norm(latent.astype(np.float64) - mean, axis=1), rtol=1e-4
    )


def test_one_that_learns_nothing_and_takes_fewer_keywords() -> None:
    found = aejax.fit(config(Plain()), rows())
    scaled, y = found.reconstruct(rows(20, seed=2))
    np.testing.assert_allclose(
        found.score(rows(20, seed=2)), np.abs(scaled - y).max(axis=1), rtol=1e-4
    )


@pytest.mark.parametrize("combine", ["mean", "median", "rank"])
def test_an_ensemble_votes_by_it(tmp_path: Path, combine: Any) -> None:
    x, test = rows(), rows(50, seed=1)
    configs = [
        dataclasses.replace(config(), train=dataclasses.replace(TRAIN, seed=seed))
        for seed in range(3)
    ]
    population = aejax.fit_population(configs, x)
    ensemble = population.ensemble(x, combine=combine)
    alone = np.stack([one.score(test) for one in population.detectors if one is not None])
    assert ensemble.members == len(alone) == 3
    if combine != "rank":
        by_hand = getattr(np, combine)(alone, axis=0)
        np.testing.assert_allclose(ensemble.score(test), by_hand, rtol=1e-5)
    np.testing.assert_allclose(
        ensemble.explain_rows(test, top=2)[0], ensemble.score(test), rtol=1e-5
    )
    ensemble.save(tmp_path)
    loaded = aejax.load(tmp_path)
    np.testing.assert_allclose(loaded.score(test), ensemble.score(test), rtol=1e-6)
    assert loaded.fingerprint == ensemble.fingerprint


def test_each_group_learns_of_its_own_rows(tmp_path: Path) -> None:
    x, groups = rows(), np.arange(300) % 3
    train = dataclasses.replace(TRAIN, validation_fraction=0.0)
    found = aejax.fit(dataclasses.replace(config(), train=train), x, groups=groups)
    assert found.variables["normal"]["usual"].shape == (3, 6)
    test = rows(40, seed=3)
    for at, name in enumerate(found.groups.names):
        own = found.member(name)
        by_hand = expected(own, test, x[groups == at])
        np.testing.assert_allclose(found.score(test, groups=np.repeat(at, 40)), by_hand, rtol=1e-3)
    found.save(tmp_path)
    loaded = aejax.load(tmp_path)
    np.testing.assert_allclose(
        loaded.score(test, groups=groups[:40]), found.score(test, groups=groups[:40]), rtol=1e-6
    )
    assert loaded.fingerprint == found.fingerprint


ELSEWHERE = """
import sys
import numpy as np
import aejax
from aejax.cli import main
from aejax.config import score_text

detector = aejax.load("run")
assert "own_scores" not in sys.modules
assert score_text(detector.config.score) == "InUsualErrors(power=2.0)"
assert detector.config.score.own == "own_scores.InUsualErrors"
x = np.loadtxt("rows.csv", delimiter=",", skiprows=1).astype(np.float32)
np.save("elsewhere.npy", detector.score(x))
detector.explain(x[:5])
said = "Config.score is own_scores.InUsualErrors, which this process doesn't have; allowed: "
population = lambda: aejax.fit_population([detector.config], x)
for use in (lambda: aejax.fit(detector.config, x), population):
    try:
        use()
    except aejax.InputError as error:
        assert str(error).startswith(said), error
    else:
        raise AssertionError(use)
detector.calibrate(x, rule=aejax.Quantile(q=0.5)).save("again")
again = aejax.load("again")
assert again.fingerprint == detector.fingerprint
assert (again.score(x) == detector.score(x)).all()
assert main(["score", "run", "--input", "rows.parquet", "--out", "scores", "--quiet"]) == 0
assert main(["inspect", "run"]) == 0
assert main(["export", "run", "--out", "exported"]) == 0
"""


@pytest.mark.slow
def test_the_command_line_takes_it_and_what_it_made_needs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_scores.py").write_text(CODE)
    x = rows(240, seed=2)
    table = pd.DataFrame(x, columns=COLUMNS)
    table.to_csv("rows.csv", index=False)
    table.to_parquet("rows.parquet")
    how = [
        "--score",
        "own_scores:InUsualErrors:2",
        "--epochs",
        "2",
        "--quiet",
        "--model",
        "dense",
        "--calibration",
        "held-out",
    ]
    assert main(["train", "--input", "rows.csv", "--out", "run", *how]) == 0
    live = aejax.load("run").score(x)
    (tmp_path / "own_scores.py").unlink()
    finished = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    np.testing.assert_array_equal(np.load("elsewhere.npy"), live)
    written = pq.read_table("scores").column("score").to_numpy()
    np.testing.assert_allclose(written, live, rtol=1e-6)
    np.testing.assert_allclose(aejax.load("exported").score(x), live, rtol=1e-6)


def test_it_is_exported(tmp_path: Path, detector: aejax.Detector) -> None:
    exported = aejax.export(detector, tmp_path / "export")
    assert exported["parity"]["loaded"] == 0.0
    x = rows(30, seed=4)
    np.testing.assert_array_equal(aejax.load(tmp_path / "export").score(x), detector.score(x))
    card = (tmp_path / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "its InUsualErrors(power=1.0) under the model" in card


class OneBatchSize(Plain):
    """Can't be exported for any number of rows."""

    def apply(self, network: Any, variables: Any, x: Any) -> Any:
        return super().apply(network, variables, x) + np.arange(int(x.shape[0])) * 0


def test_one_without_a_program_is_a_placeholder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = aejax.fit(config(OneBatchSize()), rows())
    with caplog.at_level(logging.WARNING):
        found.save(tmp_path)
    assert "can't be exported" in caplog.text
    loaded = aejax.load(tmp_path)
    assert isinstance(loaded.config.score, Own)
    assert loaded.threshold == found.threshold
    with pytest.raises(aejax.InputError, match=r"Config.score is .*OneBatchSize, which .* allowed"):
        loaded.score(rows())


class Unhashable(Plain):
    __hash__ = None  # type: ignore[assignment]


class AsksTooMuch:
    def apply(self, x: Any, threshold: Any) -> Any:
        return x


class NeedsText(Plain):
    needs = "encode"


class NeedsRows(Plain):
    least = 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "Config.score is 7; allowed: 'error', .*, or an object with apply"),
        ("eror", "Config.score is 'eror'; allowed: 'error', "),
        ("log-odds", "Config.score is 'log-odds'; allowed: 'error', "),
        (Plain, "Config.score is <class .*; allowed: 'error', "),
        (Unhashable(), r"which is not hashable \(.*\); allowed: a frozen dataclass"),
        (AsksTooMuch(), r"which has apply\(x.*allowed: arguments named network, variables, x"),
        (NeedsText(), r"Config.score.needs is 'encode'; allowed: a tuple of names"),
        (NeedsRows(), r"Config.score.least is 0; allowed: a whole number, at least 1"),
    ],
)
def test_what_is_no_score_is_refused(value: Any, said: str) -> None:
    with pytest.raises(aejax.InputError, match=said) as caught:
        config(value)
    assert "\n" not in str(caught.value)


def learning(what: Any) -> Any:
    class Learns(Plain):
        def learn(self, known: Any) -> Any:
            return what(known)

    return Learns()


def applying(what: Any) -> Any:
    class Applies(Plain):
        def apply(self, network: Any, variables: Any, x: Any) -> Any:
            return what(x)

    return Applies()


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (learning(lambda known: 1 / 0), r"whose learn failed \(ZeroDivisionError"),
        (learning(lambda known: known.what), r"whose learn failed \(AttributeError"),
        (learning(lambda known: None), "whose learn gives None; allowed: a dict of arrays"),
        (
            learning(lambda known: {"error": known.errors}),
            "gives 'error', which the detector keeps",
        ),
        (learning(lambda known: {"a/b": 1.0}), "gives the name 'a/b'; allowed: text without '/'"),
        (learning(lambda known: {"a": np.nan}), "gives 'a': nan; allowed: an array of finite"),
        (learning(lambda known: {"a": "text"}), "gives 'a': 'text'; allowed: an array of finite"),
        (applying(lambda x: x), r"whose apply gives float32\[\d+, 6\]; allowed: float32\[\d+\]"),
        (applying(lambda x: jnp.sum(x)), r"whose apply gives float32\[\]; allowed"),
        (applying(lambda x: None), r"whose apply gives a NoneType; allowed"),
        (applying(lambda x: x @ jnp.ones(7)), r"whose apply failed \(TypeError"),
        (applying(lambda x: x[:, 0] * jnp.nan), r"score nan; allowed"),
    ],
)
def test_one_that_fails_says_so_in_one_line(score: Any, said: str) -> None:
    with pytest.raises(aejax.InputError, match=said) as caught:
        aejax.fit(config(score), rows())
    assert "\n" not in str(caught.value)
    assert "score" in str(caught.value)


def test_what_the_network_must_have_is_asked_before_training() -> None:
    def init(key: jax.Array, shape: Any) -> Any:
        return {"w": jnp.zeros(shape)}

    network = aejax.network(init, lambda variables, x: x * variables["w"])
    for score in (FromMeanLatent(), "latent-distance"):
        with pytest.raises(aejax.InputError, match="which needs encode; allowed: with a network"):
            aejax.fit(dataclasses.replace(config(score), model=network), rows())
    with pytest.raises(
        aejax.InputError, match=r"Config.score is .*Plain.*model that reconstructs no"
    ):
        plain_config(model=aejax.Classifier(), score=Plain())


def test_groups_whose_arrays_differ_in_shape_are_refused() -> None:
    score = learning(lambda known: {"rows": known.rows})
    with pytest.raises(aejax.InputError, match="learns arrays of different shapes; allowed"):
        aejax.fit(config(score), rows(300), groups=np.repeat(["a", "b"], [100, 200]))


def test_built_in_ones_are_names_in_configurations_and_files() -> None:
    for name in ("error", "residual-distance", "error-and-neighbours"):
        chosen = config(SCORES[name]())
        assert chosen.score == name
        assert chosen == config(name)
        assert from_dict(to_dict(chosen)) == chosen
        assert to_dict(chosen)["score"] == score_text(SCORES[name]()) == name
        assert parse_score(name) == name
    own = from_dict(json.loads(json.dumps(to_dict(config()))))
    assert isinstance(own.score, Own)
    assert own.score.text == "InUsualErrors(power=1.0)"
    assert from_dict(json.loads(json.dumps(to_dict(own)))) == own


@pytest.mark.parametrize(
    "learnt",
    [{}, {"usual": [7]}, {"usual": [0]}, {"usual": 6}, {"usual": [1 << 40]}, {"error": [6]}, 3],
)
def test_a_description_of_something_else_is_refused(
    tmp_path: Path, detector: aejax.Detector, learnt: Any
) -> None:
    detector.save(tmp_path)
    place = tmp_path / "detector.json"
    described = json.loads(place.read_text(encoding="utf-8"))
    assert described["learnt"] == {"usual": [6]}
    place.write_text(json.dumps({**described, "learnt": learnt}), encoding="utf-8")
    with pytest.raises(aejax.InputError) as caught:
        aejax.load(tmp_path)
    assert "\n" not in str(caught.value)

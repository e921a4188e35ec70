"""The estimators in scikit-learn's own checks and tools, and PyOD's numbers."""

from __future__ import annotations

import inspect
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import aejax
from aejax.config import InputError
from aejax.detection.threshold import fit_threshold
from aejax.estimator import AutoEncoder, PyODAutoEncoder, core
from tests.row_scores import in_float64

# "stream" compiles one step for all numbers of rows, and the checks have many.
SMALL: dict[str, Any] = {"hidden": (4, 2), "steps": 4, "batch_size": 32, "feed": "stream"}

# A latent layer of one, for rows that lie on a line: no units are dropped.
TRAINED: dict[str, Any] = {"hidden": (16, 1), "activation": "tanh", "dropout": 0.0, "steps": 600}


def in_pyods_names(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings as PyOD's constructor calls them."""
    names = {
        "hidden": "hidden_neuron_list",
        "activation": "hidden_activation_name",
        "dropout": "dropout_rate",
    }
    return {names.get(name, name): value for name, value in settings.items()}


NAMES = ["height", "weight", "age"]


def rows(n: int = 120, seed: int = 0) -> np.ndarray:
    """Rows on a line with a little noise; the last tenth is off it."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 1)) * [1.0, -2.0, 0.5] + random.normal(size=(n, 3)) * 0.1
    x[-n // 10 :] *= [1, -1, 1]
    return x


def is_anomaly(n: int = 120) -> np.ndarray:
    return np.arange(n) >= n - n // 10


@parametrize_with_checks([AutoEncoder(**SMALL)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@parametrize_with_checks(
    [PyODAutoEncoder(**in_pyods_names(SMALL))],
    expected_failed_checks=lambda _: {
        "check_outliers_fit_predict": "PyOD's labels are 0 and 1",
        "check_outliers_train": "PyOD's labels are 0 and 1, and its larger scores anomalous",
    },
)
def test_scikit_learns_checks_in_pyods_convention(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def fitted() -> AutoEncoder:
    return AutoEncoder(**TRAINED).fit(rows())


def test_it_finds_anomalies(fitted: AutoEncoder) -> None:
    x, labels = rows(400, seed=1), is_anomaly(400)
    ours = roc_auc_score(labels, -fitted.decision_function(x))
    theirs = roc_auc_score(labels, -IsolationForest(random_state=0).fit(rows()).score_samples(x))
    assert ours > max(theirs, 0.85)


def test_the_detector_is_the_one_that_scores(fitted: AutoEncoder) -> None:
    x = rows(seed=1)
    np.testing.assert_array_equal(-fitted.score_samples(x), fitted.detector_.score(x))
    np.testing.assert_array_equal(fitted.predict(x) == -1, fitted.detector_.predict(x))
    np.testing.assert_array_equal(fitted.transform(x), fitted.detector_.encode(x))


@pytest.mark.parametrize("contamination", [0.0, 0.05, 0.5])
def test_contamination_is_the_share_flagged(contamination: float) -> None:
    found = AutoEncoder(contamination=contamination, **SMALL).fit_predict(rows())
    assert (found == -1).sum() == 120 * contamination


def test_a_rows_score_can_take_neighbours() -> None:
    """A row that was trained on is no neighbour of its own, or no anomaly would stand out."""
    x = rows()
    scaled = StandardScaler().fit_transform(x)
    assert np.abs(scaled).max() < 4
    alone = in_float64.distance(scaled, scaled, itself=True)
    for kind, how in ((AutoEncoder, SMALL), (PyODAutoEncoder, in_pyods_names(SMALL))):
        by_error = kind(**how).fit(x)
        found = clone(by_error).set_params(row_score="error-and-neighbours").fit(x)
        error, score = (np.abs(one.detector_.score(x)) for one in (by_error, found))
        np.testing.assert_allclose(score, in_float64.joined(error, alone), rtol=1e-4)


@pytest.mark.slow
def test_anomalies_among_the_training_rows_are_not_learnt_by_heart(data_dir: Path) -> None:
    """357 benign and 10 malignant rows: 1,500 steps are enough to rebuild each of them."""
    with np.load(next((data_dir / "adbench").glob("*WDBC.npz")), allow_pickle=False) as table:
        x, label = np.float32(table["X"]), table["y"]

    def auroc(**given: Any) -> float:
        return roc_auc_score(label, AutoEncoder(**given).fit(x).detector_.score(x))

    plain = {"hidden": (128, 64), "dropout": 0.0, "steps": 1500}
    assert auroc(**plain, trim=0.0) < 0.6
    assert auroc(**plain) > 0.75
    assert auroc(hidden=(128, 64)) > 0.9
    assert auroc() > 0.9


def test_a_seed_decides_and_none_draws() -> None:
    def scores(random_state: Any) -> np.ndarray:
        found = AutoEncoder(random_state=random_state, **SMALL).fit(rows())
        return found.score_samples(rows())

    np.testing.assert_array_equal(scores(3), scores(3))
    assert (scores(3) != scores(4)).any()
    np.testing.assert_array_equal(
        scores(np.random.RandomState(3)), scores(np.random.RandomState(3))
    )
    assert (scores(None) != scores(None)).any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("contamination", 1.0, r"Contamination\.rate is 1\.0; allowed"),
        ("hidden", (0,), r"Dense\.hidden is \(0,\); allowed"),
        ("steps", 0, "steps is 0; allowed: a whole number, at least 1"),
        ("batch_size", 0, r"Train\.batch_size is 0; allowed"),
        ("trim", 0.9, r"Train\.trim is 0\.9; allowed"),
        ("row_score", "distance", r"Config\.score is 'distance'; allowed"),
        ("row_score", "negative-elbo", r"Config\.score is 'negative-elbo'; allowed"),
        ("scale", "robus", r"Scale\.kind is 'robus'; allowed"),
        ("learning_rate", -1.0, r"Train\.learning_rate is -1\.0; allowed"),
    ],
)
def test_a_bad_parameter_is_named_when_fitting(name: str, value: object, message: str) -> None:
    estimator = AutoEncoder().set_params(**{name: value})
    with pytest.raises(ValueError, match=message):
        estimator.fit(rows())


class TestTools:
    def test_pipeline_and_clone(self) -> None:
        pipeline = make_pipeline(StandardScaler(), AutoEncoder(**SMALL))
        found = clone(pipeline).fit(rows())
        assert set(found.predict(rows())) == {-1, 1}
        pipeline.set_params(autoencoder__hidden=(2,))
        assert clone(pipeline)["autoencoder"].hidden == (2,)

    def test_as_a_transformer_in_a_pipeline(self) -> None:
        pipeline = make_pipeline(AutoEncoder(activation="tanh", **SMALL), PCA(1)).fit(rows())
        assert pipeline.transform(rows()).shape == (120, 1)
        assert pipeline[:1].get_feature_names_out().tolist() == ["autoencoder0", "autoencoder1"]

    def test_grid_search_and_cross_validation(self) -> None:
        order = np.random.default_rng(0).permutation(120)
        x, y = rows()[order], is_anomaly()[order]
        search = GridSearchCV(
            AutoEncoder(**SMALL), {"hidden": [(2,), [4, 2]]}, scoring="roc_auc", cv=3
        ).fit(x, ~y)
        assert tuple(search.best_params_["hidden"]) in {(2,), (4, 2)}
        assert 0 < search.best_score_ <= 1
        named = PyODAutoEncoder(**in_pyods_names(SMALL))
        pyod = cross_val_score(named, x, y, scoring="roc_auc", cv=3)
        ours = cross_val_score(AutoEncoder(**SMALL), x, ~y, scoring="roc_auc", cv=3)
        np.testing.assert_allclose(pyod, ours)
        # Without a scoring, `score` is the same; without labels, the error of rows held out.
        np.testing.assert_allclose(cross_val_score(named, x, y, cv=3), ours)
        found = GridSearchCV(named, {"hidden_neuron_list": [1, (4, 2)]}, cv=2).fit(x)
        assert found.best_score_ == max(found.cv_results_["mean_test_score"]) < 0

    def test_other_processes_score_alike(self) -> None:
        order = np.random.default_rng(0).permutation(120)
        x, y = rows()[order], ~is_anomaly()[order]
        here, there = (
            cross_val_score(AutoEncoder(**SMALL), x, y, scoring="roc_auc", cv=2, n_jobs=n_jobs)
            for n_jobs in (1, 2)
        )
        np.testing.assert_allclose(here, there, atol=1e-6)

    def test_a_pickle_holds_arrays_and_text_only(self, fitted: AutoEncoder) -> None:
        # Pickles are how joblib moves estimators between processes; aejax itself reads none.
        written = pickle.dumps(fitted)
        strings = [argument for _, argument, _ in pickletools.genops(written) if argument]
        modules = {text for text in map(str, strings) if text.split(".")[0] in ("jax", "aejax")}
        assert modules == {"aejax.estimator"}
        found = pickle.loads(written)
        np.testing.assert_array_equal(found.score_samples(rows()), fitted.score_samples(rows()))
        assert found.detector_.threshold == fitted.detector_.threshold
        unfitted = pickle.loads(pickle.dumps(AutoEncoder(steps=7)))
        assert unfitted.get_params() == AutoEncoder(steps=7).get_params()


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
class TestFrames:
    def test_columns_are_checked_by_name(self, frame: Any) -> None:
        x = frame(dict(zip(NAMES, rows().T, strict=True)))
        found = AutoEncoder(**SMALL).fit(x)
        assert found.feature_names_in_.tolist() == NAMES
        np.testing.assert_array_equal(
            found.score_samples(x), AutoEncoder(**SMALL).fit(rows()).score_samples(rows())
        )
        assert {reason.feature for reason in found.detector_.explain(rows(1), top=3)[0]} == {*NAMES}
        with pytest.raises(ValueError, match="feature names should match those"):
            found.predict(x[NAMES[::-1]])
        other = frame(dict(zip(["height", "weight", "shoe"], rows().T, strict=True)))
        with pytest.raises(ValueError, match="unseen at fit time:\n- shoe"):
            found.predict(other)

    def test_set_output(self, frame: Any) -> None:
        x = frame(dict(zip(NAMES, rows().T, strict=True)))
        kind = frame.__module__.split(".")[0]
        found = AutoEncoder(**SMALL).set_output(transform=kind).fit_transform(x)
        assert isinstance(found, frame)
        assert list(found.columns) == ["autoencoder0", "autoencoder1"]


# PyOD 3.6.7's BaseDetector, contamination 0.1, on these training scores (an exponential
# distribution's quantiles) and these scores; predict_with_rejection with T=3.
TRAINING = -np.log1p(-(np.arange(200) + 0.5) / 200)
SCORES = np.array([0.05, 1.0, 2.25, 2.4, 9.0])
PYOD = {
    "threshold": 2.2828935224611397,
    "labels": [0, 0, 0, 1, 1],
    "confidence": [1.0, 1.0, 0.689996848, 0.5786859665, 1.0],
    "linear": [0.0079307356, 0.1665559018, 0.3752732257, 0.4003193046, 1.0],
    "unify": [0.0, 0.0013975897, 0.7945006198, 0.8437370135, 1.0],
    "rejection": [0, 0, -2, -2, 1],
    "statistics": [0.06910303365493449, 1.1645504040424568, 0.17413736907922892],
}


def with_scores(training: npt.ArrayLike, contamination: float, scores: npt.ArrayLike) -> Any:
    """An estimator in PyOD's convention, as if it had given these scores."""
    found = PyODAutoEncoder(contamination=contamination)
    found._fit = lambda _: np.asarray(training, float)  # type: ignore[method-assign]
    found._scores = lambda _: np.asarray(scores, float)  # type: ignore[method-assign]
    rule = aejax.Contamination(rate=contamination)
    found.detector_ = type("Given", (), {"threshold": fit_threshold(rule, training)})()
    return found.fit(None)


def test_pyods_published_numbers() -> None:
    found = with_scores(TRAINING, 0.1, SCORES)
    assert found.threshold_ == pytest.approx(PYOD["threshold"], rel=1e-12)
    assert found.labels_.sum() == 20
    labels, confidence = found.predict(None, return_confidence=True)
    assert labels.tolist() == PYOD["labels"]
    np.testing.assert_allclose(confidence, PYOD["confidence"], atol=1e-9)
    for method in ("linear", "unify"):
        found_here, again = found.predict_proba(None, method=method, return_confidence=True)
        np.testing.assert_allclose(found_here[:, 1], PYOD[method], atol=1e-9)
        np.testing.assert_allclose(found_here.sum(axis=1), 1)
        np.testing.assert_array_equal(again, found.predict_confidence(None))
    labels, statistics = found.predict_with_rejection(None, T=3, return_stats=True)
    assert labels.tolist() == PYOD["rejection"]
    np.testing.assert_allclose(statistics, PYOD["statistics"], rtol=1e-4)


@pytest.mark.parametrize("contamination", [0.03, 0.1, 0.25])
def test_pyod_says_the_same(contamination: float) -> None:
    base = pytest.importorskip("pyod.models.base", reason="PyOD is not installed")

    class Given(base.BaseDetector):  # type: ignore[name-defined]
        def __init__(self, contamination: float) -> None:
            super().__init__(contamination=contamination)

        def fit(self, X: Any, y: Any = None) -> Any:
            self._set_n_classes(y)
            self.decision_scores_ = X.ravel()
            return self._process_decision_scores()

        def decision_function(self, X: Any) -> Any:
            return X.ravel()

    random = np.random.default_rng(0)
    training, scores = random.gamma(2, size=300), random.gamma(3, size=90)
    theirs = Given(contamination).fit(training[:, None])
    ours = with_scores(training, contamination, scores)
    x = scores[:, None]
    assert ours.threshold_ == pytest.approx(theirs.threshold_, rel=1e-12)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    for found, wanted in zip(
        ours.predict(None, return_confidence=True),
        theirs.predict(x, return_confidence=True),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-12)
    for method in ("linear", "unify"):
        np.testing.assert_allclose(
            ours.predict_proba(None, method=method),
            theirs.predict_proba(x, method=method),
            atol=1e-9,
        )
    costs = {"T": 5, "return_stats": True, "delta": 0.05, "c_fp": 2, "c_fn": 5, "c_r": 0.3}
    found, statistics = ours.predict_with_rejection(None, **costs)
    wanted, their_statistics = theirs.predict_with_rejection(x, **costs)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(statistics, their_statistics, rtol=1e-3)


@pytest.fixture(scope="module")
def found() -> PyODAutoEncoder:
    return PyODAutoEncoder(**in_pyods_names(TRAINED)).fit(rows())


class TestPyOD:
    def test_both_conventions_say_the_same(
        self, found: PyODAutoEncoder, fitted: AutoEncoder
    ) -> None:
        x = rows(seed=1)
        np.testing.assert_array_equal(found.decision_function(x), -fitted.score_samples(x))
        np.testing.assert_array_equal(found.predict(x) == 1, fitted.predict(x) == -1)
        assert found.threshold_ == -fitted.offset_

    def test_training_rows(self, found: PyODAutoEncoder) -> None:
        np.testing.assert_array_equal(found.decision_scores_, found.decision_function(rows()))
        np.testing.assert_array_equal(found.labels_, found.predict(rows()))
        assert found.labels_.sum() == 12
        np.testing.assert_array_equal(clone(found).fit_predict(rows()), found.labels_)

    def test_fit_predict_score(self, found: PyODAutoEncoder) -> None:
        x, y = rows(), is_anomaly()
        again = clone(found)
        assert again.fit_predict_score(x, y) == roc_auc_score(y, found.decision_scores_)
        highest = np.argsort(-found.decision_scores_)[: y.sum()]
        expected = precision_score(y, np.isin(np.arange(len(y)), highest))
        assert again.fit_predict_score(x, y, scoring="prc_n_score") == expected
        with pytest.raises(InputError, match="scoring is 'f1'; allowed: 'roc_auc_score'"):
            again.fit_predict_score(x, y, scoring="f1")

    def test_bad_choices_are_named(self, found: PyODAutoEncoder) -> None:
        with pytest.raises(InputError, match="method is 'log'; allowed: 'linear', 'unify'"):
            found.predict_proba(rows(), method="log")  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"delta is 1; allowed: a number in \(0, 1\)"):
            found.compute_rejection_stats(delta=1)
        with pytest.raises(InputError, match=r"contamination is 0\.001 of 120 rows"):
            clone(found).set_params(contamination=0.001, steps=1).fit(
                rows()
            ).compute_rejection_stats()


def test_constant_scores_have_probabilities() -> None:
    for method in ("linear", "unify"):
        found = core.probabilities(np.ones(5), np.array([0.0, 1.0]), method)
        np.testing.assert_array_equal(found, [[1, 0], [1, 0]])


def test_one_width_is_one_layer() -> None:
    found = AutoEncoder(hidden=2, steps=2).fit(rows())
    assert found.detector_.config.model.hidden == (2,)
    assert found.transform(rows()).shape == (120, 2)


def test_score_wants_both_kinds_of_labels(fitted: AutoEncoder) -> None:
    with pytest.raises(InputError, match="y holds labels of one kind; allowed: normal rows and"):
        fitted.score(rows(), np.ones(120))


class TestPyODsOwnChecks:
    """What PyOD's tests of its AutoEncoder ask, of fewer rows and features."""

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls) -> tuple[np.ndarray, ...]:
        """Training and test rows, a tenth of them anomalies, and labels of the test rows."""
        random = np.random.default_rng(42)
        made = []
        for count in (600, 200):
            normal = 0.3 * random.normal(size=(count - count // 10, 20)) + 2
            wild = random.uniform(-4, 4, size=(count // 10, 20))
            made += [np.concatenate([normal, wild]), np.arange(count) >= len(normal)]
        x_train, _, x_test, y_test = made
        return x_train, x_test, y_test.astype(int)

    @pytest.fixture(scope="class")
    @classmethod
    def clf(cls, data: tuple[np.ndarray, ...]) -> PyODAutoEncoder:
        return PyODAutoEncoder(epoch_num=5, contamination=0.1).fit(data[0])

    def test_signature(self) -> None:
        """Names and order of PyOD 3.6.7's constructor."""
        names = list(inspect.signature(PyODAutoEncoder).parameters)[:16]
        assert names == [
            "contamination",
            "preprocessing",
            "lr",
            "epoch_num",
            "batch_size",
            "optimizer_name",
            "device",
            "random_state",
            "use_compile",
            "compile_mode",
            "verbose",
            "optimizer_params",
            "hidden_neuron_list",
            "hidden_activation_name",
            "batch_norm",
            "dropout_rate",
        ]

    def test_attributes_and_history(
        self, clf: PyODAutoEncoder, data: tuple[np.ndarray, ...]
    ) -> None:
        assert len(clf.decision_scores_) == len(clf.labels_) == len(data[0])
        assert np.isfinite(clf.threshold_)
        assert len(clf.history_["loss"]) == clf.epoch_num == 5
        assert clf.model is clf.detector_
        np.testing.assert_allclose(clf._mu, data[0].mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(clf._sigma, data[0].std(axis=0), rtol=1e-5)

    def test_predictions(self, clf: PyODAutoEncoder, data: tuple[np.ndarray, ...]) -> None:
        x_train, x_test, y_test = data
        scores = clf.decision_function(x_test)
        assert scores.shape == y_test.shape
        assert roc_auc_score(y_test, scores) == clf.score(x_test, y_test) > 0.8
        assert clf.predict(x_test).shape == y_test.shape
        for method in ("linear", "unify"):
            found, confidence = clf.predict_proba(x_test, method=method, return_confidence=True)
            assert found.shape == (len(y_test), 2)
            for values in (found, confidence, clf.predict_proba(x_test, method=method)):
                assert values.min() >= 0
                assert values.max() <= 1
        with pytest.raises(ValueError, match="method is 'something'"):
            clf.predict_proba(x_test, method="something")  # type: ignore[arg-type]
        labels, confidence = clf.predict(x_test, return_confidence=True)
        assert labels.shape == confidence.shape == y_test.shape
        assert clf.predict_with_rejection(x_test, return_stats=False).shape == y_test.shape
        _, (rate, most, cost) = clf.predict_with_rejection(x_test, return_stats=True)
        assert 0 <= rate <= 1
        assert 0 <= most <= 1
        assert cost >= 0
        assert clone(clf).fit_predict(x_train).shape == (len(x_train),)

    def test_fit_predict_score(self, clf: PyODAutoEncoder, data: tuple[np.ndarray, ...]) -> None:
        _, x_test, y_test = data
        again = clone(clf)
        assert again.fit_predict_score(x_test, y_test) > 0.8
        with pytest.raises(NotImplementedError):
            again.fit_predict_score(x_test, y_test, scoring="something")

    def test_what_each_name_does(self) -> None:
        made = PyODAutoEncoder(
            0.2,
            False,
            0.01,
            3,
            16,
            "adam",
            "cpu",
            7,
            optimizer_params={"weight_decay": 1e-5},
            hidden_neuron_list=[6, 3],
            hidden_activation_name="tanh",
            batch_norm=True,
            dropout_rate=0.1,
        )
        config = made._config()
        assert config.model == aejax.Dense(
            hidden=(6, 3), activation="tanh", batch_norm=True, dropout=0.1
        )
        train = config.train
        assert (train.learning_rate, train.epochs, train.steps) == (0.01, 3, None)
        assert (train.batch_size, train.seed) == (16, 7)
        assert (train.optimizer, train.weight_decay) == ("adamw", 1e-5)
        assert config.scale.kind == "none"
        assert config.rule == aejax.Contamination(rate=0.2)

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"epoch_num": 0}, "epoch_num is 0; allowed: a whole number"),
            ({"optimizer_name": "lion"}, "optimizer_name is 'lion'; allowed: 'adam'"),
            ({"optimizer_params": {"momentum": 1}}, "optimizer_params holds 'momentum'; allowed"),
            ({"device": "mps"}, "device is 'mps'; allowed: None, 'cpu'"),
            ({"hidden_activation_name": "elu"}, "'elu'; allowed"),
        ],
    )
    def test_what_is_none_is_named(self, how: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            PyODAutoEncoder(**how).fit(rows())

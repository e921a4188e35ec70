"""What normal rows teach a detector: reasons by usual errors, and distances beyond the mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

import aejax
from aejax.config import Dense, InputError, Train
from tests.plain import plain_config

FEATURES, WRONG = 20, 3
TRAIN = Train(epochs=40, batch_size=128, learning_rate=2e-3, schedule="cosine")


def tables(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of four hidden causes: normal ones to train on and to test; spoilt ones and where."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(4, FEATURES))

    def rows(count: int) -> np.ndarray:
        x = random.normal(size=(count, 4)) @ causes + 0.3 * random.normal(size=(count, FEATURES))
        return x.astype(np.float32)

    x, test = rows(4000), rows(400)
    where = np.stack([random.choice(FEATURES, WRONG, replace=False) for _ in test])
    spoilt = test.copy()
    shift = 4 * x.std(axis=0)[where] * random.choice([-1, 1], where.shape)
    np.put_along_axis(spoilt, where, np.take_along_axis(test, where, 1) + shift, 1)
    return x, test, spoilt, where


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("hidden", [(32, 4), (64, 32, 8)])
def test_three_features_wrong_by_four_deviations_are_named(
    seed: int, hidden: tuple[int, ...]
) -> None:
    x, _, spoilt, where = tables(seed)
    detector = aejax.fit(plain_config(model=Dense(hidden=hidden), train=TRAIN), x)
    named = detector.explain_rows(spoilt, top=WRONG)[1]
    scaled, reconstruction = detector.reconstruct(spoilt)
    largest = np.argsort(-detector.feature_errors(scaled, reconstruction), axis=1)[:, :WRONG]

    def share(found: np.ndarray) -> float:
        return float(np.mean([set(a) == set(b) for a, b in zip(found, where, strict=True)]))

    # What was asked for; measured 0.95 to 0.98. The largest errors alone: 0.84 to 0.94.
    assert share(named) >= 0.9
    assert share(named) > share(largest)


def test_an_ensemble_names_them_too() -> None:
    x, _, spoilt, where = tables(0)
    configs = [
        plain_config(
            model=Dense(hidden=(32, 4)), train=Train(epochs=15, learning_rate=3e-3, seed=seed)
        )
        for seed in range(2)
    ]
    ensemble = aejax.fit_population(configs, x).ensemble(x)
    named = ensemble.explain_rows(spoilt, top=WRONG)[1]
    assert np.mean([set(a) == set(b) for a, b in zip(named, where, strict=True)]) >= 0.9
    reason = ensemble.explain(spoilt[:1], top=1)[0][0]
    assert reason.usual == pytest.approx(
        ensemble.usual_errors[int(reason.feature[8:-1])]  # type: ignore[index]
    )


@pytest.mark.parametrize("score", ["residual-distance", "latent-distance"])
def test_distances_are_those_of_scikit_learn(score: str) -> None:
    x, test, spoilt, _ = tables(2)
    train = Train(epochs=10, batch_size=256, validation_fraction=0.0)
    config = plain_config(model=Dense(hidden=(16, 6)), train=train, score=score)
    detector = aejax.fit(config, x)

    def values(rows: np.ndarray) -> np.ndarray:
        if score == "latent-distance":
            return detector.encode(rows).astype(np.float64)
        scaled, found = detector.reconstruct(rows)
        return (scaled - found).astype(np.float64)

    reference = LedoitWolf().fit(values(x))
    for rows in (test, spoilt):
        expected = reference.mahalanobis(values(rows)) / values(rows).shape[1]
        np.testing.assert_allclose(detector.score(rows), expected, rtol=2e-3)


def test_both_distances_are_half_their_sum() -> None:
    x, test, _, _ = tables(3)
    model, train = Dense(hidden=(16, 6)), Train(epochs=5, batch_size=256)
    found = {
        score: aejax.fit(plain_config(model=model, train=train, score=score), x).score(test)
        for score in ("residual-distance", "latent-distance", "residual-and-latent-distance")
    }
    expected = FEATURES * found["residual-distance"] + 6 * found["latent-distance"]
    np.testing.assert_allclose(found["residual-and-latent-distance"], expected / 2, rtol=1e-4)


def test_a_distance_sees_what_the_mean_error_overlooks() -> None:
    """Two features whose noise has the same sign in normal rows, and the other one in odd rows."""
    x, test, _, _ = tables(4)
    random = np.random.default_rng(0)
    for rows in (x, test):
        rows[:, :2] += random.normal(size=(len(rows), 1)).astype(np.float32)
    odd = test.copy()
    odd[:, 0] += 0.8
    odd[:, 1] -= 0.8
    labels = np.repeat([0, 1], len(test))
    found = {}
    for score in ("error", "residual-distance"):
        model = Dense(hidden=(4,), activation="linear")
        config = plain_config(model=model, train=TRAIN, score=score)
        detector = aejax.fit(config, x)
        found[score] = roc_auc_score(labels, np.r_[detector.score(test), detector.score(odd)])
    assert found["residual-distance"] > found["error"]


def test_what_was_learnt_is_saved(tmp_path: Path) -> None:
    x, test, spoilt, _ = tables(5)
    config = plain_config(
        model=Dense(hidden=(8, 4)), train=Train(epochs=2), score="residual-and-latent-distance"
    )
    detector = aejax.fit(config, x)
    detector.save(tmp_path)
    loaded = aejax.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(test), detector.score(test))
    assert loaded.explain(spoilt[:3]) == detector.explain(spoilt[:3])
    assert loaded.fingerprint == detector.fingerprint


def test_too_many_values_for_a_distance_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(40, 4100)).astype(np.float32)
    config = plain_config(
        model=Dense(hidden=(2,)), train=Train(epochs=1), score="residual-distance"
    )
    with pytest.raises(InputError, match=r"a distance of 4100 values .* allowed: at most 4096"):
        aejax.fit(config, x)


def test_a_feature_without_errors_does_not_divide_by_zero() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 6)).astype(np.float32)
    x[:, 5] = 0
    detector = aejax.fit(plain_config(train=Train(epochs=2)), x)
    assert np.isfinite(detector.explain_rows(x, top=6)[2]).all()
    assert (detector.usual_errors > 0).all()  # type: ignore[operator]

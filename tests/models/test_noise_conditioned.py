"""The network that is given the noise's level, and its score, against NumPy in float64."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

import aejax
from aejax.config import Dense, InputError, NoiseConditioned, Scale, Train
from aejax.core import objectives, optimizers
from aejax.core.objectives import Fed
from aejax.data.schema import Schema
from aejax.models.build import build
from aejax.row_scores.noise_levels import levels_of, noise_of
from aejax.row_scores.norm import NoiseLevelsAndNorm
from tests.plain import plain_config
from tests.row_scores import in_float64

SHAPE = (2, 3)
MODEL = NoiseConditioned(
    network=Dense(hidden=(7, 5), decoder=(6,), activation="tanh"), lowest=0.1, highest=2.0, levels=4
)
TABLE = NoiseConditioned(network=Dense(hidden=(8, 8), decoder=()), levels=3)
QUICK = Train(epochs=2, batch_size=32, validation_fraction=0.0)


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def variables_of(model: NoiseConditioned, shape: tuple[int, ...]) -> dict[str, Any]:
    """Parameters with biases that are not 0."""
    made = build(model, Schema(shape=shape)).init(jax.random.key(0), shape)
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: np.float32(random.normal(scale=0.5, size=leaf.shape)), made)


def denoised(variables: Any, noisy: np.ndarray, level: Any) -> np.ndarray:
    """What the network gives for float64 [B, ...], layer by layer."""
    layers = variables["params"]["network"]
    level = np.broadcast_to(level, noisy.shape[:1])
    x = np.column_stack([noisy.reshape(len(noisy), -1), level, np.log(level)])
    for name in ("encoder_layers_0", "encoder_layers_1", "decoder_layers_0", "output_layer"):
        if name in layers:
            x = x @ np.float64(layers[name]["kernel"]) + np.float64(layers[name]["bias"])
            x = x if name == "output_layer" else np.tanh(x)
    return x.reshape(noisy.shape)


def test_every_row_is_restored_by_its_own_level() -> None:
    x, variables = np.random.default_rng(2).normal(size=(5, *SHAPE)), variables_of(MODEL, SHAPE)
    level = np.array([0.1, 0.2, 0.5, 1.0, 2.0])
    network = build(MODEL, Schema(shape=SHAPE))
    restored = network.call("denoise", variables, np.float32(x), np.float32(level))
    np.testing.assert_allclose(restored, denoised(variables, x, level), rtol=1e-5, atol=1e-5)
    plain = network.apply(variables, np.float32(x))
    np.testing.assert_allclose(plain, denoised(variables, x, 0.1), rtol=1e-5, atol=1e-5)
    again = network.decode(variables, network.encode(variables, np.float32(x)))
    np.testing.assert_array_equal(again, plain)


def test_training_minimises_the_error_over_all_levels() -> None:
    """The mean of many draws is the integral over noise and the logarithm of the level."""
    variables, count = variables_of(MODEL, SHAPE), 40_000
    network = build(MODEL, Schema(shape=SHAPE))
    row = np.random.default_rng(3).normal(size=SHAPE)
    fed = Fed(
        x=jnp.broadcast_to(jnp.float32(row), (count, *SHAPE)),
        target=None,
        mask=jnp.ones(count, bool),
        key=jax.random.key(3),
        values=optimizers.numbers(plain_config(model=MODEL), 1),
    )
    objective = objectives.objective_of(plain_config(model=MODEL))
    losses, changed = objectives.row_losses(objective, network, variables, fed, train=True)
    assert changed == {}
    random = np.random.default_rng(4)
    level = np.exp(random.uniform(np.log(0.1), np.log(2.0), count))
    noisy = row + level[:, None, None] * random.normal(size=(count, *SHAPE))
    expected = np.square(denoised(variables, noisy, level) - row).mean((1, 2))
    for share in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(
            np.quantile(losses, share), np.quantile(expected, share), rtol=0.03
        )
    np.testing.assert_allclose(np.mean(losses), expected.mean(), rtol=0.03)


@pytest.mark.parametrize("error", ["squared", "absolute"])
def test_the_score_is_the_mean_over_levels_of_one_noise(error: Any) -> None:
    x, model = rows(90), dataclasses.replace(MODEL, levels=3)
    config = plain_config(
        model=model, scale=Scale(kind="none"), train=QUICK, score="noise-levels", error=error
    )
    detector = aejax.fit(config, x)
    level, noise = np.float64(levels_of(0.1, 2.0, 3)), np.float64(noise_of(3, (4,)))
    np.testing.assert_allclose(level, [0.1, np.sqrt(0.2), 2.0], rtol=1e-6)
    each = []
    for one, added in zip(level, noise, strict=True):
        for sign in (1, -1):
            restored = denoised(detector.variables, x + sign * one * added, one)
            gap = abs(x - restored)
            each.append((gap if error == "absolute" else gap**2).mean(axis=1))
    np.testing.assert_allclose(detector.score(x), np.mean(each, axis=0), rtol=1e-4)


def closest(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the six tenths that lie closest together, in float64."""
    distance = np.square(rows).mean(axis=1)
    for _ in range(4):
        core = rows[np.argsort(distance, kind="stable")[: round(0.6 * len(rows))]]
        mean, covariance = core.mean(axis=0), LedoitWolf().fit(core).covariance_
        covariance += np.eye(len(mean)) * 1e-3 * np.trace(covariance) / len(mean)
        distance = mahalanobis(rows, mean, covariance)
    return mean, covariance


def mahalanobis(rows: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    centred = rows - mean
    return np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1) / rows.shape[1]


def test_the_norm_and_the_distance_from_the_middle_join_by_a_geometric_mean() -> None:
    x = rows(90)
    x[0] *= 9
    config = plain_config(model=TABLE, train=QUICK, score="noise-levels")
    levels = aejax.fit(config, x).score(x)
    detector = aejax.fit(dataclasses.replace(config, score="noise-levels-and-norm"), x)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    assert np.abs(scaled).max() > 3
    cut = np.float64(scaled.clip(-3, 3))
    expected = np.cbrt(levels * np.square(cut).mean(axis=1) * mahalanobis(cut, *closest(cut)))
    np.testing.assert_allclose(detector.score(x), expected, rtol=1e-4)
    assert np.isfinite(detector.score(np.full((1, 4), 1e15, np.float32))).all()


def test_anomalies_among_the_rows_do_not_move_the_middle() -> None:
    """A third of them beside each other: the plain covariance would take them for normal."""
    random = np.random.default_rng(0)
    normal = random.normal(size=(200, 6)) @ random.normal(size=(6, 6))
    x = np.concatenate([normal, 0.3 * random.normal(size=(90, 6)) + 2.5]).astype(np.float32)
    labels = np.repeat([0, 1], [200, 90])
    known = SimpleNamespace(rows=x, training=lambda most: x[:most])
    learnt = NoiseLevelsAndNorm().learn(known)
    far = np.square((x.clip(-3, 3) - learnt["mean"]) @ learnt["whitening"]).mean(axis=1)
    plain = mahalanobis(x, x.mean(axis=0), np.cov(x.T))
    assert roc_auc_score(labels, far) > 0.9 > roc_auc_score(labels, plain)


def test_rows_of_very_many_values_have_their_norm_alone() -> None:
    wide = SimpleNamespace(rows=np.zeros((3, 1025), np.float32))
    assert NoiseLevelsAndNorm().learn(wide) == {}


def test_a_score_depends_on_the_row_only() -> None:
    x = rows(300)
    detector = aejax.fit(plain_config(model=TABLE, train=QUICK, score="noise-levels"), x)
    scores = detector.score(x)
    order = np.random.default_rng(5).permutation(300)[:37]
    np.testing.assert_allclose(detector.score(x[order]), scores[order], rtol=1e-5)
    np.testing.assert_allclose(detector.score(x[:1]), scores[:1], rtol=1e-5)


def test_it_is_saved_exported_and_read_again(tmp_path: Path) -> None:
    x = rows(120)
    detector = aejax.fit(plain_config(model=TABLE, train=QUICK, score="noise-levels"), x)
    detector.save(tmp_path / "saved")
    np.testing.assert_array_equal(aejax.load(tmp_path / "saved").score(x), detector.score(x))
    assert aejax.export(detector, tmp_path / "out")["parity"]["scorer"] <= 1e-6
    np.save(tmp_path / "rows.npy", x)
    aejax.score_files(detector, tmp_path / "rows.npy", tmp_path / "scores", part_rows=50)
    of_files = pq.read_table(tmp_path / "scores")["score"].to_numpy()
    np.testing.assert_allclose(of_files, detector.score(x), rtol=1e-5)
    np.testing.assert_allclose(aejax.load(tmp_path / "out").score(x), detector.score(x), rtol=1e-5)


def test_ensembles_and_groups_score_as_their_members(tmp_path: Path) -> None:
    x = rows(200)
    config = plain_config(model=TABLE, train=QUICK, score="noise-levels")
    seeds = [dataclasses.replace(config, train=dataclasses.replace(QUICK, seed=s)) for s in (0, 1)]
    population = aejax.fit_population(seeds, x)
    each = [one.score(x) for one in population.detectors if one is not None]
    assert len(each) == 2
    assert not np.allclose(each[0], each[1])
    together = population.ensemble(x)
    np.testing.assert_allclose(together.score(x), np.mean(each, axis=0), rtol=1e-5)

    keys = np.repeat(["a", "b"], 100)
    groups = aejax.fit(config, x, groups=keys)
    of_b = groups.score(x, groups=keys)[keys == "b"]
    np.testing.assert_allclose(of_b, groups.member("b").score(x[keys == "b"]), rtol=1e-5)
    groups.save(tmp_path / "groups")
    np.testing.assert_array_equal(
        aejax.load(tmp_path / "groups").score(x, groups=keys), groups.score(x, groups=keys)
    )


def test_neighbours_join_by_a_geometric_mean(tmp_path: Path) -> None:
    x = rows(200)
    train, new = x[:150], x[150:]
    levels = plain_config(model=TABLE, train=QUICK, score="noise-levels")
    both = dataclasses.replace(levels, score="noise-levels-and-neighbours")
    alone, detector = (aejax.fit(config, train) for config in (levels, both))
    mean, deviation = train.mean(axis=0, dtype=float), train.std(axis=0, dtype=float)
    scaled, kept = (new - mean) / deviation, (train - mean) / deviation
    assert np.abs(kept).max() < 4
    apart = in_float64.distance(kept, scaled.clip(-4, 4))
    expected = in_float64.joined(alone.score(new), apart)
    np.testing.assert_allclose(detector.score(new), expected, rtol=1e-4)
    detector.save(tmp_path / "saved")
    np.testing.assert_array_equal(aejax.load(tmp_path / "saved").score(new), detector.score(new))
    assert aejax.export(detector, tmp_path / "out")["parity"]["scorer"] <= 1e-6
    keys = np.repeat(["a", "b"], 75)
    groups = aejax.fit(both, train, groups=keys)
    of_a = groups.score(new, groups=np.repeat("a", 50))
    np.testing.assert_allclose(of_a, groups.member("a").score(new), rtol=1e-5)


def test_it_learns_the_normal_rows() -> None:
    """Rows on a curve are restored from noise better than rows off it."""
    random = np.random.default_rng(6)
    angle = random.uniform(0, 2 * np.pi, 400)
    ring = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    off = random.uniform(-0.4, 0.4, (100, 2)).astype(np.float32)
    train = Train(epochs=150, optimizer="adamw", learning_rate=2e-3, validation_fraction=0.0)
    model = NoiseConditioned(network=Dense(hidden=(64, 64), decoder=()), highest=0.5)
    detector = aejax.fit(plain_config(model=model, train=train, score="noise-levels"), ring)
    inside, on = detector.score(off), detector.score(ring)
    assert np.median(inside) > 2 * np.median(on)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="'noise-levels'; allowed: with a noise-conditioned model"):
        plain_config(score="noise-levels")
    with pytest.raises(InputError, match=r"Config.model is 'NoiseConditioned'; allowed with col"):
        plain_config(model=TABLE, columns=aejax.Columns(kinds="mixed"))


def test_it_is_exported_for_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    detector = aejax.fit(plain_config(model=TABLE, train=QUICK, score="noise-levels"), rows(120))
    parity = aejax.export(detector, tmp_path / "out", formats="onnx")["parity"]
    assert parity["onnx"] <= 1e-5


def test_it_minimises_the_loss_that_is_named() -> None:
    """Of the same draws, so that only what is made of the differences can differ."""
    variables, network = variables_of(MODEL, SHAPE), build(MODEL, Schema(shape=SHAPE))
    fed = Fed(
        x=jnp.float32(np.random.default_rng(6).normal(size=(50, *SHAPE))),
        target=None,
        mask=jnp.ones(50, bool),
        key=jax.random.key(6),
        values=optimizers.numbers(plain_config(model=MODEL), 1),
    )

    def losses(loss: Any) -> np.ndarray:
        objective = objectives.objective_of(plain_config(model=MODEL, train=Train(loss=loss)))
        found, _ = objectives.row_losses(objective, network, variables, fed, train=True)
        return np.asarray(found)

    gaps = losses(lambda target, output: jnp.max(jnp.abs(target - output), axis=(1, 2)))
    assert np.all(losses("absolute") < gaps)
    assert np.all(losses("absolute") ** 2 < losses("squared"))
    assert np.all(losses("squared") < gaps**2)

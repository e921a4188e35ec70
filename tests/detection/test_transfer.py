"""Encoders put into classifiers, frozen layers, and the published learning rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from aejax.config import Classifier, Conv, Dense, InputError, Scale, Train, Variational
from aejax.core import optimizers, steps
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.fitting import fit
from aejax.detection.loading import load
from aejax.detection.population import fit_population
from aejax.detection.transfer import encoder_layers, encoder_of
from tests.plain import plain_config

SCHEMA = Schema(shape=(12,))
DENSE = Dense(hidden=(8, 4), output="sigmoid", batch_norm=True)


def rows(count: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Rows float32 [count, 12] in [0, 1] of three classes."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=count)
    centres = random.uniform(0.2, 0.8, size=(3, 12))
    return np.float32(centres[labels] + random.normal(scale=0.05, size=(count, 12))), labels


def short(**changes: Any) -> Train:
    return Train(epochs=2, batch_size=32, validation_fraction=0.0, **changes)


@pytest.fixture(scope="module")
def autoencoder() -> Detector:
    return fit(plain_config(model=DENSE, scale=Scale(kind="none"), train=short()), rows()[0])


def leaves(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every array by its path."""
    found = jax.tree_util.tree_leaves_with_path(variables)
    return {"/".join(str(p.key) for p in path): np.asarray(leaf) for path, leaf in found}


def test_encoder_is_the_trained_one_and_the_rest_is_fresh(
    autoencoder: Detector, tmp_path: Path
) -> None:
    autoencoder.save(tmp_path / "detector")
    model = Classifier(network=DENSE, classes=3)
    found = leaves(encoder_of(load(tmp_path / "detector"), model, SCHEMA, 5))
    trained = leaves(autoencoder.variables)
    fresh = leaves(steps.new_variables(_module(model), SCHEMA.shape, 5))
    assert found.keys() == fresh.keys()
    encoder = {name for name in found if "/encoder_" in name}
    assert {
        "params/network/encoder_layers_1/kernel",
        "batch_stats/network/encoder_norms_0/mean",
    } <= (encoder)
    for name in found:
        if name in encoder:
            wanted = trained[name.replace("/network/", "/")]
            np.testing.assert_array_equal(found[name], wanted)
        else:
            np.testing.assert_array_equal(found[name], fresh[name])
    # A statistic that was never touched would say nothing.
    assert np.any(found["batch_stats/network/encoder_norms_0/mean"] != 0)


def _module(model: Classifier) -> Any:
    from aejax.models.build import build

    return build(model, SCHEMA)


def test_a_classifier_sees_what_the_autoencoder_encodes(autoencoder: Detector) -> None:
    x, labels = rows()
    model = Classifier(network=DENSE, classes=3)
    initial = encoder_of(autoencoder, model, SCHEMA, 0)
    config = plain_config(
        model=model, scale=Scale(kind="none"), train=short(frozen=encoder_layers(model))
    )
    detector = fit(config, x, labels=labels, initial=initial)
    np.testing.assert_allclose(detector.encode(x), autoencoder.encode(x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("lowest", [1, 2])
def test_frozen_layers_stay_bit_by_bit(autoencoder: Detector, lowest: int) -> None:
    x, labels = rows()
    model = Classifier(network=DENSE, classes=3)
    initial = encoder_of(autoencoder, model, SCHEMA, 0)
    # A negative zero is lost where an update of 0 is added to it.
    kernel = initial["params"]["network"]["encoder_layers_0"]["kernel"].copy()
    kernel[0, 0] = -0.0
    initial["params"]["network"]["encoder_layers_0"]["kernel"] = kernel
    before = {name: leaf.tobytes() for name, leaf in leaves(initial).items()}
    frozen = encoder_layers(model, lowest)
    config = plain_config(
        model=model,
        scale=Scale(kind="none"),
        train=short(frozen=frozen, optimizer="adamw", weight_decay=0.1, clip_norm=1.0),
    )
    after = leaves(fit(config, x, labels=labels, initial=initial).variables)
    kept = {name for name in before if any(start in name for start in frozen)}
    # Each level: kernel, bias, and scale, bias, mean and variance of its normalisation.
    assert len(kept) == 6 * lowest
    for name in before:
        assert (after[name].tobytes() == before[name]) == (name in kept), name
    # The caller's own are as they were.
    assert {name: leaf.tobytes() for name, leaf in leaves(initial).items()} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "model"),
    [
        (Dense(hidden=(6, 3), output="sigmoid"), None),
        (Dense(hidden=(6, 3), output="sigmoid"), Variational),
        (Conv(channels=(3, 2), down="pool", batch_norm=True), None),
        (Conv(channels=(3, 2)), Variational),
    ],
)
def test_every_kind_of_encoder_fits(network: Dense | Conv, model: Any) -> None:
    random = np.random.default_rng(1)
    x = random.uniform(size=(40, 8, 8, 1)).astype(np.float32)
    whole = network if model is None else Variational(network=network, latent=2)
    trained = fit(plain_config(model=whole, scale=Scale(kind="none"), train=short()), x)
    classifier = Classifier(network=network, classes=2)
    found = leaves(encoder_of(trained, classifier, trained.schema, 0))
    own = leaves(trained.variables)
    count = 0
    for name, leaf in found.items():
        if "/encoder_" in name:
            source = name if model is not None else name.replace("/network/", "/")
            np.testing.assert_array_equal(leaf, own[source])
            count += 1
    assert count == len([name for name in own if "/encoder_" in name])


def test_what_does_not_fit_is_named(autoencoder: Detector) -> None:
    def refused(network: Dense | Conv, schema: Schema = SCHEMA) -> str:
        with pytest.raises(InputError) as caught:
            encoder_of(autoencoder, Classifier(network=network), schema, 0)
        message = str(caught.value)
        assert "\n" not in message
        return message

    wider = refused(dataclasses.replace(DENSE, hidden=(8, 5)))
    assert "encoder_layers_1" in wider
    assert "params" in wider
    assert "[4]" in wider
    assert "[5]" in wider
    assert "[12, 8]" in refused(DENSE, Schema(shape=(13,)))
    deeper = refused(dataclasses.replace(DENSE, hidden=(8, 4, 2)))
    assert "encoder_layers_2" in deeper or "encoder_norms_2" in deeper
    image = Schema(shape=(4, 4, 1), kind="image")
    assert "encoder_" in refused(Conv(channels=(2,), batch_norm=True), image)


def test_an_encoder_without_the_layers_is_refused() -> None:
    plain = fit(
        plain_config(model=Dense(hidden=(8, 4)), scale=Scale(kind="none"), train=short()), rows()[0]
    )
    with pytest.raises(InputError, match=r"encoder_norms_0.* is not in the trained encoder"):
        encoder_of(plain, Classifier(network=DENSE), SCHEMA, 0)


def test_an_ensemble_is_refused() -> None:
    x, _ = rows()
    config = plain_config(model=Dense(hidden=(4,)), scale=Scale(kind="none"), train=short())
    both = [dataclasses.replace(config, train=short(seed=seed)) for seed in (0, 1)]
    ensemble = fit_population(both, x).ensemble(x)
    with pytest.raises(InputError, match="ensemble of 2"):
        encoder_of(ensemble, Classifier(network=Dense(hidden=(4,))), SCHEMA, 0)


@pytest.mark.parametrize("per_epoch", [1, 8])
def test_rise_and_fall_is_the_published_learning_rate(per_epoch: int) -> None:
    """0.00002 to 0.002 over the first 100 of 800 epochs, then down to 0.0002: all linear."""
    epochs = 800
    train = Train(epochs=epochs, learning_rate=0.002, schedule="rise-and-fall")
    values = optimizers.numbers(plain_config(train=train), epochs * per_epoch)
    rate = jax.vmap(optimizers.learning_rate("rise-and-fall", values))
    step = np.arange(epochs * per_epoch + 1)
    epoch = step.astype(np.float64) / per_epoch
    published = np.interp(epoch, [0, 100, 800], [0.00002, 0.002, 0.0002])
    found = np.asarray(rate(step.astype(np.float32)))
    np.testing.assert_allclose(found, published, rtol=2e-5)
    np.testing.assert_allclose(found[[0, 100 * per_epoch, -1]], [2e-5, 2e-3, 2e-4], rtol=1e-6)


def test_rise_and_fall_is_what_training_uses() -> None:
    x, labels = rows(32)
    train = Train(
        epochs=80,
        batch_size=32,
        learning_rate=0.002,
        schedule="rise-and-fall",
        validation_fraction=0.0,
    )
    config = plain_config(model=Classifier(network=Dense(hidden=(4,)), classes=3), train=train)
    history = fit(config, x, labels=labels).history
    found = [row["learning_rate"] for row in history]
    published = np.interp(np.arange(80) * 10, [0, 100, 800], [0.00002, 0.002, 0.0002])
    np.testing.assert_allclose(found, published, rtol=2e-5)

"""The classifier against NumPy in float64: values, gradients, scores."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.config import Classifier, Conv, Dense, Scale, Train
from aejax.core import objectives, optimizers
from aejax.core.objectives import Fed
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.fitting import fit
from aejax.models.build import build
from tests.plain import plain_config

ROWS, FEATURES, CLASSES = 7, 6, 3
SCHEMA = Schema(shape=(FEATURES,))
MODEL = Classifier(network=Dense(hidden=(5, 4), activation="tanh"), classes=CLASSES)
Layers = list[tuple[np.ndarray, np.ndarray]]


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Rows float64 and their classes."""
    random = np.random.default_rng(0)
    return random.normal(size=(ROWS, FEATURES)), random.integers(CLASSES, size=ROWS)


def variables_of(model: Classifier, schema: Schema = SCHEMA) -> dict[str, Any]:
    """Parameters with biases that are not 0."""
    module = build(model, schema).module
    made = module.init(jax.random.key(0), jnp.zeros((1, *schema.shape)))["params"]
    leaves, tree = jax.tree.flatten(made)
    random = np.random.default_rng(1)
    drawn = [np.float32(random.normal(scale=0.5, size=leaf.shape)) for leaf in leaves]
    return {"params": jax.tree.unflatten(tree, drawn)}


def layers_of(params: Any) -> Layers:
    """Kernels and biases in float64, from the input to the logits."""
    named = [params["network"][f"encoder_layers_{index}"] for index in range(2)] + [params["head"]]
    return [(np.float64(layer["kernel"]), np.float64(layer["bias"])) for layer in named]


def logits_of(layers: Layers, x: np.ndarray) -> list[np.ndarray]:
    """The input, both hidden states and the logits, in float64."""
    states = [x]
    for index, (kernel, bias) in enumerate(layers):
        y = states[-1] @ kernel + bias
        states.append(np.tanh(y) if index < 2 else y)
    return states


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def fed(x: np.ndarray, labels: np.ndarray) -> Fed:
    values = optimizers.numbers(plain_config(), 1)
    mask = jnp.ones(len(x), bool)
    return Fed(jnp.float32(x), jnp.int32(labels), mask, jax.random.key(0), values)


def test_logits_and_states_are_numpys() -> None:
    x, _ = inputs()
    variables = variables_of(MODEL)
    expected = logits_of(layers_of(variables["params"]), x)
    module = build(MODEL, SCHEMA).module
    logits, kept = module.apply(variables, jnp.float32(x), mutable=["states"])
    np.testing.assert_allclose(logits, expected[-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        module.apply(variables, jnp.float32(x), method="encode"), expected[-2], rtol=1e-5, atol=1e-5
    )
    states = dict(kept)["states"]["network"]
    for index in range(2):
        (found,) = states[f"encoder_{index}"]
        np.testing.assert_allclose(found, expected[1 + index], rtol=1e-5, atol=1e-5)


def test_loss_is_the_cross_entropy_and_its_gradient_numpys() -> None:
    """Every gradient by the chain rule in float64."""
    x, labels = inputs()
    variables = variables_of(MODEL)
    objective = objectives.objective_of(plain_config(model=MODEL))
    network = build(MODEL, SCHEMA)

    def mean_loss(params: Any) -> jax.Array:
        losses, _ = objectives.row_losses(
            objective, network, {"params": params}, fed(x, labels), train=True
        )
        return jnp.mean(losses)

    loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(variables["params"])
    layers = layers_of(variables["params"])
    states = logits_of(layers, x)
    np.testing.assert_allclose(loss, cross_entropies(states[-1], labels).mean(), rtol=1e-5)
    shifted = np.exp(states[-1] - states[-1].max(axis=1, keepdims=True))
    back = shifted / shifted.sum(axis=1, keepdims=True)
    back[np.arange(ROWS), labels] -= 1
    back /= ROWS
    found = layers_of(gradient)
    for index in (2, 1, 0):
        np.testing.assert_allclose(found[index][0], states[index].T @ back, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found[index][1], back.sum(axis=0), rtol=1e-4, atol=1e-6)
        back = back @ layers[index][0].T * (1 - np.square(states[index]))


def test_gradient_of_a_convolutional_classifier_by_differences() -> None:
    schema = Schema(shape=(4, 4, 1), kind="image")
    model = Classifier(
        network=Conv(channels=(2, 3), activation="tanh", batch_norm=False), classes=3
    )
    network, variables = build(model, schema), variables_of(model, schema)
    random = np.random.default_rng(2)
    x, labels = random.normal(size=(5, 4, 4, 1)), random.integers(3, size=5)
    objective = objectives.objective_of(plain_config(model=model))

    def mean_loss(params: Any) -> jax.Array:
        losses, _ = objectives.row_losses(
            objective, network, {"params": params}, fed(x, labels), train=True
        )
        return jnp.mean(losses)

    loss = jax.jit(mean_loss)
    gradient = jax.jit(jax.grad(mean_loss))(variables["params"])
    direction = jax.tree.map(
        lambda leaf: np.float32(random.normal(size=leaf.shape)), variables["params"]
    )
    # Wide enough that float32's rounding drowns, narrow enough for a central difference.
    width = 0.02

    def moved(by: float) -> float:
        shifted = jax.tree.map(lambda a, b: a + by * b, variables["params"], direction)
        return float(loss(shifted))

    slope = (moved(width) - moved(-width)) / (2 * width)
    along = sum(
        float(np.vdot(a, b))
        for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    assert abs(along) > 0.05
    np.testing.assert_allclose(along, slope, rtol=0.02)


def detector_of(classes: int) -> tuple[Detector, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    labels = random.integers(classes, size=120)
    x = np.float32(random.normal(size=(120, FEATURES)) + 2 * labels[:, None])
    config = plain_config(
        model=Classifier(network=Dense(hidden=(8,)), classes=classes),
        scale=Scale(kind="standard"),
        train=Train(epochs=40, batch_size=32, learning_rate=0.01),
    )
    return fit(config, x, labels=labels), x, labels


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_log_odds_of_two_classes_and_distrust_of_more(classes: int) -> None:
    detector, x, labels = detector_of(classes)
    probabilities = detector.classify(x)
    assert probabilities.shape == (120, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.9
    scores = detector.score(x)
    if classes == 2:
        odds = np.float64(probabilities)
        np.testing.assert_allclose(scores, np.log(odds[:, 1] / odds[:, 0]), rtol=1e-3, atol=1e-3)
    else:
        np.testing.assert_allclose(scores, 1 - probabilities.max(axis=1), rtol=1e-4, atol=1e-6)


def test_a_classifier_is_named_by_logistic_regression_too() -> None:
    """A network that learned the same rows agrees with scikit-learn's linear one on most."""
    from sklearn.linear_model import LogisticRegression

    detector, x, labels = detector_of(3)
    linear = LogisticRegression(max_iter=1000).fit(x, labels).predict(x)
    assert np.mean(detector.classify(x).argmax(axis=1) == linear) > 0.9

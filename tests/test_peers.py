"""Scores, losses and a training step beside PyTorch, Keras and PyOD: `scripts/test.sh peers`."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aejax
from tests.plain import plain_config

WIDTHS = (6, 5, 2, 5, 6)
LEARNING_RATE = 1e-2
RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(64, WIDTHS[0])).astype(np.float32)
WEIGHTS = [
    (
        RANDOM.normal(scale=0.6, size=(before, after)).astype(np.float32),
        RANDOM.normal(scale=0.1, size=after).astype(np.float32),
    )
    for before, after in itertools.pairwise(WIDTHS)
]


def network_of(weights: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Any, dict[str, Any]]:
    """A network with ReLU between dense layers, and its variables."""
    params = {f"{at}": {"kernel": k, "bias": b} for at, (k, b) in enumerate(weights)}

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        for at in range(len(weights)):
            x = x @ variables["params"][f"{at}"]["kernel"] + variables["params"][f"{at}"]["bias"]
            x = jax.nn.relu(x) if at + 1 < len(weights) else x
        return x

    return aejax.network(lambda key, shape: {"params": params}, apply), {"params": params}


def scores_of(weights: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> np.ndarray:
    network, variables = network_of(weights)
    config = plain_config(scale=aejax.Scale(kind="none"))
    detector = aejax.Detector.of(network, variables, x_normal=rows, config=config)
    return detector.score(rows)


def step(epsilon: float) -> tuple[float, list[np.ndarray]]:
    """The loss before a step with Adam, and the weights after it."""
    network, variables = network_of(WEIGHTS)
    optimizer = optax.adam(LEARNING_RATE, eps=epsilon)
    state = aejax.train_state(network, optimizer, jax.random.key(0), (WIDTHS[0],))
    state, metrics = jax.jit(aejax.train_step(network, "squared", optimizer))(
        state._replace(variables=variables), jnp.asarray(ROWS)
    )
    after = state.variables["params"]
    found = [
        np.asarray(after[f"{at}"][k]) for at in range(len(WEIGHTS)) for k in ("kernel", "bias")
    ]
    return float(metrics["loss"]), found


def test_beside_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="the extra peers is not installed")
    layers: list[Any] = []
    for kernel, bias in WEIGHTS:
        linear = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(kernel.T))
            linear.bias.copy_(torch.tensor(bias))
        layers += [linear, torch.nn.ReLU()]
    model, rows = torch.nn.Sequential(*layers[:-1]), torch.tensor(ROWS)
    with torch.no_grad():
        expected = ((model(rows) - rows) ** 2).mean(dim=1).numpy()
    np.testing.assert_allclose(scores_of(WEIGHTS, ROWS), expected, rtol=1e-5)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=1e-7)
    loss = torch.nn.functional.mse_loss(model(rows), rows)
    loss.backward()
    optimizer.step()
    found, weights = step(1e-7)
    assert found == pytest.approx(loss.item(), rel=1e-6)
    for ours, theirs in zip(weights, model.parameters(), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy().T, atol=1e-5)


def test_beside_keras() -> None:
    keras = pytest.importorskip("keras", reason="the extra peers is not installed")
    layers = [keras.layers.Dense(width, activation="relu") for width in WIDTHS[1:-1]]
    model = keras.Sequential([keras.Input(WIDTHS[:1]), *layers, keras.layers.Dense(WIDTHS[-1])])
    model.set_weights([array for pair in WEIGHTS for array in pair])
    expected = np.square(model.predict(ROWS, verbose=0) - ROWS).mean(axis=1)
    np.testing.assert_allclose(scores_of(WEIGHTS, ROWS), expected, rtol=1e-5)
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss="mse")
    loss = float(model.train_on_batch(ROWS, ROWS))
    # Keras adds its epsilon, 1e-7, before the variance's bias is corrected.
    found, weights = step(1e-7 / np.sqrt(1 - 0.999))
    assert found == pytest.approx(loss, rel=1e-6)
    for ours, theirs in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_beside_pyod() -> None:
    """PyOD's score is the distance, ours the mean square: distance ** 2 / features."""
    module = pytest.importorskip("pyod.models.auto_encoder", reason="PyOD is not installed")
    torch = pytest.importorskip("torch", reason="the extra peers is not installed")
    model = module.AutoEncoder(
        hidden_neuron_list=[5, 2], epoch_num=2, preprocessing=False, batch_norm=False, verbose=0
    ).fit(ROWS)
    linear = [part for part in model.model.modules() if isinstance(part, torch.nn.Linear)]
    weights = [
        (part.weight.detach().numpy().T.copy(), part.bias.detach().numpy()) for part in linear
    ]
    assert [kernel.shape[1] for kernel, _ in weights] == list(WIDTHS[1:])
    expected = np.square(model.decision_function(ROWS)) / WIDTHS[0]
    np.testing.assert_allclose(scores_of(weights, ROWS), expected, rtol=1e-4)

"""The temporal network against NumPy in float64 and Flax's convolutions, and through a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import aejax
from aejax.config import InputError, Temporal, Window
from aejax.data.schema import Schema
from aejax.models.build import build
from aejax.models.temporal import SeriesConv
from tests.plain import plain_config

LENGTH = 11
SCHEMA = Schema(shape=(LENGTH, 2))
MODEL = Temporal(channels=(3, 4), kernel=3, latent=2, pool=4, activation="tanh")


def convolve(x: np.ndarray, layer: dict[str, np.ndarray], dilation: int) -> np.ndarray:
    """A convolution with zeros around, point by point of the kernel."""
    size = len(layer["kernel"])
    far = dilation * (size // 2)
    padded = np.pad(x, ((0, 0), (far, far), (0, 0)))
    places = range(0, size * dilation, dilation)
    moved = [padded[:, first : first + x.shape[1]] for first in places]
    return sum(a @ b for a, b in zip(moved, layer["kernel"], strict=True)) + layer["bias"]


def test_values_are_numpys_in_float64() -> None:
    x = np.random.default_rng(0).normal(size=(5, LENGTH, 2))
    module = build(MODEL, SCHEMA).module
    random = np.random.default_rng(1)
    made = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, LENGTH, 2)))["params"]
    params = jax.tree.map(lambda leaf: np.float32(random.normal(size=leaf.shape)), made)

    y = x
    for index in (0, 1):
        y = np.tanh(convolve(y, params[f"encoder_layers_{index}"], 2**index))
    y = convolve(y, params["latent_layer"], 1)
    latent = np.stack([y[:, first : first + 4].mean(axis=1) for first in (0, 4, 8)], axis=1)
    y = latent.repeat(4, axis=1)[:, :LENGTH]
    for index in (0, 1):
        y = np.tanh(convolve(y, params[f"decoder_layers_{index}"], 2 ** (1 - index)))
    expected = convolve(y, params["output_layer"], 1)

    own = {"params": params}
    found = module.apply(own, np.float32(x), method="encode")
    np.testing.assert_allclose(found, latent, atol=2e-6)
    np.testing.assert_allclose(jax.jit(module.apply)(own, np.float32(x)), expected, atol=5e-6)


@pytest.mark.parametrize(("channels", "features", "dilation"), [(2, 4, 3), (5, 3, 1), (3, 3, 9)])
def test_a_convolution_is_flaxs(channels: int, features: int, dilation: int) -> None:
    x = jax.random.normal(jax.random.key(0), (3, LENGTH, channels))
    layer = SeriesConv(features, 5, dilation, "tanh")
    flaxs = nn.Conv(features, (5,), kernel_dilation=dilation, precision="highest")
    variables = layer.init(jax.random.key(1), x)

    @jax.jit
    def both(variables: Any, x: jax.Array) -> Any:
        found, ours = jax.vjp(layer.apply, variables, x)
        expected, theirs = jax.vjp(lambda v, x: jnp.tanh(flaxs.apply(v, x)), variables, x)
        return (found, ours(found)), (expected, theirs(expected))

    for one, other in zip(*map(jax.tree.leaves, both(variables, x)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    # What another platform runs, from the same export.
    exported = jax.export.export(jax.jit(layer.apply), platforms=("cpu", "cuda"))(variables, x)
    assert "stablehlo.convolution" in exported.mlir_module()


def series(rows: int, seed: int) -> np.ndarray:
    phase = 2 * np.pi * np.arange(rows) / 16
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    return (np.stack([np.sin(phase), np.cos(phase)], 1) + 0.05 * noise).astype(np.float32)


@pytest.mark.parametrize("members", [None, 2])
def test_a_detector_of_it_is_one_like_others(members: int | None, tmp_path: Path) -> None:
    how: dict[str, Any] = {"window": Window(length=LENGTH), "train": aejax.Train(steps=60)}
    detector = aejax.fit(plain_config(model=MODEL, **how), series(300, 0), members=members)
    x = series(60, 1)
    x[40] = (3, -3)
    scores = detector.score(x)
    assert np.nanargmax(scores) in range(40, 40 + LENGTH)
    detector.save(tmp_path / "saved")
    np.testing.assert_array_equal(aejax.load(tmp_path / "saved").score(x), scores)
    aejax.export(detector, tmp_path / "export", formats=("stablehlo", "onnx"))
    np.testing.assert_array_equal(aejax.load(tmp_path / "export").score(x), scores)


def test_rows_that_are_no_windows_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape of a row is \(5,\); allowed with a temporal"):
        aejax.fit(plain_config(model=MODEL), np.zeros((50, 5), np.float32) + np.arange(50)[:, None])

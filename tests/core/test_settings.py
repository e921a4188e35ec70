"""JAX's settings belong to a person's whole program: no result of this package depends on them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import aejax
from aejax.core import scaling
from aejax.models.own import OwnLinenNetwork
from aejax.training.loop import train
from tests.plain import plain_config

PROGRAM = Path(__file__).with_name("settings_program.py")
# Every setting that changes what a program computes, or refuses what it does on purpose.
CHANGED = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_default_matmul_precision": "bfloat16",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_disable_jit": True,
    "jax_transfer_guard": "disallow",
}
# A mesh of the program's own matters where there are devices to cut arrays over.
TWO_DEVICES = "--xla_force_host_platform_device_count=2"


def run(settings: dict[str, Any], *folders: Path) -> dict[str, np.ndarray]:
    """What `settings_program.py` leaves in the first folder."""
    folders[0].mkdir()
    flags = os.environ.get("XLA_FLAGS", "")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps(settings), *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{flags} {TWO_DEVICES}"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folders[0] / "found.npz") as file:
        return dict(file)


def test_nothing_that_is_trained_scored_saved_or_exported_depends_on_them(tmp_path: Path) -> None:
    """The second run also loads what the first has saved, and scores as it did."""
    plain = run({}, tmp_path / "plain")
    changed = run(CHANGED, tmp_path / "changed", tmp_path / "plain")
    assert plain.keys() == changed.keys()
    for name, value in plain.items():
        assert value.dtype == changed[name].dtype, name
        np.testing.assert_array_equal(value, changed[name], err_msg=name)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def detector(x: np.ndarray) -> aejax.Detector:
    return aejax.fit(plain_config(train=aejax.Train(epochs=1)), x)


@pytest.mark.parametrize(
    "context",
    [
        lambda: jax.enable_x64(True),
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.numpy_rank_promotion("raise"),
        lambda: jax.default_matmul_precision("bfloat16"),
        lambda: jax.debug_nans(True),
        lambda: jax.disable_jit(),
        lambda: jax.transfer_guard("disallow"),
        lambda: jax.set_mesh(mesh("Auto")),
        lambda: jax.set_mesh(mesh("Explicit")),
    ],
)
def test_a_thread_that_sets_one_for_a_while_gets_the_same(
    detector: aejax.Detector,
    x: np.ndarray,
    context: Callable[[], contextlib.AbstractContextManager[Any]],
) -> None:
    found = []

    def score() -> None:
        with context():
            found.append(detector.score(x))
            found.append(aejax.fit(detector.config, x).score(x))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(score).result()
    assert found[0].dtype == np.float32
    np.testing.assert_array_equal(found[0], detector.score(x))
    np.testing.assert_array_equal(found[1], found[0])


def mesh(kind: str) -> jax.sharding.Mesh:
    """A mesh of a training script's own."""
    return jax.make_mesh((1,), ("x",), axis_types=(getattr(jax.sharding.AxisType, kind),))


class Doubled(nn.Module):
    """Has constants and products whose types JAX's settings would choose."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: Any = None) -> jax.Array:
        return nn.Dense(4)(2 * jnp.tanh(nn.Dense(3)(x) + jnp.arange(3)))


def test_a_network_of_ones_own_trains_as_without_them(x: np.ndarray) -> None:
    config = plain_config(train=aejax.Train(epochs=1, noise=0.1))
    scaler = scaling.fit(config.scale, [x], np.dtype(np.float32))
    # As another program may hand them over.
    initial = {
        "params": {
            "Dense_0": {"kernel": np.ones((3, 4)), "bias": np.zeros(4)},
            "Dense_1": {"kernel": np.ones((4, 3)), "bias": np.zeros(3)},
        }
    }

    def trained() -> Any:
        return train(
            config, OwnLinenNetwork(module=Doubled()), scaler, x, shape=(4,), initial=initial
        ).variables

    plain = trained()
    with jax.enable_x64(True), jax.threefry_partitionable(False), jax.default_prng_impl("rbg"):
        changed = trained()
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(changed), strict=True):
        assert other.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_a_setting_that_cannot_be_set_back_is_refused(
    detector: aejax.Detector, x: np.ndarray
) -> None:
    jax.config.update("jax_random_seed_offset", 5)
    try:
        with pytest.raises(aejax.InputError, match="jax_random_seed_offset is 5; allowed: 0"):
            detector.score(x)
    finally:
        jax.config.update("jax_random_seed_offset", 0)

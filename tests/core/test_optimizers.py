"""Optimisers with traced numbers against optax's own, built with constants."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.config import Dense, Train
from aejax.core import optimizers
from aejax.core.optimizers import Numbers
from tests.plain import plain_config

STEPS = 40
RATE = 0.03
DECAY = 0.02
CLIP = 0.7


def warmup_cosine(step: Any) -> Any:
    """Up to the highest rate over a tenth of the steps, then half a cosine down to 0."""
    warmup = STEPS // 10
    falling = 0.5 * RATE * (1 + jnp.cos(jnp.pi * (step - warmup) / (STEPS - warmup)))
    return jnp.where(step < warmup, RATE * (step + 1) / warmup, falling)


SCHEDULES: dict[str, Callable[[Any], Any] | float] = {
    "constant": RATE,
    "linear": optax.linear_schedule(RATE, 0, STEPS),
    "cosine": optax.cosine_decay_schedule(RATE, STEPS),
    "warmup-cosine": warmup_cosine,
}


def reference(name: str, schedule: str, clip: float | None, decay: float) -> Any:
    rate = SCHEDULES[schedule]
    if name == "adam":
        plain = optax.adam(rate, eps=1e-7)
    elif name == "adamw":
        plain = optax.adamw(rate, eps=1e-7, weight_decay=decay)
    elif decay == 0:
        plain = optax.sgd(rate, momentum=0.9)
    else:
        # Decoupled: not part of the momentum.
        plain = optax.chain(
            optax.trace(0.9), optax.add_decayed_weights(decay), optax.scale_by_learning_rate(rate)
        )
    return plain if clip is None else optax.chain(optax.clip_by_global_norm(clip), plain)


def parameters() -> dict[str, jax.Array]:
    random = np.random.default_rng(0)
    return {
        "kernel": jnp.asarray(random.normal(size=(4, 3)), jnp.float32),
        "bias": jnp.asarray(random.normal(size=3), jnp.float32),
    }


def walk(transform: Any, count: int = STEPS) -> dict[str, jax.Array]:
    """The parameters after each of some steps towards targets that move."""
    targets = np.random.default_rng(1).normal(size=(count, 4, 3)).astype(np.float32)

    def step(carry: Any, target: jax.Array) -> Any:
        params, state = carry
        gradient = {"kernel": 2 * (params["kernel"] - target), "bias": params["bias"] * 1e-6}
        updates, state = transform.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (parameters(), transform.init(parameters())), targets)[1]


def assert_same(found: dict[str, jax.Array], expected: dict[str, jax.Array]) -> None:
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "schedule", "clip", "decay"),
    [
        *itertools.product(("adam",), ("cosine",), (None, CLIP), (0.0,)),
        *itertools.product(("adamw", "sgd"), ("cosine",), (None, CLIP), (0.0, DECAY)),
        *itertools.product(("sgd",), ("constant", "linear", "warmup-cosine"), (CLIP,), (DECAY,)),
        ("adam", "constant", None, 0.0),
    ],
)
def test_steps_as_optax_steps(name: str, schedule: str, clip: float | None, decay: float) -> None:
    train = Train(
        optimizer=name,
        learning_rate=RATE,
        schedule=schedule,
        weight_decay=decay,
        clip_norm=clip,
    )
    values = optimizers.numbers(plain_config(train=train), STEPS)
    ours = optimizers.optimizer(name, schedule, clip is not None, values)
    assert_same(walk(ours), walk(reference(name, schedule, clip, decay)))


def test_clipping_is_felt() -> None:
    plain = walk(reference("sgd", "constant", None, 0.0))
    clipped = walk(reference("sgd", "constant", CLIP, 0.0))
    assert not np.allclose(plain["kernel"][-1], clipped["kernel"][-1], rtol=1e-2)


@pytest.mark.parametrize("scale", [1e-6, 1e-7, 1e-8])
def test_adams_epsilon_is_keras_one(scale: float) -> None:
    """The first step is rate * g / (|g| + 1e-7), which tells 1e-7 from optax's 1e-8."""
    values = optimizers.numbers(plain_config(train=Train(learning_rate=1.0)), STEPS)
    transform = optimizers.optimizer("adam", "constant", False, values)
    params = {"a": jnp.zeros(1)}
    update, _ = transform.update({"a": jnp.full(1, scale)}, transform.init(params), params)
    np.testing.assert_allclose(update["a"], -scale / (scale + 1e-7), rtol=1e-5)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_rate_of_every_step(schedule: str) -> None:
    values = optimizers.numbers(plain_config(train=Train(learning_rate=RATE)), STEPS)
    rate = optimizers.learning_rate(schedule, values)
    expected = SCHEDULES[schedule]
    for step in range(STEPS + 1):
        wanted = expected(step) if callable(expected) else expected
        np.testing.assert_allclose(rate(jnp.float32(step)), wanted, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 1000])
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_rates_stay_within_0_and_the_highest(schedule: str, steps: int) -> None:
    values = optimizers.numbers(plain_config(train=Train(learning_rate=RATE)), steps)
    rate = jax.vmap(optimizers.learning_rate(schedule, values))
    found = np.asarray(rate(jnp.arange(steps + 5, dtype=jnp.float32)))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= np.float32(RATE) * (1 + 1e-6)).all()
    assert found[0] > 0
    assert found.max() >= 0.7 * RATE
    if schedule != "constant":
        np.testing.assert_allclose(found[steps + 1 :], 0, atol=1e-8)


def test_warmup_reaches_the_highest_rate_once_and_falls_after() -> None:
    values = optimizers.numbers(plain_config(train=Train(learning_rate=RATE)), 200)
    rate = jax.vmap(optimizers.learning_rate("warmup-cosine", values))
    found = np.asarray(rate(jnp.arange(200, dtype=jnp.float32)))
    assert (np.diff(found[:20]) > 0).all()
    assert (np.diff(found[20:]) < 0).all()
    np.testing.assert_allclose(found.max(), RATE, rtol=1e-6)


def test_numbers_of_a_configuration() -> None:
    train = Train(
        optimizer="adamw",
        seed=2**32 - 1,
        learning_rate=0.5,
        weight_decay=0.1,
        clip_norm=2.0,
        noise=0.3,
    )
    config = plain_config(model=Dense(dropout=0.25), train=train)
    found = optimizers.numbers(config, 7)
    assert found == Numbers(2**32 - 1, 0.5, *np.float32([0.1, 2.0, 0.3, 0.25]), 1.0, 7)
    assert np.asarray(found.seed).dtype == np.uint32
    assert all(np.asarray(value).dtype == np.float32 for value in found[1:])
    assert optimizers.numbers(plain_config(train=Train()), 0).steps == 1
    assert optimizers.numbers(plain_config(model=Dense(dropout=1 - 1e-12)), 1).dropout < 1
    assert np.isinf(optimizers.numbers(plain_config(train=Train()), 1).clip_norm)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_members_of_a_population_step_as_if_alone(name: str) -> None:
    rates, decays = np.float32([0.01, 0.1, 1.0]), np.float32([0.0, 0.1, 0.2])

    def one(rate: Any, decay: Any) -> Any:
        values = Numbers(np.uint32(0), rate, decay, np.float32(CLIP), *np.float32([0, 0, 1, 9]))
        return walk(optimizers.optimizer(name, "cosine", True, values), 5)

    together = jax.jit(jax.vmap(one))(rates, decays)
    for index in range(len(rates)):
        alone = one(rates[index], decays[index])
        assert_same({key: leaf[index] for key, leaf in together.items()}, alone)

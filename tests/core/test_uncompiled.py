"""What NumPy computes of a traced program, beside the compiled one: the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.config import Classifier, Conv, Dense, Train
from aejax.core import steps
from aejax.core.masks import Mask
from aejax.core.optimizers import numbers
from aejax.core.uncompiled import evaluated
from aejax.data.schema import Schema
from aejax.models.build import build
from tests.plain import plain_config

TABLE = Schema(shape=(6,), dtype="float32", kind="table")
IMAGE = Schema(shape=(8, 8, 1), dtype="float32", kind="image")


def same(found: Any, wanted: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert isinstance(own, np.ndarray)
        assert own.dtype == other.dtype
        np.testing.assert_array_equal(own, other)


def new_state_of(model: Any, schema: Schema) -> tuple[Any, Any]:
    config = plain_config(model=model, train=Train(optimizer="adamw", clip_norm=1.0, seed=2**31))
    return steps.program_of(config, build(config.model, schema)), numbers(config, 10)


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        (Dense(hidden=(5, 3), batch_norm=True), TABLE),
        (Conv(channels=(4,)), IMAGE),
        (Classifier(network=Dense(hidden=(4,)), classes=3), TABLE),
    ],
)
def test_a_training_begins_with_what_the_compiled_program_draws(model: Any, schema: Schema) -> None:
    program, values = new_state_of(model, schema)
    wanted = jax.jit(steps.new_state, static_argnums=(0, 1))(program, schema.shape, values)
    same(steps.compiled_new_state(program, schema.shape, values), wanted)


def test_so_do_members_of_which_each_sees_other_features() -> None:
    program, values = new_state_of(Dense(hidden=(3,)), TABLE)
    three = jax.tree.map(lambda value: np.stack([value] * 3), values)
    three = three._replace(seed=np.array([0, 7, 2**32 - 1], np.uint32))
    seen = np.random.default_rng(0).random((3, 6)) > 0.5
    params = steps.compiled_new_state(program, (6,), values).variables["params"]
    kept = jax.tree.map(lambda leaf: np.ones((3, *leaf.shape), bool), params)
    kept["encoder_layers_0"]["kernel"] &= seen[:, :, None]
    mask = Mask(weights=seen.astype(np.float32), params=kept)
    wanted = jax.jit(steps.new_members, static_argnums=(0, 1))(program, (6,), three, mask)
    same(steps.compiled_new_members(program, (6,), three, mask), wanted)


def test_more_numbers_than_are_drawn_together() -> None:
    def drawn(seed: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.key(seed), 3)
        return jax.vmap(lambda key: jax.random.uniform(key, (7, 9000), minval=-1.0))(keys)

    # Splitting isn't known here: keys that are handed in are.
    assert evaluated(jax.make_jaxpr(drawn)(np.uint32(3)), [np.uint32(3)]) is None

    def of_one(seed: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.key(seed), (7, 9000), minval=-1.0)

    found = evaluated(jax.make_jaxpr(of_one)(np.uint32(3)), [np.uint32(3)])
    assert found is not None
    same(found[0], of_one(jnp.uint32(3)))


class Normal(nn.Module):
    """A network whose first values NumPy doesn't know how to draw."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(x.shape[-1], kernel_init=nn.initializers.normal())(x)


def test_what_is_not_known_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Callable[..., Any]] = []
    called = steps.Compiled.__call__

    def counted(self: Any, *args: Any) -> Any:
        calls.append(self)
        return called(self, *args)

    monkeypatch.setattr(steps.Compiled, "__call__", counted)
    program, values = new_state_of(Normal(), TABLE)
    state = steps.compiled_new_state(program, (6,), values)
    assert calls == [steps.compiled_new_state]
    assert np.std(state.variables["params"]["Dense_0"]["kernel"]) > 0

"""A network of one's own that gives anything but a reconstruction is refused in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.config import SCORES, Config, Context, InputError, Train
from aejax.core import scaling, steps
from aejax.models.context import ContextNetwork
from aejax.models.own import OwnLinenNetwork
from aejax.training.loop import train
from aejax.training.members import Member
from aejax.training.population import train_populations
from tests.plain import plain_config

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
B = 8


class Gives(nn.Module):
    """Gives what a function makes of a dense layer's output, [B, 6]."""

    make: Callable[[jax.Array], Any]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: Any = None) -> Any:
        return self.make(nn.Dense(6)(x))

    def encode(self, x: jax.Array) -> jax.Array:
        return x

    def decode(self, x: jax.Array) -> Any:
        return self.make(x)


# All but the last few would be broadcast against [B, 6], or make one number of a batch.
WRONG: list[tuple[Callable[[jax.Array], Any], str]] = [
    (lambda y: y[:, :1], r"float32\[8, 1\]"),
    (lambda y: y[:1], r"float32\[1, 6\]"),
    (lambda y: y[0], r"float32\[6\]"),
    (lambda y: y[0, 0], r"float32\[\]"),
    (lambda y: y[:, None, :], r"float32\[8, 1, 6\]"),
    (lambda y: y[..., None], r"float32\[8, 6, 1\]"),
    (lambda y: jnp.concatenate([y, y], 1), r"float32\[8, 12\]"),
    (lambda y: jnp.round(y).astype(jnp.int32), r"int32\[8, 6\]"),
    (lambda y: y > 0, r"bool\[8, 6\]"),
    (lambda y: y + 1j, r"complex64\[8, 6\]"),
    (lambda y: (y, y[:, :2]), "a tuple"),
    (lambda y: {"reconstruction": y}, "a dict"),
    (lambda y: None, "a NoneType"),
]


def own(make: Callable[[jax.Array], Any]) -> OwnLinenNetwork:
    return OwnLinenNetwork(module=Gives(make))


def trained(make: Callable[[jax.Array], Any], config: Config, **how: Any) -> Any:
    scaler = scaling.fit(config.scale, [X], np.dtype(np.float32))
    return train(config, own(make), scaler, X, shape=(6,), **how)


@pytest.mark.parametrize(("make", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_no_reconstruction_is_refused(make: Callable[[jax.Array], Any], said: str) -> None:
    config = plain_config(train=Train(epochs=1, batch_size=B))
    message = rf"the network gives {said}; allowed: float32\[8, 6\]"
    for loss in ("squared", "absolute"):
        chosen = dataclasses.replace(config.train, loss=loss)
        with pytest.raises(InputError, match=message) as error:
            trained(make, dataclasses.replace(config, train=chosen))
        assert "\n" not in str(error.value)
    member = Member(config=config, training=np.arange(20), validation=np.arange(20, 30))
    with pytest.raises(InputError, match="the network gives"):
        train_populations([([member], own(make))], X, shape=(6,))
    scaler = scaling.fit(config.scale, [X], np.dtype(np.float32))
    variables = dict(Gives(lambda y: y).init(jax.random.key(0), X[:1]))
    scorer = steps.Scorer(model=own(make), error="squared")
    for program, more in (
        (steps.compiled_score, {}),
        (steps.compiled_reconstruct, {}),
        (steps.compiled_errors, {}),
        (steps.compiled_explain, {"top": 2}),
    ):
        with pytest.raises(InputError, match=message):
            program(scorer, variables, scaler, X[:B], **more)
    by_distance = dataclasses.replace(scorer, score=SCORES["residual-distance"]())
    with pytest.raises(InputError, match=message):
        steps.compiled_score(by_distance, variables, scaler, X[:B])


@pytest.mark.parametrize(
    "make", [lambda y: y, lambda y: y.astype(jnp.bfloat16), lambda y: y.astype(jnp.float16)]
)
def test_a_reconstruction_of_any_precision_is_taken(make: Callable[[jax.Array], Any]) -> None:
    found = trained(make, plain_config(train=Train(epochs=1, batch_size=B)))
    assert np.isfinite(found.history[0]["loss"])


def test_losses_that_are_none_of_each_row_are_refused() -> None:
    """A context model gives its rows' losses itself: [B, 1] would meet the mask as [B, B]."""
    config = plain_config(
        model=Context(vocabulary=9, window=2), train=Train(epochs=1, batch_size=B)
    )
    scaler = scaling.fit(config.scale, [X], np.dtype(np.float32))
    network = ContextNetwork(module=Gives(lambda y: y[:, :1]), reconstructs=False)
    said = r"losses of a batch are float32\[8, 1\]; allowed: .*\[8\]"
    with pytest.raises(InputError, match=said):
        train(config, network, scaler, X, shape=(6,))

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

from aejax.config import SCORES, Classifier, Config, Context, Dense, InputError, Train
from aejax.core import scaling, steps
from aejax.training.loop import train
from aejax.training.members import Member
from aejax.training.population import train_population

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


def trained(make: Callable[[jax.Array], Any], config: Config, **how: Any) -> Any:
    scaler = scaling.fit(config.scale, [X], np.dtype(np.float32))
    return train(config, Gives(make), scaler, X, shape=(6,), **how)


@pytest.mark.parametrize(("make", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_no_reconstruction_is_refused(make: Callable[[jax.Array], Any], said: str) -> None:
    config = Config(train=Train(epochs=1, batch_size=B))
    message = rf"the network gives {said}; allowed: float32\[8, 6\]"
    for loss in ("squared", "absolute"):
        chosen = dataclasses.replace(config.train, loss=loss)
        with pytest.raises(InputError, match=message) as error:
            trained(make, dataclasses.replace(config, train=chosen))
        assert "\n" not in str(error.value)
    member = Member(config=config, training=np.arange(20), validation=np.arange(20, 30))
    with pytest.raises(InputError, match="the network gives"):
        train_population([member], Gives(make), X, shape=(6,))
    scaler = scaling.fit(config.scale, [X], np.dtype(np.float32))
    variables = dict(Gives(lambda y: y).init(jax.random.key(0), X[:1]))
    scorer = steps.Scorer(model=Gives(make), error="squared")
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
    found = trained(make, Config(train=Train(epochs=1, batch_size=B)))
    assert np.isfinite(found.history[0]["loss"])


def test_losses_that_are_none_of_each_row_are_refused() -> None:
    """A context model gives its rows' losses itself: [B, 1] would meet the mask as [B, B]."""
    config = Config(model=Context(vocabulary=9, window=2), train=Train(epochs=1, batch_size=B))
    with pytest.raises(
        InputError, match=r"losses of a batch are float32\[8, 1\]; allowed: .*\[8\]"
    ):
        trained(lambda y: y[:, :1], config)


@pytest.mark.parametrize("make", [lambda y: y[:, :1], lambda y: y[:, 0]])
def test_logits_of_less_than_two_classes_are_refused(make: Callable[[jax.Array], Any]) -> None:
    config = Config(
        model=Classifier(network=Dense(hidden=(3,)), classes=2),
        train=Train(epochs=1, batch_size=B),
    )
    labels = (X[:, 0] > 0).astype(np.int32)
    with pytest.raises(InputError, match=r"allowed: float32\[8, at least 2\]"):
        trained(make, config, labels=labels)

"""Networks as people write them: one in each library, and a pair of functions."""

from __future__ import annotations

from typing import Any

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import aejax


class Transformer(nn.Module):
    """A transformer autoencoder over a row's features, with dropout and a field named `heads`."""

    width: int = 8
    heads: int = 2

    def setup(self) -> None:
        self.embed = nn.Dense(self.width)
        self.attend = nn.MultiHeadDotProductAttention(self.heads)
        self.narrow = nn.Dense(2)
        self.widen = nn.Dense(self.width)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Dense(1)

    @nn.compact
    def encode(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        place = self.param("place", nn.initializers.normal(0.1), (x.shape[-1], self.width))
        tokens = self.embed(x[..., None]) + place
        return self.narrow(tokens + self.attend(tokens))

    def decode(self, latent: jax.Array, deterministic: bool = True) -> jax.Array:
        hidden = self.drop(nn.gelu(self.widen(latent)), deterministic=deterministic)
        return self.out(hidden)[..., 0]

    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        return self.decode(self.encode(x), deterministic)


class Relu(Transformer):
    """A network with the same parameters, and another function of them."""

    def decode(self, latent: jax.Array, deterministic: bool = True) -> jax.Array:
        return self.out(nn.relu(self.widen(latent)))[..., 0]


class Convolutional(nnx.Module):
    """A 1-D convolutional autoencoder with batch normalisation and dropout."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.down = nnx.Conv(1, 4, kernel_size=(3,), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.05, rngs=rngs)
        self.up = nnx.Conv(4, 1, kernel_size=(3,), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = self.drop(nnx.relu(self.norm(self.down(x[..., None]))))
        return self.up(hidden)[..., 0]


class OneRow(equinox.Module):
    """Written for one row, as Equinox modules are."""

    down: equinox.nn.Linear
    up: equinox.nn.Linear
    drop: equinox.nn.Dropout

    def __init__(self, features: int, key: jax.Array) -> None:
        first, second = jax.random.split(key)
        self.down = equinox.nn.Linear(features, 3, key=first)
        self.up = equinox.nn.Linear(3, features, key=second)
        self.drop = equinox.nn.Dropout(0.05)

    def encode(self, x: jax.Array) -> jax.Array:
        return jax.nn.tanh(self.down(x))

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:
        return self.up(self.drop(self.encode(x), key=key))


def init(key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    down = 0.5 * jax.random.normal(key, (shape[0], 3))
    return {"down": down, "up": down.T}


def encode(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["down"])


def decode(variables: Any, latent: jax.Array) -> jax.Array:
    found: jax.Array = latent @ variables["up"]
    return found


def apply(variables: Any, x: jax.Array) -> jax.Array:
    return decode(variables, encode(variables, x))


def networks(features: int) -> dict[str, Any]:
    """One of every kind, for rows of so many features."""
    return {
        "linen": Transformer(),
        "nnx": Convolutional(nnx.Rngs(0)),
        "equinox": OneRow(features, jax.random.key(0)),
        "functions": aejax.network(init, apply, encode=encode, decode=decode),
        "nnx factory": aejax.network(make=lambda key, shape: Convolutional(nnx.Rngs(key))),
        "equinox factory": aejax.network(make=lambda key, shape: OneRow(shape[0], key)),
    }

"""What `test_compiled.py` runs: numbers of programs that are compiled as users compile them.

python compiled_program.py OUT few|all

Every case is compiled for 40,000 rows by the functions that detectors and training call, and
compared with the same function evaluated operation by operation in float64, where there is
nothing to fuse or to rewrite. Where something is drawn, that is float32, because another type
draws other numbers. OUT becomes JSON: versions, and each case's `difference`.
"""

from __future__ import annotations

import json
import operator
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import aejax
from aejax.core import steps
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from tests.core.compiled_setups import (
    ROWS,
    Setup,
    difference,
    mixed_schema,
    moved,
    pair,
    random,
    slowly,
)
from tests.extending.own_networks import networks as own_networks

Case = tuple[str, float]


# Networks written for one row, and mapped over rows.
def init_row(key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    weights: jax.Array = jax.random.normal(key, (2 * shape[0], shape[0]))
    return {"W": weights, "V": weights.T}


def apply_row(variables: Any, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda row: variables["V"] @ jnp.square(variables["W"] @ row))(x)


def encode_row(variables: Any, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda row: jnp.square(variables["W"] @ row))(x)


def decode_row(variables: Any, latent: jax.Array) -> jax.Array:
    return jax.vmap(lambda row: variables["V"] @ row)(latent)


def init_energy(key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    return {"W": jax.random.normal(key, (3, shape[0])), "V": jnp.ones(shape)}


def encode_energy(variables: Any, x: jax.Array) -> jax.Array:
    """The sum that jax 0.10.2 computes wrong, as the only latent value."""
    return jax.vmap(lambda row: jnp.sum(jnp.square(variables["W"] @ row)))(x)[:, None]


def decode_energy(variables: Any, latent: jax.Array) -> jax.Array:
    found: jax.Array = jnp.tanh(latent) * variables["V"]
    return found


def apply_energy(variables: Any, x: jax.Array) -> jax.Array:
    return decode_energy(variables, encode_energy(variables, x))


ENERGY = aejax.network(init_energy, apply_energy, encode=encode_energy, decode=decode_energy)
ONE_ROW = aejax.network(init_row, apply_row, encode=encode_row, decode=decode_row)
DENSE = aejax.Dense(hidden=(5, 3))
NORMED = aejax.Dense(hidden=(5, 3), activation="tanh", batch_norm=True)
SIGMOID = aejax.Dense(hidden=(5, 3), output="sigmoid")
NORMAL = aejax.Variational(network=aejax.Dense(hidden=(4,)), latent=2, likelihood="normal")
BERNOULLI = aejax.Variational(network=aejax.Dense(hidden=(4,), output="sigmoid"), latent=2)


def huber(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(optax.huber_loss(y, x), axis=1)


def descent(**how: Any) -> aejax.Train:
    return aejax.Train(**{"optimizer": "sgd", "learning_rate": 1.0, "schedule": "constant"} | how)


def raw(features: int) -> Iterator[Case]:
    """The form that jax 0.10.2 computes wrong, and its gradient, against NumPy alone."""
    x = random("x", features).normal(size=(ROWS, features)).astype(np.float32)

    def form(W: jax.Array, x: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: jnp.sum((W @ row) ** 2))(x)

    # It was wrong with 2 and 3 of these.
    for outputs in sorted({2, 3, features}):
        w = random("w", outputs).normal(size=(outputs, features)).astype(np.float32)
        exact = x.astype(np.float64) @ w.T.astype(np.float64)
        for how, compiled in (("plain", jax.jit(form)), ("as here", steps.Compiled(form))):
            name = f"raw to {outputs}, {how}, {features}"
            yield name, difference(compiled(w, x), (exact**2).sum(axis=1))
    gradient = jax.jit(jax.grad(lambda W, x: jnp.mean(form(W, x))))(w, x)
    yield f"raw gradient, {features}", difference(gradient, 2 * exact.T @ x / ROWS)


def cheap(features: int) -> Iterator[Case]:
    """What is tried with every number of features."""
    x, y = random(features).uniform(0.01, 0.99, size=(2, ROWS, features)).astype(np.float32)
    with np.errstate(all="raise"):
        a, b = x.astype(np.float64), y.astype(np.float64)
        exact = {
            "squared": (a - b) ** 2,
            "absolute": np.abs(a - b),
            "bernoulli": -(a * np.log(b) + (1 - a) * np.log1p(-b)),
        }
    for name, expected in exact.items():
        found = steps.compiled_feature_error(name, x, y)
        yield f"error {name}, {features}", difference(found, expected)
    own = own_networks(features)
    for name, model in {
        "dense": DENSE,
        "batch norm": NORMED,
        "one row": ONE_ROW,
        "equinox": own["equinox"],
    }.items():
        yield f"score of {name}, {features}", Setup(model, features).score()
    energy = Setup(ENERGY, features)
    yield f"score of energy, {features}", energy.score()
    yield f"latent values of energy, {features}", energy.encode()


def scores(features: int, whole: bool) -> Iterator[Case]:
    """Every score and reason."""
    for name, model in {"dense": DENSE, "one row": ONE_ROW}.items():
        setup = Setup(model, features).learn()
        for kind in (
            "residual-distance",
            "latent-distance",
            "residual-and-latent-distance",
            *(("error-and-neighbours",) if whole or name == "dense" else ()),
        ):
            yield f"{kind} of {name}, {features}", setup.score(kind)
        yield f"reasons of {name}, {features}", setup.explain()
    for error in ("absolute", "bernoulli"):
        unit = Setup(SIGMOID, features, scale=aejax.Scale(kind="none"), error=error)
        yield f"score by {error}, {features}", unit.score()
    sampled = Setup(NORMAL, features)
    for kind in ("error", "negative-elbo", "reconstruction-probability"):
        drawn = kind != "error"
        yield f"{kind} of variational, {features}", sampled.score(kind, drawn=drawn)
    table = Setup(DENSE, features, mixed_schema(features), columns=aejax.Columns(kinds="mixed"))
    yield f"score of mixed, {features}", table.score()
    if whole:
        yield f"reasons of mixed, {features}", table.explain()
    for classes in (2, 3):
        model = aejax.Classifier(network=aejax.Dense(hidden=(4,)), classes=classes)
        yield f"score of {classes} classes, {features}", Setup(model, features).score()
    if features % 2 and features > 1:
        yield f"surprise, {features}", context(features, 0).score()
    for combine in ("mean", "median", "rank") if whole else ("mean",):
        voting = Setup(ONE_ROW, features)
        quantiles = np.sort(random("ranks").gamma(2, 50, 101)).astype(np.float32)
        voting.variables["calibration"] = {"scores": quantiles}
        voting.variables, voting.scaler = pair((voting.variables, voting.scaler))
        yield f"{combine} of members, {features}", voting.score(combine=combine)
    if whole:
        ranked = Setup(DENSE, features)
        knots = np.linspace(-4, 6, 129, dtype=np.float32)
        ranked.scaler = Scaler(None, None, np.float32(1.5), np.stack([knots] * features, axis=1))
        yield f"score of ranks, {features}", ranked.score()


def tiles(features: int) -> Iterator[Case]:
    """Rows of many detectors in one program."""
    for name, model in {"dense": DENSE, "one row": ONE_ROW}.items():
        setup = Setup(model, features)
        x, which = setup.x.reshape(4, -1, features), np.array([0, 1, 1, 0], np.int32)
        trees = pair((setup.variables, setup.scaler))
        expected = []
        for i, tile in zip(which, x, strict=True):
            own = jax.tree.map(operator.itemgetter(int(i)), trees)
            expected.append(slowly(steps.score_rows, setup.scorer(), *own, tile))
        for side_by_side in (True, False):
            found = steps.compiled_score.of_tiles(
                setup.scorer(), *trees, x, which, side_by_side=side_by_side
            )
            how = "side by side" if side_by_side else "in turns"
            yield f"tiles {how} of {name}, {features}", difference(found, np.stack(expected))


def context(features: int, negatives: int) -> Setup:
    model = aejax.Context(vocabulary=6, window=features // 2, width=4, negatives=negatives)
    return Setup(model, features, scale=aejax.Scale(kind="none"), train=descent())


def learning(features: int, whole: bool) -> Iterator[Case]:
    """Loss and gradient of every objective."""
    unit = aejax.Scale(kind="none")
    cases: dict[str, tuple[Any, dict[str, Any]]] = {
        "dense by squared": (DENSE, {"train": descent()}),
        "dense by absolute": (DENSE, {"train": descent(loss="absolute")}),
        "dense by bernoulli": (SIGMOID, {"train": descent(loss="bernoulli"), "scale": unit}),
        "dense by Huber": (DENSE, {"train": descent(loss=huber)}),
        **({"dense, trimmed": (DENSE, {"train": descent(trim=0.1)})} if whole else {}),
        "batch norm by squared": (NORMED, {"train": descent()}),
        # Its products are fourth powers of the row.
        "one row by squared": (ONE_ROW, {"train": descent(learning_rate=1e-3)}),
        "energy": (ENERGY, {"train": descent()}),
        "one row by absolute": (ONE_ROW, {"train": descent(loss="absolute")}),
        "classes": (aejax.Classifier(network=DENSE, classes=3), {"train": descent()}),
    }
    for name, (model, how) in cases.items():
        yield f"step of {name}, {features}", Setup(model, features, **how).train()
    table = Setup(
        DENSE,
        features,
        mixed_schema(features),
        columns=aejax.Columns(kinds="mixed"),
        train=descent(),
    )
    yield f"step of mixed, {features}", table.train()
    for name, setup in {
        "variational, normal": Setup(NORMAL, features, train=descent()),
        **({"context": context(features, 2)} if features % 2 and features > 1 else {}),
    }.items():
        yield f"step of {name}, {features}", setup.train(drawn=True)
    one_row = Setup(ONE_ROW, features, train=descent(learning_rate=1e-3))
    yield f"validation of one row, {features}", one_row.validation()
    yield f"members of one row, {features}", one_row.members()
    if whole:
        noisy = Setup(DENSE, features, train=descent(noise=0.3, hide=0.2))
        yield f"step of noise, {features}", noisy.train(drawn=True)
        dense = Setup(DENSE, features, train=descent())
        yield f"members of dense, {features}", dense.members()
        sampled = Setup(BERNOULLI, features, train=descent(), scale=unit)
        yield f"step of variational, bernoulli, {features}", sampled.train(drawn=True)


def scripts(features: int) -> Iterator[Case]:
    """What people compile themselves, with JAX's own options."""
    setup, optimizer = Setup(ONE_ROW, features), optax.sgd(1e-3)
    args = (setup.scorer(), setup.variables, setup.scaler, setup.x)
    found = jax.jit(steps.score_rows, static_argnums=0)(*args)
    yield f"own jit of scores, {features}", difference(found, slowly(steps.score_rows, *args))
    step = aejax.train_step(ONE_ROW, "squared", optimizer)
    state = aejax.train_state(ONE_ROW, optimizer, jax.random.key(0), (features,))
    state = state._replace(step=np.int32(0), variables=setup.variables)
    after, metrics = jax.jit(step)(state, 0.5 * setup.x)
    expected, others = slowly(step, state, 0.5 * setup.x)
    largest = max(difference(metrics, others), moved(state, after, expected))
    yield f"own jit of a step, {features}", largest


def strangers(features: int) -> Iterator[Case]:
    """Networks of one's own in every library."""
    for name, model in own_networks(features).items():
        yield f"score of own {name}, {features}", Setup(model, features).score()
        if "factory" not in name:
            setup = Setup(model, features, train=descent())
            yield f"step of own {name}, {features}", setup.train(drawn=name != "functions")


def images() -> Iterator[Case]:
    """Networks of images of 2 to 8 values."""
    for shape in ((2, 2, 1), (2, 4, 1), (2, 2, 2)):
        for name, model in {
            "stride": aejax.Conv(channels=(3,), batch_norm=True),
            "pool": aejax.Conv(channels=(3,), down="pool"),
            "super-resolution": aejax.SuperResolution(levels=1, convolutions=1, channels=3),
        }.items():
            setup = Setup(
                model,
                0,
                Schema(shape=shape, kind="image"),
                scale=aejax.Scale(kind="none"),
                train=descent(),
            )
            yield f"score of {name}, {shape}", setup.score()
            yield f"step of {name}, {shape}", setup.train()


def cases(whole: bool) -> Iterator[Case]:
    for features in range(1, 9):
        yield from raw(features)
        if whole or features in (1, 3, 8):
            yield from cheap(features)
    # An odd number has windows of a context.
    for features in range(1, 9) if whole else (3,):
        yield from scores(features, whole)
        yield from learning(features, whole)
        yield from scripts(features)
        yield from tiles(features)
        if whole:
            yield from strangers(features)
    if whole:
        yield from images()


def main() -> None:
    found: dict[str, float] = {}
    began = time.perf_counter()
    for name, off in cases(sys.argv[2] == "all"):
        found[name] = off
        took, began = time.perf_counter() - began, time.perf_counter()
        print(f"{took:6.2f} s  {off:.1e}  {name}", flush=True)
    versions = {"jax": jax.__version__, "device": jax.devices()[0].platform}
    Path(sys.argv[1]).write_text(json.dumps({**versions, "differences": found}))


main()

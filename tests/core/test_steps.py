"""The hot path against float64 NumPy, finite differences, and plain Python."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.config import Conv, Dense, Scale, Train
from aejax.core import optimizers, scaling, steps
from aejax.core.optimizers import Numbers
from aejax.core.scaling import Scaler
from aejax.core.steps import Program, TrainState
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.models.build import build
from tests.plain import plain_config

FEATURES = 5
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "linear": lambda x: x,
}
TINY = Dense(hidden=(4, 2), activation="tanh")


def rows(n: int = 24) -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.normal(size=(n, FEATURES)) * [1, 2, 3, 4, 5] + 1).astype(np.float32)


def prepared(
    model: Dense | Conv = TINY, *, shape: tuple[int, ...] = (FEATURES,), **train: Any
) -> tuple[Program, Scaler, Numbers, TrainState]:
    config = plain_config(model=model, train=Train(**train), scale=Scale(kind="standard"))
    schema = Schema(shape=shape, kind="table" if len(shape) == 1 else "image")
    program = steps.program_of(config, build(config.model, schema))
    scaler = scaling.fit(config.scale, [sample(shape, 24)], np.dtype(np.float32))
    values = optimizers.numbers(config, 10)
    return program, scaler, values, steps.compiled_new_state(program, shape, values)


def sample(shape: tuple[int, ...], n: int) -> np.ndarray:
    if shape == (FEATURES,):
        return rows(n)
    return np.random.default_rng(0).uniform(size=(n, *shape)).astype(np.float32)


def exact(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def scale64(scaler: Scaler, x: np.ndarray) -> np.ndarray:
    scaler = exact(scaler)
    return (x.astype(np.float64) - scaler.shift) * scaler.factor


def layer_names(params: Any) -> list[str]:
    count = sum(name.startswith("encoder_layers") for name in params)
    names = [f"encoder_layers_{i}" for i in range(count)]
    names += [f"decoder_layers_{i}" for i in range(len(params) - count - 1)]
    return [*names, "output_layer"]


def forward64(model: Dense, params: Any, x: np.ndarray) -> np.ndarray:
    """The dense autoencoder in float64 NumPy, on scaled rows."""
    *hidden, last = layer_names(params)
    for name in hidden:
        x = ACTIVATIONS[model.activation](x @ params[name]["kernel"] + params[name]["bias"])
    return ACTIVATIONS[model.output](x @ params[last]["kernel"] + params[last]["bias"])


def loss64(model: Dense, params: Any, x: np.ndarray, loss: str) -> float:
    gap = x - forward64(model, params, x)
    return float(np.mean(gap**2 if loss == "squared" else np.abs(gap)))


def assert_trees(found: Any, expected: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected
    )


@pytest.mark.parametrize("loss", ["squared", "absolute"])
@pytest.mark.parametrize("model", [TINY, Dense(hidden=(3,), activation="sigmoid")])
def test_a_step_follows_the_gradient(model: Dense, loss: str) -> None:
    """Plain gradient descent moves by the rate times float64 central differences."""
    program, scaler, values, state = prepared(model, optimizer="sgd", loss=loss, learning_rate=1.0)
    x = rows()
    # Away from the zero biases of a fresh model, where a wrong bias gradient would hide.
    bumped = jax.tree.map(lambda leaf: leaf + 0.05, state.variables["params"])
    state = state._replace(variables={"params": bumped})
    after, found = steps.compiled_train_step(
        program, jax.tree.map(jnp.copy, state), x, np.ones(len(x), bool), scaler, values
    )
    params, scaled = exact(bumped), scale64(scaler, x)
    np.testing.assert_allclose(found, loss64(model, params, scaled, loss), rtol=1e-5)
    assert int(after.step) == 1
    moved = exact(after.variables["params"])
    for name in layer_names(params):
        for part in ("kernel", "bias"):
            leaf = params[name][part]
            for index in np.ndindex(leaf.shape):
                kept, at = leaf[index], []
                for nudge in (1e-6, -1e-6):
                    leaf[index] = kept + nudge
                    at.append(loss64(model, params, scaled, loss))
                leaf[index] = kept
                slope = (at[0] - at[1]) / 2e-6
                assert moved[name][part][index] == pytest.approx(kept - slope, rel=1e-4, abs=2e-5)


PADDED = [
    (Dense(hidden=(4, 2)), (FEATURES,)),
    (Dense(hidden=(4, 2), batch_norm=True), (FEATURES,)),
    (Conv(channels=(2,), batch_norm=True), (4, 4, 1)),
]


@pytest.mark.parametrize(("model", "shape"), PADDED)
def test_padding_changes_nothing(model: Any, shape: tuple[int, ...]) -> None:
    # Not Adam: before a BatchNorm a bias has no gradient, and Adam makes steps of the rounding.
    program, scaler, values, state = prepared(
        model, shape=shape, optimizer="sgd", learning_rate=0.1
    )
    x = sample(shape, 7)
    garbage = np.random.default_rng(1).normal(size=(12, *shape)).astype(np.float32) * 1e3
    spots = np.array([0, 2, 3, 5, 8, 10, 11])
    garbage[spots] = x
    mask = np.isin(np.arange(12), spots)
    plain, padded = (jax.tree.map(jnp.copy, state) for _ in range(2))
    for _ in range(3):
        plain, loss = steps.compiled_train_step(program, plain, x, np.ones(7, bool), scaler, values)
        padded, loss_padded = steps.compiled_train_step(
            program, padded, garbage, mask, scaler, values
        )
        np.testing.assert_allclose(loss_padded, loss, rtol=1e-5)
    assert_trees(padded.variables, plain.variables, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_batch_of_padding_only_leaves_a_finite_state(batch_norm: bool) -> None:
    program, scaler, values, state = prepared(Dense(hidden=(4, 2), batch_norm=batch_norm))
    after, loss = steps.compiled_train_step(
        program, state, rows(6), np.zeros(6, bool), scaler, values
    )
    assert float(loss) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


RICH: dict[str, Any] = {
    "noise": 0.2,
    "noise_range": (-3.0, 3.0),
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "schedule": "warmup-cosine",
    "learning_rate": 0.02,
}


def test_many_steps_in_one_program_equal_a_loop() -> None:
    model = Dense(hidden=(4, 2), batch_norm=True, dropout=0.3)
    program, scaler, values, state = prepared(model, **RICH)
    x = rows(23)
    order = np.concatenate([batches.epoch_order(23, 6, 0, epoch) for epoch in (0, 1)])
    together, losses = steps.compiled_train_steps(
        program, jax.tree.map(jnp.copy, state), x, order, scaler, values
    )
    assert losses.shape == (8,)
    for index, picked in enumerate(order):
        state, loss = steps.compiled_train_step(
            program, state, x[np.maximum(picked, 0)], picked >= 0, scaler, values
        )
        np.testing.assert_allclose(loss, losses[index], rtol=1e-5)
    assert int(together.step) == int(state.step) == 8
    assert_trees(together, state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("noise", "dropout"), [(0.5, 0.0), (0.0, 0.5)])
def test_noise_and_dropout_are_fresh_at_every_step(noise: float, dropout: float) -> None:
    model = Dense(hidden=(16,), activation="tanh", dropout=dropout)
    program, scaler, values, state = prepared(model, noise=noise, optimizer="sgd")
    x, mask = rows(8), np.ones(8, bool)
    values = values._replace(learning_rate=np.float32(0))
    losses = []
    for _ in range(4):
        state, loss = steps.compiled_train_step(program, state, x, mask, scaler, values)
        losses.append(float(loss))
    assert len(set(losses)) == 4


def test_noise_corrupts_the_input_and_not_the_target() -> None:
    """A model that gives 0 for every row has the clean rows' mean square as its loss."""
    program, scaler, values, state = prepared(noise=10.0, optimizer="sgd")
    zeros = jax.tree.map(jnp.zeros_like, state.variables)
    x = rows()
    _, loss = steps.compiled_train_step(
        program, state._replace(variables=zeros), x, np.ones(len(x), bool), scaler, values
    )
    np.testing.assert_allclose(loss, np.mean(scale64(scaler, x) ** 2), rtol=1e-5)


def test_noise_of_0_in_a_noisy_program_is_no_noise() -> None:
    noisy, scaler, values, state = prepared(noise=1.0)
    clean = prepared()[0]
    x, mask = rows(), np.ones(24, bool)
    silent = values._replace(noise=np.float32(0))
    a = steps.compiled_train_step(noisy, jax.tree.map(jnp.copy, state), x, mask, scaler, silent)
    b = steps.compiled_train_step(clean, state, x, mask, scaler, values)
    assert_trees(a, b, rtol=1e-6)


def test_bounds_hold_for_the_noisy_input() -> None:
    from aejax.core.objectives import corrupt

    x = jnp.full((1000, 3), 0.5)
    noisy = corrupt(x, jax.random.key(0), 0.5, (0.0, 1.0))
    assert float(noisy.min()) == 0
    assert float(noisy.max()) == 1
    free = np.asarray(corrupt(x, jax.random.key(0), 0.5, None))
    np.testing.assert_allclose(free.mean(), 0.5, atol=0.05)
    np.testing.assert_allclose(free.std(), 0.5, atol=0.03)
    np.testing.assert_array_equal(noisy, np.clip(free, 0, 1))


@pytest.mark.parametrize(("optimizer", "batch_norm"), [("adamw", False), ("sgd", True)])
def test_a_population_trains_as_its_members_do_alone(optimizer: str, batch_norm: bool) -> None:
    """All numbers differ, dropout too; each member equals a run of its own."""
    model = Dense(hidden=(4, 2), activation="tanh", batch_norm=batch_norm, dropout=0.2)
    program, scaler, _, _ = prepared(model, **{**RICH, "optimizer": optimizer})
    x = rows(23)
    order = batches.epoch_order(23, 6, 0, 0)
    members = 3
    population = Numbers(
        seed=np.arange(members, dtype=np.uint32),
        learning_rate=np.float32([0.02, 0.05, 0.001]),
        weight_decay=np.float32([0, 0.01, 0.1]),
        clip_norm=np.float32([np.inf, 0.1, 1.0]),
        noise=np.float32([0, 0.1, 1.0]),
        dropout=np.float32([0.2, 0, 0.5]),
        beta=np.ones(members, np.float32),
        steps=np.full(members, 10, np.float32),
    )
    tiles, tile_mask = batches.tiles(rows(10), 4)

    def whole_run(values: Numbers, scaler: Scaler) -> Any:
        state = steps.new_state(program, (FEATURES,), values)
        state, losses = steps.train_steps(program, state, x, order, scaler, values)
        held = steps.validation_loss(program, state.variables, tiles, tile_mask, scaler, values)
        best = steps.keep_best(steps.new_best(state), state, held, jnp.int32(0), jnp.int32(1))
        return state, losses, held, best

    scalers = jax.tree.map(
        lambda *leaves: np.stack(leaves),
        *(scaler._replace(shift=scaler.shift + np.float32(member)) for member in range(members)),
    )
    together = jax.jit(jax.vmap(whole_run))(population, scalers)
    single = jax.jit(whole_run)
    for member in range(members):
        alone = single(*jax.tree.map(lambda leaf, m=member: leaf[m], (population, scalers)))
        mine = jax.tree.map(lambda leaf, m=member: leaf[m], together)
        assert_trees(mine, alone, rtol=1e-3, atol=1e-5)


def test_little_optimising_leaves_fresh_parameters_their_bits() -> None:
    program, _, values, state = prepared(Dense(hidden=(33, 7), batch_norm=True), shape=(20,))
    optimised = jax.jit(steps.new_state, static_argnums=(0, 1))(program, (20,), values)
    jax.tree.map(np.testing.assert_array_equal, state, optimised)


def test_parameters_depend_on_the_seed_only() -> None:
    a, b, other = (prepared(seed=seed, **more)[3] for seed, more in ((3, {}), (3, RICH), (4, {})))
    jax.tree.map(np.testing.assert_array_equal, a.variables, b.variables)
    kernel = a.variables["params"]["output_layer"]["kernel"]
    assert not np.array_equal(kernel, other.variables["params"]["output_layer"]["kernel"])


@pytest.mark.parametrize("loss", ["squared", "absolute"])
@pytest.mark.parametrize(("n", "size"), [(10, 4), (8, 4), (3, 4), (1, 1)])
def test_validation_loss_is_the_mean_over_all_rows(n: int, size: int, loss: str) -> None:
    program, scaler, values, state = prepared(loss=loss)
    x = rows(n)
    tiles, mask = batches.tiles(x, size)
    found = steps.compiled_validation_loss(program, state.variables, tiles, mask, scaler, values)
    expected = loss64(TINY, exact(state.variables["params"]), scale64(scaler, x), loss)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_validation_uses_no_dropout_and_the_same_noise_every_time() -> None:
    program, scaler, values, state = prepared(Dense(hidden=(4,), dropout=0.9))
    tiles, mask = batches.tiles(rows(10), 4)
    clean = prepared(Dense(hidden=(4,)))[0]
    a, b = (
        steps.compiled_validation_loss(p, state.variables, tiles, mask, scaler, values)
        for p in (program, clean)
    )
    assert float(a) == float(b)
    noisy, scaler, values, state = prepared(noise=0.5)
    a, b, c = (
        float(steps.compiled_validation_loss(noisy, state.variables, tiles, mask, scaler, v))
        for v in (values, values, values._replace(seed=np.uint32(9)))
    )
    assert a == b != c


@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize(
    "losses",
    [
        [5, 4, 3, 2, 1, 0.5],
        [5, 4, 4, 4, 3, 2, 1],
        [1, 2, 3, 0.5, 4, 4, 4, 4, 0.1],
        [math.nan, 2, math.nan, math.nan, 1, 3, 3],
        [math.inf, math.inf, 1, 2],
        [3, 2, 2.5, 1.5, 1.6, 1.7, 1.8, 1.9, 0.1],
    ],
)
def test_keep_best_as_plain_python_keeps_it(losses: list[float], patience: int) -> None:
    state = TrainState(jnp.int32(0), {"params": {"a": jnp.full(2, -1.0)}}, ())
    best = steps.compiled_new_best(state)
    kept, kept_loss, kept_epoch, waited, stopped = -1.0, math.inf, -1, 0, False
    for epoch, loss in enumerate(losses):
        state = TrainState(jnp.int32(0), {"params": {"a": jnp.full(2, float(epoch))}}, ())
        best = steps.compiled_keep_best(
            best, state, np.float32(loss), np.int32(epoch), np.int32(patience)
        )
        if not stopped:
            if loss < kept_loss:
                kept, kept_loss, kept_epoch, waited = float(epoch), loss, epoch, 0
            else:
                waited += 1
            stopped = waited >= patience
        assert float(best.variables["params"]["a"][1]) == kept
        np.testing.assert_array_equal(best.loss, np.float32(kept_loss))
        assert int(best.epoch) == kept_epoch
        assert int(best.waited) == waited
        assert bool(best.stopped) == stopped


MODELS = [
    TINY,
    Dense(hidden=(6, 3), activation="relu", output="sigmoid"),
    Dense(hidden=(7,), decoder=(3, 4), activation="sigmoid"),
]


def assert_named_in_order(model: Dense, params: Any, x: Any, error: str, positions: Any) -> None:
    """Each errs most once others are replaced by their reconstructions; listed by their size."""
    y, found = forward64(model, exact(params), x), np.zeros(x.shape, bool)
    positions = np.asarray(positions)
    named = np.zeros(x.shape, bool)
    np.put_along_axis(named, positions, True, 1)
    sizes = None
    for _ in range(positions.shape[1]):
        each = (x - y) ** 2 if error == "squared" else np.abs(x - y)
        sizes = np.take_along_axis(each, positions, 1) if sizes is None else sizes
        each = np.where(found, -np.inf, each)
        chosen = np.where(named, each, -np.inf).argmax(axis=1)[:, None]
        picked = np.take_along_axis(each, chosen, 1)[:, 0]
        assert (picked >= each.max(axis=1) * (1 - 1e-4) - 1e-9).all()
        np.put_along_axis(found, chosen, True, 1)
        y = forward64(model, exact(params), np.where(found, y, x))
    assert sizes is not None
    assert (sizes[:, 1:] <= sizes[:, :-1] * (1 + 1e-4) + 1e-9).all()


@pytest.mark.parametrize("error", ["squared", "absolute"])
@pytest.mark.parametrize("model", MODELS)
def test_scores_as_numpy_scores(model: Dense, error: str) -> None:
    program, scaler, _, state = prepared(model)
    scorer = steps.Scorer(model=program.model, error=error)
    x = rows(100) * np.float32(3)
    scores = np.asarray(steps.compiled_score(scorer, state.variables, scaler, x))
    scaled = scale64(scaler, x)
    gap = scaled - forward64(model, exact(state.variables["params"]), scaled)
    of_features = gap**2 if error == "squared" else np.abs(gap)
    np.testing.assert_allclose(scores, of_features.mean(1), rtol=1e-5)
    assert scores.dtype == np.float32

    for top in (1, 3, FEATURES):
        again, positions, largest = steps.compiled_explain(
            scorer, state.variables, scaler, x, top=top
        )
        np.testing.assert_allclose(again, scores, rtol=1e-6)
        assert positions.shape == largest.shape == (100, top)
        assert positions.dtype == jnp.int32
        assert_named_in_order(model, state.variables["params"], scaled, error, positions)
        picked = np.take_along_axis(of_features, np.asarray(positions), axis=1)
        np.testing.assert_allclose(picked, largest, rtol=1e-4, atol=1e-6)
        assert all(len(set(row.tolist())) == top for row in np.asarray(positions))

    seen, restored = steps.compiled_reconstruct(scorer, state.variables, scaler, x)
    np.testing.assert_allclose(seen, scaled, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(restored, scaled - gap, rtol=1e-4, atol=1e-5)


def test_encode_is_the_latent_layer() -> None:
    program, scaler, _, state = prepared()
    x = rows()
    found = steps.compiled_encode(
        steps.Scorer(model=program.model, error="squared"), state.variables, scaler, x
    )
    params, latent = exact(state.variables["params"]), scale64(scaler, x)
    for name in ("encoder_layers_0", "encoder_layers_1"):
        latent = np.tanh(latent @ params[name]["kernel"] + params[name]["bias"])
    assert found.shape == (24, 2)
    np.testing.assert_allclose(found, latent, rtol=1e-5, atol=1e-6)


def test_one_row_lifted_over_rows_equals_the_batch() -> None:
    program, scaler, _, state = prepared(Dense(hidden=(4, 2), batch_norm=True))
    scorer = steps.Scorer(model=program.model, error="squared")
    x = rows()
    one = jax.vmap(lambda row: steps.score_rows(scorer, state.variables, scaler, row[None])[0])
    np.testing.assert_allclose(
        one(x), steps.score_rows(scorer, state.variables, scaler, x), rtol=1e-5
    )


def test_programs_are_equal_where_only_numbers_differ() -> None:
    model = build(TINY, Schema(shape=(FEATURES,)))
    base, *others = (
        steps.program_of(plain_config(model=TINY, train=Train(**train)), model)
        for train in (
            {"noise": 0.1, "clip_norm": 1.0},
            {"noise": 0.2, "clip_norm": 2.0, "learning_rate": 0.2, "seed": 1, "epochs": 2},
            {"noise": 0.0, "clip_norm": 1.0},
            {"noise": 0.1, "clip_norm": None},
        )
    )
    assert base == others[0]
    assert hash(base) == hash(others[0])
    assert base not in others[1:]

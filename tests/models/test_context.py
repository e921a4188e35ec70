"""The context model against its definition in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aejax
from aejax.config import Context, InputError, Scale, Train
from aejax.models.context import ContextPredictor, _log_zipf, _zipf
from tests.plain import plain_config

VOCABULARY, WINDOW, WIDTH = 11, 3, 5


def model(**settings: Any) -> ContextPredictor:
    return ContextPredictor(
        **{"vocabulary": VOCABULARY, "window": WINDOW, "width": WIDTH, **settings}
    )


def random_variables(module: ContextPredictor, seed: int = 0) -> dict[str, Any]:
    """Values for all parameters; the initial ones have zeros."""
    made = module.init(jax.random.key(0), jnp.zeros((1, 2 * WINDOW + 1)))
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.float32(random.normal(size=leaf.shape)), dict(made))


def surprises(module: ContextPredictor, variables: dict[str, Any], x: np.ndarray) -> np.ndarray:
    found: np.ndarray = jax.device_get(jax.jit(module.apply)(variables, x))
    return found


def random_windows(rows: int, seed: int = 1) -> np.ndarray:
    """Windows with some neighbours outside."""
    random = np.random.default_rng(seed)
    x = random.integers(0, VOCABULARY, (rows, 2 * WINDOW + 1))
    x[:, WINDOW] = random.integers(1, VOCABULARY, rows)
    return x


def surprise(params: dict[str, Any], row: np.ndarray, *, positions: int, mean: bool) -> float:
    """One window's surprise, from the definition, in float64."""
    embedding, output, bias = (
        np.asarray(params[name], np.float64) for name in ("embedding", "output", "bias")
    )
    total, many = np.zeros(WIDTH), 0
    for offset in (*range(-WINDOW, 0), *range(1, WINDOW + 1)):
        event = row[WINDOW + offset]
        if event == 0:
            continue
        many += 1
        total += embedding[event]
        if abs(offset) <= positions:
            place = offset + positions - (offset > 0)
            total += np.asarray(params["near"], np.float64)[place, event]
    hidden = total / max(many, 1) if mean else total
    if "hidden_layers_0" in params:
        layer = {k: np.asarray(v, np.float64) for k, v in params["hidden_layers_0"].items()}
        hidden = np.maximum(hidden @ layer["kernel"] + layer["bias"], 0)
    odds = np.exp(output @ hidden + bias)
    return float(-np.log(odds[row[WINDOW]] / odds.sum()))


@pytest.mark.parametrize("positions", [0, 2])
@pytest.mark.parametrize("hidden", [(), (7,)])
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_surprise_is_as_defined(positions: int, hidden: tuple[int, ...], combine: Any) -> None:
    module = model(positions=positions, hidden=hidden, combine=combine)
    variables = random_variables(module)
    x = random_windows(40)
    found = surprises(module, variables, x)
    wanted = [
        surprise(variables["params"], row, positions=positions, mean=combine == "mean") for row in x
    ]
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_gradient_of_the_embeddings_is_as_derived() -> None:
    """d surprise / d embedding = output' (p - one hot), once for each time a neighbour occurs."""
    module = model()
    variables = random_variables(module)
    x = random_windows(30)
    x[0, :] = 4  # One neighbour six times: gradients have to add up.
    params = variables["params"]
    found = jax.jit(jax.grad(lambda p: jnp.sum(module.apply({"params": p}, x))))(params)

    output, embedding, bias = (
        np.asarray(params[name], np.float64) for name in ("output", "embedding", "bias")
    )
    wanted = np.zeros((VOCABULARY, WIDTH))
    wanted_bias = np.zeros(VOCABULARY)
    for row in x:
        around = [event for event in np.delete(row, WINDOW) if event]
        odds = np.exp(output @ embedding[around].sum(axis=0) + bias)
        error = odds / odds.sum()
        error[row[WINDOW]] -= 1
        wanted_bias += error
        np.add.at(wanted, around, output.T @ error)
    np.testing.assert_allclose(found["embedding"], wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["bias"], wanted_bias, rtol=1e-4, atol=1e-4)
    assert np.all(np.asarray(found["embedding"])[0] == 0)


def test_order_of_neighbours_counts_with_positions_only() -> None:
    x = random_windows(50)
    around = np.r_[0:WINDOW, WINDOW + 1 : 2 * WINDOW + 1]
    shuffled = x.copy()
    shuffled[:, around] = np.random.default_rng(5).permuted(x[:, around], axis=1)
    plain, placed = model(), model(positions=1)
    variables = random_variables(plain)
    np.testing.assert_allclose(
        surprises(plain, variables, x), surprises(plain, variables, shuffled), rtol=1e-5
    )
    variables = random_variables(placed)
    gap = np.abs(surprises(placed, variables, x) - surprises(placed, variables, shuffled))
    assert np.mean(gap > 0.01) > 0.5
    # Beyond the nearest on each side, order doesn't count here either.
    far = x[:, [1, 0, 2, 3, 4, 6, 5]]
    np.testing.assert_allclose(
        surprises(placed, variables, x), surprises(placed, variables, far), rtol=1e-4, atol=1e-5
    )


def test_numbers_outside_the_vocabulary_have_no_surprise() -> None:
    module = model()
    variables = random_variables(module)
    x = random_windows(6).astype(np.float32)
    x[0, 0], x[1, WINDOW], x[2, -1], x[3, 1] = VOCABULARY, VOCABULARY + 5, -1, 1.5
    found = surprises(module, variables, x)
    assert np.isnan(found).tolist() == [True, True, True, True, False, False]


def test_gradients_flow_from_the_first_step_on() -> None:
    for hidden in ((), (8,)):
        module = model(hidden=hidden)
        params = module.init(jax.random.key(0), jnp.zeros((1, 2 * WINDOW + 1)))["params"]
        x = random_windows(20)
        gradient_of = jax.jit(
            jax.grad(lambda p, m=module, x=x: jnp.mean(m.apply({"params": p}, x)))
        )
        gradient = gradient_of(params)
        assert np.abs(gradient["output"]).max() > 0
        stepped = {**params, "output": params["output"] - gradient["output"]}
        gradient = gradient_of(stepped)
        assert np.abs(gradient["embedding"][1:]).max() > 0


def test_random_words_follow_the_power_of_their_rank() -> None:
    drawn = np.asarray(_zipf(jax.random.key(0), (400_000,), 50))
    assert drawn.min() == 1
    assert drawn.max() == 49
    rank = np.arange(1, 50, dtype=np.float64)
    wanted = (rank + 1) ** 0.25 - rank**0.25
    wanted /= wanted.sum()
    share = np.bincount(drawn, minlength=50)[1:] / len(drawn)
    assert np.abs(share - wanted).max() < 4 * np.sqrt(0.25 / len(drawn))
    found = np.asarray(_log_zipf(50), np.float64)[1:]
    np.testing.assert_allclose(found - found[0], np.log(wanted / wanted[0]), atol=1e-5)


def test_negative_sampling_is_as_defined() -> None:
    module = model(negatives=4)
    variables = random_variables(module)
    x = random_windows(25)
    key = jax.random.key(3)
    found = module.apply(variables, x, train=True, rngs={"samples": key})

    def drawn(module: ContextPredictor) -> jax.Array:
        return _zipf(module.make_rng("samples"), (len(x), 4), VOCABULARY)

    others = np.asarray(module.apply(variables, method=drawn, rngs={"samples": key}))
    params = {k: np.asarray(v, np.float64) for k, v in variables["params"].items()}
    wanted = []
    for row, words in zip(x, others, strict=True):
        around = [event for event in np.delete(row, WINDOW) if event]
        logits = params["output"] @ params["embedding"][around].sum(axis=0) + params["bias"]
        loss = np.log1p(np.exp(-logits[row[WINDOW]]))
        loss += sum(np.log1p(np.exp(logits[word])) for word in words)
        wanted.append(loss)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("negatives", [0, 5])
def test_learns_the_probabilities_of_a_known_language(negatives: int) -> None:
    """Middles drawn from known conditional probabilities: surprise comes near their entropy."""
    random = np.random.default_rng(0)
    # Kind 1 of neighbours is followed by 3 or 4, kind 2 by 5, 6 or 7.
    table = np.zeros((3, 8))
    table[1, 3:5], table[2, 5:8] = (0.8, 0.2), (0.6, 0.3, 0.1)
    kinds = random.integers(1, 3, 4000)
    middle = np.array([random.choice(8, p=table[kind]) for kind in kinds])
    x = np.stack([kinds, middle, kinds], axis=1)
    detector = aejax.fit(
        plain_config(
            model=Context(vocabulary=8, window=1, width=4, negatives=negatives),
            scale=Scale(kind="none"),
            train=Train(epochs=30, batch_size=128, learning_rate=0.02, schedule="linear"),
        ),
        x,
    )
    for kind in (1, 2):
        likely = np.flatnonzero(table[kind])
        asked = np.array([[kind, event, kind] for event in likely])
        found = np.exp(-detector.score(asked))
        np.testing.assert_allclose(found, table[kind, likely], atol=0.05)
    with pytest.raises(InputError, match="whole numbers from 0 to 7"):
        detector.score(np.array([[1, 8, 1]]))


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="positions is 3; allowed"):
        Context(window=2, positions=3)
    with pytest.raises(InputError, match="positions is True; allowed"):
        Context(positions=True)
    with pytest.raises(InputError, match="negatives is -1; allowed"):
        Context(negatives=-1)
    with pytest.raises(InputError, match="allowed with a context model of window 2"):
        aejax.fit(plain_config(model=Context(window=2)), np.random.default_rng(0).random((9, 4)))
